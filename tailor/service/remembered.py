"""What people did last, remembered for when the database is away: as plain texts and bytes, which the garbage collector passes over, and no more of them than so many."""

import threading
from array import array
from collections import OrderedDict
from collections.abc import Sequence

MOST_BYTES = 24 * 2**20  # some 50,000 people of a shop
OVERHEAD = 400  # bytes of a person besides ids and times
BETWEEN = "\0"  # which no id that comes in over HTTP holds


class Remembered:
    """Histories by tenant and person; who was not asked for longest is forgotten first."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes, self.bytes = most_bytes, 0
        self._kept: OrderedDict[tuple[str, str], tuple[str, bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, tenant: str, user_id: str, events: Sequence[tuple[str, int]]) -> None:
        """Remember events (item id, time), oldest first, in place of what was."""
        ids = BETWEEN.join([item_id for item_id, _ in events])
        value = (ids, array("q", [time_ms for _, time_ms in events]).tobytes())
        with self._lock:
            if self._kept.get((tenant, user_id)) == value:  # as most often: what stands where it stood leaves no holes
                self._kept.move_to_end((tenant, user_id))
                return
            self._drop((tenant, user_id))
            if ids.count(BETWEEN) == max(len(events) - 1, 0):
                self._kept[tenant, user_id] = value
                self.bytes += _size(user_id, value)
            while self.bytes > self.most_bytes:
                self._drop(next(iter(self._kept)))

    def get(self, tenant: str, user_id: str) -> list[tuple[str, int]]:
        """As they were put; empty for who is not remembered."""
        ids, times = self._kept.get((tenant, user_id), ("", b""))
        return list(zip(ids.split(BETWEEN), array("q", times), strict=False))

    def forget(self, tenant: str, user_id: str) -> int:
        """How many events went."""
        with self._lock:
            return self._drop((tenant, user_id))

    def count_of(self, tenant: str, needle: str) -> int:
        """Histories of the tenant that are the needle's or name it."""
        return sum(of == tenant and (needle == user or needle in ids.split(BETWEEN)) for (of, user), (ids, _) in list(self._kept.items()))

    def _drop(self, whose: tuple[str, str]) -> int:
        value = self._kept.pop(whose, None)
        if value is None:
            return 0
        self.bytes -= _size(whose[1], value)
        return len(value[1]) // 8


def _size(user_id: str, value: tuple[str, bytes]) -> int:
    return OVERHEAD + len(user_id) + len(value[0]) + len(value[1])
