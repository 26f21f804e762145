"""The model that answers: loaded aside, put in place in one step, asked by one thread for all who
wait.
"""

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
LATE_S = 30.0  # after which nobody waits any more
MOST = 32  # queries answered at once


class Batcher:
    """Answers in batches: who comes while a batch is answered waits for the next one, so that load
    makes batches longer and each answer cheaper.
    """

    def __init__(self, model: Recommender) -> None:
        self.model = model
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="tailor-model", daemon=True)
        self._thread.start()

    def ask(self, query: Query, k: int, without: Sequence[Vocabulary] = ()) -> Ranking:
        """The model's answer, with nothing of `without` in it. Raises what the model raised for
        this query, never for another one's.
        """
        future: Future[Ranking] = Future()
        self._queue.put(_Job(lambda: (query, without), k, future))
        return future.result(LATE_S)

    async def answer(self, prepare: Prepare, k: int) -> Ranking:
        """The same on an event loop. `prepare` makes the query and what must not be answered, just
        before the model is asked, in its thread.
        """
        awaited = _LoopFuture()
        self._queue.put(_Job(prepare, k, awaited))
        async with asyncio.timeout(LATE_S):
            return await awaited.ours

    def close(self) -> None:
        """Answer those who wait, then end."""
        self._queue.put(None)

    def _work(self) -> None:
        while True:
            first = self._queue.get()
            batch = [] if first is None else [first]
            last = first is None
            while not last and len(batch) < MOST and not self._queue.empty():
                more = self._queue.get()
                last = more is None
                if more is not None:
                    batch.append(more)
            ready = [one for one in batch if one.is_ready()]
            for alike in dict.fromkeys(one.alike for one in ready):
                self._answer([one for one in ready if one.alike == alike])
            if last:
                return

    def _answer(self, asked: "Sequence[_Job]") -> None:
        try:
            queries = Queries.of([one.query for one in asked])
            for ids in asked[0].without:
                queries = queries.without(ids)
            for one, ranking in zip(asked, self.model.recommend(queries, asked[0].k), strict=True):
                one.future.set_result(ranking)
        except Exception as error:
            if len(asked) == 1:
                asked[0].future.set_exception(error)
                return
            for one in asked:
                if not one.future.done():
                    self._answer([one])


class _LoopFuture:
    """What stands in a future's place for one who waits on an event loop: no locks, and one call of
    the loop in the place of two futures tied together.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.ours: asyncio.Future[Ranking] = self.loop.create_future()
        self._told = False

    def set_running_or_notify_cancel(self) -> bool:
        return not self.ours.done()

    def done(self) -> bool:
        return self._told

    def set_result(self, ranking: Ranking) -> None:
        self._tell(self.ours.set_result, ranking)

    def set_exception(self, error: BaseException) -> None:
        self._tell(self.ours.set_exception, error)

    def _tell(self, how: Callable[[Any], None], what: Any) -> None:
        self._told = True
        with suppress(RuntimeError):  # the loop has ended, and nobody waits
            self.loop.call_soon_threadsafe(lambda: None if self.ours.done() else how(what))


@dataclass(eq=False)
class _Job:
    prepare: Prepare
    k: int
    future: "Future[Ranking] | _LoopFuture"
    query: Query = field(default_factory=Query)
    without: tuple[Vocabulary, ...] = ()

    def is_ready(self) -> bool:
        """Prepare; where that fails, the one who asked is told. False too for one who has stopped
        waiting.
        """
        # from here on it cannot be cancelled, and what is answered can be handed over
        if not self.future.set_running_or_notify_cancel():
            return False
        try:
            self.query, without = self.prepare()
        except Exception as error:
            self.future.set_exception(error)
            return False
        self.without = tuple(one for one in without if len(one))
        return True

    @property
    def alike(self) -> tuple[int, ...]:
        """Equal for those that can be answered together."""
        return (self.k, *map(id, self.without))


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model in place."""

    version: int
    digest: str
    method: str

    @property
    def name(self) -> str:
        return f"{self.method}@{self.version}"

    def is_of(self, row: Mapping[str, Any]) -> bool:
        """Whether this is the model of a row of the store's models."""
        return (self.version, self.digest) == (row["version"], row["digest"])


@dataclass(frozen=True, eq=False)
class LoadedRecommender(LoadedModel):
    """One that recommends."""

    batcher: Batcher

    @property
    def model(self) -> Recommender:
        return self.batcher.model


@dataclass(frozen=True, eq=False)
class LoadedPredictor(LoadedModel):
    """One that predicts."""

    model: Predictor


def saved_digest(folder: str | Path) -> str:
    """Of a saved model. Raises ModelError where there is none."""
    path = Path(folder) / "spec.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["digest"])
    except (OSError, ValueError, KeyError):
        raise ModelError(
            f"{folder} holds no saved model: fit one with `tailor fit ... --out {folder}`"
        ) from None


def saved_kind(folder: str | Path) -> str:
    """Whether a saved model recommends or predicts. Raises ModelError for one that does neither, or
    is none.
    """
    saved_digest(folder)
    try:
        found = find_class(
            json.loads((Path(folder) / "spec.json").read_text(encoding="utf-8"))["spec"]["class"]
        )
    except (KeyError, TypeError):
        raise ModelError(f"{folder} holds no saved model: its spec.json names no class") from None
    if issubclass(found, Predictor):
        return PREDICTS
    if not issubclass(found, Recommender):
        raise ModelError(
            f"{folder} holds a {found.__name__}, which neither recommends nor predicts"
        )
    return RECOMMENDS


def load_predictor(version: int, folder: str, digest: str) -> LoadedPredictor:
    """Load a model that predicts and ask it once. Raises ModelError where it is not the one that
    was registered.
    """
    model = _loaded(version, folder, digest)
    if not isinstance(model, Predictor):
        raise ModelError(f"{folder} holds a {model.name}, which does not predict")
    try:
        model.predict([Query(history=History.of("nothing"))], [["nothing"]])
    except TailorError as error:
        raise ModelError(f"{folder} cannot answer: {error}") from error
    return LoadedPredictor(version, digest, model.name, model)


def _loaded(version: int, folder: str, digest: str) -> Method:
    if saved_digest(folder) != digest:
        raise ModelError(
            f"{folder} holds another model than the one registered as version {version}: register"
            " it anew"
        )
    return load(folder)


def opened(version: int, folder: str, digest: str, explore: float = 0.0) -> LoadedRecommender:
    """Load a model, give away `explore` of the places of its lists to chance, and ask it once, so
    that what it builds on first use is built. Raises ModelError where it is not the one that was
    registered.
    """
    model = _loaded(version, folder, digest)
    if not isinstance(model, Recommender):
        raise ModelError(f"{folder} holds a {model.name}, which does not recommend")
    try:
        model.recommend([Query(), Query(history=History.of("nothing"))], 1)
    except TailorError as error:
        raise ModelError(f"{folder} cannot answer: {error}") from error
    return LoadedRecommender(
        version,
        digest,
        model.name,
        Batcher(Explore.around(model, epsilon=explore) if explore else model),
    )
