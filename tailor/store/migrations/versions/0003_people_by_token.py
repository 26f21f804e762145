"""People by token, and their words under their keys; ids and keys are in the key store by then
(`migrating.prepare`), so that nothing but this store changes here.
"""

import sqlalchemy as sa
from alembic import op

from tailor.errors import StoreError
from tailor.store.encryption import Subject

revision = "0003"
down_revision = "0002"
BATCH = 1_000


def upgrade() -> None:
    connection = op.get_bind()
    op.add_column("people", sa.Column("sealed", sa.LargeBinary()))
    op.add_column("requests", sa.Column("sealed", sa.LargeBinary()))
    known = _known(connection)
    _close(connection, known, "people", "more", ("tenant", "user_id"))
    _close(connection, known, "requests", "text", ("tenant", "request_id"))
    for table in ("events", "requests", "people"):
        _rename(connection, known, table)
    op.drop_column("people", "more")
    op.drop_column("requests", "text")
    op.drop_table("secrets")
    marks = op.create_table(
        "marks",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_marks")),
    )
    kept = connection.execute(
        sa.text("SELECT name, value FROM personal.secrets WHERE name IN ('key store', 'changes')")
    )
    op.bulk_insert(marks, [dict(row) for row in kept.mappings()])


def _known(connection: sa.Connection) -> dict[tuple[str, str], Subject]:
    seal, known = connection.get_execution_options()["seal"], {}
    for tenant, token, sealed in connection.execute(
        sa.text("SELECT tenant, token, sealed FROM personal.subjects")
    ):
        one = seal.unwrap(token, sealed)
        known[tenant, one.user_id] = one
    return known


def _of(known: dict[tuple[str, str], Subject], tenant: str, user_id: str | None) -> Subject:
    found = known.get((tenant, user_id or ""))
    if found is None:
        raise StoreError(
            "an older Tailor writes to this database still: stop it, then start again; nothing was"
            " changed"
        )
    return found


def _close(
    connection: sa.Connection,
    known: dict[tuple[str, str], Subject],
    name: str,
    column: str,
    key: tuple[str, str],
) -> None:
    kind = sa.JSON() if column == "more" else sa.Text()
    table = sa.table(
        name,
        *(sa.column(one) for one in {*key, "user_id"}),
        sa.column(column, kind),
        sa.column("sealed", sa.LargeBinary()),
    )
    rows = connection.execute(sa.select(table).where(table.c[column].is_not(None))).mappings().all()
    mine = [table.c[one] == sa.bindparam(f"its_{one}") for one in key]
    for start in range(0, len(rows), BATCH):
        closed = [
            {
                **{f"its_{one}": row[one] for one in key},
                "sealed": (
                    _of(known, row["tenant"], row["user_id"]).encrypt(
                        row[column], f"{name}.{column}"
                    )
                ),
            }
            for row in rows[start : start + BATCH]
        ]
        connection.execute(sa.update(table).where(*mine), closed)


def _rename(connection: sa.Connection, known: dict[tuple[str, str], Subject], name: str) -> None:
    table = sa.table(name, sa.column("tenant"), sa.column("user_id"))
    found = connection.execute(
        sa.select(table.c.tenant, table.c.user_id).where(table.c.user_id.is_not(None)).distinct()
    ).all()
    rows = [
        {"whose": tenant, "was": user_id, "user_id": _of(known, tenant, user_id).token}
        for tenant, user_id in found
    ]
    renamed = sa.update(table).where(
        table.c.tenant == sa.bindparam("whose"), table.c.user_id == sa.bindparam("was")
    )
    for start in range(0, len(rows), BATCH):
        connection.execute(renamed, rows[start : start + BATCH])
