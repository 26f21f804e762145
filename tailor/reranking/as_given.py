"""The order that a list came in: the floor that every reranker must beat."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from tailor.core.methods import Recommender, short_notes
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary


@dataclass(eq=False)
class AsGiven(Recommender):
    """Leaves candidates in their order, without excluded items.

    It learns only which items there are.
    """

    needs_candidates: ClassVar[bool] = True

    items_: Vocabulary = field(init=False, repr=False)

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        assert candidates is not None  # `recommend` refuses to go on without
        queries = queries.reindexed(self.items_)
        lists = candidates.reindexed(self.items_)
        lists = lists.only(queries.allowed_in(lists)).first(k)
        # scores of candidates need not fall
        falling = -np.arange(lists.rows.shape[1], dtype=np.float32)
        scores = np.where(lists.rows >= 0, falling, -np.inf).astype(np.float32)
        return replace(
            lists,
            scores=scores,
            score_kind="minus places",
            columns={},
            notes=short_notes(self.name, queries, lists.rows, k),
        )
