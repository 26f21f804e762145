"""Trace a request for recommendations: the service's own stages, and those of the model."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

from pydantic import Field

from tailor.data.nouns import Query
from tailor.data.vocabulary import Vocabulary
from tailor.pipeline.tracing import Stage, Trace, traced
from tailor.service import responses
from tailor.service.batcher import Batcher, LoadedRecommender
from tailor.service.catalogue import Catalogue
from tailor.service.problems import ProblemError
from tailor.service.schemas import Recommend
from tailor.store.writer import RETRY_S

MOST_TRACES = 4  # that are made at once: each has a thread of its own
_rooms = threading.BoundedSemaphore(MOST_TRACES)


class TracedStage(responses.Answer):
    """A stage of an answer."""

    name: str = Field(description="Name of the stage: a class of the pipeline, or the service's.")
    settings: str = Field(description="Its settings in words; empty without any.")
    items_in: responses.Count | None = Field(
        description="Items that it chose from; null: not known."
    )
    items_out: responses.Count = Field(description="Items that it let through.")
    ms: float = Field(ge=0, description="Milliseconds, those of its parts among them.")
    parts: list["TracedStage"] = Field(description="Stages within this one, in order.")


class ShownTrace(responses.Answer):
    """The stages of an answer, in order."""

    stages: list[TracedStage] = Field(description="Stages of the service and of the model.")
    total_ms: float = Field(ge=0, description="Milliseconds from the question to the list.")


class TracedList(responses.ItemList):
    """A list of items, best first."""

    trace: ShownTrace | None = Field(
        default=None, description="How the list was made; with `trace` only."
    )


class TracedRequest(Protocol):
    """A request for recommendations, as the trace reads it."""

    body: Recommend
    catalogue: Catalogue
    query: Query
    filtered: tuple[Vocabulary, ...] | None

    def prepare(self) -> tuple[Query, tuple[Vocabulary, ...]]:
        """Return the query and the items to leave out."""

    def read_items(self, model: LoadedRecommender) -> None:
        """Read changed items and work out the filter."""


class RequestTrace:
    """Follows one request through the service and through a copy of its model."""

    def __init__(self, model: LoadedRecommender) -> None:
        self.model = model
        self.trace = Trace()
        self.start_s = time.perf_counter()
        self.total_ms = 0.0
        self._ms = {"prepare": 0.0, "read_items": 0.0}

    @contextmanager
    def answering(self, request: TracedRequest) -> Iterator[LoadedRecommender]:
        """Yield a model that notes its stages, and measure what the request does.

        Raises ProblemError where too many traces are made already.
        """
        if not _rooms.acquire(blocking=False):
            raise ProblemError(
                503, f"{MOST_TRACES} traces are being made: ask again", retry_s=RETRY_S
            )
        batcher = Batcher(traced(self.model.model, self.trace))
        for name in self._ms:
            setattr(request, name, self._timed(name, getattr(request, name)))
        try:
            yield replace(self.model, batcher=batcher)
        finally:
            self.total_ms = (time.perf_counter() - self.start_s) * 1000
            batcher.close()
            _rooms.release()

    def _timed(self, name: str, job: Any) -> Any:
        """Return a job whose time is added up."""

        def measured(*arguments: Any) -> Any:
            start_s = time.perf_counter()
            try:
                return job(*arguments)
            finally:
                self._ms[name] += (time.perf_counter() - start_s) * 1000

        return measured

    def to_dict(self, request: TracedRequest, shown_items: int) -> dict[str, Any]:
        """Return all stages, from the stored items to the list that is shown."""
        stages = [*self._service_stages(request), *self.trace.stages[:1]]
        candidates = stages[-1].items_out
        if request.body.diversity:
            settings = f"diversity {request.body.diversity:g}"
            stages.append(Stage("Diversity", settings, candidates, shown_items))
        else:
            name = "Last look at blocked items"
            stages.append(Stage(name, "", candidates, shown_items))
        return {
            "stages": [stage.to_dict() for stage in stages],
            "total_ms": round(self.total_ms, 3),
        }

    def _service_stages(self, request: TracedRequest) -> list[Stage]:
        """Return what is left out before the model is asked."""
        catalogue = request.catalogue
        left = set(catalogue.rows)
        funnel = _Funnel(left)
        history = len(request.query.history.item_ids)
        funnel.drop("Blocked items", "deleted or taken down", [catalogue.blocked], 0.0)
        if request.body.filter:
            filtered = request.filtered or ()
            funnel.drop("Filter", request.body.filter, filtered, self._ms["read_items"])
        settings = f"{history} events in the history"
        if request.body.keep_seen:
            settings += ", items of the history may be answered"
        if request.body.exclude:
            settings += f", {len(request.body.exclude)} excluded by the request"
        excluded = Vocabulary(dict.fromkeys(request.query.exclude))
        funnel.drop("History and exclusions", settings, [excluded], self._ms["prepare"])
        return funnel.stages


class _Funnel:
    """Counts the items that are left, stage by stage."""

    def __init__(self, left: set[str]) -> None:
        self.left = left
        self.stages: list[Stage] = []

    def drop(self, name: str, settings: str, dropped: Sequence[Vocabulary], ms: float) -> None:
        """Add a stage that drops items."""
        before = len(self.left)
        for vocabulary in dropped:
            self.left.difference_update(vocabulary.ids.tolist())
        self.stages.append(Stage(name, settings, before, len(self.left), ms))
