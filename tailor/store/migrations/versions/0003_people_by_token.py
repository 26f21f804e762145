"""Tokens in place of users' ids, and users' words encrypted with their keys.

Ids and keys are in the key store by then (`migrating.prepare`): only this store changes here.
"""

import sqlalchemy as sa
from alembic import op

from tailor.errors import StoreError
from tailor.store.encryption import Subject

revision = "0003"
down_revision = "0002"
BATCH = 1_000
Subjects = dict[tuple[str, str], Subject]


def upgrade() -> None:
    connection = op.get_bind()
    op.add_column("people", sa.Column("sealed", sa.LargeBinary()))
    op.add_column("requests", sa.Column("sealed", sa.LargeBinary()))
    subjects = _read_subjects(connection)
    _encrypt(connection, subjects, "people", "more", ("tenant", "user_id"))
    _encrypt(connection, subjects, "requests", "text", ("tenant", "request_id"))
    for table in ("events", "requests", "people"):
        _replace_ids(connection, subjects, table)
    op.drop_column("people", "more")
    op.drop_column("requests", "text")
    op.drop_table("secrets")
    marks = op.create_table(
        "marks",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_marks")),
    )
    rows = connection.execute(
        sa.text("SELECT name, value FROM personal.secrets WHERE name IN ('key store', 'changes')")
    )
    op.bulk_insert(marks, [dict(row) for row in rows.mappings()])


def _read_subjects(connection: sa.Connection) -> Subjects:
    """Return the subjects of the key store, by tenant and user id."""
    seal = connection.get_execution_options()["seal"]
    subjects: Subjects = {}
    for tenant, token, sealed in connection.execute(
        sa.text("SELECT tenant, token, sealed FROM personal.subjects")
    ):
        subject = seal.unwrap(token, sealed)
        subjects[tenant, subject.user_id] = subject
    return subjects


def _subject(subjects: Subjects, tenant: str, user_id: str | None) -> Subject:
    subject = subjects.get((tenant, user_id or ""))
    if subject is None:
        raise StoreError(
            "an older Tailor writes to this database still: stop it, then start again; nothing was"
            " changed"
        )
    return subject


def _encrypt(
    connection: sa.Connection, subjects: Subjects, name: str, column: str, key: tuple[str, str]
) -> None:
    """Encrypt a column of a table into its column `sealed`."""
    kind = sa.JSON() if column == "more" else sa.Text()
    table = sa.table(
        name,
        *(sa.column(part) for part in {*key, "user_id"}),
        sa.column(column, kind),
        sa.column("sealed", sa.LargeBinary()),
    )
    rows = connection.execute(sa.select(table).where(table.c[column].is_not(None))).mappings().all()
    is_row = [table.c[part] == sa.bindparam(f"its_{part}") for part in key]
    changes = []
    for row in rows:
        subject = _subject(subjects, row["tenant"], row["user_id"])
        change: dict[str, object] = {f"its_{part}": row[part] for part in key}
        change["sealed"] = subject.encrypt(row[column], f"{name}.{column}")
        changes.append(change)
    for start in range(0, len(changes), BATCH):
        connection.execute(sa.update(table).where(*is_row), changes[start : start + BATCH])


def _replace_ids(connection: sa.Connection, subjects: Subjects, name: str) -> None:
    """Replace the user ids of a table by tokens."""
    table = sa.table(name, sa.column("tenant"), sa.column("user_id"))
    statement = (
        sa.select(table.c.tenant, table.c.user_id).where(table.c.user_id.is_not(None)).distinct()
    )
    changes = [
        {
            "whose": tenant,
            "old_id": user_id,
            "user_id": _subject(subjects, tenant, user_id).token,
        }
        for tenant, user_id in connection.execute(statement).all()
    ]
    update = sa.update(table).where(
        table.c.tenant == sa.bindparam("whose"), table.c.user_id == sa.bindparam("old_id")
    )
    for start in range(0, len(changes), BATCH):
        connection.execute(update, changes[start : start + BATCH])
