"""Receipts of forgetting; sessions of messages; ranks and times of drafts, by which few are read.

What was forgotten is in the key store by then (`migrating.prepare`).
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
FILL_TIMES = """
UPDATE support SET occurred_ms = COALESCE((
    SELECT observations.occurred_ms FROM observations WHERE observations.tenant = support.tenant
    AND observations.user_id = support.user_id AND observations.name = support.name
), 0)
"""


def upgrade() -> None:
    op.create_table(
        "forgettings",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("receipt_id", sa.Text(), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("rows", sa.JSON(), nullable=False),
        sa.Column("residue", sa.BigInteger()),
        sa.Column("overwritten", sa.Boolean()),
        sa.PrimaryKeyConstraint("tenant", "receipt_id", name="pk_forgettings"),
    )
    op.add_column(
        "memories", sa.Column("due", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column("observations", sa.Column("session", sa.Text()))
    op.add_column(
        "observations", sa.Column("state", sa.Text(), nullable=False, server_default="kept")
    )
    op.create_index(
        "ix_observations_of_session",
        "observations",
        ["tenant", "user_id", "session", "state", "occurred_ms", "number"],
    )
    # -1: not known, since it stands in the encrypted draft
    op.add_column("support", sa.Column("rank", sa.Integer(), nullable=False, server_default="-1"))
    op.add_column(
        "support", sa.Column("occurred_ms", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.execute(FILL_TIMES)
    op.drop_index("ix_support_of_group", "support")
    columns = ["group_name", "rank", "retracted_ms", "occurred_ms", "name"]
    op.create_index("ix_support_of_group", "support", ["tenant", "user_id", *columns])
    op.drop_index("ix_propositions_of_group", "propositions")
    columns = ["group_name", "retracted_ms"]
    op.create_index("ix_propositions_of_group", "propositions", ["tenant", "user_id", *columns])
