"""What people did, each event once."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from tailor.store.engine import inserting
from tailor.store.schema import events
from tailor.store.subjects import TOKEN, everybody, seal_of, subjects_for

LATEST = (  # built once: it is asked for every answer
    sa.select(events.c.item_id, events.c.time_ms)
    .where(events.c.tenant == sa.bindparam("whose"), events.c.user_id == TOKEN)
    .order_by(events.c.time_ms.desc(), events.c.number.desc())
    .limit(sa.bindparam("most", type_=sa.Integer))
)


def add_events(connection: sa.Connection, tenant: str, rows: Sequence[Mapping[str, Any]], now_ms: int) -> set[str]:
    """Add events (event_id, user_id, item_id, time_ms, action, value, request_id); the ids of those that were not there yet."""
    if not rows:
        return set()
    named = {row["user_id"] for row in rows} - {None}  # an event of nobody is refused by the table
    tokens = {user_id: one.token for user_id, one in subjects_for(connection, tenant, named).items()}
    plain = {"tenant": tenant, "received_ms": now_ms, "action": None, "value": None, "request_id": None}
    full = [{**plain, **row, "user_id": tokens.get(row["user_id"])} for row in rows]
    insert = inserting(connection, events).on_conflict_do_nothing(index_elements=["tenant", "event_id"]).returning(events.c.event_id)
    return {row.event_id for row in connection.execute(insert, full)}


def history(connection: sa.Connection, tenant: str, user_id: str, most: int = 200) -> list[tuple[str, int]]:
    """Item ids and times of a person's latest events, oldest first."""
    asked = {"whose": tenant, "who": seal_of(connection).name(tenant, user_id), "most": most}
    return [(row.item_id, row.time_ms) for row in connection.execute(LATEST, asked)][::-1]


def latest_histories(connection: sa.Connection, tenant: str, events_read: int, most: int) -> dict[str, list[tuple[str, int]]]:
    """Of whoever is among the latest so many events to arrive, the last come last: item ids and times of those events, oldest first, `most` at most."""
    wanted = sa.select(events.c.user_id, events.c.item_id, events.c.time_ms).where(events.c.tenant == tenant)
    rows = connection.execute(wanted.order_by(events.c.number.desc()).limit(events_read)).all()
    by_token: dict[str, list[tuple[str, int]]] = {}
    for token, item_id, time_ms in rows:  # the latest first
        by_token.setdefault(token, []).append((item_id, time_ms))
    names = {one.token: one.user_id for one in everybody(connection, tenant)}
    known = [(names[token], found) for token, found in reversed(by_token.items()) if token in names]
    return {user_id: sorted(found[::-1], key=lambda one: one[1])[-most:] for user_id, found in known}


def count(connection: sa.Connection, tenant: str, after: int = 0) -> tuple[int, int]:
    """How many events arrived after event number `after`, and the number of the last."""
    found = connection.execute(
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.max(events.c.number), after)).where(
            events.c.tenant == tenant, events.c.number > after
        )
    ).one()
    return int(found[0]), int(found[1])
