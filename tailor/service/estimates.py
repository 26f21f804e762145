"""The route of estimates: what a version would have earned, by the log of what was shown."""

import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query
from pydantic import Field

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.evaluation.off_policy import Estimate, Value, estimate
from tailor.evaluation.report import without_nan
from tailor.pipeline.explore import Explore
from tailor.service import responses
from tailor.service.problems import ProblemError
from tailor.service.routing import service_router
from tailor.service.schemas import Short, VersionNumber
from tailor.service.state import Service
from tailor.store.datasets import training_dataset
from tailor.store.keys import Caller
from tailor.store.models import list_models
from tailor.store.schema import requests

USUAL_LISTS, MOST_LISTS = 2_000, 20_000  # that are replayed
WAIT_S = 20.0  # for which a caller waits; the work goes on, and asked again it is answered
KEPT_S = 60.0  # for which an estimate is answered again without new work
MAY_KNOW = (
    "the version was made after the first of these lists: where it learned from what came of them,"
    " it looks better than it is"
)
ESTIMATES = "an estimate is being worked out"


class EstimatedValue(responses.Answer):
    """Rewards a list with a 95 % interval over people."""

    mean: float | None = Field(description="Rewards a list.")
    low: float | None = Field(description="Lower end of the interval.")
    high: float | None = Field(description="Upper end of the interval.")


class ShownEstimate(responses.Answer):
    """The value of a version, estimated from logged lists."""

    version: Annotated[int, Field(ge=1)] = Field(description="Number of the version.")
    requests: responses.Count = Field(description="Lists that were replayed.")
    logged: EstimatedValue = Field(description="What was shown earned this.")
    dr: EstimatedValue = Field(description="The version would earn this (doubly robust).")
    ips: EstimatedValue = Field(description="The same without a baseline (inverse propensity).")
    snips: float | None = Field(description="The same, normalised by the weights.")
    agreement: float | None = Field(description="Share of places where it has what was shown.")
    covered: float | None = Field(description="Share of its places that the log could have shown.")
    sample: float | None = Field(description="How many places the log is worth for it.")
    verdict: str = Field(description="What can be told, in words.")
    notes: responses.Notes


@dataclass(frozen=True)
class _Question:
    """A question for an estimate."""

    tenant: str
    version: int
    reward: str | None
    most: int


class Estimates:
    """Works out one estimate at a time, in a thread of its own."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._lock = threading.Lock()
        self._futures: dict[_Question, Future[Estimate]] = {}
        self._ended: dict[_Question, float] = {}  # when an estimate was there

    def answer(self, question: _Question) -> Estimate:
        """Return an estimate. Raises ProblemError where it takes longer than WAIT_S."""
        future = self._future(question)
        try:
            return future.result(WAIT_S)
        except TimeoutError:
            if future.done():
                raise
            raise ProblemError(
                503,
                f"{ESTIMATES}, and takes longer than {WAIT_S:g} s: ask again for it, or ask for"
                " fewer lists (most=)",
                retry_s=10,
            ) from None

    def _future(self, question: _Question) -> Future[Estimate]:
        """Return the estimate that is being worked out, or begin it."""
        with self._lock:
            now_s = time.monotonic()
            for other in [q for q, ended_s in self._ended.items() if now_s - ended_s > KEPT_S]:
                del self._futures[other], self._ended[other]
            if question in self._futures:
                return self._futures[question]
            if any(not future.done() for future in self._futures.values()):
                raise ProblemError(503, f"{ESTIMATES}: ask again", retry_s=10)
            future: Future[Estimate] = Future()
            self._futures[question] = future
        threading.Thread(
            target=self._work, args=(question, future), name="tailor-estimate", daemon=True
        ).start()
        return future

    def _work(self, question: _Question, future: Future[Estimate]) -> None:
        try:
            model = _without_chance(
                self.service.previews.model(question.tenant, version=question.version).model
            )
            data = training_dataset(self.service.engine, question.tenant, with_lists=True).data
            future.set_result(estimate(data, model, question.reward, False, question.most, Run()))
        except BaseException as error:
            future.set_exception(error if isinstance(error, Exception) else RuntimeError("ended"))
        finally:
            self._ended[question] = time.monotonic()


def _without_chance(model: Recommender) -> Recommender:
    """Return a model without the exploration that the server adds."""
    return model.inner_ if isinstance(model, Explore) else model


def routes(service: Service, admin: Any) -> APIRouter:
    """Return the route; `admin` is a dependency that gives the caller."""
    api = service_router("experiments")
    estimates = Estimates(service)

    @api.get("/v1/estimates", responses=responses.answers(ShownEstimate, 409))
    def show(
        version: VersionNumber,
        reward: Short | None = None,
        most: Annotated[int, Query(ge=1, le=MOST_LISTS)] = USUAL_LISTS,
        who: Caller = Depends(admin),
    ) -> dict[str, Any]:
        """Estimate what a version would have earned, from what was shown and chosen.

        Up to `most` logged lists are replayed. `reward` is a condition that an event must meet to
        count, such as `action = 'buy'`. An answer is kept for a minute.
        """
        result = estimates.answer(_Question(who.tenant, version, reward or None, most))
        content = _shown(result)
        if service.read(lambda connection: _was_made_later(connection, who.tenant, version)):
            content["notes"].append(MAY_KNOW)
        return {"version": version, **content}

    return api


def _was_made_later(connection: sa.Connection, tenant: str, version: int) -> bool:
    """Return whether a version was made after the first list that is stored."""
    made_ms = {row["version"]: row["made_ms"] for row in list_models(connection, tenant)}
    first_ms = connection.execute(
        sa.select(sa.func.min(requests.c.time_ms)).where(requests.c.tenant == tenant)
    ).scalar()
    return first_ms is not None and made_ms.get(version, 0) > first_ms


def _shown(result: Estimate) -> dict[str, Any]:
    content: dict[str, Any] = without_nan(result.to_dict())
    return {**content, "notes": list(result.notes), "verdict": _verdict(result)}


def _verdict(result: Estimate) -> str:
    """Return in words how a version compares with what was shown."""
    if _is_above(result.dr, result.logged):
        return "would have earned more than what was shown"
    if _is_above(result.logged, result.dr):
        return "would have earned less than what was shown"
    return "may have earned more or less than what was shown: the log cannot tell"


def _is_above(value: Value, other: Value) -> bool:
    return value.low > other.high
