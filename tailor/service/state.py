"""What a worker holds: the store, its writer, the models in place, the shelves. No state of its own
that a restart would lose.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from tailor.core.defaults import encoder as default_encoder
from tailor.service.catalogue import Catalogue
from tailor.service.history_cache import MOST_EVENTS, HistoryCache, HistoryReader
from tailor.service.model_registry import ModelRegistry
from tailor.service.semantic_search import SemanticSearch
from tailor.store import keys
from tailor.store.engine import UNAVAILABLE, reading
from tailor.store.events import STAMP, Stamp, read_histories
from tailor.store.impressions import ListLog
from tailor.store.models import tenants
from tailor.store.subjects import reconcile
from tailor.store.writer import UnavailableError, Writer

T = TypeVar("T")
log = logging.getLogger("tailor.service")
KEY_S = 5.0  # how long a key is believed without asking the store
KEY_AWAY_S = 3600.0  # the same while the store is away
REMEMBERED_EVENTS = 200_000  # of a tenant, read at the start


@dataclass(frozen=True)
class Settings:
    """How a worker behaves."""

    models: Path = Path("models")
    """Tenants register models out of the folders in it that have their names."""
    body_bytes: int = 8 * 2**20
    """Of a request, at most."""
    rate: float = 2_000.0
    """Requests a second of one key, on average."""
    burst: int = 4_000
    """Requests of one key at once."""
    explore: float = 0.0
    """Share of the places of recommended lists that are given away to chance."""
    meaning: bool = False
    """Whether items are searched by meaning too, with the default encoder."""


@dataclass(eq=False)
class Service:
    """One worker. Answers need memory alone; what a person did last is read from the store, or
    remembered while it is away.
    """

    engine: sa.Engine
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        self.writer = Writer(self.engine)
        self.model_registry = ModelRegistry(self.engine, self.writer, self.settings.explore)
        self.semantic_search = SemanticSearch(default_encoder()) if self.settings.meaning else None
        self._shelves: dict[str, Catalogue] = {}
        self.list_log = ListLog(self.writer)
        self._keys: dict[str, tuple[float, keys.Caller]] = {}
        self.history_cache = HistoryCache()
        self.histories = HistoryReader(self.engine, self.history_cache)

    def start(self) -> "Service":
        """Put in place what the store names; an unreachable store is looked at again once it is
        asked for.
        """
        found: list[str] = []
        with suppress(*UNAVAILABLE, UnavailableError):
            if gone := self.writer.do(reconcile):
                log.warning("rows without a person deleted", extra=gone)
            found = self.read(tenants)
            for tenant in found:
                self.shelf(tenant)
                self._remember_latest(tenant)
        self.model_registry.start(found)
        return self

    def _remember_latest(self, tenant: str) -> None:
        """Who was there last is remembered from the start, so that memory does not grow as they
        come again.
        """

        def job(connection: sa.Connection) -> None:
            now = Stamp.of(connection.execute(STAMP.statement, {"whose": tenant}).one())
            found, are_all = read_histories(connection, tenant, REMEMBERED_EVENTS, MOST_EVENTS)
            self.histories.learn(
                tenant,
                {
                    user_id: (token if are_all else None, events)
                    for user_id, (token, events) in found.items()
                },
                now,
            )

        self.read(job)

    def stop(self) -> None:
        """Finish what waits."""
        self.list_log.close()
        self.writer.close()
        self.model_registry.stop()
        if self.semantic_search is not None:
            self.semantic_search.close()

    def read(self, job: Callable[[sa.Connection], T]) -> T:
        with reading(self.engine) as connection:
            return job(connection)

    # who asks

    def lately(self, key: str) -> keys.Caller | None:
        """Whose key it is, where the store has said so within KEY_S."""
        at, known = self._keys.get(keys.digest(key), (0.0, None))
        return known if known is not None and time.monotonic() - at < KEY_S else None

    def caller(self, key: str) -> keys.Caller | None:
        """Whose key it is. A revoked key opens nothing after KEY_S; while the store is away keys
        seen in the last hour are believed.
        """
        digest, now = keys.digest(key), time.monotonic()
        at, known = self._keys.get(digest, (0.0, None))
        try:
            found = self.read(lambda connection: keys.caller(connection, key))
        except UNAVAILABLE:
            if known is not None and now - at < KEY_AWAY_S:
                return known
            raise
        if found is None:
            self._keys.pop(digest, None)
            return None
        self._keys[digest] = (now, found)
        return found

    # what is known

    def shelf(self, tenant: str) -> Catalogue:
        """The tenant's items, as they are now, or as they were last seen while the store is away.
        Never seen: an error, since nothing would be blocked.
        """
        return self.known(tenant, None)[0]

    def known(
        self, tenant: str, user_id: str | None
    ) -> tuple[Catalogue, list[tuple[str, int]], bool]:
        """The tenant's items, a person's latest events (item id, time), oldest first, and whether
        both are as of now: else they are as last seen.
        """
        shelf = self._shelves.get(tenant) or self._shelves.setdefault(
            tenant, Catalogue(tenant, self.semantic_search)
        )
        try:
            changed, found = self.histories.of(tenant, user_id)
            if changed != shelf.changed:
                self.read(shelf.refresh)
        except UNAVAILABLE:
            if shelf.changed < 0:
                raise
            return shelf, [] if user_id is None else self.history_cache.get(tenant, user_id), False
        return shelf, found, True

    # what a person may have erased

    @property
    def name(self) -> str:
        return "memory"

    def export(
        self, connection: sa.Connection, tenant: str, user_id: str
    ) -> list[dict[str, object]]:
        return [
            {"item_id": item_id, "time_ms": time_ms}
            for item_id, time_ms in self.history_cache.get(tenant, user_id)
        ]

    def erase(self, connection: sa.Connection, tenant: str, user_id: str) -> int:
        return self.forget(tenant, user_id)

    def forget(self, tenant: str, user_id: str) -> int:
        """Drop what this worker remembers of a person; how much it was."""
        return self.history_cache.forget(tenant, user_id) + self.list_log.forget(tenant, user_id)

    def scan(self, connection: sa.Connection, tenant: str, needle: str) -> int:
        return self.history_cache.count_of(tenant, needle)
