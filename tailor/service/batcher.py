"""Models that answer: loaded aside, then asked by one thread in batches."""

import asyncio
import json
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tailor.core.methods import Method, Predictor, Recommender
from tailor.core.saving import load
from tailor.core.specs import find_class
from tailor.data.nouns import History, Query, Ranking
from tailor.data.queries import Queries
from tailor.data.vocabulary import Vocabulary
from tailor.errors import ModelError, TailorError
from tailor.pipeline.explore import Explore
from tailor.store.models import PREDICTS, RECOMMENDS

Prepare = Callable[[], tuple[Query, Sequence[Vocabulary]]]
LATE_S = 30.0  # after which a caller gives up
MOST_QUERIES = 32  # of a batch


class Batcher:
    """Asks a model from one thread, with all queries that wait.

    Queries that arrive during a batch wait for the next one: load makes batches longer and each
    answer cheaper.
    """

    def __init__(self, model: Recommender) -> None:
        self.model = model
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="tailor-model", daemon=True)
        self._thread.start()

    def ask(self, query: Query, k: int, without: Sequence[Vocabulary] = ()) -> Ranking:
        """Return the model's ranking with none of the items of `without`.

        Raises what the model raised for this query, never for another one's.
        """
        future: Future[Ranking] = Future()
        self._queue.put(_Job(lambda: (query, without), k, future))
        return future.result(LATE_S)

    async def answer(self, prepare: Prepare, k: int) -> Ranking:
        """Return the ranking, awaited on an event loop.

        `prepare` makes the query and the items to leave out; it runs in the model's thread, just
        before the model is asked.
        """
        future = _LoopFuture()
        self._queue.put(_Job(prepare, k, future))
        async with asyncio.timeout(LATE_S):
            return await future.awaitable

    def close(self) -> None:
        """Answer what waits, then end."""
        self._queue.put(None)

    def _work(self) -> None:
        is_open = True
        while is_open:
            batch: list[_Job] = []
            job = self._queue.get()
            while job is not None:
                batch.append(job)
                if len(batch) >= MOST_QUERIES or self._queue.empty():
                    break
                job = self._queue.get()
            is_open = job is not None
            self._answer_batch(batch)

    def _answer_batch(self, batch: "Sequence[_Job]") -> None:
        groups: dict[tuple[int, ...], list[_Job]] = {}
        for job in batch:
            if job.is_ready():
                groups.setdefault(job.group, []).append(job)
        for jobs in groups.values():
            self._answer(jobs)

    def _answer(self, jobs: "Sequence[_Job]") -> None:
        """Answer jobs of one group; after an error each by itself."""
        try:
            queries = Queries.of([job.query for job in jobs])
            for ids in jobs[0].without:
                queries = queries.without(ids)
            rankings = self.model.recommend(queries, jobs[0].k)
            for job, ranking in zip(jobs, rankings, strict=True):
                job.future.set_result(ranking)
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
                return
            for job in jobs:
                if not job.future.done():
                    self._answer([job])


class _LoopFuture:
    """A future for a caller on an event loop.

    It has no locks and makes one call of the loop, where two futures tied together make more.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.awaitable: asyncio.Future[Ranking] = self.loop.create_future()
        self._is_done = False

    def set_running_or_notify_cancel(self) -> bool:
        return not self.awaitable.done()

    def done(self) -> bool:
        return self._is_done

    def set_result(self, ranking: Ranking) -> None:
        self._call(self.awaitable.set_result, ranking)

    def set_exception(self, error: BaseException) -> None:
        self._call(self.awaitable.set_exception, error)

    def _call(self, setter: Callable[[Any], None], value: Any) -> None:
        self._is_done = True
        with suppress(RuntimeError):  # the loop has ended, and nobody waits
            self.loop.call_soon_threadsafe(lambda: None if self.awaitable.done() else setter(value))


@dataclass(eq=False)
class _Job:
    prepare: Prepare
    k: int
    future: "Future[Ranking] | _LoopFuture"
    query: Query = field(default_factory=Query)
    without: tuple[Vocabulary, ...] = ()

    def is_ready(self) -> bool:
        """Prepare the query; return False where that failed or the caller has given up."""
        # from here on it cannot be cancelled
        if not self.future.set_running_or_notify_cancel():
            return False
        try:
            self.query, without = self.prepare()
        except Exception as error:
            self.future.set_exception(error)
            return False
        self.without = tuple(ids for ids in without if len(ids))
        return True

    @property
    def group(self) -> tuple[int, ...]:
        """Equal for jobs that can be answered together."""
        return (self.k, *map(id, self.without))


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A registered model in memory."""

    version: int
    digest: str
    method: str

    @property
    def name(self) -> str:
        """Name and version, as answers show them."""
        return f"{self.method}@{self.version}"

    def is_row(self, row: Mapping[str, Any]) -> bool:
        """Return whether this is the model of a row of the register."""
        return (self.version, self.digest) == (row["version"], row["digest"])


@dataclass(frozen=True, eq=False)
class LoadedRecommender(LoadedModel):
    """A recommender in memory, with the thread that asks it."""

    batcher: Batcher

    @property
    def model(self) -> Recommender:
        """The recommender."""
        return self.batcher.model


@dataclass(frozen=True, eq=False)
class LoadedPredictor(LoadedModel):
    """A predictor in memory."""

    model: Predictor


def saved_digest(folder: str | Path) -> str:
    """Return the digest of a saved model. Raises ModelError where there is none."""
    path = Path(folder) / "spec.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["digest"])
    except (OSError, ValueError, KeyError):
        raise ModelError(
            f"{folder} holds no saved model: fit one with `tailor fit ... --out {folder}`"
        ) from None


def saved_kind(folder: str | Path) -> str:
    """Return RECOMMENDS or PREDICTS, the kind of a saved model. Raises ModelError for another."""
    saved_digest(folder)
    spec = json.loads((Path(folder) / "spec.json").read_text(encoding="utf-8"))
    try:
        model_class = find_class(spec["spec"]["class"])
    except (KeyError, TypeError):
        raise ModelError(f"{folder} holds no saved model: its spec.json names no class") from None
    if issubclass(model_class, Predictor):
        return PREDICTS
    if not issubclass(model_class, Recommender):
        raise ModelError(
            f"{folder} holds a {model_class.__name__}, which neither recommends nor predicts"
        )
    return RECOMMENDS


def load_predictor(version: int, folder: str, digest: str) -> LoadedPredictor:
    """Load a predictor and ask it once.

    Raises ModelError where the folder holds another model than the registered one.
    """
    model = _load_checked(version, folder, digest)
    if not isinstance(model, Predictor):
        raise ModelError(f"{folder} holds a {model.name}, which does not predict")
    try:
        model.predict([Query(history=History.of("nothing"))], [["nothing"]])
    except TailorError as error:
        raise ModelError(f"{folder} cannot answer: {error}") from error
    return LoadedPredictor(version, digest, model.name, model)


def _load_checked(version: int, folder: str, digest: str) -> Method:
    if saved_digest(folder) != digest:
        raise ModelError(
            f"{folder} holds another model than the one registered as version {version}: register"
            " it anew"
        )
    return load(folder)


def load_recommender(
    version: int, folder: str, digest: str, explore: float = 0.0
) -> LoadedRecommender:
    """Load a recommender and ask it once, so that it builds what it builds on first use.

    A share `explore` of the places of its lists is filled at random. Raises ModelError where the
    folder holds another model than the registered one.
    """
    model = _load_checked(version, folder, digest)
    if not isinstance(model, Recommender):
        raise ModelError(f"{folder} holds a {model.name}, which does not recommend")
    try:
        model.recommend([Query(), Query(history=History.of("nothing"))], 1)
    except TailorError as error:
        raise ModelError(f"{folder} cannot answer: {error}") from error
    answering = Explore.around(model, epsilon=explore) if explore else model
    return LoadedRecommender(version, digest, model.name, Batcher(answering))
