"""Figures of the stored tables: rows, times, missing values, repeats."""

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from tailor.store.schema import events, impressions, observations, requests, user_attributes

REPEATS_READ = 100_000  # latest events among which repeats are counted
MOST_ACTIONS = 20  # that are named


class TableFigures(NamedTuple):
    """Figures of a table."""

    rows: int
    missing: dict[str, float] = {}
    """Column -> the share of rows without a value, of columns that may lack one."""
    first_ms: int | None = None
    last_ms: int | None = None


def table_figures(connection: sa.Connection, tenant: str) -> dict[str, TableFigures]:
    """Return the figures of the tables but that of items, by the name of each."""
    event_columns = (events.c.action, events.c.value, events.c.request_id)
    return {
        "events": _figures(connection, tenant, events.c.time_ms, event_columns),
        "users": _figures(connection, tenant, user_attributes.c.changed_ms),
        "requests": _figures(connection, tenant, requests.c.time_ms, (requests.c.user_id,)),
        "impressions": TableFigures(_count(connection, tenant, impressions)),
        "observations": _figures(connection, tenant, observations.c.occurred_ms),
    }


def _figures(
    connection: sa.Connection,
    tenant: str,
    time_ms: sa.Column[int],
    columns: Sequence[sa.Column] = (),
) -> TableFigures:
    """Return the figures of the table of a column of times."""
    table = time_ms.table
    is_own = table.c.tenant == tenant
    counts = [sa.func.count(column) for column in columns]
    row = connection.execute(
        sa.select(sa.func.count(), *counts).select_from(table).where(is_own)
    ).one()
    rows = int(row[0])
    missing = {
        column.name: 1 - int(count) / rows if rows else 0.0
        for column, count in zip(columns, row[1:], strict=True)
    }
    # one statement for each end: an index has it in one step
    ends = [
        connection.execute(sa.select(end(time_ms)).where(is_own)).scalar()
        for end in (sa.func.min, sa.func.max)
    ]
    first_ms, last_ms = [None if end is None else int(end) for end in ends]
    return TableFigures(rows, missing, first_ms, last_ms)


def _count(connection: sa.Connection, tenant: str, table: sa.FromClause) -> int:
    statement = sa.select(sa.func.count()).select_from(table).where(table.c.tenant == tenant)
    return int(connection.execute(statement).scalar_one())


def count_repeats(connection: sa.Connection, tenant: str) -> tuple[int, int]:
    """Return how many of the latest events there are, and how many repeat a user and an item."""
    latest = (
        sa.select(events.c.user_id, events.c.item_id)
        .where(events.c.tenant == tenant)
        .order_by(events.c.time_ms.desc())
        .limit(REPEATS_READ)
        .subquery()
    )
    pairs = sa.select(latest.c.user_id, latest.c.item_id).distinct().subquery()
    rows, distinct = (
        int(connection.execute(sa.select(sa.func.count()).select_from(part)).scalar_one())
        for part in (latest, pairs)
    )
    return rows, rows - distinct


def count_actions(connection: sa.Connection, tenant: str) -> list[tuple[str | None, int]]:
    """Return the most frequent actions of events with their counts."""
    count = sa.func.count()
    statement = (
        sa.select(events.c.action, count)
        .where(events.c.tenant == tenant)
        .group_by(events.c.action)
        .order_by(count.desc())
        .limit(MOST_ACTIONS)
    )
    return [(action, int(rows)) for action, rows in connection.execute(statement)]
