"""Receipts that say how far the scan and the overwriting are; deletions counted on PostgreSQL too.

Who was erased is in the key store by then (`migrating.prepare`).
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column(
        "erasures", sa.Column("scan", sa.Text(), nullable=False, server_default="unknown")
    )
    op.add_column("erasures", sa.Column("scan_ms", sa.BigInteger()))
    op.add_column("erasures", sa.Column("scanned", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("erasures", sa.Column("overwritten", sa.Boolean()))
    if op.get_bind().dialect.name != "sqlite":
        op.execute("INSERT INTO marks (name, value) VALUES ('deletions', '0')")
