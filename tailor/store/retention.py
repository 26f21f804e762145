"""Retention: delete old events and lists in batches, while the store is being served."""

import sqlalchemy as sa

from tailor.store.engine import reading, writing
from tailor.store.schema import events, impressions, requests
from tailor.store.subjects import delete_idle_subjects

BATCH = 5_000  # rows of a transaction, so that other writers do not wait long
DAY_MS = 86_400_000


def prune(
    engine: sa.Engine,
    now_ms: int,
    events_days: float | None,
    lists_days: float | None,
    dry_run: bool = False,
) -> dict[str, int]:
    """Delete events and served lists older than so many days; None keeps all.

    Returns the rows deleted by table, or with `dry_run` those that would be.
    """
    deleted = {}
    if events_days is not None:
        is_old = events.c.time_ms < now_ms - events_days * DAY_MS
        deleted["events"] = (
            _count(engine, events, is_old) if dry_run else _delete_events(engine, is_old)
        )
    if lists_days is not None:
        is_old = requests.c.time_ms < now_ms - lists_days * DAY_MS
        deleted["requests"] = (
            _count(engine, requests, is_old) if dry_run else _delete_lists(engine, is_old)
        )
    return deleted


def prune_users(engine: sa.Engine) -> int:
    """Delete the entries of users without rows from the key store and return how many."""
    total = 0
    while True:
        with writing(engine) as connection:
            deleted = delete_idle_subjects(connection, BATCH)
        total += deleted
        if not deleted:
            return total


def _count(engine: sa.Engine, table: sa.Table, condition: sa.ColumnElement[bool]) -> int:
    statement = sa.select(sa.func.count()).select_from(table).where(condition)
    with reading(engine) as connection:
        return int(connection.execute(statement).scalar_one())


def _delete_events(engine: sa.Engine, is_old: sa.ColumnElement[bool]) -> int:
    total = 0
    while True:
        with writing(engine) as connection:
            statement = sa.select(events.c.number).where(is_old).limit(BATCH)
            numbers = list(connection.execute(statement).scalars())
            if not numbers:
                return total
            deletion = sa.delete(events).where(events.c.number.in_(numbers))
            total += connection.execute(deletion).rowcount


def _delete_lists(engine: sa.Engine, is_old: sa.ColumnElement[bool]) -> int:
    """Delete requests with their impressions."""
    total = 0
    while True:
        with writing(engine) as connection:
            statement = sa.select(requests.c.tenant, requests.c.request_id).where(is_old)
            rows = connection.execute(statement.limit(BATCH)).all()
            for tenant in {row.tenant for row in rows}:
                ids = [row.request_id for row in rows if row.tenant == tenant]
                for table in (impressions, requests):
                    is_list = sa.and_(table.c.tenant == tenant, table.c.request_id.in_(ids))
                    connection.execute(sa.delete(table).where(is_list))
            total += len(rows)
        if not rows:
            return total
