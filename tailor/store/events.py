"""What people did, each event once."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from tailor.store.catalogue import LAST_CHANGE
from tailor.store.encryption import Seal
from tailor.store.engine import Lookup, insert_into
from tailor.store.schema import events, marks
from tailor.store.subjects import TOKEN, all_subjects, subjects_for

_latest = (
    sa.select(events.c.user_id, events.c.item_id, events.c.time_ms, events.c.number)
    .where(events.c.tenant == sa.bindparam("whose"), events.c.user_id == TOKEN)
    .order_by(events.c.time_ms.desc(), events.c.number.desc())
    .limit(sa.bindparam("most", type_=sa.Integer))
    .subquery()
)
# a row even where there are no events
_always = sa.select(sa.literal_column("1").label("one")).subquery()
_stamp = (
    LAST_CHANGE.scalar_subquery(),
    sa.select(sa.func.max(events.c.number)).scalar_subquery(),
    sa.select(marks.c.value).where(marks.c.name == "deletions").scalar_subquery(),
)
STAMP = Lookup(sa.select(*_stamp))
LATEST = Lookup(
    sa.select(*_stamp, _latest.c.user_id, _latest.c.item_id, _latest.c.time_ms)
    .select_from(_always.outerjoin(_latest, sa.true()))
    .order_by(_latest.c.time_ms, _latest.c.number)
)
ADDED = Lookup(
    sa.select(events.c.user_id, events.c.item_id, events.c.time_ms)
    .where(
        events.c.number > sa.bindparam("after", type_=sa.BigInteger),
        events.c.number <= sa.bindparam("upto", type_=sa.BigInteger),
    )
    .order_by(events.c.number)
    .limit(sa.bindparam("most", type_=sa.Integer))
)


class Stamp(NamedTuple):
    """A moment of the store."""

    changed: int
    """The tenant's count of changes to items."""
    number: int
    """Of the last event, whosever."""
    deletions: int
    """How often events were taken away; counted on SQLite."""

    @classmethod
    def of(cls, row: Sequence[Any]) -> "Stamp":
        return cls(*(int(one or 0) for one in row[:3]))


def add_events(
    connection: sa.Connection, tenant: str, rows: Sequence[Mapping[str, Any]], now_ms: int
) -> set[str]:
    """Add events (event_id, user_id, item_id, time_ms, action, value, request_id); the ids of those
    that were not there yet.
    """
    if not rows:
        return set()
    named = {row["user_id"] for row in rows} - {None}  # an event of nobody is refused by the table
    tokens = {
        user_id: one.token for user_id, one in subjects_for(connection, tenant, named).items()
    }
    plain = {
        "tenant": tenant,
        "received_ms": now_ms,
        "action": None,
        "value": None,
        "request_id": None,
    }
    full = [{**plain, **row, "user_id": tokens.get(row["user_id"])} for row in rows]
    insert = (
        insert_into(connection, events)
        .on_conflict_do_nothing(index_elements=["tenant", "event_id"])
        .returning(events.c.event_id)
    )
    return {row.event_id for row in connection.execute(insert, full)}


def stamp(engine: sa.Engine, tenant: str) -> Stamp:
    """What moment it is."""
    return Stamp.of(STAMP.rows(engine, whose=tenant)[0])


def latest(
    engine: sa.Engine, tenant: str, user_id: str | None, most: int = 200
) -> tuple[Stamp, str | None, list[tuple[str, int]]]:
    """The moment, the person's token, and item ids and times of the person's latest events, oldest
    first; of whom no event is stored, no token.
    """
    seal: Seal = engine.get_execution_options()["seal"]
    rows = LATEST.rows(
        engine, whose=tenant, who=None if user_id is None else seal.name(tenant, user_id), most=most
    )
    return Stamp.of(rows[0]), rows[0][3], [(row[4], row[5]) for row in rows if row[4] is not None]


def added(engine: sa.Engine, after: int, upto: int, most: int) -> list[tuple[str, str, int]]:
    """Token, item id and time of the events with these numbers, in the order of arrival; so many at
    most.
    """
    return [
        (token, item_id, time_ms)
        for token, item_id, time_ms in ADDED.rows(engine, after=after, upto=upto, most=most)
    ]


def read_histories(
    connection: sa.Connection, tenant: str, events_read: int, most: int
) -> tuple[dict[str, tuple[str, list[tuple[str, int]]]], bool]:
    """By user id, of whoever is among the latest so many events to arrive, the last come last: the
    token, and item ids and times of those events, oldest first, `most` at most. And whether those
    were all events that there are.
    """
    wanted = sa.select(events.c.user_id, events.c.item_id, events.c.time_ms).where(
        events.c.tenant == tenant
    )
    rows = connection.execute(wanted.order_by(events.c.number.desc()).limit(events_read)).all()
    by_token: dict[str, list[tuple[str, int]]] = {}
    for token, item_id, time_ms in rows:  # the latest first
        by_token.setdefault(token, []).append((item_id, time_ms))
    names = {one.token: one.user_id for one in all_subjects(connection, tenant)}
    known = {
        names[token]: (token, sorted(found[::-1], key=lambda one: one[1])[-most:])
        for token, found in reversed(by_token.items())
        if token in names
    }
    return known, len(rows) < events_read


def count(connection: sa.Connection, tenant: str, after: int = 0) -> tuple[int, int]:
    """How many events arrived after event number `after`, and the number of the last."""
    found = connection.execute(
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.max(events.c.number), after)).where(
            events.c.tenant == tenant, events.c.number > after
        )
    ).one()
    return int(found[0]), int(found[1])
