"""Find people, and page through what they did.

Ids are encrypted, so that no index finds a part of one. A whole id is found by its digest. For a
part the entries are read in the order of their digests, a slice for each call. Digests are spread
evenly: how far a search has come can be seen from the last one.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from tailor.store.encryption import Subject
from tailor.store.schema import events, subjects
from tailor.store.signing import seal_of
from tailor.store.subjects import NOBODY, subject_of

READ = 10_000  # entries, or events of all tenants, that a call reads
BATCH = 500  # entries of a statement
FIRST = "0"  # stands before every digest
LEADING = 8  # hexadecimal digits of a digest that say how far a search has come


class Found(NamedTuple):
    """A part of a search."""

    people: list[dict[str, Any]]
    """With user_id, events (a count) and last_ms (None without events)."""
    after: str | None
    """Where to go on; None: this was the last part."""
    searched: float
    """Share of the people that were looked at until here."""


class EventPage(NamedTuple):
    """A page of a person's events."""

    events: list[dict[str, Any]]
    """The latest first: number, event_id, item_id, request_id, time_ms, action, value."""
    before: tuple[int, int] | None
    """Time and number of the last one; None: this was the last page."""


def find_people(
    connection: sa.Connection, tenant: str, part: str, k: int, after: str = ""
) -> Found:
    """Return up to k people whose id has this part, in upper or lower case, from READ entries.

    `after` is that of the part before. Whoever has exactly this id comes first.
    """
    first = None if after else subject_of(connection, tenant, part)
    people = [] if first is None else [first]
    folded_part = part.casefold()
    name = after or FIRST
    seal = seal_of(connection)
    for _ in range(READ // BATCH):
        rows = connection.execute(_entries(tenant, name)).all()
        for row in rows:
            if len(people) == k:
                return Found(_described(connection, tenant, people), name, _share(name))
            name = row.name
            person = seal.unwrap(row.token, row.sealed)
            is_other = person.user_id not in (NOBODY, part)
            if is_other and folded_part in person.user_id.casefold():
                people.append(person)
        if len(rows) < BATCH:
            return Found(_described(connection, tenant, people), None, 1.0)
    return Found(_described(connection, tenant, people), name, _share(name))


def _entries(tenant: str, after: str) -> sa.Select[Any]:
    return (
        sa.select(subjects.c.name, subjects.c.token, subjects.c.sealed)
        .where(subjects.c.tenant == tenant, subjects.c.name > after)
        .order_by(subjects.c.name)
        .limit(BATCH)
    )


def _share(name: str) -> float:
    """Return the share of all digests that stand before one."""
    return int(name[:LEADING].ljust(LEADING, "0"), 16) / 16**LEADING


def latest_people(connection: sa.Connection, tenant: str, k: int, before: int | None) -> Found:
    """Return up to k people in the order in which their latest events arrived, the last first.

    A person stands where the latest event does, so that no part repeats another's people. `after`
    of the answer is the number of an event.
    """
    if before is None:
        newest = connection.execute(sa.select(sa.func.max(events.c.number))).scalar()
        before = int(newest or 0) + 1
    end = max(before - READ, 0)
    statement = (
        sa.select(events.c.number, events.c.user_id, subjects.c.sealed)
        .join(subjects, (subjects.c.tenant == tenant) & (subjects.c.token == events.c.user_id))
        .where(_is_of(connection, tenant), events.c.number < before, events.c.number >= end)
        .order_by(events.c.number.desc())
    )
    seal = seal_of(connection)
    latest: dict[str, int] = {}  # token -> number of the latest event
    people: list[Subject] = []
    for row in connection.execute(statement):
        if row.user_id not in latest:
            latest[row.user_id] = _latest_number(connection, tenant, row.user_id)
        if latest[row.user_id] == row.number:
            people.append(seal.unwrap(row.user_id, row.sealed))
            if len(people) == k:
                end = row.number
                break
    after = str(end) if end > 0 else None
    return Found(_described(connection, tenant, people), after, 1.0 if after is None else 0.0)


def _is_of(connection: sa.Connection, tenant: str) -> sa.ColumnElement[bool]:
    """Return the condition on the tenant; SQLite is to go by the numbers, not by the tenant."""
    if connection.dialect.name == "sqlite":
        return sa.literal_column("+events.tenant", sa.Text) == tenant
    return events.c.tenant == tenant


def _latest_number(connection: sa.Connection, tenant: str, token: str) -> int:
    statement = (
        sa.select(events.c.number)
        .where(events.c.tenant == tenant, events.c.user_id == token)
        .order_by(events.c.time_ms.desc(), events.c.number.desc())
        .limit(1)
    )
    return int(connection.execute(statement).scalar_one())


def _described(
    connection: sa.Connection, tenant: str, people: Sequence[Subject]
) -> list[dict[str, Any]]:
    """Return each person with the number of events and the time of the last."""
    tokens = [person.token for person in people]
    statement = (
        sa.select(events.c.user_id, sa.func.count(), sa.func.max(events.c.time_ms))
        .where(events.c.tenant == tenant, events.c.user_id.in_(tokens))
        .group_by(events.c.user_id)
    )
    counts = {token: (count, last_ms) for token, count, last_ms in connection.execute(statement)}
    return [
        {
            "user_id": person.user_id,
            "events": counts.get(person.token, (0, None))[0],
            "last_ms": counts.get(person.token, (0, None))[1],
        }
        for person in people
    ]


def page_of_events(
    connection: sa.Connection,
    tenant: str,
    user_id: str,
    k: int,
    before: tuple[int, int] | None = None,
) -> EventPage:
    """Return a person's k latest events before a time and number; none for an unknown person."""
    person = subject_of(connection, tenant, user_id)
    if person is None:
        return EventPage([], None)
    columns = events.c
    is_wanted = (columns.tenant == tenant) & (columns.user_id == person.token)
    if before is not None:
        time_ms, number = before
        # the first condition alone lets the index find the place
        is_wanted &= columns.time_ms <= time_ms
        is_wanted &= (columns.time_ms < time_ms) | (columns.number < number)
    ids = (columns.number, columns.event_id, columns.item_id, columns.request_id)
    statement = (
        sa.select(*ids, columns.time_ms, columns.action, columns.value)
        .where(is_wanted)
        .order_by(columns.time_ms.desc(), columns.number.desc())
        .limit(k + 1)
    )
    rows = [dict(row) for row in connection.execute(statement).mappings()]
    page = rows[:k]
    is_last = len(rows) <= k
    return EventPage(page, None if is_last else (page[-1]["time_ms"], page[-1]["number"]))
