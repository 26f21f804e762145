"""The model that answers: loaded aside, put in place in one step, asked by one thread for all who wait."""

import json
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tailor.base import Recommender
from tailor.data.nouns import History, Query, Ranking
from tailor.data.queries import Queries
from tailor.data.vocabulary import Vocabulary
from tailor.errors import ModelError, TailorError
from tailor.pipeline.explore import Explore
from tailor.saving import load

MOST = 32  # queries answered at once
BUSY_S = (
    0.010  # a query that comes so soon after a batch waits GATHER_S for company: under load that halves the slowest answers (docs/log.md)
)
GATHER_S = 0.005


class Asker:
    """Answers in batches: who comes while a batch is answered waits for the next one, so that load makes batches longer and each answer cheaper."""

    def __init__(self, model: Recommender) -> None:
        self.model = model
        self._queue: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="tailor-model", daemon=True)
        self._thread.start()

    def ask(self, query: Query, k: int, without: Sequence[Vocabulary] = (), timeout_s: float = 30.0) -> Ranking:
        """The model's answer, with nothing of `without` in it. Raises what the model raised for this query, never for another one's."""
        asked = _Asked(query, k, tuple(one for one in without if len(one)))
        self._queue.put(asked)
        return asked.future.result(timeout_s)

    def close(self) -> None:
        """Answer those who wait, then end."""
        self._queue.put(None)

    def _work(self) -> None:
        ended = 0.0
        while True:
            first = self._queue.get()
            batch = [] if first is None else [first]
            last = first is None
            if time.monotonic() - ended < BUSY_S:
                time.sleep(GATHER_S)
            while not last and len(batch) < MOST and not self._queue.empty():
                more = self._queue.get()
                last = more is None
                if more is not None:
                    batch.append(more)
            for alike in dict.fromkeys(one.alike for one in batch):
                self._answer([one for one in batch if one.alike == alike])
            ended = time.monotonic()
            if last:
                return

    def _answer(self, asked: "Sequence[_Asked]") -> None:
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


@dataclass(frozen=True, eq=False)
class _Asked:
    query: Query
    k: int
    without: tuple[Vocabulary, ...]
    future: "Future[Ranking]" = field(default_factory=Future)

    @property
    def alike(self) -> tuple[int, ...]:
        """Equal for those that can be answered together."""
        return (self.k, *map(id, self.without))


@dataclass(frozen=True, eq=False)
class Answering:
    """A model in place."""

    version: int
    digest: str
    asker: Asker
    method: str

    @property
    def model(self) -> Recommender:
        return self.asker.model

    @property
    def name(self) -> str:
        return f"{self.method}@{self.version}"

    def is_of(self, row: Mapping[str, Any]) -> bool:
        """Whether this is the model of a row of the store's models."""
        return (self.version, self.digest) == (row["version"], row["digest"])


def digest_of(folder: str | Path) -> str:
    """Of a saved model. Raises ModelError where there is none."""
    path = Path(folder) / "spec.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["digest"])
    except (OSError, ValueError, KeyError):
        raise ModelError(f"{folder} holds no saved model: fit one with `tailor fit ... --out {folder}`") from None


def opened(version: int, folder: str, digest: str, explore: float = 0.0) -> Answering:
    """Load a model, give away `explore` of the places of its lists to chance, and ask it once, so that what it builds on first use is built. Raises ModelError where it is not the one that was registered."""
    if digest_of(folder) != digest:
        raise ModelError(f"{folder} holds another model than the one registered as version {version}: register it anew")
    model = load(folder)
    if not isinstance(model, Recommender):
        raise ModelError(f"{folder} holds a {model.name}, which does not recommend")
    try:
        model.recommend([Query(), Query(history=History.of("nothing"))], 1)
    except TailorError as error:
        raise ModelError(f"{folder} cannot answer: {error}") from error
    return Answering(version, digest, Asker(Explore.around(model, epsilon=explore) if explore else model), model.name)
