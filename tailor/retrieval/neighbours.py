"""Item-to-item recommenders: a sparse matrix of neighbours, applied to a history that fades."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated

import numpy as np
import scipy.sparse as sp

from tailor.core.methods import ScoringRecommender, short_notes
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.arrays import best_first
from tailor.data.graphs import heaviest
from tailor.data.nouns import Evidence, Explanation, Query, Ranking
from tailor.data.queries import Queries, Rankings
from tailor.errors import DataError

FEW = 4  # queries that are added up one by one
SAMPLE = 4  # blocks of rows of a matrix that an estimate makes
BLOCK_PRODUCTS = 4_000_000  # multiplications, so also entries, of the similarities held at a time


@dataclass(eq=False)
class ItemToItem(ScoringRecommender):
    """Scores an item by the sum, over the history, of a fading weight times that event's item's
    entry for it.

    A subclass learns the matrix; since scores are sums over events, explanations are exact.
    """

    history_decay: Annotated[float, Range(0.2, 1.0)] = 0.5
    """Weight of an event relative to the one after it; 1: all events count the same."""
    history_length: int = 100
    """Most recent events used."""
    top_n: int | None = 200
    """Neighbours kept per item; None keeps all."""

    weights_: sp.csr_matrix = field(init=False, repr=False)
    """(N, N) from an item of the history to the items it speaks for."""

    def __post_init__(self) -> None:
        if not 0 < self.history_decay <= 1:
            raise DataError(
                f"history_decay is {self.history_decay}: it must be above 0 and at most 1"
            )
        if self.history_length < 1:
            raise DataError(f"history_length is {self.history_length}: it must be at least 1")
        if self.top_n is not None and self.top_n < 1:
            raise DataError(
                f'top_n is {self.top_n}: it must be at least 1; write "none" (in Python None) to'
                " keep all neighbours"
            )

    def _history(self, queries: Queries) -> sp.csr_matrix:
        return queries.histories.decayed_matrix(
            len(self.items_), self.history_decay, self.history_length
        )

    def _scores(self, queries: Queries) -> sp.csr_matrix:
        return self._history(queries) @ self.weights_

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        """Few queries are added up one by one: a sparse product is made for many, and costs a lone
        one five times its sums.
        """
        if (
            len(queries) > FEW
            or candidates is not None
            or type(self)._scores is not ItemToItem._scores
        ):
            return super()._recommend(queries, k, candidates)
        queries = queries.reindexed(self.items_)
        rows, scores = (
            np.full((len(queries), k), -1, np.int32),
            np.full((len(queries), k), -np.inf, np.float32),
        )
        recent, blocked = queries.histories.last(self.history_length), queries.blocked_rows
        for i in range(len(queries)):
            found, values = self._summed(
                recent[i], blocked, None if queries.exclude is None else queries.exclude[i]
            )
            best = best_first(values, None, k)
            rows[i, : len(best)], scores[i, : len(best)] = found[best], values[best]
        return Rankings(self.items_, rows, scores, notes=short_notes(self.name, queries, rows, k))

    def _summed(
        self, events: np.ndarray, *without: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows that the events (n,), oldest first, speak for, and the fading sums."""
        start = self.weights_.indptr[events]
        lengths = self.weights_.indptr[events + 1] - start
        ends = lengths.cumsum()
        entries = np.arange(ends[-1] if len(ends) else 0) + np.repeat(
            start - ends + lengths, lengths
        )
        fading = np.repeat(
            self.history_decay ** np.arange(len(events) - 1, -1, -1, dtype=np.float32), lengths
        )
        summed = np.bincount(
            self.weights_.indices.take(entries),
            self.weights_.data.take(entries) * fading,
            len(self.items_),
        )
        for rows in without:
            if rows is not None:
                summed[rows] = 0
        # of booleans: a third of the time that it takes of numbers
        found = np.flatnonzero(summed != 0)
        return found, summed.take(found).astype(np.float32)

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Each item's score split exactly over the events of the history; shares sum to 1."""
        self._check_fitted()
        asked = Queries.of(queries).reindexed(self.items_)
        return [self._reasons(asked[i : i + 1], ranking) for i, ranking in enumerate(rankings)]

    def _reasons(self, query: Queries, ranking: Ranking) -> list[Explanation]:
        history = self._history(query)
        wanted = self.items_.rows(ranking.ids)
        # (history, K)
        parts = (
            self.weights_[history.indices][:, np.maximum(wanted, 0)].toarray()
            * history.data[:, None]
        )
        parts[:, wanted < 0] = 0  # an item that is not known here
        causes = self.items_.ids[history.indices]
        return [by_cause(item_id, causes, parts[:, k]) for k, item_id in enumerate(ranking.ids)]


def by_cause(item_id: str, causes: np.ndarray, parts: np.ndarray) -> Explanation:
    """What each event adds to an item's score, `parts` (n,), as shares of their sum by the events'
    items `causes` (n,), largest first.
    """
    total, shares = parts.sum(), dict[str, float]()
    for at in np.flatnonzero(parts):
        shares[causes[at]] = shares.get(causes[at], 0.0) + float(parts[at] / total)
    return Explanation(
        item_id,
        tuple(
            Evidence("item", cause, share)
            for cause, share in sorted(shares.items(), key=lambda one: -one[1])
        ),
    )


def nearest(
    vectors: np.ndarray | sp.csr_matrix,
    top_n: int | None,
    run: Run,
    what: str = "comparing items",
    rescaled: Callable[[sp.csr_matrix, int], None] | None = None,
    most: int | None = None,
) -> sp.csr_matrix:
    """(N, N) the `top_n` other rows with the largest positive products with each row of `vectors`,
    largest first; None keeps all.

    `rescaled(block, start)` may change the products of rows start, start + 1, ... in place before
    the largest are kept. `most` makes the rows of so many blocks alone, drawn at random and one
    block under the other. Works in blocks of rows of at most BLOCK_PRODUCTS multiplications (one
    row may need more): never N x N.
    """
    n = vectors.shape[0]
    other = vectors.T if isinstance(vectors, np.ndarray) else vectors.T.tocsr()
    blocks = list(pairwise(_row_blocks(vectors)))
    chosen = (
        blocks
        if most is None or len(blocks) <= most
        else [blocks[i] for i in run.rng("blocks").choice(len(blocks), most, replace=False)]
    )
    out = []
    for start, stop in run.progress(chosen, what, len(chosen)):
        block = sp.csr_matrix(vectors[start:stop] @ other)
        mine = np.repeat(np.arange(start, stop), np.diff(block.indptr))
        block.data[block.indices == mine] = 0
        if rescaled is not None:
            rescaled(block, start)
        out.append(heaviest(block, n if top_n is None else top_n))
    return sp.vstack(out, format="csr") if out else sp.csr_matrix((n, n), dtype=np.float32)


def repeated(some: sp.csr_matrix, rows: int) -> sp.csr_matrix:
    """As many `rows` as like: those of `some` again and again. A stand-in for a matrix of which
    some rows were made.
    """
    return (
        some[np.arange(rows) % some.shape[0]]
        if some.shape[0]
        else sp.csr_matrix((rows, some.shape[1]), dtype=some.dtype)
    )


def _row_blocks(vectors: np.ndarray | sp.csr_matrix) -> list[int]:
    """Rows 0 = e0 < e1 < ... = N such that the products of each block of rows with all others stay
    in bounds.
    """
    n = vectors.shape[0]
    if isinstance(vectors, np.ndarray):
        work = np.arange(n + 1) * n
    else:
        in_column = np.bincount(vectors.indices, minlength=vectors.shape[1])
        work = np.r_[0, np.cumsum(in_column[vectors.indices])][vectors.indptr]
    cuts = np.searchsorted(work, np.arange(BLOCK_PRODUCTS, work[-1], BLOCK_PRODUCTS))
    return [int(one) for one in np.unique(np.r_[0, cuts, n])]
