"""Item-to-item recommenders: a sparse matrix of neighbours, applied to a decayed history.

Shapes: B queries, N items, K list.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated

import numpy as np
import scipy.sparse as sp

from tailor.core.leave_one_out import by_cause
from tailor.core.methods import ScoringRecommender, short_notes
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.arrays import best_first
from tailor.data.graphs import heaviest
from tailor.data.nouns import Explanation, Query, Ranking
from tailor.data.queries import Queries, Rankings
from tailor.errors import DataError

FEW = 4  # queries up to which each is summed by itself
SAMPLE = 4  # blocks of a matrix that an estimate computes
BLOCK_PRODUCTS = 4_000_000  # multiplications, so also entries, of a block of similarities


@dataclass(eq=False)
class ItemToItem(ScoringRecommender):
    """Score an item by the decayed sum of its entries for the history.

    A subclass learns the matrix of entries. Since scores are sums over events, explanations are
    exact.
    """

    history_decay: Annotated[float, Range(0.2, 1.0)] = 0.5
    """Weight of an event relative to the next one; 1: all events count the same."""
    history_length: int = 100
    """Most recent events used."""
    top_n: int | None = 200
    """Neighbours kept per item; None keeps all."""

    weights_: sp.csr_matrix = field(init=False, repr=False)
    """(N, N) entry (i, j): how much item i of the history adds to item j."""

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

    def _decayed_histories(self, queries: Queries) -> sp.csr_matrix:
        return queries.histories.decayed_matrix(
            len(self.items_), self.history_decay, self.history_length
        )

    def _scores(self, queries: Queries) -> sp.csr_matrix:
        return self._decayed_histories(queries) @ self.weights_

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        """Recommend to many queries by a sparse product, to few by summing each one's rows.

        The overhead of the product is five times the sums of a single query.
        """
        has_own_scores = type(self)._scores is not ItemToItem._scores
        if len(queries) > FEW or candidates is not None or has_own_scores:
            return super()._recommend(queries, k, candidates)
        queries = queries.reindexed(self.items_)
        lists = Rankings.empty(self.items_, len(queries), k)
        recent = queries.histories.last(self.history_length)
        for i in range(len(queries)):
            exclude = None if queries.exclude is None else queries.exclude[i]
            rows, sums = self._sum_history(recent[i], queries.blocked_rows, exclude)
            best = best_first(sums, None, k)
            lists.rows[i, : len(best)] = rows[best]
            lists.scores[i, : len(best)] = sums[best]
        notes = short_notes(self.name, queries, lists.rows, k)
        return Rankings(self.items_, lists.rows, lists.scores, notes=notes)

    def _sum_history(
        self, events: np.ndarray, *excluded: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the items with a score, and their scores, for events (n,), oldest first."""
        entries, event_of = self._entries(events)
        decays = self.history_decay ** np.arange(len(events) - 1, -1, -1, dtype=np.float32)
        weights = self.weights_.data.take(entries) * decays.take(event_of)
        sums = np.bincount(self.weights_.indices.take(entries), weights, len(self.items_))
        for rows in excluded:
            if rows is not None:
                sums[rows] = 0
        # of booleans it takes a third of the time that it takes of numbers
        rows = np.flatnonzero(sums != 0)
        return rows, sums.take(rows).astype(np.float32)

    def _entries(self, events: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where the entries (m,) of the items of events (n,) stand, and each one's event."""
        starts = self.weights_.indptr[events]
        lengths = self.weights_.indptr[events + 1] - starts
        ends = lengths.cumsum()
        count = ends[-1] if len(ends) else 0
        entries = np.arange(count) + np.repeat(starts - ends + lengths, lengths)
        return entries, np.repeat(np.arange(len(events)), lengths)

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Split each item's score exactly over the events of the history; shares sum to 1."""
        self._check_fitted()
        over_items = Queries.of(queries).reindexed(self.items_)
        return [
            self._explain_ranking(over_items[i : i + 1], ranking)
            for i, ranking in enumerate(rankings)
        ]

    def _explain_ranking(self, query: Queries, ranking: Ranking) -> list[Explanation]:
        events = query.histories.last(self.history_length)[0]
        parts = self._event_scores(events, self.items_.rows(ranking.ids))
        return by_cause(ranking.ids, self.items_.ids[events], parts)

    def _event_scores(self, events: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return (n, K) what each event, oldest first, adds to the score of each row.

        Row -1 is an item that is not in the catalogue: nothing is added to it.
        """
        entries, event_of = self._entries(events)
        positions = np.full(len(self.items_) + 1, -1, dtype=np.int32)  # the last is that of row -1
        positions[rows] = np.arange(len(rows))
        positions[-1] = -1
        position_of = positions.take(self.weights_.indices.take(entries))
        asked = np.flatnonzero(position_of >= 0)
        ages = len(events) - 1 - event_of[asked]
        parts = np.zeros((len(events), len(rows)), dtype=np.float32)
        parts[event_of[asked], position_of[asked]] = self.weights_.data.take(
            entries[asked]
        ) * self.history_decay ** ages.astype(np.float32)
        return parts


def nearest(
    vectors: np.ndarray | sp.csr_matrix,
    top_n: int | None,
    run: Run,
    label: str = "comparing items",
    rescale: Callable[[sp.csr_matrix, int], None] | None = None,
    max_blocks: int | None = None,
) -> sp.csr_matrix:
    """Return the `top_n` other rows with the largest positive products, per row of `vectors`.

    The result is (N, N), largest first in each row; `top_n` None keeps all. `rescale(block, start)`
    may change the products of rows start, start + 1, ... in place before the largest are kept.
    `max_blocks` computes only the rows of so many blocks, drawn at random. Works in blocks of rows
    of at most BLOCK_PRODUCTS multiplications (one row may need more): never N x N.
    """
    n = vectors.shape[0]
    transposed = vectors.T if isinstance(vectors, np.ndarray) else vectors.T.tocsr()
    blocks = list(pairwise(_block_edges(vectors)))
    if max_blocks is not None and len(blocks) > max_blocks:
        drawn = run.rng("blocks").choice(len(blocks), max_blocks, replace=False)
        blocks = [blocks[i] for i in drawn]
    parts = []
    for start, stop in run.progress(blocks, label, len(blocks)):
        block = sp.csr_matrix(vectors[start:stop] @ transposed)
        row = np.repeat(np.arange(start, stop), np.diff(block.indptr))
        block.data[block.indices == row] = 0
        if rescale is not None:
            rescale(block, start)
        parts.append(heaviest(block, n if top_n is None else top_n))
    return sp.vstack(parts, format="csr") if parts else sp.csr_matrix((n, n), dtype=np.float32)


def repeated(sample: sp.csr_matrix, rows: int) -> sp.csr_matrix:
    """Return a matrix of so many rows, which repeats those of `sample`.

    Stands in for a matrix of which only some rows were computed.
    """
    if not sample.shape[0]:
        return sp.csr_matrix((rows, sample.shape[1]), dtype=sample.dtype)
    return sample[np.arange(rows) % sample.shape[0]]


def _block_edges(vectors: np.ndarray | sp.csr_matrix) -> list[int]:
    """Return rows 0 = e0 < e1 < ... = N that split the products into blocks of bounded size."""
    n = vectors.shape[0]
    if isinstance(vectors, np.ndarray):
        products = np.arange(n + 1) * n
    else:
        in_column = np.bincount(vectors.indices, minlength=vectors.shape[1])
        products = np.r_[0, np.cumsum(in_column[vectors.indices])][vectors.indptr]
    cuts = np.searchsorted(products, np.arange(BLOCK_PRODUCTS, products[-1], BLOCK_PRODUCTS))
    return np.unique(np.r_[0, cuts, n]).tolist()
