"""Models that answer: loaded aside, then asked by one thread in batches."""

import asyncio
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

from tailor.core.methods import Predictor, Recommender
from tailor.core.saving import SavedModel
from tailor.core.specs import find_class
from tailor.data.nouns import Explanation, History, Query, Ranking
from tailor.data.queries import Queries
from tailor.data.vocabulary import Vocabulary
from tailor.errors import ModelError, TailorError
from tailor.pipeline.explore import Explore
from tailor.reranking.reranker import Reranker
from tailor.reranking.shortlist import Limits, Shortlist
from tailor.service.paths import hide_paths
from tailor.store.models import PREDICTS, RECOMMENDS, RERANKS

Prepare = Callable[[], tuple[Query, Sequence[Vocabulary]]]
LATE_S = 30.0  # after which a caller gives up
MOST_QUERIES = 32  # of a batch
COLD_NOTE = (
    "this model has no list for users without a history: they get empty lists. Fit a pipeline with"
    " a fallback, such as `counting` or `default`"
)


class Answered(NamedTuple):
    """A model's ranking, with its reasons where they were asked for."""

    ranking: Ranking
    explanations: Sequence[Explanation] = ()
    """One for each item of the ranking, or none."""


class Batcher:
    """Asks a model from one thread, with all queries that wait.

    Queries that arrive during a batch wait for the next one: load makes batches longer and each
    answer cheaper.
    """

    def __init__(self, model: Recommender) -> None:
        self.model = model
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._began_s: float | None = None  # of the batch that is being answered
        self._thread = threading.Thread(target=self._work, name="tailor-model", daemon=True)
        self._thread.start()

    def ask(self, query: Query, k: int, without: Sequence[Vocabulary] = ()) -> Ranking:
        """Return the model's ranking with none of the items of `without`.

        Raises what the model raised for this query, never for another one's, and TimeoutError where
        it takes too long.
        """
        self._refuse_stuck()
        future: Future[Answered] = Future()
        self._queue.put(_Job(lambda: (query, without), k, future))
        try:
            return future.result(LATE_S).ranking
        except TimeoutError:
            future.cancel()  # nobody waits any more: the model need not be asked
            raise

    async def answer(self, prepare: Prepare, k: int, with_reasons: bool = False) -> Answered:
        """Return the ranking, with reasons if asked for, awaited on an event loop.

        `prepare` makes the query and the items to leave out; it runs in the model's thread, just
        before the model is asked. Reasons are made in that thread too, after the rankings of all
        who wait: in another thread they would take turns with the loop, and all would be late.
        """
        self._refuse_stuck()
        future = _LoopFuture()
        self._queue.put(_Job(prepare, k, future, with_reasons))
        async with asyncio.timeout(LATE_S):
            return await future.awaitable

    def _refuse_stuck(self) -> None:
        """Raise TimeoutError where a batch has taken so long that its callers have given up.

        Callers would wait in vain, each in a thread that other tenants need.
        """
        began_s = self._began_s
        if began_s is not None and time.monotonic() - began_s > LATE_S:
            raise TimeoutError("the model does not answer")

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
            self._began_s = time.monotonic()
            self._answer_batch(batch)
            self._began_s = None

    def _answer_batch(self, batch: "Sequence[_Job]") -> None:
        groups: dict[tuple[int, ...], list[_Job]] = {}
        for job in batch:
            if job.is_ready():
                groups.setdefault(job.group, []).append(job)
        for jobs in groups.values():
            self._answer(jobs)

    def _answer(self, jobs: "Sequence[_Job]") -> None:
        """Answer jobs of one group; after an error each by itself.

        The thread outlives whatever the model raises, which need not be an Exception: Polars
        panics, and a library may call `sys.exit`.
        """
        try:
            queries = Queries.of([job.query for job in jobs])
            for ids in jobs[0].without:
                queries = queries.without(ids)
            rankings = list(self.model.recommend(queries, jobs[0].k))
            if len(rankings) != len(jobs):
                raise RuntimeError(f"{len(rankings)} lists for {len(jobs)} queries")
        except BaseException as error:
            if len(jobs) == 1:
                jobs[0].fail(error)
                return
            for job in jobs:
                self._answer([job])
            return
        explained = []
        for job, ranking in zip(jobs, rankings, strict=True):
            if job.with_reasons:
                explained.append((job, ranking))
            else:
                job.future.set_result(Answered(ranking))
        for job, ranking in explained:
            self._explain(job, ranking)

    def _explain(self, job: "_Job", ranking: Ranking) -> None:
        """Answer a job with a ranking and its reasons."""
        try:
            explanations = self.model.explain([job.query], [ranking])[0]
        except BaseException as error:
            job.fail(error)
            return
        job.future.set_result(Answered(ranking, explanations))


class _LoopFuture:
    """A future for a caller on an event loop.

    It has no locks and makes one call of the loop, where two futures tied together make more.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.awaitable: asyncio.Future[Answered] = self.loop.create_future()
        self._is_done = False

    def set_running_or_notify_cancel(self) -> bool:
        return not self.awaitable.done()

    def done(self) -> bool:
        return self._is_done

    def set_result(self, answered: Answered) -> None:
        self._call(self.awaitable.set_result, answered)

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
    future: "Future[Answered] | _LoopFuture"
    with_reasons: bool = False
    query: Query = field(default_factory=Query)
    without: tuple[Vocabulary, ...] = ()

    def is_ready(self) -> bool:
        """Prepare the query; return False where that failed or the caller has given up."""
        # from here on it cannot be cancelled
        if not self.future.set_running_or_notify_cancel():
            return False
        try:
            self.query, without = self.prepare()
            self.without = tuple(ids for ids in without if len(ids))
        except BaseException as error:
            self.fail(error)
            return False
        return True

    def fail(self, error: BaseException) -> None:
        """Let the caller get an error."""
        self.future.set_exception(as_exception(error))

    @property
    def group(self) -> tuple[int, ...]:
        """Equal for jobs that can be answered together."""
        return (self.k, *map(id, self.without))


def as_exception(error: BaseException) -> Exception:
    """Return an error of a model that a caller can be handed.

    Errors that end threads or mean something to the event loop become another one, and texts that
    callers see name no path of the server.
    """
    if isinstance(error, TailorError):
        error.args = (hide_paths(str(error)), *error.args[1:])
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    exception = RuntimeError(f"the model raised {type(error).__name__}")
    exception.__cause__ = error
    return exception


@contextmanager
def ordinary_errors() -> Iterator[None]:
    """Raise errors of a model as `as_exception` returns them."""
    try:
        yield
    except BaseException as error:
        raise as_exception(error) from error


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A registered model in memory."""

    version: int
    digest: str
    method: str
    notes: tuple[str, ...] = field(default=(), kw_only=True)
    """Texts for the operator, such as that cold users get nothing."""

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


@dataclass(frozen=True, eq=False)
class LoadedReranker(LoadedModel):
    """A reranker in memory."""

    model: Reranker


Loaded = LoadedRecommender | LoadedPredictor | LoadedReranker


@dataclass(frozen=True, eq=False)
class CheckedModel:
    """A saved model that was loaded, and answered a first question."""

    model: Recommender | Predictor
    digest: str
    notes: tuple[str, ...]

    @property
    def kind(self) -> str:
        """RECOMMENDS, PREDICTS or RERANKS."""
        return _kind_of(type(self.model), "")

    def as_version(self, version: int, explore: float = 0.0) -> Loaded:
        """Return it as a version of the register, ready to answer.

        A share `explore` of the places of its lists is filled at random.
        """
        model = self.model
        if isinstance(model, Predictor):
            return LoadedPredictor(version, self.digest, model.name, model, notes=self.notes)
        if isinstance(model, Reranker):
            return LoadedReranker(version, self.digest, model.name, model, notes=self.notes)
        answering = Explore.around(model, epsilon=explore) if explore else model
        batcher = Batcher(answering)
        return LoadedRecommender(version, self.digest, model.name, batcher, notes=self.notes)


def saved_digest(folder: str | Path) -> str:
    """Return the digest of a saved model. Raises ModelError where there is none."""
    return _open(folder).digest


def saved_kind(folder: str | Path) -> str:
    """Return RECOMMENDS, PREDICTS or RERANKS, the kind of a saved model.

    Raises ModelError for another.
    """
    class_name = _open(folder).description["spec"].get("class")
    if not isinstance(class_name, str):
        raise ModelError(f"{folder} holds no saved model: its spec.json names no class")
    with any_error_named(folder):
        return _kind_of(find_class(class_name), folder)


def check_model(folder: str | Path) -> CheckedModel:
    """Load a saved model and ask it once, so that it builds what it builds on first use.

    Raises ModelError for whatever goes wrong, and for a model that must not be served.
    """
    saved = _open(folder)
    if saved.has_histories:
        raise ModelError(
            f"{folder} holds people's histories, which no erasure would reach: fit it again without"
            " --with-histories"
        )
    with any_error_named(folder):
        method = saved.method
    if method.keeps_people():
        raise ModelError(
            f"{folder} holds people's events, which no erasure would reach: fit {method.name} with"
            " other settings (user_ids = false), or another method"
        )
    notes: tuple[str, ...] = ()
    with any_error_named(folder, "cannot answer"):
        kind = _kind_of(type(method), folder)
        if kind == PREDICTS:
            cast(Predictor, method).predict([Query(history=History.of("nothing"))], [["nothing"]])
        elif kind == RERANKS:
            # an encoder is loaded; a language model costs nothing yet
            cast(Reranker, method).rerank([Shortlist.of_texts("a", ["a", "b"])], Limits(calls=0))
        elif not _answers_cold_users(cast(Recommender, method)):
            notes = (COLD_NOTE,)
    return CheckedModel(cast(Recommender | Predictor, method), saved.digest, notes)


def _answers_cold_users(model: Recommender) -> bool:
    """Ask a recommender once; return whether it has a list for a user without a history."""
    queries = [Query(), Query(history=History.of("nothing"))]
    rankings = list(model.recommend(queries, 1))
    if len(rankings) != len(queries):
        raise ModelError(f"{len(rankings)} lists for {len(queries)} queries; fit another method")
    return len(rankings[0]) > 0


def _kind_of(model_class: type, folder: str | Path) -> str:
    if issubclass(model_class, Predictor):
        return PREDICTS
    if issubclass(model_class, Reranker):
        return RERANKS
    if not issubclass(model_class, Recommender):
        raise ModelError(
            f"{folder} holds a {model_class.__name__}, which neither recommends nor reranks nor"
            " predicts"
        )
    return RECOMMENDS


def _open(folder: str | Path) -> SavedModel:
    """Open a saved model. Raises ModelError where there is none."""
    try:
        os.stat(Path(folder) / "spec.json")
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(
            f"{folder} holds no saved model: fit one with `tailor fit ... --out {folder}`"
        ) from None
    except (OSError, ValueError):
        pass  # opening it says what is wrong
    with any_error_named(folder):
        return SavedModel.open(folder)


@contextmanager
def any_error_named(folder: str | Path, problem: str = "cannot be loaded") -> Iterator[None]:
    """Raise ModelError for whatever a model raises, which need not be an Exception.

    Only errors of Tailor are quoted: others may hold anything that the model was made of.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except TailorError as error:
        if str(error).startswith(str(folder)):
            raise
        raise ModelError(f"{folder} {problem}: {error}") from error
    except BaseException as error:
        raise ModelError(
            f"{folder} {problem} ({type(error).__name__}): fit and save it again"
        ) from error


def load_model(row: Mapping[str, Any], explore: float = 0.0) -> Loaded:
    """Load the model of a row of the register.

    Raises ModelError where it cannot be loaded, or the folder holds another model.
    """
    version, folder = row["version"], row["folder"]
    if saved_digest(folder) != row["digest"]:
        raise ModelError(
            f"{folder} holds another model than the one registered as version {version}: register"
            " it anew"
        )
    checked = check_model(folder)
    if checked.digest != row["digest"]:
        raise ModelError(f"{folder} was replaced while it was read: load it again")
    if checked.kind != row["kind"]:
        raise ModelError(
            f"{folder} holds a {checked.model.name}, which {checked.kind}: version {version}"
            f" {row['kind']}"
        )
    return checked.as_version(version, explore)
