"""The state of one worker: the store, its writer, the models, the catalogues, the histories.

None of it is lost by a restart: all is read from the store again.
"""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa

from tailor.core.defaults import encoder as default_encoder
from tailor.ports.cache import MemoryCache
from tailor.profiles.memory import Memory
from tailor.profiles.opened import OpenedMemories
from tailor.service.catalogue import Catalogue
from tailor.service.erasing import Erasures
from tailor.service.history_cache import MOST_EVENTS, HistoryCache, HistoryReader, UserHistory
from tailor.service.latency import LatencyRings
from tailor.service.model_registry import ModelRegistry
from tailor.service.previews import Previews
from tailor.service.refit_jobs import RefitJobs
from tailor.service.semantic_search import SemanticSearch
from tailor.store import keys
from tailor.store.audit import LookLog
from tailor.store.encryption import KeysError
from tailor.store.engine import UNAVAILABLE, now_ms, reading
from tailor.store.events import STAMP, Stamp, read_histories
from tailor.store.feedback import rule_name
from tailor.store.impressions import ListLog
from tailor.store.links import link_owner
from tailor.store.models import tenants
from tailor.store.subjects import reconcile
from tailor.store.users import attributes_of, has_attributes
from tailor.store.writer import UnavailableError, Writer

T = TypeVar("T")
log = logging.getLogger("tailor.service")
KEY_S = 5.0  # for which a key is accepted without asking the store
KEY_OUTAGE_S = 3600.0  # the same while the store is away
RERANK_BYTES = 32 * 2**20  # of vectors and answers of reranked texts, for each tenant
OWN_LINK = "a person's own link"  # stands in the log in place of the name of a key
ATTRIBUTES_S = 1.0  # between two looks whether a tenant has attributes of users
PRELOADED_EVENTS = 200_000  # of a tenant, read at the start


@dataclass(frozen=True)
class Settings:
    """Settings of a worker."""

    models: Path = Path("models")
    """Folder of saved models; a tenant registers those in the subfolder of its name."""
    body_bytes: int = 8 * 2**20
    """Largest body of a request, in bytes."""
    rate: float = 2_000.0
    """Requests a second of one key, on average."""
    burst: int = 4_000
    """Requests of one key at once."""
    explore: float = 0.0
    """Share of the places of recommended lists that are filled at random."""
    meaning: bool = False
    """True: search also compares meanings, with the default encoder."""
    memory: bool = True
    """False: the routes of users' memories are not served."""
    item_attributes: int = 200
    """Most names in `more` of an item."""
    attributes: int = 1_000
    """Most names in `more` of all items of a tenant."""


class Snapshot(NamedTuple):
    """The state of the store for one request."""

    catalogue: Catalogue
    history: UserHistory
    attributes: Mapping[str, Any]
    """Of the user: what `PUT /v1/users/ID` wrote."""
    is_current: bool
    """False while the store is away: the rest is then as last seen."""
    is_outdated: bool = False
    """True where items have changed that the catalogue has not read yet."""


@dataclass(eq=False)
class Service:
    """One worker.

    Answers need memory alone, but for the user's latest events, which are read from the store, or
    from memory while the store is away.
    """

    engine: sa.Engine
    settings: Settings = field(default_factory=Settings)
    """Settings of the worker."""

    def __post_init__(self) -> None:
        self.writer = Writer(self.engine)
        self.model_registry = ModelRegistry(
            self.engine, self.writer, self.settings.explore, self.settings.models
        )
        self.previews = Previews(self.model_registry)
        self.refit_jobs = RefitJobs(self.engine, self.settings.models)
        self.semantic_search = SemanticSearch(default_encoder()) if self.settings.meaning else None
        self.list_log = ListLog(self.writer)
        self.look_log = LookLog(self.writer)
        self.history_cache = HistoryCache()
        self.histories = HistoryReader(self.engine, self.history_cache)
        self._rerank_caches: dict[str, MemoryCache] = {}
        self.opened_memories = OpenedMemories()
        self.erasures = Erasures(self.engine, self.writer, self)
        self._catalogues: dict[str, Catalogue] = {}
        self._keys: dict[str, tuple[float, keys.Caller]] = {}
        self._attributes: dict[str, tuple[float, bool]] = {}  # when looked for, and whether any
        self.latency = LatencyRings()
        self._endings: list[Callable[[], None]] = []  # of what routes hold

    def start(self) -> "Service":
        """Load models, catalogues and histories; what is away now is loaded once it is needed."""
        names: list[str] = []
        with suppress(*UNAVAILABLE, UnavailableError):
            deleted = self.writer.do(reconcile)
            if deleted:
                log.warning("rows without a person deleted", extra=deleted)
            names = self.read(tenants)
            self.read(self.look_log.learn_key)
            for tenant in names:
                self._preload(tenant)
        self.model_registry.start(names)
        self.erasures.start()
        return self

    def _preload(self, tenant: str) -> None:
        """Read a tenant's items and histories; damaged rows cost no other tenant the start.

        Raises what the engine raises.
        """
        try:
            self.catalogue(tenant).index()
            self._preload_histories(tenant)
        except UNAVAILABLE:
            raise
        except Exception as error:  # of any kind: a row may have been damaged
            extra = {"tenant": tenant, "error": type(error).__name__}
            log.error("a tenant's rows cannot be read: run `tailor doctor`", extra=extra)

    def _preload_histories(self, tenant: str) -> None:
        """Read the latest users' histories, so that memory does not grow as they come again."""

        def job(connection: sa.Connection) -> None:
            parameters = {"whose": tenant, "rule": rule_name(tenant)}
            stamp = Stamp.of_row(connection.execute(STAMP.statement, parameters).one())
            histories, are_complete = read_histories(
                connection, tenant, PRELOADED_EVENTS, MOST_EVENTS
            )
            self.histories.keep(
                tenant,
                {
                    user_id: (token if are_complete else None, events)
                    for user_id, (token, events) in histories.items()
                },
                stamp,
            )

        self.read(job)

    def on_stop(self, end: Callable[[], None]) -> None:
        """Have a function called when the worker stops: what routes hold ends with it."""
        self._endings.append(end)

    def stop(self) -> None:
        """Finish what was begun, then end all threads; refits are not waited for."""
        for end in self._endings:
            end()
        self.refit_jobs.stop()
        self.erasures.stop()
        self.list_log.close()
        self.look_log.close()
        self.writer.close()
        self.model_registry.stop()
        self.previews.close()
        if self.semantic_search is not None:
            self.semantic_search.close()

    def read(self, job: Callable[[sa.Connection], T]) -> T:
        """Return what a job reads from the store."""
        with reading(self.engine) as connection:
            return job(connection)

    # callers

    def recent_caller(self, key: str) -> keys.Caller | None:
        """Return the caller of a key that the store confirmed within KEY_S."""
        confirmed_s, caller = self._keys.get(keys.digest(key), (0.0, None))
        is_recent = time.monotonic() - confirmed_s < KEY_S
        return caller if is_recent else None

    def knows_key(self, key: str) -> bool:
        """Return whether the store confirmed this key at some time, and has not denied it since."""
        return keys.digest(key) in self._keys

    def caller(self, key: str) -> keys.Caller | None:
        """Return the caller of a key, None for an unknown or revoked one.

        A revoked key opens nothing after KEY_S. While the store is away, keys that were confirmed
        in the last hour are accepted.
        """
        digest = keys.digest(key)
        now_s = time.monotonic()
        confirmed_s, known_caller = self._keys.get(digest, (0.0, None))
        try:
            caller = self.read(lambda connection: keys.caller(connection, key))
        except UNAVAILABLE:
            if known_caller is not None and now_s - confirmed_s < KEY_OUTAGE_S:
                return known_caller
            raise
        if caller is None:
            self._keys.pop(digest, None)
            return None
        self._keys[digest] = (now_s, caller)
        return caller

    def person(self, link: str) -> keys.Person | None:
        """Return the person whose own page a link opens, None for any other text.

        The store is asked each time: an erasure ends links at once.
        """
        owner = self.read(lambda connection: link_owner(connection, link, now_ms()))
        if owner is None:
            return None
        return keys.Person(owner.tenant, keys.PERSON, OWN_LINK, owner.user_id, owner.ends_ms)

    # catalogue and user

    def catalogue(self, tenant: str) -> Catalogue:
        """Return the tenant's items as of now, or as last seen while the store is away.

        Raises what the engine raises where they were never seen: nothing would be blocked.
        """
        return self.snapshot(tenant, None).catalogue

    def seen_catalogue(self, tenant: str) -> Catalogue:
        """Return the tenant's items as last seen, without a look at the store."""
        catalogue = self._catalogues.get(tenant)
        if catalogue is None:
            new = Catalogue(tenant, self.semantic_search)
            catalogue = self._catalogues.setdefault(tenant, new)
        return catalogue

    def snapshot(self, tenant: str, user_id: str | None, refresh: bool = True) -> Snapshot:
        """Return the tenant's items and the user's history and attributes.

        Reading changed items takes a while: without `refresh` the snapshot says only that it is due
        (`is_outdated`).
        """
        catalogue = self.seen_catalogue(tenant)
        try:
            item_changes, history = self.histories.read(tenant, user_id)
            is_outdated = item_changes != catalogue.changed
            if is_outdated and refresh:
                self.read(catalogue.refresh)
            attributes = self._read_attributes(tenant, user_id)
        except UNAVAILABLE:
            if catalogue.changed < 0:
                raise
            history = self.history_cache.get(tenant, user_id or "")
            return Snapshot(catalogue, history, {}, False)
        return Snapshot(catalogue, history, attributes, True, is_outdated and not refresh)

    def _read_attributes(self, tenant: str, user_id: str | None) -> Mapping[str, Any]:
        if user_id is None:
            return {}
        looked_s, has_any = self._attributes.get(tenant, (0.0, False))
        now_s = time.monotonic()
        if not has_any and now_s - looked_s > ATTRIBUTES_S:
            has_any = has_attributes(self.engine, tenant)
            self._attributes[tenant] = (now_s, has_any)
        if not has_any:
            return {}
        try:
            return attributes_of(self.engine, tenant, user_id)
        except KeysError as error:  # a damaged row must not cost the user every answer
            log.error("attributes of a user cannot be read", extra={"error": str(error)})
            return {}

    def note_attributes(self, tenant: str) -> None:
        """Know from now on that the tenant has attributes of users."""
        self._attributes[tenant] = (time.monotonic(), True)

    def rerank_cache(self, tenant: str) -> MemoryCache:
        """Return the memory of a tenant's rerankers: vectors and answers of the latest texts."""
        return self._rerank_caches.setdefault(tenant, MemoryCache(RERANK_BYTES))

    def memory(self, tenant: str) -> Memory:
        """Return a tenant's memories of its users, which this worker's writer writes."""
        return Memory(self.engine, tenant, write=self.writer.do, opened=self.opened_memories)

    # the worker's memory, as a place that may hold a person's data (`users.Erasable`)

    @property
    def name(self) -> str:
        """Name of this store in receipts."""
        return "memory"

    def export(
        self, connection: sa.Connection, tenant: str, user_id: str
    ) -> list[dict[str, object]]:
        """Return the events and texts in memory."""
        history = self.history_cache.get(tenant, user_id)
        rows: list[dict[str, object]] = []
        for item_id, time_ms in history.events:
            rows.append({"item_id": item_id, "time_ms": time_ms})
        for item_id in history.against:
            rows.append({"item_id": item_id})
        for text in self.opened_memories.texts_of(tenant, user_id):
            rows.append({"text": text})
        return rows

    def erase(self, connection: sa.Connection, tenant: str, user_id: str) -> int:
        """Drop what is in memory."""
        return self.forget(tenant, user_id)

    def forget(self, tenant: str, user_id: str) -> int:
        """Drop a user's events and waiting lists from memory and return how many there were."""
        cached = self.rerank_cache(tenant).clear()  # documents may name anybody
        texts = cached + self.opened_memories.forget(tenant, user_id)
        events = texts + self.history_cache.forget(tenant, user_id)
        self.look_log.forget(tenant, user_id)  # they stay, and name nobody
        return events + self.list_log.forget(tenant, user_id)

    def scan(self, connection: sa.Connection, tenant: str, needle: str) -> int:
        """Count the histories, memories and waiting lists in memory that name `needle`."""
        places = (self.history_cache, self.opened_memories, self.list_log, self.look_log)
        return sum(place.count_of(tenant, needle) for place in places)
