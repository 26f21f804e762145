"""A list in the order of what a predictor says."""

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
    """Orders items by the probability that a predictor gives each of them, which is their score.

    As the second stage of a `Cascade` it orders what the first found; alone it asks the predictor
    about the whole catalogue, one answer an item.
    """

    predictor: Predictor

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
            some = queries[start:stop]
            pairs = (
                _everything(stop - start, len(items)) if lists is None else lists.slice(start, stop)
            )
            values = self.predictor_._predict(some, pairs)
            if values.ndim > 1:
                raise ModelError(
                    f"{self.predictor_.name} predicts {values.shape[1]} numbers an item: a list"
                    " needs one"
                )
            scores = sp.csr_matrix(
                (values.astype(np.float32), pairs.values, pairs.offsets),
                shape=(len(some), len(items)),
            )
            rows, best = top_k(scores, k, some.exclude, some.blocked_rows)
            parts.append(
                Rankings(
                    items, rows, best, "probability", notes=short_notes(self.name, some, rows, k)
                )
            )
        return Rankings.stack(parts) if parts else Rankings.empty(items, 0, k)


def _everything(queries: int, items: int) -> Ragged:
    return Ragged.of_lengths(
        np.full(queries, items), np.tile(np.arange(items, dtype=np.int32), queries)
    )
