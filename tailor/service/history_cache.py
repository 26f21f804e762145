"""Users' latest events in memory.

Histories are kept as plain texts and bytes, which the garbage collector skips, up to a number of
bytes in all.
"""

import threading
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from tailor.store.events import (
    Stamp,
    StoredEvent,
    events_between,
    latest_events,
    read_stamp,
)
from tailor.store.feedback import rule_of

MOST_BYTES = 24 * 2**20  # some 40,000 users of a shop
OVERHEAD = 500  # bytes of a user besides ids and times
SEPARATOR = "\0"  # which no id holds
MOST_EVENTS = 2_000  # of a user: handed to the model, and counted as seen
# new events that are added one by one; after more, as after an import, all is read anew
MOST_ADDED = 5_000


class UserHistory(NamedTuple):
    """A user's events, as the model gets them."""

    events: list[tuple[str, int]]
    """Item id and time of the events that count, oldest first."""
    against: list[str]
    """Items that the other events speak against."""


NO_HISTORY = UserHistory([], [])


class _Entry(NamedTuple):
    """A history in few objects; kept as a plain tuple, which the garbage collector skips."""

    item_ids: str
    times: bytes
    against: str
    token: str | None
    """Of the user, where all events are here and `add` keeps it so."""


class HistoryCache:
    """Histories by tenant and user; the least recently read one is dropped first."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self.bytes = 0
        self._entries: OrderedDict[tuple[str, str], tuple[str, bytes, str, str | None]]
        self._entries = OrderedDict()
        self._by_token: dict[str, tuple[str, str]] = {}  # users whose history is kept current
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def put(
        self,
        tenant: str,
        user_id: str,
        events: Sequence[tuple[str, int]],
        token: str | None = None,
        against: Sequence[str] = (),
    ) -> None:
        """Keep a user's history in place of the one before.

        With a token these are all events of the user, and `add` keeps them current.
        """
        item_ids = SEPARATOR.join([item_id for item_id, _ in events])
        times = array("q", [time_ms for _, time_ms in events]).tobytes()
        is_complete = bool(events or against)
        against_ids = SEPARATOR.join(against)
        entry = _Entry(item_ids, times, against_ids, token if is_complete else None)
        user = (tenant, user_id)
        is_sound = item_ids.count(SEPARATOR) == max(len(events) - 1, 0)
        with self._lock:
            # the usual case: an entry that stays in its place leaves no holes in memory
            if self._entries.get(user) == entry:
                self._entries.move_to_end(user)
                return
            self._drop(user)
            if is_sound:
                self._keep(user, entry)
            while self.bytes > self.most_bytes:
                self._drop(next(iter(self._entries)))

    def add(self, token: str, item_id: str, time_ms: int, counts: bool = True) -> None:
        """Add a new event of the user with that token, if the user's history is kept current."""
        with self._lock:
            user = self._by_token.get(token)
            if user is None:
                return
            entry = _Entry(*self._entries[user])
            self._drop(user)
            if SEPARATOR in item_id:
                return
            if counts:
                self._keep(user, _with_event(entry, item_id, time_ms))
            else:
                against = [*_split(entry.against), item_id]
                against_ids = SEPARATOR.join(against[-MOST_EVENTS:])
                self._keep(user, entry._replace(against=against_ids))

    def get(self, tenant: str, user_id: str) -> UserHistory:
        """Return a user's history as it was put, empty for a user that is not here."""
        entry = self._entries.get((tenant, user_id))
        return NO_HISTORY if entry is None else _history(_Entry(*entry))

    def current(self, tenant: str, user_id: str) -> UserHistory | None:
        """Return a user's history, None where it is not kept current."""
        with self._lock:
            values = self._entries.get((tenant, user_id))
            entry = None if values is None else _Entry(*values)
            if entry is None or entry.token is None:
                return None
            self._entries.move_to_end((tenant, user_id))
        return _history(entry)

    def forget(self, tenant: str, user_id: str) -> int:
        """Drop a user and return how many events went."""
        with self._lock:
            return self._drop((tenant, user_id))

    def clear(self) -> None:
        """Drop all users."""
        with self._lock:
            self._entries.clear()
            self._by_token.clear()
            self.bytes = 0

    def count_of(self, tenant: str, needle: str) -> int:
        """Count the tenant's histories of that user or with that item."""
        with self._lock:
            entries = list(self._entries.items())
        return sum(
            owner == tenant
            and (needle == user or needle in _split(item_ids) or needle in _split(against))
            for (owner, user), (item_ids, _, against, _) in entries
        )

    def _keep(self, user: tuple[str, str], entry: _Entry) -> None:
        self._entries[user] = (entry.item_ids, entry.times, entry.against, entry.token)
        self.bytes += _size(user[1], entry)
        if entry.token is not None:
            self._by_token[entry.token] = user

    def _drop(self, user: tuple[str, str]) -> int:
        values = self._entries.pop(user, None)
        if values is None:
            return 0
        entry = _Entry(*values)
        self.bytes -= _size(user[1], entry)
        if entry.token is not None:
            del self._by_token[entry.token]
        return len(entry.times) // 8 + len(_split(entry.against))


def _split(ids: str) -> list[str]:
    return ids.split(SEPARATOR) if ids else []


def _with_event(entry: _Entry, item_id: str, time_ms: int) -> _Entry:
    """Return the entry with one more event, in the order of time."""
    item_ids = _split(entry.item_ids)
    times = array("q", entry.times)
    position = bisect_right(times, time_ms)
    item_ids.insert(position, item_id)
    times.insert(position, time_ms)
    return entry._replace(
        item_ids=SEPARATOR.join(item_ids[-MOST_EVENTS:]), times=times[-MOST_EVENTS:].tobytes()
    )


def _history(entry: _Entry) -> UserHistory:
    events = list(zip(_split(entry.item_ids), array("q", entry.times), strict=True))
    return UserHistory(events, _split(entry.against))


def _size(user_id: str, entry: _Entry) -> int:
    texts = len(user_id) + len(entry.item_ids) + len(entry.against)
    return OVERHEAD + texts + len(entry.times)


class HistoryReader:
    """Reads a user's latest events and the tenant's count of changes to items, as of now.

    PostgreSQL is asked each time, and all histories are dropped once somebody was erased. SQLite
    numbers events in the order in which they become visible. There a history that was read once is
    kept current by the events added since: they are on the newest page of one table, which is in
    memory, while a user's own pages may be on the disk only. After a deletion, by any process, all
    histories are read anew.
    """

    def __init__(self, engine: sa.Engine, cache: HistoryCache) -> None:
        self.engine = engine
        self.cache = cache
        self.follows_events = engine.dialect.name == "sqlite"
        self._stamp: Stamp | None = None  # up to which events were read
        self._rules: dict[str, str] = {}  # by tenant, of the histories in the cache
        self._lock = threading.Lock()

    def read(self, tenant: str, user_id: str | None) -> tuple[int, UserHistory]:
        """Return the count of changes to items and the user's history.

        Raises what the engine raises.
        """
        if user_id is None:
            return read_stamp(self.engine, tenant).item_changes, NO_HISTORY
        if self.follows_events:
            stamp = read_stamp(self.engine, tenant)
            with self._lock:
                self._catch_up(tenant, stamp)
            history = self.cache.current(tenant, user_id)
            if history is not None:
                return stamp.item_changes, history
        stamp, token, events = latest_events(self.engine, tenant, user_id, MOST_EVENTS)
        counting, against = rule_of(stamp.rule).split(events)
        self.keep(tenant, {user_id: (token, events)}, stamp)
        return stamp.item_changes, UserHistory(counting, against)

    def keep(
        self,
        tenant: str,
        histories: Mapping[str, tuple[str | None, Sequence[StoredEvent]]],
        stamp: Stamp,
    ) -> None:
        """Put histories into the cache, as they were at that moment.

        `histories` is user id -> (token, events); the token is None where events are missing.
        """
        with self._lock:
            if not (self._catch_up(tenant, stamp) if self.follows_events else self._heed(stamp)):
                return  # another thread has read further
            rule = rule_of(stamp.rule)
            for user_id, (token, events) in histories.items():
                counting, against = rule.split(events)
                current_token = token if self.follows_events else None
                self.cache.put(tenant, user_id, counting, current_token, against)

    def _catch_up(self, tenant: str, stamp: Stamp) -> bool:
        """Bring the cache up to a moment; return False for one that has passed already."""
        before = self._stamp
        now = (stamp.deletions, stamp.last_event)
        if before is not None and now < (before.deletions, before.last_event):
            return False
        if self._rules.setdefault(tenant, stamp.rule) != stamp.rule:
            self._rules[tenant] = stamp.rule
            self.cache.clear()
        if before is None or stamp.deletions != before.deletions:
            self.cache.clear()
        elif stamp.last_event != before.last_event:
            self._add_events(before.last_event, stamp.last_event)
        self._stamp = stamp
        return True

    def _heed(self, stamp: Stamp) -> bool:
        """Drop all histories after an erasure; return False for a moment before the last one."""
        deletions = stamp.deletions if self._stamp is None else self._stamp.deletions
        if stamp.deletions < deletions:
            return False
        if stamp.deletions > deletions:
            self.cache.clear()
        self._stamp = stamp
        return True

    def _add_events(self, after: int, upto: int) -> None:
        """Add the events with these numbers to the histories in the cache."""
        added = events_between(self.engine, after, upto, MOST_ADDED + 1)
        if len(added) > MOST_ADDED:
            self.cache.clear()
            return
        for tenant, token, event in added:
            counting, _ = rule_of(self._rules.get(tenant, "")).split([event])
            self.cache.add(token, event.item_id, event.time_ms, bool(counting))
