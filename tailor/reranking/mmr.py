"""Diversify: of two items that say the same, the second waits."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self, cast

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

PLACES = 40_000  # of lists that are reordered at a time
WORDS = 8_000_000  # lists reordered at a time x words known: 32 MB


@dataclass(eq=False)
class Diversify(Recommender):
    """Takes the best item first, and then always the one that is good and least like those already
    taken.

    Maximal marginal relevance (Carbonell and Goldstein 1998): an item's value is (1 - strength) x
    its score from `inner`, the best of a list at 1, minus strength x its cosine to the most similar
    item taken before. Reorders the first `depth` items of `inner`, or those of the candidates
    given. Scores are these values. Explanations are the inner recommender's: why an item is good,
    not why it stands where it does.
    """

    inner: Recommender
    strength: float = 0.3
    """0: the order stays; 1: the score counts no more."""
    depth: int = 50
    """Items reordered; a longer list is asked for only where k is larger."""
    similarity: Literal["texts", "categories"] = "texts"
    """TF-IDF of the items' words, or the categories they share."""

    inner_: Recommender = field(init=False, repr=False)
    items_: Vocabulary = field(init=False, repr=False)
    vectors_: sp.csr_matrix = field(init=False, repr=False)
    """(N, V) rows of unit length; zero: nothing known, like nothing else."""

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
        return cast(Self, build({"class": "Diversify", "inner": {"class": "CoVisitation"}}))

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        self.vectors_ = tfidf(data.item_texts) if self.similarity == "texts" else _categories(data)
        self.inner_ = clone(self.inner).fit(data, run, valid)
        alone = int((np.diff(self.vectors_.indptr) == 0).sum())
        self.fit_report_ = {
            f"items_without_{self.similarity}": alone,
            self.inner_.name: self.inner_.fit_report_,
        }

    def restrict(self, queries: Queries) -> Queries:
        return self.inner_.restrict(queries)

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        width = max(k, self.depth)
        found = cast(Rankings, self.inner_.recommend(queries, width, candidates)).reindexed(
            self.items_
        )
        order = np.full((len(found), min(k, found.rows.shape[1])), -1)
        values = np.full(order.shape, -np.inf, np.float32)
        step = max(1, min(PLACES // width, WORDS // max(self.vectors_.shape[1], 1)))
        for start in range(0, len(found), step):
            some = slice(start, start + step)
            order[some], values[some] = marginal_order(
                found.rows[some], found.scores[some], self.vectors_, self.strength, order.shape[1]
            )
        columns = {
            name: _taken(column, order)
            for name, column in {**found.columns, self.inner_.name: found.scores}.items()
        }
        rows = np.where(
            order >= 0, np.take_along_axis(found.rows, np.maximum(order, 0), 1), -1
        ).astype(np.int32)
        short = set(np.flatnonzero((rows >= 0).sum(axis=1) < k).tolist())
        # a list long enough to fill k has nothing to excuse
        notes = {i: note for i, note in found.notes.items() if i in short}
        return replace(
            found,
            rows=rows,
            scores=values,
            columns=columns,
            notes=notes,
            score_kind="marginal relevance",
        )

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """The inner recommender's explanations."""
        self._check_fitted()
        return self.inner_.explain(self.restrict(Queries.of(queries)), rankings)


def marginal_order(
    rows: np.ndarray, scores: np.ndarray, vectors: sp.csr_matrix, strength: float, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """(B, k) places in the lists `rows` (B, L) in the order taken, -1 where a list ends, and (B, k)
    their values; `vectors` (N, V) of unit length.
    """
    n, width = rows.shape
    value = np.where(rows >= 0, (1 - strength) * _scaled(scores, rows >= 0), -np.inf)
    closest = np.zeros((n, width), np.float32)  # to those taken
    alike = _Alike(vectors[np.maximum(rows, 0).ravel()], n, width)
    every = np.arange(n)
    order, values = np.full((n, k), -1), np.full((n, k), -np.inf, np.float32)
    for at in range(k):
        marginal = value - strength * closest
        best = marginal.argmax(axis=1)  # of equals the first in the inner order
        is_there = value[every, best] > -np.inf
        order[is_there, at], values[is_there, at] = best[is_there], marginal[every, best][is_there]
        value[every, best] = -np.inf
        if strength and at + 1 < k:
            closest = np.maximum(closest, alike.to(best))
    return order, values


class _Alike:
    """Cosines within lists, one item of each at a time, without the products of all pairs."""

    def __init__(self, vectors: sp.csr_matrix, n: int, width: int) -> None:
        self.vectors, self.shape = vectors, (n, width)
        self.row = np.repeat(np.arange(n * width), np.diff(vectors.indptr))  # of each entry
        self.place = self.row // width * vectors.shape[1] + vectors.indices  # in `taken`
        # (n * V,) the words of one item a list
        self.taken = np.zeros(n * vectors.shape[1], np.float32)

    def to(self, best: np.ndarray) -> np.ndarray:
        """(n, L) cosine of every item to the one at place `best` (n,) of its list."""
        n, width = self.shape
        entries = (
            Ragged(self.vectors.indptr, np.arange(len(self.row)))
            .take(np.arange(n) * width + best)
            .values
        )
        self.taken[self.place[entries]] = self.vectors.data[entries]
        cosines = np.bincount(
            self.row, self.vectors.data * self.taken[self.place], minlength=n * width
        )
        self.taken[self.place[entries]] = 0
        return cosines.reshape(n, width).astype(np.float32)


def _scaled(scores: np.ndarray, there: np.ndarray) -> np.ndarray:
    """(B, L) the best of each list at 1, scores below 0 moved up to 0 first; 0 where there is no
    item.
    """
    scores = np.where(there, scores, 0)
    low = scores.min(axis=1, initial=0, keepdims=True)
    high = np.where(there, scores, low).max(axis=1, keepdims=True, initial=-np.inf)
    return np.where(there, (scores - low) / np.where(high > low, high - low, 1), 0)


def _taken(column: np.ndarray, order: np.ndarray) -> np.ndarray:
    return np.where(order >= 0, np.take_along_axis(column, np.maximum(order, 0), 1), np.nan).astype(
        np.float32
    )


def _categories(data: Dataset) -> sp.csr_matrix:
    """(N, C) 1 where the item has the category, then to unit length."""
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
    return unit_rows(
        sp.csr_matrix(
            (np.ones(len(pairs), np.float32), (pairs["row"].to_numpy(), codes)), shape=shape
        )
    )
