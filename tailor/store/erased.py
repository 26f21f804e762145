"""Know who was erased: keyed digests in the key store, which no restore of the store puts back.

A person may also have single events deleted: they are known by the digests of their ids alone.

An event of an erased person is refused if it happened before the erasure, or was erased then. Both
go by times, and clocks go wrong. So the latest erased events are known by a keyed digest of their
ids as well, and a time of erasure that lies in the future binds nobody to wait for it
(`Erasure.refuses`).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from tailor.store import engine
from tailor.store.engine import insert_into, pad_values
from tailor.store.schema import erased, erasures
from tailor.store.signing import digest_keys, event_digest, signing_secret, subject_digest

SKEW_MS = 60_000  # by which the clocks of two machines may differ
AHEAD_MS = 86_400_000  # by which the clock of a sender may run ahead
REMEMBERED = 1_000  # events of an erased person that are known by their ids
BATCH = 512  # people of a statement
Person = tuple[str, str]  # tenant, user id
NEVER = -1  # time of the erasure of a person who was not erased, but single events were


class Erasure(NamedTuple):
    """The last erasure of a person."""

    time_ms: int
    last_ms: int | None = None
    """Of the latest erased event that is not among `event_ids`."""
    event_ids: frozenset[str] = frozenset()
    """Keyed digests of the ids of the latest erased events."""

    def refuses(self, time_ms: int, now_ms: int) -> bool:
        """Return whether an event of that time was erased, or happened before the erasure.

        A bound in the future was written by a clock that was wrong: it refuses what comes from
        that time too, and nothing that a sender could have written now.
        """
        bounds = (self.time_ms, -1 if self.last_ms is None else self.last_ms)
        return any(
            time_ms <= bound and (bound <= now_ms + SKEW_MS or time_ms > now_ms + AHEAD_MS)
            for bound in bounds
        )


def has_erased(connection: sa.Connection) -> bool:
    """Return whether anybody was ever erased."""
    return connection.execute(sa.select(erased.c.tenant).limit(1)).first() is not None


def erasures_of(connection: sa.Connection, people: Iterable[Person]) -> dict[Person, Erasure]:
    """Return the last erasures of those people (tenant, user id) who were erased."""
    if not has_erased(connection):
        return {}
    keys = digest_keys(connection)
    user_ids: dict[str, dict[str, str]] = defaultdict(dict)  # tenant -> digest -> user id
    for tenant, user_id in people:
        for key in keys:
            user_ids[tenant][subject_digest(key, tenant, user_id)] = user_id
    found_erasures: dict[Person, Erasure] = {}
    for tenant, by_digest in user_ids.items():
        for row in _rows_of(connection, tenant, sorted(by_digest)):
            person = (tenant, by_digest[row.subject])
            found_erasures[person] = merged(found_erasures.get(person), _erasure(row))
    return found_erasures


def _rows_of(connection: sa.Connection, tenant: str, digests: Sequence[str]) -> Iterator[Any]:
    for start in range(0, len(digests), BATCH):
        batch = pad_values(list(digests[start : start + BATCH]))
        is_among = (erased.c.tenant == tenant) & erased.c.subject.in_(batch)
        yield from connection.execute(sa.select(erased).where(is_among))


def _erasure(row: Any) -> Erasure:
    return Erasure(row.time_ms, row.last_ms, frozenset(row.event_ids))


def merged(first: Erasure | None, second: Erasure) -> Erasure:
    """Return what two records of a person's erasures say together."""
    if first is None:
        return second
    last_times = [time_ms for time_ms in (first.last_ms, second.last_ms) if time_ms is not None]
    return Erasure(
        max(first.time_ms, second.time_ms),
        max(last_times, default=None),
        first.event_ids | second.event_ids,
    )


def allowed_events(
    connection: sa.Connection, tenant: str, rows: Sequence[Mapping[str, Any]], now_ms: int
) -> Sequence[Mapping[str, Any]]:
    """Return the events that no erasure of their person refuses."""
    people = {(tenant, row["user_id"]) for row in rows if row["user_id"] is not None}
    by_person = erasures_of(connection, people)
    if not by_person:
        return rows
    keys = digest_keys(connection)
    latest_ms = max(now_ms, engine.now_ms())

    def is_allowed(row: Mapping[str, Any]) -> bool:
        erasure = by_person.get((tenant, row["user_id"]))
        if erasure is None:
            return True
        is_known = bool(erasure.event_ids) and any(
            event_digest(key, tenant, row["event_id"]) in erasure.event_ids for key in keys
        )
        return not is_known and not erasure.refuses(row["time_ms"], latest_ms)

    return [row for row in rows if is_allowed(row)]


def erasure_at(
    connection: sa.Connection, tenant: str, time_ms: int, events: Sequence[Any]
) -> Erasure:
    """Return an erasure of events with event_id and time_ms, the latest first.

    The latest REMEMBERED are known by their ids, since a comparison of times would not recognise
    what was of the future, got its time from the server, or was erased while a clock was wrong.
    """
    key = signing_secret(connection)
    event_ids = {event_digest(key, tenant, row.event_id) for row in events[:REMEMBERED]}
    last_ms = max((row.time_ms for row in events[REMEMBERED:]), default=None)
    return Erasure(time_ms, last_ms, frozenset(event_ids))


def note_erasure(connection: sa.Connection, tenant: str, user_id: str, erasure: Erasure) -> str:
    """Write that a person is erased and return the person's digest."""
    before = erasures_of(connection, [(tenant, user_id)]).get((tenant, user_id))
    subject = subject_digest(signing_secret(connection), tenant, user_id)
    write_erasure(connection, tenant, subject, merged(before, erasure))
    return subject


def note_deleted_event(connection: sa.Connection, tenant: str, user_id: str, event_id: str) -> None:
    """Write that a single event of a person is deleted: it is not taken in again."""
    digest = event_digest(signing_secret(connection), tenant, event_id)
    note_erasure(connection, tenant, user_id, Erasure(NEVER, None, frozenset([digest])))


def erased_events(connection: sa.Connection) -> dict[Person, frozenset[str]]:
    """Return the digests of erased events by (tenant, digest of the person)."""
    rows = connection.execute(sa.select(erased))
    return {(row.tenant, row.subject): _erasure(row).event_ids for row in rows if row.event_ids}


def write_erasure(connection: sa.Connection, tenant: str, subject: str, erasure: Erasure) -> None:
    """Write an erasure in place of what is known of that person's."""
    values = {
        "time_ms": erasure.time_ms,
        "last_ms": erasure.last_ms,
        "event_ids": sorted(erasure.event_ids),
    }
    insert = insert_into(connection, erased).values(tenant=tenant, subject=subject, **values)
    connection.execute(
        insert.on_conflict_do_update(index_elements=["tenant", "subject"], set_=values)
    )


def learn_erasures(connection: sa.Connection) -> set[tuple[str, str]]:
    """Enter the erasures of the store's receipts that the key store does not know.

    Returns the (tenant, digest) of each person.
    """
    time_ms = sa.func.max(erasures.c.time_ms).label("time_ms")
    receipts = sa.select(erasures.c.tenant, erasures.c.subject, time_ms).group_by(
        erasures.c.tenant, erasures.c.subject
    )
    entries = sa.select(erased.c.tenant, erased.c.subject, erased.c.time_ms)
    known_ms = {(row.tenant, row.subject): row.time_ms for row in connection.execute(entries)}
    learned = set()
    for row in connection.execute(receipts).all():
        person = (row.tenant, row.subject)
        if row.time_ms > known_ms.get(person, -1):
            rows = _rows_of(connection, row.tenant, [row.subject])
            before = next((_erasure(known_row) for known_row in rows), None)
            write_erasure(connection, *person, merged(before, Erasure(row.time_ms)))
            learned.add(person)
    return learned
