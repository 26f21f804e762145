"""Popularity: the items with the most events."""

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
    """Recommend the items with the most events, the same to everybody; serves cold users.

    Events are counted, recent ones more where `half_life_days` is set. Items without an event come
    last, in no particular order.
    """

    half_life_days: float | None = None
    """Age in days at which an event counts half as much as the newest; None: all count the same."""

    counts_: np.ndarray = field(init=False, repr=False)
    """(N,) float32 weighted number of events per item."""
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
        n = len(self.items_)
        counts = np.bincount(data.sequences.rows.values, self._event_weights(data), minlength=n)
        self.counts_ = counts.astype(np.float32)
        self.order_ = best_first(self.counts_, np.arange(n), n).astype(np.int32)

    def _event_weights(self, data: Dataset) -> np.ndarray | None:
        """Return the weight of each event; None where all count the same."""
        if self.half_life_days is None:
            return None
        if data.sequences.times_ms is None:
            raise DataError(
                f'half_life_days needs times, data set "{data.name}" has none: leave it out'
            )
        times = data.sequences.times_ms.values
        ages = times.max(initial=0) - times
        weights: np.ndarray = 0.5 ** (ages / (self.half_life_days * DAY_MS))
        return weights

    def _scores(self, queries: Queries) -> np.ndarray:
        return np.broadcast_to(self.counts_, (len(queries), len(self.items_)))

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        """Take the first k of one order for all queries, without what each excludes."""
        if candidates is not None:
            return super()._recommend(queries, k, candidates)
        queries = queries.reindexed(self.items_)
        order = self.order_
        is_allowed = np.ones(len(self.items_), dtype=bool)
        if queries.blocked:
            is_allowed[queries.blocked_rows] = False
            order = order[is_allowed[order]]
        lists = Rankings.empty(self.items_, len(queries), k)
        for i in range(len(queries)):
            excluded = np.zeros(0, np.int32) if queries.exclude is None else queries.exclude[i]
            is_allowed[excluded] = False
            head = order[: k + len(excluded)]
            best = head[is_allowed[head]][:k]
            is_allowed[excluded] = True
            lists.rows[i, : len(best)] = best
            lists.scores[i, : len(best)] = self.counts_[best]
        return replace(lists, notes=short_notes(self.name, queries, lists.rows, k))

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Give popularity as the one reason of every item."""
        self._check_fitted()
        return [
            [Explanation(item_id, (Evidence("popularity", item_id, 1.0),)) for item_id in ids]
            for ids in (ranking.ids for ranking in rankings)
        ]
