"""ByPrediction: rank items by a predictor's probabilities."""

from dataclasses import dataclass, field
from typing import Self

import numpy as np
import scipy.sparse as sp

from tailor.core.costs import Cost, stand_in
from tailor.core.methods import Predictor, Recommender, blocks, short_notes
from tailor.core.run import Run
from tailor.core.specs import build, clone
from tailor.data.arrays import Ragged, top_k
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split
from tailor.errors import ModelError


@dataclass(eq=False)
class ByPrediction(Recommender):
    """Orders items by the probability that a predictor gives each of them.

    As the second stage of a `Cascade` it orders what the first stage found. Alone it predicts for
    the whole catalogue, one value an item.
    """

    predictor: Predictor
    """Fitted on the same data."""

    predictor_: Predictor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.predictor, Predictor):
            raise ModelError(
                f"ByPrediction.predictor is {self.predictor!r}: it must be a predictor, such as"
                " FactorizationMachine()"
            )

    @classmethod
    def tiny(cls) -> Self:
        return build(
            {"class": "ByPrediction", "predictor": {"class": "LogisticRegression", "epochs": 2}},
            cls,
        )

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.predictor_ = clone(self.predictor).fit(data, run, valid)
        self.fit_report_ = {self.predictor_.name: self.predictor_.fit_report_}

    def _estimate_cost(self, data: Dataset, run: Run, valid: Split | None) -> Cost:
        self.predictor_, cost = stand_in(clone(self.predictor), data, run, valid)
        return cost

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        items = self.predictor_.items_
        queries = queries.reindexed(items)
        lists = None if candidates is None else candidates.reindexed(items).ragged()
        parts = []
        for start, stop in blocks(len(queries), len(items)):
            batch = queries[start:stop]
            if lists is None:
                pairs = _all_pairs(len(batch), len(items))
            else:
                pairs = lists.slice(start, stop)
            parts.append(self._ranked(batch, pairs, k))
        return Rankings.stack(parts) if parts else Rankings.empty(items, 0, k)

    def _ranked(self, queries: Queries, pairs: Ragged, k: int) -> Rankings:
        """Return the k best of the item rows that each query is paired with."""
        scores = self._scores(queries, pairs)
        rows, best = top_k(scores, k, queries.exclude, queries.blocked_rows)
        notes = short_notes(self.name, queries, rows, k)
        return Rankings(self.predictor_.items_, rows, best, "probability", notes=notes)

    def _scores(self, queries: Queries, pairs: Ragged) -> sp.csr_matrix:
        """Return (B, N) sparse probabilities of the item rows that each query is paired with."""
        values = self.predictor_._predict(queries, pairs)
        if values.ndim > 1:
            raise ModelError(
                f"{self.predictor_.name} predicts {values.shape[1]} numbers an item: a list needs"
                " one"
            )
        shape = (len(queries), len(self.predictor_.items_))
        return sp.csr_matrix((values.astype(np.float32), pairs.values, pairs.offsets), shape=shape)


def _all_pairs(queries: int, items: int) -> Ragged:
    """Return every item row for every query."""
    rows = np.tile(np.arange(items, dtype=np.int32), queries)
    return Ragged.of_lengths(np.full(queries, items), rows)
