"""The reason of a takedown."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("items", sa.Column("reason", sa.Text()))
