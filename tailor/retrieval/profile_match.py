"""ProfileMatch: score items by how well their attributes match the facts of a profile."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import scipy.sparse as sp

from tailor.core.methods import ScoringRecommender
from tailor.core.run import Run
from tailor.data.attributes import attribute_values
from tailor.data.dataset import Dataset
from tailor.data.nouns import Evidence, Explanation, Fact, Query, Ranking
from tailor.data.queries import Queries
from tailor.data.splits import Split
from tailor.errors import DataError

SMALLEST = 1e-3
"""Least usual share that is divided by."""


@dataclass(eq=False)
class ProfileMatch(ScoringRecommender):
    """Adds up, over the facts of a profile, what each says for an item that has its attribute.

    A fact about an attribute counts the logarithm of the user's share over the usual share, times
    its confidence; a fact of negative polarity counts against. So a query needs a profile with
    facts like those of `InteractionProfile`: put it into a `WithProfile`. A weak scorer alone; it
    is meant as a part of a `Fuse` or as a reranker of a short list.
    """

    attributes: tuple[str, ...] = ("categories",)
    """Columns of the items table that facts are about; absent ones are left out."""
    least_confidence: float = 0.0
    """Confidence below which a fact does not count; one without a confidence counts as .5."""

    values_: list[str] = field(init=False, repr=False)
    """(V,) attribute values as "column: value"."""
    matrix_: sp.csr_matrix = field(init=False, repr=False)
    """(V, N) 1 where an item has a value."""

    def __post_init__(self) -> None:
        if not 0 <= self.least_confidence <= 1:
            raise DataError(f"least_confidence is {self.least_confidence}: it must be from 0 to 1")

    @classmethod
    def tiny(cls) -> Self:
        return cls()

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        rows = attribute_values(data.item_table, self.attributes)
        keys = [[_key(name, value) for name, value in row] for row in rows]
        self.values_ = sorted({key for row in keys for key in row})
        row_of = {key: number for number, key in enumerate(self.values_)}
        pairs = [(row_of[key], item) for item, row in enumerate(keys) for key in row]
        positions = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        shape = (len(self.values_), len(self.items_))
        ones = np.ones(positions.shape[1], np.float32)
        self.matrix_ = sp.csr_matrix((ones, positions), shape=shape)
        self.fit_report_ = {"values": len(self.values_)}

    def _scores(self, queries: Queries) -> np.ndarray:
        weights = self._weights(queries)
        scores = np.asarray((weights @ self.matrix_).todense(), dtype=np.float32)
        scores[np.diff(weights.indptr) == 0] = -np.inf
        return scores

    def _weights(self, queries: Queries) -> sp.csr_matrix:
        """Return (B, V) what each query's profile says for every value."""
        row_of = {key: number for number, key in enumerate(self.values_)}
        entries: list[tuple[int, int, float]] = []
        for i in range(len(queries)):
            profile = queries.profile(i)
            for fact in () if profile is None else profile.facts:
                value = row_of.get(_key_of(fact))
                if value is not None and _confidence(fact) >= self.least_confidence:
                    entries.append((i, value, fact_weight(fact)))
        table = np.array(entries, dtype=np.float64).reshape(-1, 3).T
        shape = (len(queries), len(self.values_))
        matrix = sp.csr_matrix((table[2], table[:2].astype(np.int64)), shape=shape)
        matrix.eliminate_zeros()
        return matrix

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Return, for every item, the values of the profile that speak for it, by their weight."""
        self._check_fitted()
        weights = self._weights(Queries.of(queries))
        return [
            [self._explanation(weights[i], item_id) for item_id in ranking.ids]
            for i, ranking in enumerate(rankings)
        ]

    def _explanation(self, weights: sp.csr_matrix, item_id: str) -> Explanation:
        row = int(self.items_.rows([item_id])[0])
        if row < 0:
            return Explanation(item_id)
        has_value = self.matrix_[:, [row]].toarray()[:, 0]
        worths = {
            value: float(weight)
            for value, weight in zip(weights.indices.tolist(), weights.data, strict=True)
            if has_value[value] and weight > 0
        }
        total = sum(worths.values())
        order = sorted(worths, key=lambda value: (-worths[value], value))
        kinds = {value: self.values_[value].partition(": ") for value in order}
        return Explanation(
            item_id,
            tuple(Evidence("category", kinds[value][2], worths[value] / total) for value in order),
        )


def fact_weight(fact: Fact) -> float:
    """Return what a fact says for an item that has its attribute: log share ratio x confidence."""
    details = fact.details
    share = max(float(details.get("share", 0.0)), SMALLEST)
    usual = max(float(details.get("usual_share", SMALLEST)), SMALLEST)
    sign = -1.0 if _number(details.get("polarity", 1)) < 0 else 1.0
    return sign * abs(float(np.log(share / usual))) * _confidence(fact)


def _confidence(fact: Fact) -> float:
    return 0.5 if fact.confidence is None else fact.confidence


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 1.0


def _key(name: str, value: str) -> str:
    return f"{name}: {value}"


def _key_of(fact: Fact) -> str:
    """Return the attribute value that a fact is about, as "column: value"."""
    return _key(str(fact.details.get("slot", "")), str(fact.details.get("object", "")))
