"""Items: what may be answered, what must not, and what changed since one last looked."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from tailor.store.engine import insert_into
from tailor.store.schema import items

DELETED, TAKEN_DOWN = "deleted", "taken down"
BOTH = "deleted and taken down"
DOWN = (TAKEN_DOWN, BOTH)  # until restored
CONTENT = ("title", "text", "categories", "price", "more")
BATCH = 500  # rows a statement: SQLite takes so many values and no more


LAST_CHANGE = (
    sa.select(items.c.changed)
    .where(items.c.tenant == sa.bindparam("whose"))
    .order_by(items.c.changed.desc())
    .limit(1)
)  # one step in the index


def add_items(connection: sa.Connection, tenant: str, rows: Sequence[Mapping[str, Any]]) -> int:
    """Write items that are not there; how many. Those that are stay as they are, blocked or changed
    since.
    """
    full = _full(tenant, rows, _next_change(connection, tenant))
    insert = (
        insert_into(connection, items)
        .on_conflict_do_nothing(index_elements=["tenant", "item_id"])
        .returning(items.c.item_id)
    )
    return sum(
        len(connection.execute(insert, full[start : start + BATCH]).all())
        for start in range(0, len(full), BATCH)
    )


def upsert_items(connection: sa.Connection, tenant: str, rows: Sequence[Mapping[str, Any]]) -> int:
    """Write items (item_id and content); the tenant's new count of changes. A deleted item comes
    back, one taken down stays down.
    """
    changed = _next_change(connection, tenant)
    full = _full(tenant, rows, changed)
    insert = insert_into(connection, items)
    new, stays = (
        insert.excluded,
        sa.case((sa.or_(*(items.c.blocked == one for one in DOWN)), TAKEN_DOWN), else_=None),
    )
    kept = {**{name: new[name] for name in CONTENT}, "changed": new.changed, "blocked": stays}
    upsert = insert.on_conflict_do_update(index_elements=["tenant", "item_id"], set_=kept)
    for start in range(0, len(full), BATCH):
        connection.execute(upsert, full[start : start + BATCH])
    return changed


def change_items(connection: sa.Connection, tenant: str, rows: Sequence[Mapping[str, Any]]) -> int:
    """Write new content of items that are there; how many. A deleted item stays as it is."""
    changed = _next_change(connection, tenant)
    alive = items.c.blocked.is_(None) | (items.c.blocked == TAKEN_DOWN)
    count = 0
    for row in rows:
        content = {name: row.get(name) for name in CONTENT}
        here = sa.and_(items.c.tenant == tenant, items.c.item_id == row["item_id"], alive)
        statement = sa.update(items).where(here).values(**content, changed=changed)
        count += connection.execute(statement).rowcount
    return count


def block(
    connection: sa.Connection, tenant: str, item_id: str, why: str, reason: str | None = None
) -> int:
    """From now on the item is not answered, whether it was known or not; of a deleted one the
    content goes, of one taken down the reason is kept.
    """
    changed = _next_change(connection, tenant)
    kept: dict[str, Any] = dict.fromkeys(CONTENT) if why == DELETED else {"reason": reason}
    stays = sa.case((items.c.blocked.is_not(None) & (items.c.blocked != why), BOTH), else_=why)
    connection.execute(
        insert_into(connection, items)
        .values(tenant=tenant, item_id=item_id, blocked=why, changed=changed, reason=reason)
        .on_conflict_do_update(
            index_elements=["tenant", "item_id"],
            set_={**kept, "blocked": stays, "changed": changed},
        )
    )
    return changed


def restore(connection: sa.Connection, tenant: str, item_id: str) -> bool:
    """Let an item that was taken down be answered again, unless it was deleted too; whether there
    was one.
    """
    changed = _next_change(connection, tenant)
    found = connection.execute(
        sa.update(items)
        .where(items.c.tenant == tenant, items.c.item_id == item_id, items.c.blocked.in_(DOWN))
        .values(
            blocked=sa.case((items.c.blocked == BOTH, DELETED), else_=None),
            reason=None,
            changed=changed,
        )
    )
    return found.rowcount > 0


def version(connection: sa.Connection, tenant: str) -> int:
    """The tenant's count of changes to items."""
    return int(connection.execute(LAST_CHANGE, {"whose": tenant}).scalar() or 0)


def items_since(connection: sa.Connection, tenant: str, changed: int = 0) -> list[dict[str, Any]]:
    """Every item that changed after that count, blocked ones too."""
    found = connection.execute(
        sa.select(items)
        .where(items.c.tenant == tenant, items.c.changed > changed)
        .order_by(items.c.item_id)
    )
    return [dict(row) for row in found.mappings()]


def item(connection: sa.Connection, tenant: str, item_id: str) -> dict[str, Any] | None:
    row = (
        connection.execute(
            sa.select(items).where(items.c.tenant == tenant, items.c.item_id == item_id)
        )
        .mappings()
        .one_or_none()
    )
    return None if row is None else dict(row)


def _full(tenant: str, rows: Sequence[Mapping[str, Any]], changed: int) -> list[dict[str, Any]]:
    return [
        {"tenant": tenant, "blocked": None, "changed": changed, **dict.fromkeys(CONTENT), **row}
        for row in rows
    ]


def _next_change(connection: sa.Connection, tenant: str) -> int:
    """One more than any change so far; two who change at once wait for each other, so that nobody
    who has seen a count misses an earlier one.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(
            sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(f"items of {tenant}")))
        )
    return version(connection, tenant) + 1
