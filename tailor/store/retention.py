"""Retention: delete old events and lists in batches, while the store is being served.

What is old is looked for outside of the transactions that delete it, which hold up other writers.
"""

import sqlalchemy as sa

from tailor.store.engine import reading, writing
from tailor.store.schema import audit, events, impressions, requests
from tailor.store.subjects import delete_idle_subjects, idle_tokens

BATCH = 1_000  # rows of a transaction, so that other writers do not wait long
ITEMS = 10  # of a list, mostly
LOOKS_DAYS = 400  # for which it is kept who looked at a person
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
            _count(engine, events, is_old) if dry_run else _delete_numbered(engine, events, is_old)
        )
    if lists_days is not None:
        is_old = requests.c.time_ms < now_ms - lists_days * DAY_MS
        deleted["requests"] = (
            _count(engine, requests, is_old) if dry_run else _delete_lists(engine, is_old)
        )
    return deleted


def prune_looks(engine: sa.Engine, now_ms: int, dry_run: bool = False) -> int:
    """Delete looks at people older than LOOKS_DAYS and return how many, or would with `dry_run`."""
    is_old = audit.c.time_ms < now_ms - LOOKS_DAYS * DAY_MS
    return _count(engine, audit, is_old) if dry_run else _delete_numbered(engine, audit, is_old)


def prune_users(engine: sa.Engine) -> int:
    """Delete the entries of users without rows from the key store and return how many."""
    total = 0
    after = ""
    while True:
        with reading(engine) as connection:
            tokens = idle_tokens(connection, after, BATCH)
        if not tokens:
            return total
        after = tokens[-1]
        with writing(engine) as connection:
            total += delete_idle_subjects(connection, tokens)


def _count(engine: sa.Engine, table: sa.Table, condition: sa.ColumnElement[bool]) -> int:
    statement = sa.select(sa.func.count()).select_from(table).where(condition)
    with reading(engine) as connection:
        return int(connection.execute(statement).scalar_one())


def _delete_numbered(engine: sa.Engine, table: sa.Table, is_old: sa.ColumnElement[bool]) -> int:
    """Delete the old rows of a table whose rows are numbered."""
    total = 0
    after = -1
    number = table.c.number
    while True:
        statement = sa.select(number).where(is_old, number > after).order_by(number).limit(BATCH)
        with reading(engine) as connection:
            numbers = list(connection.execute(statement).scalars())
        if not numbers:
            return total
        after = numbers[-1]
        with writing(engine) as connection:
            deletion = sa.delete(table).where(number.in_(numbers), is_old)
            total += connection.execute(deletion).rowcount


def _delete_lists(engine: sa.Engine, is_old: sa.ColumnElement[bool]) -> int:
    """Delete requests with their impressions."""
    total = 0
    after = ("", "")
    key = (requests.c.tenant, requests.c.request_id)
    while True:
        is_next = sa.tuple_(*key) > sa.tuple_(*after)
        statement = sa.select(*key).where(is_old, is_next).order_by(*key)
        with reading(engine) as connection:
            rows = connection.execute(statement.limit(max(1, BATCH // ITEMS))).all()
        if not rows:
            return total
        after = (rows[-1].tenant, rows[-1].request_id)
        with writing(engine) as connection:
            for tenant in {row.tenant for row in rows}:
                ids = [row.request_id for row in rows if row.tenant == tenant]
                for table in (impressions, requests):
                    is_list = sa.and_(table.c.tenant == tenant, table.c.request_id.in_(ids))
                    connection.execute(sa.delete(table).where(is_list))
        total += len(rows)
