"""Popularity: what everybody chooses."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tailor.core.methods import ScoringRecommender, short_notes
from tailor.core.run import Run
from tailor.data.arrays import best_first
from tailor.data.dataset import Dataset
from tailor.data.nouns import Evidence, Explanation, Query, Ranking
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split
from tailor.errors import DataError

DAY_MS = 86_400_000


@dataclass(eq=False)
class Popularity(ScoringRecommender):
    """The items with the most events, the same for everybody; serves people of whom nothing is
    known.

    Counts events, recent ones more where `half_life_days` is set. Items without an event come last,
    in no particular order.
    """

    half_life_days: float | None = None
    """An event this much older than the newest counts half."""

    counts_: np.ndarray = field(init=False, repr=False)
    """(N,) float32."""
    order_: np.ndarray = field(init=False, repr=False)
    """(N,) item rows, most popular first."""

    def __post_init__(self) -> None:
        if self.half_life_days is not None and not self.half_life_days > 0:
            raise DataError(
                f"half_life_days is {self.half_life_days}: it must be above 0; leave it out to"
                " count all events the same"
            )

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        sequences, weights = data.sequences, None
        if self.half_life_days is not None:
            if sequences.times_ms is None:
                raise DataError(
                    f'half_life_days needs times, data set "{data.name}" has none: leave it out'
                )
            times = sequences.times_ms.values
            weights = 0.5 ** ((times.max(initial=0) - times) / (self.half_life_days * DAY_MS))
        self.counts_ = np.bincount(
            sequences.rows.values, weights, minlength=len(self.items_)
        ).astype(np.float32)
        self.order_ = best_first(
            self.counts_, np.arange(len(self.items_)), len(self.items_)
        ).astype(np.int32)

    def _scores(self, queries: Queries) -> np.ndarray:
        return np.broadcast_to(self.counts_, (len(queries), len(self.items_)))

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        """One order serves everybody: walk down it past what each query excludes."""
        if candidates is not None:
            return super()._recommend(queries, k, candidates)
        queries = queries.reindexed(self.items_)
        order, allowed = self.order_, np.ones(len(self.items_), dtype=bool)
        if queries.blocked:
            allowed[queries.blocked_rows] = False
            order = order[allowed[order]]
        out = Rankings.empty(self.items_, len(queries), k)
        for i in range(len(queries)):
            excluded = np.zeros(0, np.int32) if queries.exclude is None else queries.exclude[i]
            allowed[excluded] = False
            head = order[: k + len(excluded)]
            best = head[allowed[head]][:k]
            allowed[excluded] = True
            out.rows[i, : len(best)], out.scores[i, : len(best)] = best, self.counts_[best]
        return replace(out, notes=short_notes(self.name, queries, out.rows, k))

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """The one reason is popularity."""
        self._check_fitted()
        return [
            [Explanation(one, (Evidence("popularity", one, 1.0),)) for one in ranking.ids]
            for ranking in rankings
        ]
