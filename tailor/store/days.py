"""Figures of what is stored, of each day and of all days, by indices over times.

Every statement reads the rows of one day, or counts rows in an index.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

import sqlalchemy as sa

from tailor.data.actions import speaks_against
from tailor.store.schema import events, impressions, requests, subjects

DAY_MS = 86_400_000
MOST_AGAINST = 100  # actions that speak against an item, which a statement leaves out


class DayCounts(NamedTuple):
    """Counts of a day (UTC)."""

    events: int
    lists: int
    chosen: int
    """Lists of the day with a choice, on the day or the next one."""
    people: int
    """Those who did something or were shown a list."""


class Totals(NamedTuple):
    """Counts of all that is stored of a tenant."""

    people: int
    events: int
    lists: int


def count_day(connection: sa.Connection, tenant: str, start_ms: int) -> DayCounts:
    """Return the counts of the day that begins at `start_ms`."""
    end_ms = start_ms + DAY_MS
    is_event = _within(events, tenant, start_ms, end_ms)
    is_list = _within(requests, tenant, start_ms, end_ms)
    actors = sa.select(events.c.user_id).where(is_event)
    readers = sa.select(requests.c.user_id).where(is_list, requests.c.user_id.is_not(None))
    people = sa.union(actors, readers).subquery()
    return DayCounts(
        _count(connection, sa.select(sa.func.count()).select_from(events).where(is_event)),
        _count(connection, sa.select(sa.func.count()).select_from(requests).where(is_list)),
        _count_chosen(connection, tenant, start_ms),
        _count(connection, sa.select(sa.func.count()).select_from(people)),
    )


def _count_chosen(connection: sa.Connection, tenant: str, start_ms: int) -> int:
    """Count the lists of a day that an event names which speaks for its item."""
    end_ms = start_ms + DAY_MS
    is_event = _within(events, tenant, start_ms, end_ms + DAY_MS)
    actions = sa.select(events.c.action).where(is_event, events.c.request_id.is_not(None))
    names = connection.execute(actions.distinct()).scalars()
    against = [name for name in names if name is not None and speaks_against(name)]
    is_same = (requests.c.tenant == events.c.tenant) & (
        requests.c.request_id == events.c.request_id
    )
    statement = (
        sa.select(sa.func.count(requests.c.request_id.distinct()))
        .select_from(events.join(requests, is_same))
        .where(
            is_event,
            events.c.request_id.is_not(None),
            sa.func.coalesce(events.c.value, 0.0) >= 0,
            sa.func.coalesce(events.c.action, "").not_in(against[:MOST_AGAINST]),
            # + 0: the lists are found by their id, not by their time
            requests.c.time_ms + 0 >= start_ms,
            requests.c.time_ms + 0 < end_ms,
        )
    )
    return _count(connection, statement)


def items_shown(connection: sa.Connection, tenant: str, start_ms: int) -> Collection[str]:
    """Return the ids of the items in the lists of a day."""
    is_same = (impressions.c.tenant == requests.c.tenant) & (
        impressions.c.request_id == requests.c.request_id
    )
    statement = (
        sa.select(impressions.c.item_id)
        .select_from(requests.join(impressions, is_same))
        .where(_within(requests, tenant, start_ms, start_ms + DAY_MS))
        .distinct()
    )
    return connection.execute(statement).scalars().all()


def count_totals(connection: sa.Connection, tenant: str) -> Totals:
    """Return the counts of all people, events and lists."""
    counts = [
        _count(connection, sa.select(sa.func.count()).where(table.c.tenant == tenant))
        for table in (subjects, events, requests)
    ]
    return Totals(*counts)


def last_event_ms(connection: sa.Connection, tenant: str, until_ms: int) -> int | None:
    """Return the time of the last event that is not ahead of `until_ms`, None without any."""
    is_past = (events.c.tenant == tenant) & (events.c.time_ms <= until_ms)
    statement = (
        sa.select(events.c.time_ms).where(is_past).order_by(events.c.time_ms.desc()).limit(1)
    )
    value = connection.execute(statement).scalar_one_or_none()
    return None if value is None else int(value)


def count_events_since(connection: sa.Connection, tenant: str, since_ms: int, most: int) -> int:
    """Return how many events happened after a time, `most` where there are more."""
    is_later = (events.c.tenant == tenant) & (events.c.time_ms > since_ms)
    rows = sa.select(events.c.time_ms).where(is_later).limit(most).subquery()
    return _count(connection, sa.select(sa.func.count()).select_from(rows))


def count_answered(connection: sa.Connection, tenant: str, since_ms: int) -> dict[str, int]:
    """Return how many people each version answered with recommendations since a time.

    Versions are texts, as the log of lists names them after the model's name.
    """
    statement = (
        sa.select(requests.c.model, sa.func.count(requests.c.user_id.distinct()))
        .where(
            requests.c.tenant == tenant,
            requests.c.time_ms >= since_ms,
            requests.c.surface == "recommendations",
            requests.c.user_id.is_not(None),
        )
        .group_by(requests.c.model)
    )
    counts: dict[str, int] = {}
    for model, people in connection.execute(statement):
        version = str(model).rpartition("@")[2]
        counts[version] = counts.get(version, 0) + int(people)
    return counts


def _within(table: sa.Table, tenant: str, start_ms: int, end_ms: int) -> sa.ColumnElement[bool]:
    """Return the condition of a tenant's rows from a time on, before another."""
    time_ms = table.c.time_ms
    return sa.and_(table.c.tenant == tenant, time_ms >= start_ms, time_ms < end_ms)


def _count(connection: sa.Connection, statement: sa.Select[Any]) -> int:
    return int(connection.execute(statement).scalar_one())
