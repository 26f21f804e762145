"""A recommender whose answer is written down, for tests of composites."""

from dataclasses import dataclass

import numpy as np

from tailor.core.methods import ScoringRecommender
from tailor.data.vocabulary import Vocabulary


@dataclass(eq=False)
class Says(ScoringRecommender):
    """The items of `order`, best first, to the users of `to` (all when empty); knows no other
    items.
    """

    order: str = ""
    to: str = ""

    def _fit(self, data, run, valid):
        self.items_ = Vocabulary.of_items(self.order)

    def _scores(self, queries):
        row = np.array([-self.order.index(one) for one in self.items_.ids], np.float32) + 100
        scores = np.tile(row, (len(queries), 1))
        scores[[bool(self.to) and user not in self.to for user in queries.user_ids]] = -np.inf
        return scores
