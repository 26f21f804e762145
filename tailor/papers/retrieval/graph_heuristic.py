"""Graph heuristic: recommend items a few steps after the last ones, without any training."""

from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Literal

import numpy as np
import scipy.sparse as sp

from tailor.core.methods import Paper, Recommender, blocks, short_notes
from tailor.core.run import Run
from tailor.data.arrays import Ragged, top_k
from tailor.data.dataset import Dataset
from tailor.data.graphs import heaviest, transitions
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.retrieval.event_vectors import latent_vectors, normalized_events
from tailor.text.tfidf import tfidf

PAPER = Paper(
    "graph-heuristic",
    "An Embarrassingly Simple Graph Heuristic Reveals Shortcut-Solvable Benchmarks for Sequential"
    " Recommendation",
    "https://arxiv.org/abs/2605.07125",
    "On Beauty (leave-last-out, fitted on train only, full ranking, seen items removed, no text"
    " vectors) HR@10 >= .069 and NDCG@10 >= .044 within 60 seconds.",
)


@dataclass(eq=False)
class GraphHeuristic(Recommender):
    """Recommends items one to three steps after your last items in a graph of consecutive events.

    Where that wins, a benchmark has a shortcut. Ring h of an anchor holds the items at exactly h
    steps from it. Each ring fills its budget of the list, best score first: the cosine of the
    items' vectors, in ring 1 plus `ring_weight` * log(1 + count) / the anchor's largest. TGH-1 of
    the paper is last_budget=(7, 2, 1), previous_budget=(); TGH-2 is the default. Empty places are
    filled with the remaining items of the rings, in the same order, then with the items most
    similar to the last one, which itself comes last. Scores fall by a constant for each turn of
    that order; within a turn they are the items' own.

    Differs from the paper: vectors come from the events or from TF-IDF, not from a language model;
    budgets are shares of any k; excluded items use up no budget; an item that has neither an edge
    nor a vector is no anchor, the one before it is.
    """

    last_budget: tuple[int, ...] = (5, 1)
    """Shares of a list, in items, for rings 1, 2, ... around the last item."""
    previous_budget: tuple[int, ...] = (3, 1)
    """The same around the item before the last; empty: that item is not used."""
    ring_weight: float = 0.5
    """Weight of the count's logarithm, added to the cosine in ring 1."""
    vectors: Literal["events", "texts"] = "events"
    """Source of the vectors that items are compared by: their users, or TF-IDF of their texts."""
    dims: int = 128
    """Singular directions of a vector."""

    counts_: sp.csr_matrix = field(init=False, repr=False)
    """(N, N) number of times that item j comes right after item i; the diagonal is empty."""
    vectors_: np.ndarray = field(init=False, repr=False)
    """(N, D) float32 vectors of unit length; zero for an item of which nothing is known."""

    def __post_init__(self) -> None:
        budget = (*self.last_budget, *self.previous_budget)
        has_wrong = any(type(share) is not int or share < 0 for share in budget)
        if not self.last_budget or has_wrong or not sum(budget):
            raise DataError(
                f"last_budget is {self.last_budget}, previous_budget {self.previous_budget}: whole"
                " numbers from 0, not all 0"
            )
        if self.ring_weight < 0 or self.dims < 1:
            raise DataError(
                f"ring_weight is {self.ring_weight}, dims {self.dims}: ring_weight from 0, dims"
                " from 1"
            )
        if self.vectors not in ("events", "texts"):
            raise DataError(f'vectors is "{self.vectors}": it must be "events" or "texts"')

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        rows = data.sequences.rows
        n = len(self.items_)
        counts = transitions(rows, n, {1: 1.0}, None, run.workers).tocoo()
        differs = counts.row != counts.col
        edges = (counts.row[differs], counts.col[differs])
        self.counts_ = sp.csr_matrix((counts.data[differs], edges), shape=counts.shape)
        is_by_events = self.vectors == "events"
        matrix = normalized_events(rows, n) if is_by_events else tfidf(data.item_texts)
        self.vectors_ = latent_vectors(matrix, self.dims, run.seed)
        self.fit_report_ = {
            "edges": self.counts_.nnz,
            "items_without_vector": int((np.diff(matrix.indptr) == 0).sum()),
            "dims": self.vectors_.shape[1],
        }

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        """Return the k best items per query.

        Queries are answered in the order of their last items, so that those with the same one
        share the work on it.
        """
        queries = queries.reindexed(self.items_)
        lists = None if candidates is None else candidates.reindexed(self.items_).ragged()
        anchors = self._anchors(queries)
        answers = Rankings.empty(self.items_, len(queries), k)
        order = np.argsort(anchors[0], kind="stable")
        order = order[anchors[0][order] >= 0]
        for start, stop in blocks(len(order), len(self.items_)):
            block = order[start:stop]
            block_lists = None if lists is None else lists.take(block)
            allowed = queries.take(block).allowed(block_lists)
            block_anchors = [items[block] for items in anchors]
            answers.rows[block], answers.scores[block] = self._answer(block_anchors, allowed, k)
        return replace(answers, notes=short_notes(self.name, queries, answers.rows, k))

    def _anchors(self, queries: Queries) -> list[np.ndarray]:
        """Return (B,) the last item of every history, and (B,) the one before it; -1 for none.

        Items without edges and without a vector are skipped. Without a `previous_budget` the
        second array is left out.
        """
        is_useful = (np.diff(self.counts_.indptr) > 0) | self.vectors_.any(axis=1)
        histories = queries.histories.keep(is_useful[queries.histories.values])
        anchors = []
        for age in range(2 if self.previous_budget else 1):
            mask = histories.from_end == age
            items = np.full(len(queries), -1, np.int64)
            items[histories.row_ids[mask]] = histories.values[mask]
            anchors.append(items)
        return anchors

    def _answer(
        self, anchors: list[np.ndarray], allowed: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and scores (B, k) of a block of queries with these anchors.

        Items that enter a list are removed from `allowed` (B, N).
        """
        budgets = [self.last_budget, self.previous_budget][: len(anchors)]
        turns = 2 * sum(map(len, budgets)) + 1
        lists = _ListFiller(allowed, k, turns, 4.0 + self.ring_weight)
        longest = int(lists.read_at_most.max(initial=0))
        groups = [self._group(items) for items in anchors]
        rings = [
            (group, ring)
            for group, budget in zip(groups, budgets, strict=True)
            for ring in self._rings(group, len(budget), longest)
        ]
        for (group, ring), size in zip(rings, _scale_budgets(budgets, k), strict=True):
            lists.add_ring(group, ring, size)
        for group, ring in rings:
            lists.add_ring(group, ring, k)
        has_vector = np.any(self.vectors_, axis=1)
        lists.complete(groups[0], has_vector[anchors[0]][:, None] & has_vector)
        return lists.rows, lists.scores

    def _group(self, anchors: np.ndarray) -> "_AnchorGroup":
        """Return the distinct anchors of a block of queries (B,), with their similarities."""
        queries = np.flatnonzero(anchors >= 0)
        items, rows = np.unique(anchors[queries], return_inverse=True)
        similarity = 2 + self.vectors_[items] @ self.vectors_.T  # above 0, as `heaviest` requires
        # an anchor is the least similar to itself: nobody wants the same item again
        similarity[np.arange(len(items)), items] = 1
        return _AnchorGroup(queries, rows, items, similarity)

    def _rings(self, group: "_AnchorGroup", hops: int, longest: int) -> list[sp.csr_matrix]:
        """Return the scores (A, N) of each ring's items: at most `longest` a row, best first."""
        shape = group.similarity.shape
        anchor_rows = np.arange(shape[0])
        is_reached = np.zeros(shape, dtype=bool)
        is_reached[anchor_rows, group.items] = True
        ones = np.ones(len(anchor_rows), np.float32)
        ring = sp.csr_matrix((ones, (anchor_rows, group.items)), shape=shape)
        rings = []
        for hop in range(hops):
            ring = self._next_ring(ring, is_reached)
            rows = np.repeat(anchor_rows, np.diff(ring.indptr))
            scores = group.similarity[rows, ring.indices]
            if hop == 0:
                logs = np.log1p(ring.data)
                largest = np.zeros(len(anchor_rows), np.float32)
                np.maximum.at(largest, rows, logs)
                scores = scores + np.float32(self.ring_weight) * logs / largest[rows]
            scored = sp.csr_matrix((scores, ring.indices, ring.indptr), shape=shape)
            rings.append(heaviest(scored, longest))
            ring.data[:] = 1
        return rings

    def _next_ring(self, ring: sp.csr_matrix, is_reached: np.ndarray) -> sp.csr_matrix:
        """Return the counts (A, N) of steps from a ring to items not reached before.

        The new items are marked in `is_reached` (A, N).
        """
        steps = sp.csr_matrix(ring @ self.counts_)
        rows = np.repeat(np.arange(steps.shape[0]), np.diff(steps.indptr))
        is_new = ~is_reached[rows, steps.indices]
        columns = steps.indices[is_new]
        is_reached[rows[is_new], columns] = True
        offsets = np.r_[0, np.cumsum(is_new)][steps.indptr]
        return sp.csr_matrix((steps.data[is_new], columns, offsets), shape=steps.shape)


@dataclass(frozen=True, eq=False)
class _AnchorGroup:
    """The distinct anchors of a block of queries."""

    queries: np.ndarray
    """(Q,) queries of the block that have an anchor."""
    rows: np.ndarray
    """(Q,) position in `items` of each query's anchor."""
    items: np.ndarray
    """(A,) item rows of the anchors."""
    similarity: np.ndarray
    """(A, N) 2 + the cosine of each item and the anchor; 1 for the anchor itself."""


class _ListFiller:
    """Lists of a block of queries, filled from the front in turns."""

    def __init__(self, allowed: np.ndarray, k: int, turns: int, step: float) -> None:
        """Make empty lists of k items out of `allowed` (B, N), which is changed in place.

        Each of `turns` turns has scores lower by `step` than the turn before.
        """
        self.allowed = allowed
        self.k = k
        self.turns_left = turns
        self.step = step
        self.rows = np.full((len(allowed), k), -1, np.int32)
        self.scores = np.full((len(allowed), k), -np.inf, np.float32)
        self.filled = np.zeros(len(allowed), np.int64)
        # that many items of a ring include k allowed ones, if the ring has them
        self.read_at_most = k + allowed.shape[1] - allowed.sum(axis=1)

    def add_ring(self, group: _AnchorGroup, ring: sp.csr_matrix, size: int) -> None:
        """Append to each query's list up to `size` allowed items of its anchor's ring (A, N)."""
        self.turns_left -= 1
        is_unfinished = self.filled[group.queries] < self.k
        queries = group.queries[is_unfinished]
        entries = _row_heads(ring, group.rows[is_unfinished], self.read_at_most[queries])
        items = entries.with_values(ring.indices[entries.values])
        is_allowed = self.allowed[queries[items.row_ids], items.values]
        items = items.keep(is_allowed)
        scores = ring.data[entries.values][is_allowed]
        rank = items.from_start
        is_added = rank < np.minimum(size, self.k - self.filled)[queries][items.row_ids]
        owners = queries[items.row_ids[is_added]]
        added = items.values[is_added]
        positions = self.filled[owners] + rank[is_added]
        self.rows[owners, positions] = added
        self.scores[owners, positions] = scores[is_added] + self.turns_left * self.step
        self.allowed[owners, added] = False
        self.filled += np.bincount(owners, minlength=len(self.filled))

    def complete(self, group: _AnchorGroup, mask: np.ndarray) -> None:
        """Fill the lists with the allowed items most similar to the anchors.

        All queries must have an anchor; only items where `mask` (B, N) is true are used.
        """
        short = np.flatnonzero(self.filled < self.k)
        anchor_rows = group.rows[short]
        similarity = group.similarity[anchor_rows]
        is_candidate = self.allowed[short] & mask[short]
        candidates = np.where(is_candidate, similarity, -np.inf)
        rows, scores = top_k(candidates, self.k)
        for i, query in enumerate(short.tolist()):
            filled = self.filled[query]
            room = self.k - filled
            self.rows[query, filled:] = rows[i, :room]
            self.scores[query, filled:] = scores[i, :room]


def _row_heads(matrix: sp.csr_matrix, rows: np.ndarray, most: np.ndarray) -> Ragged:
    """Return the positions in `matrix.data` of each row's first entries, at most `most` (B,)."""
    starts = matrix.indptr[rows]
    ends = matrix.indptr[rows + 1]
    lengths = np.minimum(ends - starts, most)
    shift = starts - np.cumsum(lengths) + lengths
    numbers = np.arange(lengths.sum())
    positions = numbers + np.repeat(shift, lengths)
    return Ragged.of_lengths(lengths, positions)


def _scale_budgets(budgets: list[tuple[int, ...]], k: int) -> list[int]:
    """Split k in the proportions of the budgets; earlier ones are rounded up."""
    shares = [share for budget in budgets for share in budget]
    total = sum(shares)
    places: list[int] = []
    start = 0
    for share_end in accumulate(shares):
        end = -(-share_end * k // total)
        places.append(end - start)
        start = end
    return places
