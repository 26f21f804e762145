"""Diversify: of two similar items, the second comes later."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import numpy as np
import scipy.sparse as sp

from tailor.core.specs import build
from tailor.data.dataset import Dataset
from tailor.data.filling import marginal_order
from tailor.data.nouns import Ranking
from tailor.data.queries import Queries, Rankings
from tailor.errors import DataError
from tailor.reranking.reordering import Reordering, category_matrix
from tailor.text.tfidf import tfidf, unit_rows

MAX_PLACES = 40_000
"""Places of lists that are reordered at a time."""
MAX_WORDS = 8_000_000
"""Lists reordered at a time x distinct words: 32 MB."""


@dataclass(eq=False)
class Diversify(Reordering):
    """Takes the best item first, then always the one that is good and least like those taken.

    Maximal marginal relevance (Carbonell and Goldstein 1998): the value of an item is
    (1 - strength) x its score from `inner`, the best of a list at 1, minus strength x its cosine
    to the most similar item taken before. Reorders the first `depth` items of `inner`, or of the
    candidates. Scores are these values.
    """

    value_kind: ClassVar[str] = "marginal relevance"

    similarity: Literal["texts", "categories"] = "texts"
    """TF-IDF of the items' words, or the categories they share."""

    vectors_: sp.csr_matrix = field(init=False, repr=False)
    """(N, V) rows of unit length; zero: nothing known, similar to no other item."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.similarity not in ("texts", "categories"):
            raise DataError(
                f'similarity is "{self.similarity}": it must be "texts" or "categories"'
            )

    @classmethod
    def tiny(cls) -> Self:
        return build({"class": "Diversify", "inner": {"class": "CoVisitation"}}, cls)

    def _learn(self, data: Dataset) -> dict[str, Any]:
        if self.similarity == "texts":
            self.vectors_ = tfidf(data.item_texts)
        else:
            self.vectors_ = unit_rows(category_matrix(data, self.name))
        unknown = int((np.diff(self.vectors_.indptr) == 0).sum())
        return {f"items_without_{self.similarity}": unknown}

    def _order(self, queries: Queries, lists: Rankings, k: int) -> tuple[np.ndarray, np.ndarray]:
        order = np.full((len(lists), k), -1)
        values = np.full(order.shape, -np.inf, np.float32)
        width = max(lists.rows.shape[1], 1)
        step = max(1, min(MAX_PLACES // width, MAX_WORDS // max(self.vectors_.shape[1], 1)))
        for start in range(0, len(lists), step):
            block = slice(start, start + step)
            order[block], values[block] = marginal_order(
                lists.rows[block], lists.scores[block], self.vectors_, self.strength, k
            )
        return order, values


def diversify(ranking: Ranking, texts: Sequence[str], strength: float, k: int) -> Ranking:
    """Choose k items of a ranking as `Diversify` does, by the items' texts (one each)."""
    if not len(ranking):
        return ranking
    # a list that fills k has nothing to excuse
    notes = ranking.notes if len(ranking) < k else ()
    k = min(k, len(ranking))
    rows = np.arange(len(ranking))[None]
    order, values = marginal_order(rows, ranking.scores[None], tfidf(list(texts)), strength, k)
    ids = tuple(ranking.ids[position] for position in order[0])
    return Ranking(ids, values[0], "marginal relevance", notes=notes)
