"""What is kept for how long: events and lists that are older go, a batch at a time, while the store
is being served.
"""

import sqlalchemy as sa

from tailor.store.engine import reading, writing
from tailor.store.schema import events, impressions, requests
from tailor.store.subjects import delete_idle_subjects

BATCH = 5_000  # rows a transaction, so that nobody waits long for it
DAY_MS = 86_400_000


def prune(
    engine: sa.Engine,
    now_ms: int,
    events_days: float | None,
    lists_days: float | None,
    dry_run: bool = False,
) -> dict[str, int]:
    """Delete events that happened, and lists that were answered, longer ago than so many days; None
    keeps all. Rows by table that went, or would go.
    """
    gone = {}
    if events_days is not None:
        old = events.c.time_ms < now_ms - events_days * DAY_MS
        gone["events"] = _count(engine, events, old) if dry_run else _events_deleted(engine, old)
    if lists_days is not None:
        old = requests.c.time_ms < now_ms - lists_days * DAY_MS
        gone["requests"] = _count(engine, requests, old) if dry_run else _lists_deleted(engine, old)
    return gone


def prune_users(engine: sa.Engine) -> int:
    """Take people of whom nothing is left out of the key store; how many."""
    total = 0
    while True:
        with writing(engine) as connection:
            gone = delete_idle_subjects(connection, BATCH)
        total += gone
        if not gone:
            return total


def _count(engine: sa.Engine, table: sa.Table, where: sa.ColumnElement[bool]) -> int:
    with reading(engine) as connection:
        return int(
            connection.execute(
                sa.select(sa.func.count()).select_from(table).where(where)
            ).scalar_one()
        )


def _events_deleted(engine: sa.Engine, old: sa.ColumnElement[bool]) -> int:
    total = 0
    while True:
        with writing(engine) as connection:
            numbers = list(
                connection.execute(sa.select(events.c.number).where(old).limit(BATCH)).scalars()
            )
            if not numbers:
                return total
            total += connection.execute(
                sa.delete(events).where(events.c.number.in_(numbers))
            ).rowcount


def _lists_deleted(engine: sa.Engine, old: sa.ColumnElement[bool]) -> int:
    """Requests with what was shown in them, which nothing else names."""
    total = 0
    while True:
        with writing(engine) as connection:
            found = connection.execute(
                sa.select(requests.c.tenant, requests.c.request_id).where(old).limit(BATCH)
            ).all()
            for tenant in {one.tenant for one in found}:
                ids = [one.request_id for one in found if one.tenant == tenant]
                for table in (impressions, requests):
                    connection.execute(
                        sa.delete(table).where(
                            table.c.tenant == tenant, table.c.request_id.in_(ids)
                        )
                    )
            total += len(found)
        if not found:
            return total
