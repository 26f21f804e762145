"""Diversify: of two similar items, the second comes later."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import numpy as np
import polars as pl
import scipy.sparse as sp

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.core.specs import build, clone
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import Explanation, Query, Ranking
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError, ModelError
from tailor.text.tfidf import tfidf, unit_rows

MAX_PLACES = 40_000
"""Places of lists that are reordered at a time."""
MAX_WORDS = 8_000_000
"""Lists reordered at a time x distinct words: 32 MB."""


@dataclass(eq=False)
class Diversify(Recommender):
    """Takes the best item first, then always the one that is good and least like those taken.

    Maximal marginal relevance (Carbonell and Goldstein 1998): the value of an item is
    (1 - strength) x its score from `inner`, the best of a list at 1, minus strength x its cosine
    to the most similar item taken before. Reorders the first `depth` items of `inner`, or of the
    candidates. Scores are these values. Explanations are the inner recommender's: why an item is
    good, not why it has its rank.
    """

    inner: Recommender
    """The recommender whose lists are reordered."""
    strength: float = 0.3
    """0: the order stays; 1: only difference counts."""
    depth: int = 50
    """Items reordered; a longer list is made only where k is larger."""
    similarity: Literal["texts", "categories"] = "texts"
    """TF-IDF of the items' words, or the categories they share."""

    inner_: Recommender = field(init=False, repr=False)
    items_: Vocabulary = field(init=False, repr=False)
    vectors_: sp.csr_matrix = field(init=False, repr=False)
    """(N, V) rows of unit length; zero: nothing known, similar to no other item."""

    def __post_init__(self) -> None:
        if not isinstance(self.inner, Recommender):
            raise ModelError(
                f"Diversify.inner is {self.inner!r}: it must be a recommender, whose lists are"
                " reordered"
            )
        if not 0 <= self.strength <= 1 or self.depth < 1:
            raise DataError(
                f"strength is {self.strength}, depth {self.depth}: strength from 0 to 1, depth"
                " from 1"
            )
        if self.similarity not in ("texts", "categories"):
            raise DataError(
                f'similarity is "{self.similarity}": it must be "texts" or "categories"'
            )

    @classmethod
    def tiny(cls) -> Self:
        return build({"class": "Diversify", "inner": {"class": "CoVisitation"}}, cls)

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        if self.similarity == "texts":
            self.vectors_ = tfidf(data.item_texts)
        else:
            self.vectors_ = _category_vectors(data)
        self.inner_ = clone(self.inner).fit(data, run, valid)
        unknown = int((np.diff(self.vectors_.indptr) == 0).sum())
        self.fit_report_ = {
            f"items_without_{self.similarity}": unknown,
            self.inner_.name: self.inner_.fit_report_,
        }

    def restrict(self, queries: Queries) -> Queries:
        return self.inner_.restrict(queries)

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        width = max(k, self.depth)
        lists = self.inner_.recommend(queries, width, candidates)
        lists = lists.reindexed(self.items_)
        order = np.full((len(lists), min(k, lists.rows.shape[1])), -1)
        values = np.full(order.shape, -np.inf, np.float32)
        step = max(1, min(MAX_PLACES // width, MAX_WORDS // max(self.vectors_.shape[1], 1)))
        for start in range(0, len(lists), step):
            block = slice(start, start + step)
            order[block], values[block] = marginal_order(
                lists.rows[block], lists.scores[block], self.vectors_, self.strength, order.shape[1]
            )
        columns = {**lists.columns, self.inner_.name: lists.scores}
        diverse = replace(lists, columns=columns).reordered(order)
        # a list long enough to fill k needs no note
        short = set(np.flatnonzero(diverse.lengths < k).tolist())
        notes = {i: note for i, note in lists.notes.items() if i in short}
        return replace(diverse, scores=values, notes=notes, score_kind="marginal relevance")

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Return the inner recommender's explanations."""
        self._check_fitted()
        return self.inner_.explain(self.restrict(Queries.of(queries)), rankings)


def marginal_order(
    rows: np.ndarray, scores: np.ndarray, vectors: sp.csr_matrix, strength: float, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Order lists by maximal marginal relevance.

    `rows` and `scores` are (B, L), -1 after the last item; `vectors` (N, V) of unit length.
    Returns (B, k) places in the lists in the order taken, -1 where a list ends, and (B, k) values.
    """
    n, width = rows.shape
    is_item = rows >= 0
    value = np.where(is_item, (1 - strength) * _scaled(scores, is_item), -np.inf)
    max_cosine = np.zeros((n, width), np.float32)  # to the items taken
    cosines = _ListCosines(vectors[np.maximum(rows, 0).ravel()], n, width)
    lists = np.arange(n)
    order = np.full((n, k), -1)
    values = np.full((n, k), -np.inf, np.float32)
    for step in range(k):
        marginal = value - strength * max_cosine
        best = marginal.argmax(axis=1)  # of equals the first in the inner order
        is_left = value[lists, best] > -np.inf
        order[is_left, step] = best[is_left]
        values[is_left, step] = marginal[lists, best][is_left]
        value[lists, best] = -np.inf
        if strength and step + 1 < k:
            max_cosine = np.maximum(max_cosine, cosines.to(best))
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


class _ListCosines:
    """Cosines within lists to one item of each list, without the products of all pairs."""

    def __init__(self, vectors: sp.csr_matrix, n: int, width: int) -> None:
        self.vectors = vectors  # (n * L, V)
        self.shape = (n, width)
        self.entry_row = np.repeat(np.arange(n * width), np.diff(vectors.indptr))
        self.entry_slot = self.entry_row // width * vectors.shape[1] + vectors.indices
        # (n * V,) the vector of one item a list
        self.chosen = np.zeros(n * vectors.shape[1], np.float32)

    def to(self, best: np.ndarray) -> np.ndarray:
        """Return (n, L) cosines of every item to the one at place `best` (n,) of its list."""
        n, width = self.shape
        by_row = Ragged(self.vectors.indptr, np.arange(len(self.entry_row)))
        entries = by_row.take(np.arange(n) * width + best).values
        self.chosen[self.entry_slot[entries]] = self.vectors.data[entries]
        products = self.vectors.data * self.chosen[self.entry_slot]
        cosines = np.bincount(self.entry_row, products, minlength=n * width)
        self.chosen[self.entry_slot[entries]] = 0
        return cosines.reshape(n, width).astype(np.float32)


def _scaled(scores: np.ndarray, is_item: np.ndarray) -> np.ndarray:
    """Return (B, L) scores with the best of each list at 1; 0 where there is no item.

    Lists with scores below 0 are moved up to 0 first.
    """
    scores = np.where(is_item, scores, 0)
    low = scores.min(axis=1, initial=0, keepdims=True)
    high = np.where(is_item, scores, low).max(axis=1, keepdims=True, initial=-np.inf)
    return np.where(is_item, (scores - low) / np.where(high > low, high - low, 1), 0)


def _category_vectors(data: Dataset) -> sp.csr_matrix:
    """Return (N, C) rows of unit length, equal weights on the item's categories."""
    table = data.item_table
    if "categories" not in table.columns:
        raise DataError(
            'Diversify: the items have no column "categories": import them with their categories,'
            ' or set similarity = "texts"'
        )
    pairs = (
        table.with_row_index("row")
        .select("row", "categories")
        .explode("categories")
        .drop_nulls()
        .unique()
    )
    codes = pairs["categories"].cast(pl.String).rank("dense").to_numpy().astype(np.int64) - 1
    shape = (len(table), int(codes.max(initial=-1)) + 1)
    ones = np.ones(len(pairs), np.float32)
    return unit_rows(sp.csr_matrix((ones, (pairs["row"].to_numpy(), codes)), shape=shape))
