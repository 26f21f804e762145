"""Reordering: the base of methods that order another recommender's lists again, place by place."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
import scipy.sparse as sp

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.core.specs import clone
from tailor.data.dataset import Dataset
from tailor.data.nouns import Explanation, Query, Ranking
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError, ModelError


@dataclass(eq=False)
class Reordering(Recommender):
    """Fills a list place by place from the first items of another recommender's list.

    A subclass says what it learns of the items (`_learn`) and which item is taken next (`_order`).
    Explanations are the inner recommender's: why an item is good, not why it has its rank.
    """

    value_kind: ClassVar[str]
    """What the scores of the new lists mean."""

    inner: Recommender
    """The recommender whose lists are reordered."""
    strength: float = 0.3
    """0: the order stays; 1: only the other aim counts."""
    depth: int = 50
    """Items reordered; a longer list is made only where k is larger."""

    inner_: Recommender = field(init=False, repr=False)
    items_: Vocabulary = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.inner, Recommender):
            raise ModelError(
                f"{self.name}.inner is {self.inner!r}: it must be a recommender, whose lists are"
                " reordered"
            )
        if not 0 <= self.strength <= 1 or self.depth < 1:
            raise DataError(
                f"strength is {self.strength}, depth {self.depth}: strength from 0 to 1, depth"
                " from 1"
            )

    @classmethod
    def around(cls, fitted: Recommender, data: Dataset, **settings: Any) -> Self:
        """Return the method around a recommender that is fitted already; it is not fitted again."""
        method = cls(inner=fitted, **settings)
        method.items_ = data.catalogue
        method.fit_report_ = method._learn(data)
        method.inner_ = fitted
        method.trained_on_ = fitted.trained_on_
        return method

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        report = self._learn(data)
        self.inner_ = clone(self.inner).fit(data, run, valid)
        self.fit_report_ = {**report, self.inner_.name: self.inner_.fit_report_}

    @abstractmethod
    def _learn(self, data: Dataset) -> dict[str, Any]:
        """Learn what the items are, and return a report of it."""

    @abstractmethod
    def _order(self, queries: Queries, lists: Rankings, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return places in the lists in the order taken, and their values, (B, k) each.

        Queries and lists have rows of `items_`. A place is -1 where a list ends.
        """

    def restrict(self, queries: Queries) -> Queries:
        return self.inner_.restrict(queries)

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        lists = self.inner_.recommend(queries, max(k, self.depth), candidates)
        lists = lists.reindexed(self.items_)
        places = min(k, lists.rows.shape[1])
        order, values = self._order(queries.reindexed(self.items_), lists, places)
        columns = {**lists.columns, self.inner_.name: lists.scores}
        reordered = replace(lists, columns=columns).reordered(order)
        # a list long enough to fill k needs no note
        short = set(np.flatnonzero(reordered.lengths < k).tolist())
        notes = {i: note for i, note in lists.notes.items() if i in short}
        # a later place may be worth more to the other aim: scores never rise down a list
        scores = np.minimum.accumulate(values, axis=1)
        return replace(reordered, scores=scores, notes=notes, score_kind=self.value_kind)

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Return the inner recommender's explanations."""
        self._check_fitted()
        return self.inner_.explain(self.restrict(Queries.of(queries)), rankings)


def category_matrix(data: Dataset, method: str) -> sp.csr_matrix:
    """Return (N, C) float32, 1 where an item has a category.

    Raises DataError, which names the method, for items without a column of categories.
    """
    table = data.item_table
    if "categories" not in table.columns:
        raise DataError(
            f'{method}: the items have no column "categories": import them with their categories,'
            " or choose another setting"
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
    return sp.csr_matrix((ones, (pairs["row"].to_numpy(), codes)), shape=shape)
