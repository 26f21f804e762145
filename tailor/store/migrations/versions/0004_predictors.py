"""Models that predict, beside those that recommend."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column(
        "models", sa.Column("kind", sa.Text(), nullable=False, server_default="recommends")
    )
