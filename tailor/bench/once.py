"""Fit a part of a pipeline that a search does not change once for all trials."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.core.specs import clone
from tailor.data.dataset import Dataset
from tailor.data.nouns import Explanation, Query, Ranking
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split


@dataclass(eq=False)
class Once(Recommender):
    """Replaces `inner` in a pipeline and reuses its earlier fit on the same data.

    A fit is reused where data, seed and `valid` are the same; copies of a Once share `fits`. Lists
    of an earlier stage change from trial to trial, so a method that learns from them is fitted
    every time.
    """

    inner: Recommender
    fits: dict[Hashable, Recommender]

    fitted_: Recommender = field(init=False, repr=False)

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def trains_on_candidates(self) -> bool:  # type: ignore[override]
        return self.inner.trains_on_candidates

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        if data.lists is not None:
            self.fitted_ = clone(self.inner).fit(data, run, valid)
            return
        key = (data.provenance, run.seed, None if valid is None else valid.hash)
        if key not in self.fits:
            self.fits[key] = clone(self.inner).fit(data, run, valid)
        self.fitted_ = self.fits[key]

    def restrict(self, queries: Queries) -> Queries:
        return self.fitted_.restrict(queries)

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        return Rankings.of(self.fitted_.recommend(queries, k, candidates))

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        return self.fitted_.explain(queries, rankings)
