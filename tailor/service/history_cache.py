"""What people did last, in memory: as plain texts and bytes, which the garbage collector passes
over, and no more of them than so many.
"""

import threading
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence

import sqlalchemy as sa

from tailor.store.events import Stamp, added, latest, stamp

MOST_BYTES = 24 * 2**20  # some 40,000 people of a shop
OVERHEAD = 500  # bytes of a person besides ids and times
BETWEEN = "\0"  # which no id that comes in over HTTP holds
MOST_EVENTS = 200  # of a history
# new events taken in one by one; where more came at once, as in an import, all_subjects is asked for
# anew
MOST_ADDED = 5_000


class HistoryCache:
    """Histories by tenant and person; who was not asked for longest is forgotten first."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes, self.bytes = most_bytes, 0
        self._kept: OrderedDict[tuple[str, str], tuple[str, bytes, str | None]] = OrderedDict()
        self._by_token: dict[str, tuple[str, str]] = {}  # of those whose history is kept current
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def put(
        self, tenant: str, user_id: str, events: Sequence[tuple[str, int]], token: str | None = None
    ) -> None:
        """Remember events (item id, time), oldest first, in place of what was. With a token: these
        are all, and `add` keeps them so.
        """
        ids = BETWEEN.join([item_id for item_id, _ in events])
        value = (
            ids,
            array("q", [time_ms for _, time_ms in events]).tobytes(),
            token if events else None,
        )
        with self._lock:
            # as most often: what stands where it stood leaves no holes
            if self._kept.get((tenant, user_id)) == value:
                self._kept.move_to_end((tenant, user_id))
                return
            self._drop((tenant, user_id))
            if ids.count(BETWEEN) == max(len(events) - 1, 0):
                self._keep((tenant, user_id), value)
            while self.bytes > self.most_bytes:
                self._drop(next(iter(self._kept)))

    def add(self, token: str, item_id: str, time_ms: int) -> None:
        """An event that came after all that is remembered; of somebody who is not kept current,
        nothing.
        """
        with self._lock:
            whose = self._by_token.get(token)
            if whose is None:
                return
            ids, times, _ = self._kept[whose]
            self._drop(whose)
            if BETWEEN in item_id:
                return
            items, moments = ids.split(BETWEEN), array("q", times)
            at = bisect_right(moments, time_ms)
            items.insert(at, item_id)
            moments.insert(at, time_ms)
            self._keep(
                whose, (BETWEEN.join(items[-MOST_EVENTS:]), moments[-MOST_EVENTS:].tobytes(), token)
            )

    def get(self, tenant: str, user_id: str) -> list[tuple[str, int]]:
        """As they were put; empty for who is not remembered."""
        ids, times, _ = self._kept.get((tenant, user_id), ("", b"", None))
        return list(zip(ids.split(BETWEEN), array("q", times), strict=False))

    def current(self, tenant: str, user_id: str) -> list[tuple[str, int]] | None:
        """All of a person's latest events; None for who is not kept current."""
        with self._lock:
            ids, times, token = self._kept.get((tenant, user_id), ("", b"", None))
            if token is None:
                return None
            self._kept.move_to_end((tenant, user_id))
        return list(zip(ids.split(BETWEEN), array("q", times), strict=True))

    def forget(self, tenant: str, user_id: str) -> int:
        """How many events went."""
        with self._lock:
            return self._drop((tenant, user_id))

    def clear(self) -> None:
        """Forget all_subjects."""
        with self._lock:
            self._kept.clear()
            self._by_token.clear()
            self.bytes = 0

    def count_of(self, tenant: str, needle: str) -> int:
        """Histories of the tenant that are the needle's or name it."""
        return sum(
            of == tenant and (needle == user or needle in ids.split(BETWEEN))
            for (of, user), (ids, _, _) in list(self._kept.items())
        )

    def _keep(self, whose: tuple[str, str], value: tuple[str, bytes, str | None]) -> None:
        self._kept[whose] = value
        self.bytes += _size(whose[1], value)
        if value[2] is not None:
            self._by_token[value[2]] = whose

    def _drop(self, whose: tuple[str, str]) -> int:
        value = self._kept.pop(whose, None)
        if value is None:
            return 0
        self.bytes -= _size(whose[1], value)
        if value[2] is not None:
            del self._by_token[value[2]]
        return len(value[1]) // 8


def _size(user_id: str, value: tuple[str, bytes, str | None]) -> int:
    return OVERHEAD + len(user_id) + len(value[0]) + len(value[1])


class HistoryReader:
    """A person's latest events as of now, and the tenant's count of changes to items.

    PostgreSQL is asked. SQLite numbers events in the order in which they become visible, so there
    what was asked once is kept current by reading what was added since: the newest page of one
    table, which is in memory, where a person's own pages may have to wait for the disk. Where
    anything was taken away, by whomever, everything is asked for anew.
    """

    def __init__(self, engine: sa.Engine, remembered: HistoryCache) -> None:
        self.engine, self.history_cache = engine, remembered
        self.follows = engine.dialect.name == "sqlite"
        self._at: Stamp | None = None  # up to where it was read
        self._lock = threading.Lock()

    def of(self, tenant: str, user_id: str | None) -> tuple[int, list[tuple[str, int]]]:
        """Asks the store, and raises what it raises."""
        if user_id is None:
            return stamp(self.engine, tenant).changed, []
        if self.follows:
            now = stamp(self.engine, tenant)
            self._catch_up(now)
            found = self.history_cache.current(tenant, user_id)
            if found is not None:
                return now.changed, found
        now, token, found = latest(self.engine, tenant, user_id, MOST_EVENTS)
        self.learn(tenant, {user_id: (token, found)}, now)
        return now.changed, found

    def learn(
        self,
        tenant: str,
        histories: dict[str, tuple[str | None, list[tuple[str, int]]]],
        now: Stamp,
    ) -> None:
        """Remember people's events by user id, each with a token where these are all: as they were
        at that moment.
        """
        if not self.follows:
            histories = {user_id: (None, events) for user_id, (_, events) in histories.items()}
        with self._lock:
            if self.follows and not self._caught_up(now):
                return  # others have read further meanwhile
            for user_id, (token, events) in histories.items():
                self.history_cache.put(tenant, user_id, events, token)

    def _catch_up(self, now: Stamp) -> None:
        with self._lock:
            self._caught_up(now)

    def _caught_up(self, now: Stamp) -> bool:
        """Read on up to that moment; False for one that lies behind."""
        at = self._at
        if at is not None and (now.number, now.deletions) == (at.number, at.deletions):
            return True
        if at is not None and (now.deletions, now.number) < (at.deletions, at.number):
            return False
        if at is None or now.deletions != at.deletions:
            self.history_cache.clear()
        else:
            found = added(self.engine, at.number, now.number, MOST_ADDED + 1)
            if len(found) > MOST_ADDED:
                self.history_cache.clear()
            else:
                for token, item_id, time_ms in found:
                    self.history_cache.add(token, item_id, time_ms)
        self._at = now
        return True
