"""Count deletions of events on SQLite.

By the count a server that keeps histories in memory sees that events are gone, whoever deleted
them.
"""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        return
    op.execute("INSERT INTO marks (name, value) VALUES ('deletions', '0')")
    count = "UPDATE marks SET value = CAST(value AS INTEGER) + 1 WHERE name = 'deletions'"
    for change in ("DELETE", "UPDATE"):
        trigger = f"events_after_{change.lower()}"
        op.execute(f"CREATE TRIGGER {trigger} AFTER {change} ON events BEGIN {count}; END")
