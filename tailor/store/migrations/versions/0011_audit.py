"""Make the audit of looks at people; find events and impressions by item."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "audit",
        sa.Column("number", number, autoincrement=True, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text()),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("key_name", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_audit"),
    )
    op.create_index("ix_audit_of_tenant", "audit", ["tenant", "number"])
    op.create_index("ix_audit_of_person", "audit", ["tenant", "user_id", "number"])
    op.create_index("ix_audit_of_subject", "audit", ["tenant", "subject", "number"])
    op.create_index("ix_events_of_item", "events", ["tenant", "item_id", "time_ms"])
    columns = ["tenant", "item_id", "request_id", "position"]
    op.create_index("ix_impressions_of_item", "impressions", columns)
