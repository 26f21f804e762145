"""Fallback: fill lists that one recommender leaves short by the next one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from tailor.core.costs import Cost, stand_in
from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.core.specs import build, clone
from tailor.data.dataset import Dataset
from tailor.data.nouns import Explanation, Query, Ranking
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split
from tailor.errors import ModelError
from tailor.pipeline.joining import followed_by, part_names, scattered


@dataclass(eq=False)
class Fallback(Recommender):
    """Asks the first recommender, and the next ones for the places it leaves empty.

    Items that any part's filters exclude are never filled in by another part. Where a filter
    fails, the list stays empty.
    """

    parts: list[Recommender] = field(default_factory=list)
    """Recommenders in the order in which they are asked."""

    parts_: list[Recommender] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.parts or not all(isinstance(part, Recommender) for part in self.parts):
            raise ModelError(
                f"Fallback.parts is {self.parts!r}: it must be recommenders, at least one"
            )

    @classmethod
    def tiny(cls) -> Self:
        return build(
            {"class": "Fallback", "parts": [{"class": "CoVisitation"}, {"class": "Popularity"}]},
            cls,
        )

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.parts_ = [clone(part).fit(data, run, valid) for part in self.parts]
        names = part_names(self.parts_)
        self.fit_report_ = {
            name: part.fit_report_ for name, part in zip(names, self.parts_, strict=True)
        }

    def _estimate_cost(self, data: Dataset, run: Run, valid: Split | None) -> Cost:
        parts = [stand_in(clone(part), data, run, valid) for part in self.parts]
        self.parts_ = [part for part, _ in parts]
        return Cost.in_turn([(part.name, cost) for part, cost in parts])

    def restrict(self, queries: Queries) -> Queries:
        for part in self.parts_:
            queries = part.restrict(queries)
        return queries

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        lists = self.parts_[0].recommend(queries, k, candidates)
        for part in self.parts_[1:]:
            numbers = np.flatnonzero(lists.lengths < k)
            if not len(numbers):
                break
            short_candidates = None if candidates is None else candidates.take(numbers)
            extra = part.recommend(queries.take(numbers), k, short_candidates)
            lists = _filled(lists, numbers, extra, k)
        return lists

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Return for every item the explanation of the first part that has evidence for it."""
        self._check_fitted()
        restricted = self.restrict(Queries.of(queries))
        by_part = [part.explain(restricted, rankings) for part in self.parts_ if part.explains()]
        if not by_part:
            raise ModelError("Fallback: none of its parts can explain its rankings")
        return [
            [_first_with_evidence(of_item) for of_item in zip(*of_query, strict=True)]
            for of_query in zip(*by_part, strict=True)
        ]


def _first_with_evidence(explanations: Sequence[Explanation]) -> Explanation:
    for explanation in explanations:
        if explanation.evidence:
            return explanation
    return explanations[0]


def _filled(lists: Rankings, numbers: np.ndarray, extra: Rankings, k: int) -> Rankings:
    """Return the lists, those with these numbers followed by `extra`, the others unchanged."""
    full = np.setdiff1d(np.arange(len(lists)), numbers)
    nothing = Rankings.empty(lists.catalogue, len(full), 0)
    parts = [
        (numbers, followed_by(lists.take(numbers), extra, k)),
        (full, followed_by(lists.take(full), nothing, k)),
    ]
    return scattered(parts, len(lists), k)
