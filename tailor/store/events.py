"""Events: what users did with items, each stored once."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from tailor.store.catalogue import LAST_CHANGE
from tailor.store.checks import check_row_ids
from tailor.store.encryption import Seal
from tailor.store.engine import Lookup, insert_into
from tailor.store.feedback import rule_name
from tailor.store.schema import events, marks, memories
from tailor.store.subjects import TOKEN, all_subjects, subjects_for

IDS = ("event_id", "user_id", "item_id", "request_id")
CONTENT = (events.c.item_id, events.c.time_ms, events.c.action, events.c.value)
_is_paused = sa.exists().where(
    memories.c.tenant == sa.bindparam("whose"),
    memories.c.user_id == TOKEN,
    memories.c.history_paused,
)
_latest = (
    sa.select(events.c.user_id, *CONTENT, events.c.number)
    .where(events.c.tenant == sa.bindparam("whose"), events.c.user_id == TOKEN, ~_is_paused)
    .order_by(events.c.time_ms.desc(), events.c.number.desc())
    .limit(sa.bindparam("most", type_=sa.Integer))
    .subquery()
)
# joined to the events, so that the stamp comes back where there are none
_single_row = sa.select(sa.literal_column("1").label("one")).subquery()
_stamp = (
    LAST_CHANGE.scalar_subquery(),
    sa.select(sa.func.max(events.c.number)).scalar_subquery(),
    sa.select(marks.c.value).where(marks.c.name == "deletions").scalar_subquery(),
    sa.select(marks.c.value).where(marks.c.name == sa.bindparam("rule")).scalar_subquery(),
)
STAMP = Lookup(sa.select(*_stamp))
LATEST = Lookup(
    sa.select(
        *_stamp,
        _latest.c.user_id,
        _latest.c.item_id,
        _latest.c.time_ms,
        _latest.c.action,
        _latest.c.value,
    )
    .select_from(_single_row.outerjoin(_latest, sa.true()))
    .order_by(_latest.c.time_ms, _latest.c.number)
)
ADDED = Lookup(
    sa.select(events.c.tenant, events.c.user_id, *CONTENT)
    .where(
        events.c.number > sa.bindparam("after", type_=sa.BigInteger),
        events.c.number <= sa.bindparam("upto", type_=sa.BigInteger),
    )
    .order_by(events.c.number)
    .limit(sa.bindparam("most", type_=sa.Integer))
)


class StoredEvent(NamedTuple):
    """One event of a known user."""

    item_id: str
    time_ms: int
    action: str | None = None
    value: float | None = None


class Stamp(NamedTuple):
    """A moment of the store, as a tenant sees it."""

    item_changes: int
    """The tenant's count of changes to items."""
    last_event: int
    """Number of the last event, of any tenant."""
    deletions: int
    """How often events were deleted; counted on SQLite only."""
    rule: str
    """The tenant's rule of which events count (`feedback.CountingRule`)."""

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> "Stamp":
        """Build a stamp from the first four columns of a row."""
        return cls(int(row[0] or 0), int(row[1] or 0), int(row[2] or 0), row[3] or "")


def add_events(
    connection: sa.Connection, tenant: str, rows: Sequence[Mapping[str, Any]], now_ms: int
) -> set[str]:
    """Add events and return the ids of those that were not stored yet.

    A row has event_id, user_id, item_id and time_ms, and may have action, value and request_id.
    Raises DataError for ids with control characters.
    """
    if not rows:
        return set()
    check_row_ids(rows, IDS)
    user_ids = {row["user_id"] for row in rows} - {None}  # the table refuses an event of no user
    subjects = subjects_for(connection, tenant, user_ids)
    tokens = {user_id: subject.token for user_id, subject in subjects.items()}
    defaults = {
        "tenant": tenant,
        "received_ms": now_ms,
        "action": None,
        "value": None,
        "request_id": None,
    }
    full_rows = [{**defaults, **row, "user_id": tokens.get(row["user_id"])} for row in rows]
    insert = (
        insert_into(connection, events)
        .on_conflict_do_nothing(index_elements=["tenant", "event_id"])
        .returning(events.c.event_id)
    )
    return {row.event_id for row in connection.execute(insert, full_rows)}


def read_stamp(engine: sa.Engine, tenant: str) -> Stamp:
    """Return the store's moment."""
    return Stamp.of_row(STAMP.rows(engine, whose=tenant, rule=rule_name(tenant))[0])


def latest_events(
    engine: sa.Engine, tenant: str, user_id: str | None, most: int = 200
) -> tuple[Stamp, str | None, list[StoredEvent]]:
    """Return the moment, the user's token and the user's latest events, oldest first.

    The token is None for a user without events, and for one who paused the history.
    """
    seal: Seal = engine.get_execution_options()["seal"]
    name = None if user_id is None else seal.name(tenant, user_id)
    rows = LATEST.rows(engine, whose=tenant, rule=rule_name(tenant), who=name, most=most)
    stored = [StoredEvent(*row[5:]) for row in rows if row[5] is not None]
    return Stamp.of_row(rows[0]), rows[0][4], stored


def events_between(
    engine: sa.Engine, after: int, upto: int, most: int
) -> list[tuple[str, str, StoredEvent]]:
    """Return (tenant, token, event) of the event numbers after < number <= upto, in that order."""
    rows = ADDED.rows(engine, after=after, upto=upto, most=most)
    return [(row[0], row[1], StoredEvent(*row[2:])) for row in rows]


def read_histories(
    connection: sa.Connection, tenant: str, events_read: int, most: int
) -> tuple[dict[str, tuple[str, list[StoredEvent]]], bool]:
    """Read the latest events of a tenant, grouped by user.

    Returns user id -> (token, the user's latest events, oldest first, at most `most`), the user
    with the latest event last, and whether `events_read` covered all events of the tenant. Users
    who paused their history are left out.
    """
    paused = sa.select(memories.c.user_id).where(
        memories.c.tenant == tenant, memories.c.history_paused
    )
    statement = (
        sa.select(events.c.user_id, *CONTENT)
        .where(events.c.tenant == tenant, events.c.user_id.not_in(paused))
        .order_by(events.c.number.desc())
        .limit(events_read)
    )
    rows = connection.execute(statement).all()
    by_token: dict[str, list[StoredEvent]] = {}
    for token, *content in rows:  # the latest first
        by_token.setdefault(token, []).append(StoredEvent(*content))
    user_ids = {subject.token: subject.user_id for subject in all_subjects(connection, tenant)}
    histories = {}
    for token, stored in reversed(by_token.items()):
        if token in user_ids:
            in_time_order = sorted(stored[::-1], key=lambda event: event.time_ms)
            histories[user_ids[token]] = (token, in_time_order[-most:])
    return histories, len(rows) < events_read


def count_events(connection: sa.Connection, tenant: str, after: int = 0) -> tuple[int, int]:
    """Return how many events have a number above `after`, and the highest number."""
    statement = sa.select(
        sa.func.count(), sa.func.coalesce(sa.func.max(events.c.number), after)
    ).where(events.c.tenant == tenant, events.c.number > after)
    total, last = connection.execute(statement).one()
    return int(total), int(last)
