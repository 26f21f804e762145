"""Memories that were read from the store and are ready to be searched, up to a number of bytes."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from tailor.profiles.propositions import DAY_MS, Proposition
from tailor.profiles.recall import OpenedMemory
from tailor.store.memory import Version

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
    propositions: tuple[Proposition, ...]

    @property
    def bytes(self) -> int:
        """Estimate of what it takes."""
        texts = self.memory.remembered
        size = sum(ROW_BYTES + CHARACTER_BYTES * len(part.text) for part in texts)
        vectors = self.memory.index.vectors
        return size + (0 if vectors is None else int(vectors.nbytes))


class OpenedMemories:
    """Opened memories by tenant and user; the one that was asked longest ago goes first.

    After a deletion from any memory, by any process, all are dropped: what was deleted stays in no
    worker's memory that is asked anything.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self.bytes = 0
        self._entries: OrderedDict[tuple[str, str], Opened] = OrderedDict()
        self._deletions = "0"
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, tenant: str, user_id: str, version: Version, at_ms: int) -> Opened | None:
        """Return a user's memory if it is of this version, and was read not long before."""
        with self._lock:
            self._heed(version)
            opened = self._entries.get((tenant, user_id))
            if opened is None:
                return None
            is_stale = abs(at_ms - opened.read_ms) > STALE_MS
            if opened.version != version or is_stale:
                self._drop((tenant, user_id))
                return None
            self._entries.move_to_end((tenant, user_id))
            return opened

    def put(self, tenant: str, user_id: str, opened: Opened) -> None:
        """Keep a memory, unless something was deleted since it was read, or it is too large."""
        with self._lock:
            self._heed(opened.version)
            self._drop((tenant, user_id))
            if opened.version.deletions != self._deletions or opened.bytes > self.most_bytes:
                return
            self._entries[tenant, user_id] = opened
            self.bytes += opened.bytes
            while self.bytes > self.most_bytes:
                self._drop(next(iter(self._entries)))

    def forget(self, tenant: str, user_id: str) -> int:
        """Drop a user's memory and return how many texts went."""
        with self._lock:
            return self._drop((tenant, user_id))

    def texts_of(self, tenant: str, user_id: str) -> Sequence[str]:
        """Return the texts in memory of a user."""
        opened = self._entries.get((tenant, user_id))
        return [] if opened is None else [part.text for part in opened.memory.remembered]

    def count_of(self, tenant: str, needle: str) -> int:
        """Count the tenant's memories of that user, or with a text that is `needle`."""
        with self._lock:
            entries = list(self._entries.items())
        return sum(
            owner == tenant
            and (user_id == needle or any(t.text == needle for t in opened.memory.remembered))
            for (owner, user_id), opened in entries
        )

    def _heed(self, version: Version) -> None:
        """Drop all after a deletion; a version from before the last one changes nothing."""
        if int(version.deletions) > int(self._deletions):
            self._entries.clear()
            self.bytes = 0
            self._deletions = version.deletions

    def _drop(self, user: tuple[str, str]) -> int:
        opened = self._entries.pop(user, None)
        if opened is None:
            return 0
        self.bytes -= opened.bytes
        return len(opened.memory)
