"""Memories that were read from the store and are ready to be searched, up to a number of bytes."""

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from tailor.profiles.propositions import DAY_MS
from tailor.profiles.recall import OpenedMemory
from tailor.store.memory import Version

Whose = tuple[str, str, int]
"""Tenant, user, and the sensitivity up to which a memory was opened."""
MOST_BYTES = 64 * 2**20
ROW_BYTES = 1_500  # of a text besides its characters: words, counts, features
CHARACTER_BYTES = 3  # of a character: the text itself, its words, their counts
STALE_MS = DAY_MS  # after which confidences are computed anew


@dataclass(frozen=True)
class Opened:
    """A user's memory as it was read at one version."""

    version: Version
    read_ms: int
    memory: OpenedMemory
    expiry_ms: float = math.inf
    """When the first of what it shows is past the retention."""

    @property
    def bytes(self) -> int:
        """Estimate of what it takes."""
        texts = self.memory.remembered
        size = sum(ROW_BYTES + CHARACTER_BYTES * len(part.text) for part in texts)
        vectors = self.memory.index.vectors
        return size + (0 if vectors is None else int(vectors.nbytes))


class OpenedMemories:
    """Opened memories by their owners; the one that was asked longest ago goes first.

    After a deletion from any memory of a tenant, by any process, all of the tenant are dropped:
    what was deleted stays in no worker's memory that is asked anything.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self.bytes = 0
        self._entries: OrderedDict[Whose, Opened] = OrderedDict()
        self._deletions: dict[str, int] = {}  # by tenant
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, whose: Whose, version: Version, at_ms: int) -> Opened | None:
        """Return a memory if it is of this version, and was read not long before."""
        with self._lock:
            self._heed(whose[0], version.deletions)
            opened = self._entries.get(whose)
            if opened is None:
                return None
            is_stale = abs(at_ms - opened.read_ms) > STALE_MS or at_ms > opened.expiry_ms
            if opened.version != version or is_stale:
                self._drop(whose)
                return None
            self._entries.move_to_end(whose)
            return opened

    def put(self, whose: Whose, opened: Opened) -> None:
        """Keep a memory, unless something was deleted since it was read, or it is too large."""
        with self._lock:
            self._heed(whose[0], opened.version.deletions)
            self._drop(whose)
            is_current = opened.version.deletions == self._deletions.get(whose[0], 0)
            if not is_current or opened.bytes > self.most_bytes:
                return
            self._entries[whose] = opened
            self.bytes += opened.bytes
            while self.bytes > self.most_bytes:
                self._drop(next(iter(self._entries)))

    def heed(self, tenant: str, deletions: int) -> None:
        """Drop the tenant's memories if rows of any were deleted since they were read."""
        with self._lock:
            self._heed(tenant, deletions)

    def forget(self, tenant: str, user_id: str) -> int:
        """Drop a user's memory and return how many texts went."""
        with self._lock:
            owned = [whose for whose in self._entries if whose[:2] == (tenant, user_id)]
            return sum(map(self._drop, owned))

    def texts_of(self, tenant: str, user_id: str) -> Sequence[str]:
        """Return the texts in memory of a user."""
        with self._lock:
            entries = list(self._entries.items())
        owned = [opened for whose, opened in entries if whose[:2] == (tenant, user_id)]
        texts = [part.text for opened in owned for part in opened.memory.remembered]
        return list(dict.fromkeys(texts))

    def count_of(self, tenant: str, needle: str) -> int:
        """Count the tenant's memories of that user, or with a text that is `needle`."""
        with self._lock:
            entries = list(self._entries.items())
        return sum(
            owner == tenant
            and (user_id == needle or any(t.text == needle for t in opened.memory.remembered))
            for (owner, user_id, _), opened in entries
        )

    def _heed(self, tenant: str, deletions: int) -> None:
        """Drop all after a deletion; a count from before the last one changes nothing."""
        if deletions > self._deletions.get(tenant, 0):
            self._deletions[tenant] = deletions
            for whose in [whose for whose in self._entries if whose[0] == tenant]:
                self._drop(whose)

    def _drop(self, whose: Whose) -> int:
        opened = self._entries.pop(whose, None)
        if opened is None:
            return 0
        self.bytes -= opened.bytes
        return len(opened.memory)
