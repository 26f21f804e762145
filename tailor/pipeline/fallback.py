"""Fallback: when one recommender has too few items, the next fills up."""

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
from tailor.pipeline.joining import followed_by, scattered


@dataclass(eq=False)
class Fallback(Recommender):
    """Asks the first recommender, and the following ones for the places it leaves empty.

    What any part's filters exclude, no later part may fill in; where a filter fails, the list stays
    empty.
    """

    parts: list[Recommender] = field(default_factory=list)

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
        self.fit_report_ = {part.name: part.fit_report_ for part in self.parts_}

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
            short = np.flatnonzero(lists.lengths < k)
            if not len(short):
                break
            some = None if candidates is None else candidates.take(short)
            fill = part.recommend(queries.take(short), k, some)
            lists = _filled(lists, short, fill, k)
        return lists

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """For every item, the explanation of the first part that has evidence for it."""
        self._check_fitted()
        asked = self.restrict(Queries.of(queries))
        by_part = [part.explain(asked, rankings) for part in self.parts_ if part.explains()]
        if not by_part:
            raise ModelError("Fallback: none of its parts can explain its rankings")
        return [
            [next((e for e in one if e.evidence), one[0]) for one in zip(*reasons, strict=True)]
            for reasons in zip(*by_part, strict=True)
        ]


def _filled(lists: Rankings, short: np.ndarray, fill: Rankings, k: int) -> Rankings:
    """The rankings at `short` followed by `fill`; the others as they are, in their old order."""
    full = np.setdiff1d(np.arange(len(lists)), short)
    rest = followed_by(lists.take(full), Rankings.empty(lists.catalogue, len(full), 0), k)
    return scattered(
        [(short, followed_by(lists.take(short), fill, k)), (full, rest)], len(lists), k
    )
