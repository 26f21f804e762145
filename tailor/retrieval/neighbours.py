"""Item-to-item recommenders: a sparse matrix of neighbours, applied to a history that fades."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp

from tailor.base import ScoringRecommender
from tailor.data.nouns import Evidence, Explanation, Query, Ranking
from tailor.data.queries import Queries
from tailor.errors import DataError


@dataclass(eq=False)
class ItemToItem(ScoringRecommender):
    """Scores an item by the sum, over the history, of a fading weight times that event's item's entry for it.

    A subclass learns the matrix; since scores are sums over events, explanations are exact.
    """

    history_decay: float = 0.5  # weight of an event relative to the one after it; 1: all events count the same
    history_length: int = 100  # most recent events used
    top_n: int | None = 200  # neighbours kept per item; None keeps all

    weights_: sp.csr_matrix = field(init=False, repr=False)  # (N, N) from an item of the history to the items it speaks for

    def __post_init__(self) -> None:
        if not 0 < self.history_decay <= 1:
            raise DataError(f"history_decay is {self.history_decay}: it must be above 0 and at most 1")
        if self.history_length < 1:
            raise DataError(f"history_length is {self.history_length}: it must be at least 1")
        if self.top_n is not None and self.top_n < 1:
            raise DataError(f'top_n is {self.top_n}: it must be at least 1; write "none" (in Python None) to keep all neighbours')

    def _history(self, queries: Queries) -> sp.csr_matrix:
        recent = queries.histories.last(self.history_length)
        weights = self.history_decay ** recent.from_end.astype(np.float32)
        return recent.matrix(len(self.items_), weights)

    def _scores(self, queries: Queries) -> sp.csr_matrix:
        return self._history(queries) @ self.weights_

    def explain(self, queries: Sequence[Query], rankings: Sequence[Ranking]) -> list[list[Explanation]]:
        """Each item's score split exactly over the events of the history; shares sum to 1."""
        self._check_fitted()
        asked = Queries.of(queries).over(self.items_)
        return [self._reasons(asked[i : i + 1], ranking) for i, ranking in enumerate(rankings)]

    def _reasons(self, query: Queries, ranking: Ranking) -> list[Explanation]:
        history = self._history(query)
        wanted = self.items_.rows(ranking.ids)
        parts = self.weights_[history.indices][:, np.maximum(wanted, 0)].toarray() * history.data[:, None]  # (history, K)
        parts[:, wanted < 0] = 0  # an item that is not known here
        out = []
        for k, item_id in enumerate(ranking.ids):
            total = parts[:, k].sum()
            by_item: dict[str, float] = {}
            for at in np.flatnonzero(parts[:, k]):
                cause = self.items_.ids[history.indices[at]]
                by_item[cause] = by_item.get(cause, 0.0) + float(parts[at, k] / total)
            evidence = [Evidence("item", cause, share) for cause, share in sorted(by_item.items(), key=lambda one: -one[1])]
            out.append(Explanation(item_id, tuple(evidence)))
        return out
