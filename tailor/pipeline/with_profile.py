"""WithProfile and WriteWithProfile: describe users first, and hand the descriptions on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from tailor.core.costs import Cost, stand_in
from tailor.core.methods import Generator, Profiler, Recommender
from tailor.core.run import Run
from tailor.core.specs import build, clone
from tailor.data.dataset import Dataset
from tailor.data.nouns import Explanation, Output, Query, Ranking
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split
from tailor.errors import ModelError

_TINY_INNER = {"class": "CoVisitation"}


class _Profiled:
    """Fits a profiler and the method that reads its profiles."""

    inner: Any
    profiler: Profiler
    inner_: Any
    profiler_: Profiler
    fit_report_: dict[str, Any]

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.profiler_ = clone(self.profiler).fit(data, run, valid)
        self.inner_ = clone(self.inner).fit(data, run, valid)
        parts = (self.profiler_, self.inner_)
        self.fit_report_ = {part.name: part.fit_report_ for part in parts}

    def _estimate_cost(self, data: Dataset, run: Run, valid: Split | None) -> Cost:
        self.profiler_, of_profiler = stand_in(clone(self.profiler), data, run, valid)
        self.inner_, of_inner = stand_in(clone(self.inner), data, run, valid)
        parts = [(self.profiler_.name, of_profiler), (self.inner_.name, of_inner)]
        return Cost.in_turn(parts)


@dataclass(eq=False)
class WithProfile(_Profiled, Recommender):
    """Makes a profile of every user by a profiler, for a recommender or reranker that reads one.

    A profile that a query brings is left as it is: a person may have corrected it. The profiler
    sees the events before the time of the request, and nothing else.
    """

    inner: Recommender
    """The recommender or reranker that reads `Query.profile`."""
    profiler: Profiler
    """The method that describes users who bring no profile."""

    inner_: Recommender = field(init=False, repr=False)
    profiler_: Profiler = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check_parts(self.name, self.inner, Recommender, self.profiler)

    @classmethod
    def tiny(cls) -> Self:
        profiler = {"class": "InteractionProfile"}
        return build({"class": "WithProfile", "inner": _TINY_INNER, "profiler": profiler}, cls)

    def restrict(self, queries: Queries) -> Queries:
        return self.inner_.restrict(queries)

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        return self.inner_.recommend(profiled(queries, self.profiler_), k, candidates)

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Return the inner recommender's explanations, with the same profiles."""
        self._check_fitted()
        restricted = self.restrict(Queries.of(queries))
        return self.inner_.explain(profiled(restricted, self.profiler_), rankings)


@dataclass(eq=False)
class WriteWithProfile(_Profiled, Generator):
    """Makes a profile of every user by a profiler, for a writer that reads one.

    A profile that a query brings is left as it is.
    """

    inner: Generator
    """The writer that reads `Query.profile`."""
    profiler: Profiler
    """The method that describes users who bring no profile."""

    inner_: Generator = field(init=False, repr=False)
    profiler_: Profiler = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check_parts(self.name, self.inner, Generator, self.profiler)

    @classmethod
    def tiny(cls) -> Self:
        writer = {"class": "RecommendationText", "recommender": _TINY_INNER}
        profiler = {"class": "InteractionProfile"}
        return build({"class": "WriteWithProfile", "inner": writer, "profiler": profiler}, cls)

    def _generate(self, queries: Queries) -> list[Output]:
        return self.inner_.generate(profiled(queries, self.profiler_))


def profiled(queries: Queries, profiler: Profiler) -> Queries:
    """Return the same queries, those without a profile with the one that a profiler makes."""
    profiles = [queries.profile(i) for i in range(len(queries))]
    lacking = [i for i, profile in enumerate(profiles) if profile is None]
    if not lacking:
        return queries
    new_profiles = profiler.profile(queries.take(np.array(lacking)))
    for i, profile in zip(lacking, new_profiles, strict=True):
        profiles[i] = profile
    return queries.with_profiles(profiles)


def _check_parts(name: str, inner: object, kind: type[Any], profiler: object) -> None:
    """Raise ModelError where the parts are not what they must be."""
    if not isinstance(inner, kind) or not isinstance(profiler, Profiler):
        raise ModelError(
            f"{name}.inner is {inner!r}, profiler {profiler!r}: they must be a"
            f" {kind.__name__} and a Profiler"
        )
