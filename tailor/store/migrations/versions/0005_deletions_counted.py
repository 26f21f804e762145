"""On SQLite, where a server remembers what people did and reads what is added, it must see that
something was taken away, whoever did it.
"""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        return
    op.execute("INSERT INTO marks (name, value) VALUES ('deletions', '0')")
    count = "UPDATE marks SET value = CAST(value AS INTEGER) + 1 WHERE name = 'deletions'"
    for what in ("DELETE", "UPDATE"):
        op.execute(
            f"CREATE TRIGGER events_after_{what.lower()} AFTER {what} ON events BEGIN {count}; END"
        )
