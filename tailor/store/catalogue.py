"""Items of the store: their content, whether they are blocked, and what changed since a time."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from tailor.store.checks import check_id, check_row_ids
from tailor.store.columns import without_nan
from tailor.store.engine import insert_into, now_ms
from tailor.store.marks import read_mark, write_mark
from tailor.store.schema import items

DELETED, TAKEN_DOWN = "deleted", "taken down"
BOTH = "deleted and taken down"
NEEDS_RESTORE = (TAKEN_DOWN, BOTH)
CONTENT = ("title", "text", "categories", "price", "more")
BATCH = 500  # rows of a statement: SQLite has a limit on values

LAST_CHANGE = (
    sa.select(items.c.changed)
    .where(items.c.tenant == sa.bindparam("whose"))
    .order_by(items.c.changed.desc())
    .limit(1)
)  # one step in the index


def add_items(connection: sa.Connection, tenant: str, rows: Sequence[Mapping[str, Any]]) -> int:
    """Add items that are not stored yet and return how many; stored items stay as they are.

    Raises DataError for ids with control characters.
    """
    check_row_ids(rows, ["item_id"])
    full_rows = _full_rows(tenant, rows, _next_change(connection, tenant))
    insert = (
        insert_into(connection, items)
        .on_conflict_do_nothing(index_elements=["tenant", "item_id"])
        .returning(items.c.item_id)
    )
    count = sum(
        len(connection.execute(insert, full_rows[start : start + BATCH]).all())
        for start in range(0, len(full_rows), BATCH)
    )
    if count:
        _note_change(connection, tenant)
    return count


def upsert_items(connection: sa.Connection, tenant: str, rows: Sequence[Mapping[str, Any]]) -> int:
    """Write items (item_id and content) and return the tenant's new count of changes.

    A deleted item comes back, one that was taken down stays down. Raises DataError for ids with
    control characters.
    """
    check_row_ids(rows, ["item_id"])
    change = _next_change(connection, tenant)
    full_rows = _full_rows(tenant, rows, change)
    insert = insert_into(connection, items)
    is_down = sa.or_(*(items.c.blocked == state for state in NEEDS_RESTORE))
    new_values = {name: insert.excluded[name] for name in CONTENT}
    new_values["changed"] = insert.excluded.changed
    new_values["blocked"] = sa.case((is_down, TAKEN_DOWN), else_=None)
    upsert = insert.on_conflict_do_update(index_elements=["tenant", "item_id"], set_=new_values)
    for start in range(0, len(full_rows), BATCH):
        connection.execute(upsert, full_rows[start : start + BATCH])
    _note_change(connection, tenant)
    return change


def change_items(connection: sa.Connection, tenant: str, rows: Sequence[Mapping[str, Any]]) -> int:
    """Write new content of stored items and return how many; a deleted item stays as it is."""
    change = _next_change(connection, tenant)
    is_alive = items.c.blocked.is_(None) | (items.c.blocked == TAKEN_DOWN)
    count = 0
    for row in rows:
        content = without_nan({name: row.get(name) for name in CONTENT})
        is_row = sa.and_(items.c.tenant == tenant, items.c.item_id == row["item_id"], is_alive)
        statement = sa.update(items).where(is_row).values(**content, changed=change)
        count += connection.execute(statement).rowcount
    if count:
        _note_change(connection, tenant)
    return count


def block(
    connection: sa.Connection, tenant: str, item_id: str, why: str, reason: str | None = None
) -> int:
    """Block an item, known or not, as DELETED or TAKEN_DOWN, and return the count of changes.

    A deleted item loses its content; of one that was taken down the reason is kept.
    """
    check_id(item_id, "item_id")
    change = _next_change(connection, tenant)
    changes: dict[str, Any] = dict.fromkeys(CONTENT) if why == DELETED else {"reason": reason}
    is_blocked_otherwise = items.c.blocked.is_not(None) & (items.c.blocked != why)
    changes["blocked"] = sa.case((is_blocked_otherwise, BOTH), else_=why)
    changes["changed"] = change
    connection.execute(
        insert_into(connection, items)
        .values(tenant=tenant, item_id=item_id, blocked=why, changed=change, reason=reason)
        .on_conflict_do_update(index_elements=["tenant", "item_id"], set_=changes)
    )
    _note_change(connection, tenant)
    return change


def restore(connection: sa.Connection, tenant: str, item_id: str) -> bool:
    """Undo a takedown and return whether there was one; a deleted item stays deleted."""
    change = _next_change(connection, tenant)
    statement = (
        sa.update(items)
        .where(
            items.c.tenant == tenant,
            items.c.item_id == item_id,
            items.c.blocked.in_(NEEDS_RESTORE),
        )
        .values(
            blocked=sa.case((items.c.blocked == BOTH, DELETED), else_=None),
            reason=None,
            changed=change,
        )
    )
    is_restored = connection.execute(statement).rowcount > 0
    if is_restored:
        _note_change(connection, tenant)
    return is_restored


def last_change_ms(connection: sa.Connection, tenant: str) -> int | None:
    """Return when an item was last written or blocked, None where none was since this is noted."""
    value = read_mark(connection, _mark_name(tenant))
    return None if value is None else int(value)


def version(connection: sa.Connection, tenant: str) -> int:
    """Return the tenant's count of changes to items."""
    return int(connection.execute(LAST_CHANGE, {"whose": tenant}).scalar() or 0)


def items_since(connection: sa.Connection, tenant: str, changed: int = 0) -> list[dict[str, Any]]:
    """Return every item that changed after that count, blocked ones too."""
    statement = (
        sa.select(items)
        .where(items.c.tenant == tenant, items.c.changed > changed)
        .order_by(items.c.item_id)
    )
    return [dict(row) for row in connection.execute(statement).mappings()]


def item(connection: sa.Connection, tenant: str, item_id: str) -> dict[str, Any] | None:
    """Return the row of an item, None for an unknown one."""
    statement = sa.select(items).where(items.c.tenant == tenant, items.c.item_id == item_id)
    row = connection.execute(statement).mappings().one_or_none()
    return None if row is None else dict(row)


def _full_rows(tenant: str, rows: Sequence[Mapping[str, Any]], change: int) -> list[dict[str, Any]]:
    """Return the rows with every column of the table, and null for what is no number."""
    empty = {"tenant": tenant, "blocked": None, "changed": change, **dict.fromkeys(CONTENT)}
    return [{**empty, **without_nan(dict(row))} for row in rows]


def _next_change(connection: sa.Connection, tenant: str) -> int:
    """Return one more than any change so far.

    Two writers wait for each other, so that a reader who has seen a count missed no earlier one.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(
            sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(f"items of {tenant}")))
        )
    return version(connection, tenant) + 1


def _mark_name(tenant: str) -> str:
    return f"items changed of {tenant}"


def _note_change(connection: sa.Connection, tenant: str) -> None:
    """Keep the time of this change; whoever changes items holds their lock already."""
    write_mark(connection, _mark_name(tenant), str(now_ms()))
