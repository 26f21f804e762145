"""A person may have the own events count for nothing in the person's answers.

Ended links are in the key store by then (`migrating.prepare`).
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    column: sa.Column[bool] = sa.Column(
        "history_paused", sa.Boolean(), nullable=False, server_default=sa.false()
    )
    op.add_column("memories", column)
