"""Exposure of items: how often each was shown, chosen and used, by day."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa

from tailor.store.schema import events, impressions, requests

DAY_MS = 86_400_000
MOST_SHOWN = 50_000  # places in lists that are counted, the latest


class Exposure(NamedTuple):
    """An item's exposure."""

    days: list[dict[str, Any]]
    """The oldest first: day_ms, shown, mean_position, events, chosen; a row for every day."""
    is_cut: bool
    """True where more than MOST_SHOWN places were there: the latest are counted."""


def exposure_of(
    connection: sa.Connection, tenant: str, item_id: str, first_ms: int, last_ms: int
) -> Exposure:
    """Return an item's exposure on each day (UTC) from that of `first_ms` to that of `last_ms`."""
    start_ms = first_ms - first_ms % DAY_MS
    lists, counted = _shown_by_day(connection, tenant, item_id, start_ms)
    uses = _events_by_day(connection, tenant, item_id, start_ms)
    nothing_shown, nothing_used = (0, None), (0, 0)
    days = []
    for day in range(start_ms // DAY_MS, last_ms // DAY_MS + 1):
        times, mean_position = lists.get(day, nothing_shown)
        total, chosen = uses.get(day, nothing_used)
        days.append(
            {
                "day_ms": day * DAY_MS,
                "shown": times,
                "mean_position": mean_position,
                "events": total,
                "chosen": chosen,
            }
        )
    return Exposure(days, counted >= MOST_SHOWN)


def _shown_by_day(
    connection: sa.Connection, tenant: str, item_id: str, start_ms: int
) -> tuple[Mapping[int, tuple[int, float]], int]:
    """Return day -> (times shown, mean position), and how many places were read.

    The latest request ids are read: those that the service makes begin with the time.
    """
    latest = (
        sa.select(impressions.c.tenant, impressions.c.request_id, impressions.c.position)
        .where(impressions.c.tenant == tenant, impressions.c.item_id == item_id)
        .order_by(impressions.c.request_id.desc())
        .limit(MOST_SHOWN)
        .subquery()
    )
    counted = connection.execute(sa.select(sa.func.count()).select_from(latest)).scalar_one()
    day = _day(requests.c.time_ms)
    is_request = (requests.c.tenant == latest.c.tenant) & (
        requests.c.request_id == latest.c.request_id
    )
    statement = (
        sa.select(day, sa.func.count(), sa.func.avg(latest.c.position))
        .select_from(latest.join(requests, is_request))
        .where(requests.c.time_ms >= start_ms)
        .group_by(day)
    )
    rows = connection.execute(statement)
    return {int(number): (int(times), float(mean)) for number, times, mean in rows}, int(counted)


def _events_by_day(
    connection: sa.Connection, tenant: str, item_id: str, start_ms: int
) -> Mapping[int, tuple[int, int]]:
    """Return day -> (events, those of them that were chosen from a list)."""
    day = _day(events.c.time_ms)
    statement = (
        sa.select(day, sa.func.count(), sa.func.count(events.c.request_id))
        .where(events.c.tenant == tenant, events.c.item_id == item_id, events.c.time_ms >= start_ms)
        .group_by(day)
    )
    return {
        int(number): (int(total), int(chosen))
        for number, total, chosen in connection.execute(statement)
    }


def _day(time_ms: sa.Column[int]) -> sa.ColumnElement[int]:
    """Return the whole days since 1970 of a time; databases divide whole numbers so."""
    return time_ms.op("/")(sa.literal_column(str(DAY_MS)))
