"""Graph heuristic: items a few steps after the last ones, most similar first, without training.

Shapes: B queries, A distinct anchors, N items, D width, K list.
"""

from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

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
from tailor.text.tfidf import svd_vectors, tfidf

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
    """Follow the graph of consecutive events from the last items, most similar items first.

    If that wins, a benchmark has a shortcut. Ring h of an anchor (one of the last two items) holds
    the items at exactly h steps in the graph. Each ring gives its budget of the list, best score
    first: cosine of the items' vectors, in ring 1 plus `ring_weight` x log(1 + count) / the
    anchor's largest. TGH-1 of the paper is last_budget=(7, 2, 1), previous_budget=(); TGH-2 is the
    default. What is left empty is filled with what the rings have left, in the same order, then
    with the items most similar to the last one, which itself comes last. Scores fall by steps: a
    whole step for each turn of that order, the item's own score within.

    Differs from the paper: vectors come from the events or from TF-IDF, not from a language model;
    budgets are shares of any k; excluded items take nothing of a budget; an item that has neither a
    follower nor a vector is no anchor, the one before it is.
    """

    last_budget: tuple[int, ...] = (5, 1)
    """Parts of a list for rings 1, 2, ... around the last item."""
    previous_budget: tuple[int, ...] = (3, 1)
    """Parts of a list for the rings around the item before; empty: it is not used."""
    ring_weight: float = 0.5
    """Weight of the count's logarithm relative to the cosine, in ring 1."""
    vectors: Literal["events", "texts"] = "events"
    """What item vectors are made from."""
    dims: int = 128
    """Width of item vectors (singular directions)."""

    counts_: sp.csr_matrix = field(init=False, repr=False)
    """(N, N) how often j comes right after i; no diagonal."""
    vectors_: np.ndarray = field(init=False, repr=False)
    """(N, D) float32 of unit length; zero for an unknown item."""

    def __post_init__(self) -> None:
        budget = (*self.last_budget, *self.previous_budget)
        if (
            not self.last_budget
            or any(type(part) is not int or part < 0 for part in budget)
            or not sum(budget)
        ):
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
        n = len(self.items_)
        rows = data.sequences.rows
        counts = transitions(rows, n, {1: 1.0}, None, run.workers).tocoo()
        is_other = counts.row != counts.col
        entries = (counts.data[is_other], (counts.row[is_other], counts.col[is_other]))
        self.counts_ = sp.csr_matrix(entries, shape=counts.shape)
        from_events = self.vectors == "events"
        matrix = _scaled_events(rows, n) if from_events else tfidf(data.item_texts)
        has_vector = np.diff(matrix.indptr) > 0
        self.vectors_ = np.zeros((n, 1), np.float32)
        if has_vector.any() and min(matrix.shape) > 1:
            self.vectors_ = svd_vectors(matrix, self.dims, run.seed) * has_vector[:, None]
        self.fit_report_ = {
            "edges": self.counts_.nnz,
            "items_without_vector": int((~has_vector).sum()),
            "dims": self.vectors_.shape[1],
        }

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        """Answer queries in the order of their last item, so that those who share it share work."""
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
            lists_of_block = self._fill_lists([rows[block] for rows in anchors], allowed, k)
            answers.rows[block] = lists_of_block.rows
            answers.scores[block] = lists_of_block.scores
        return replace(answers, notes=short_notes(self.name, queries, answers.rows, k))

    def _anchors(self, queries: Queries) -> list[np.ndarray]:
        """Return (B,) the last item of every history, and (B,) the one before; -1 for none.

        Items with neither a follower nor a vector are skipped.
        """
        is_useful = (np.diff(self.counts_.indptr) > 0) | self.vectors_.any(axis=1)
        histories = queries.histories.keep(is_useful[queries.histories.values])
        anchors = []
        for age in range(2 if self.previous_budget else 1):
            mask = histories.from_end == age
            rows = np.full(len(queries), -1, np.int64)
            rows[histories.row_ids[mask]] = histories.values[mask]
            anchors.append(rows)
        return anchors

    def _fill_lists(self, anchors: list[np.ndarray], allowed: np.ndarray, k: int) -> "_Lists":
        """Return the lists of a block of queries.

        `anchors` are one or two arrays (B,); `allowed` (B, N) is changed.
        """
        budgets = [self.last_budget, self.previous_budget][: len(anchors)]
        step = 4.0 + self.ring_weight
        lists = _Lists(allowed, k, 2 * sum(map(len, budgets)) + 1, step)
        longest = int(lists.most_entries.max(initial=0))
        turns: list[_Turn] = []
        similarities = []
        for anchor, budget in zip(anchors, budgets, strict=True):
            query = np.flatnonzero(anchor >= 0)
            distinct, row = np.unique(anchor[query], return_inverse=True)
            similarity = self._similarity(distinct)
            rings = self._rings(distinct, len(budget), similarity, longest)
            turns += [_Turn(query, ring, row) for ring in rings]
            similarities.append((similarity, row))
        for turn, count in zip(turns, _scale_budgets(budgets, k), strict=True):
            lists.take(turn, count)
        for turn in turns:
            lists.take(turn, k)
        has_vector = np.any(self.vectors_, axis=1)
        lists.complete(*similarities[0], has_vector[anchors[0]][:, None] & has_vector)
        return lists

    def _similarity(self, anchors: np.ndarray) -> np.ndarray:
        """Return (A, N) cosines plus 2, which is above 0, as `heaviest` needs; 1 to itself."""
        similarity = 2 + self.vectors_[anchors] @ self.vectors_.T
        # the lowest of all: an anchor itself is recommended last
        similarity[np.arange(len(anchors)), anchors] = 1
        return similarity

    def _rings(
        self, anchors: np.ndarray, hops: int, similarity: np.ndarray, longest: int
    ) -> list[sp.csr_matrix]:
        """Return (A, N) the scores of each ring's items, best first, at most `longest`."""
        anchor_rows = np.arange(len(anchors))
        shape = (len(anchors), len(self.items_))
        is_reached = np.zeros(shape, dtype=bool)
        is_reached[anchor_rows, anchors] = True
        ones = np.ones(len(anchors), np.float32)
        ring = sp.csr_matrix((ones, (anchor_rows, anchors)), shape=shape)
        rings = []
        for hop in range(hops):
            step = sp.csr_matrix(ring @ self.counts_)
            row = np.repeat(anchor_rows, np.diff(step.indptr))
            is_new = ~is_reached[row, step.indices]
            row, column = row[is_new], step.indices[is_new]
            bounds = np.r_[0, np.cumsum(is_new)][step.indptr]
            is_reached[row, column] = True
            scores = similarity[row, column]
            if hop == 0 and len(row):
                logs = np.log1p(step.data[is_new])
                largest = np.zeros(len(anchors), np.float32)
                np.maximum.at(largest, row, logs)
                scores = scores + np.float32(self.ring_weight) * logs / largest[row]
            ones = np.ones(len(row), np.float32)
            ring = sp.csr_matrix((ones, column, bounds), shape=shape)
            rings.append(heaviest(sp.csr_matrix((scores, column, bounds), shape=shape), longest))
        return rings


class _Turn(NamedTuple):
    """A ring, and the queries that take items from it."""

    query: np.ndarray
    """(Q,) numbers of queries."""
    ring: sp.csr_matrix
    """(A, N) scores of the ring's items, best first."""
    row: np.ndarray
    """(Q,) row of the ring for each query."""


class _Lists:
    """Lists of a block of queries, filled from the first rank on.

    An item that is in a list is no longer `allowed` (B, N) for its query. Scores fall by `step` at
    each of `turns`.
    """

    def __init__(self, allowed: np.ndarray, k: int, turns: int, step: float) -> None:
        self.allowed = allowed
        self.k = k
        self.turns = turns
        self.step = step
        self.rows = np.full((len(allowed), k), -1, np.int32)
        self.scores = np.full((len(allowed), k), -np.inf, np.float32)
        self.filled = np.zeros(len(allowed), np.int64)
        # so many entries of a ring hold k allowed items, if the ring has them
        self.most_entries = k + allowed.shape[1] - allowed.sum(axis=1)

    def take(self, turn: _Turn, count: int) -> None:
        """Append up to `count` allowed items of a ring to its queries' lists, best first."""
        self.turns -= 1
        ring = turn.ring
        is_open = self.filled[turn.query] < self.k
        query, row = turn.query[is_open], turn.row[is_open]
        starts = ring.indptr[row]
        lengths = np.minimum(ring.indptr[row + 1] - starts, self.most_entries[query])
        shifts = np.repeat(starts - np.cumsum(lengths) + lengths, lengths)
        entries = np.arange(lengths.sum()) + shifts
        items = Ragged.of_lengths(lengths, ring.indices[entries])
        is_allowed = self.allowed[query[items.row_ids], items.values]
        items, scores = items.keep(is_allowed), ring.data[entries][is_allowed]
        rank = np.arange(len(items.values)) - np.repeat(items.offsets[:-1], items.lengths)
        room = np.minimum(count, self.k - self.filled)[query]
        is_taken = rank < room[items.row_ids]
        owner, item = query[items.row_ids[is_taken]], items.values[is_taken]
        position = self.filled[owner] + rank[is_taken]
        self.rows[owner, position] = item
        self.scores[owner, position] = scores[is_taken] + self.turns * self.step
        self.allowed[owner, item] = False
        self.filled += np.bincount(owner, minlength=len(self.filled))

    def complete(self, similarity: np.ndarray, row: np.ndarray, has_vector: np.ndarray) -> None:
        """Fill what is empty with the most similar allowed items.

        `row` (B,) are queries' rows of `similarity`; `has_vector` (B, N) which items may be used.
        """
        short = np.flatnonzero(self.filled < self.k)
        is_usable = self.allowed[short] & has_vector[short]
        rows, scores = top_k(np.where(is_usable, similarity[row[short]], -np.inf), self.k)
        empty = self.k - self.filled[short]
        for i, query in enumerate(short.tolist()):
            self.rows[query, self.filled[query] :] = rows[i, : empty[i]]
            self.scores[query, self.filled[query] :] = scores[i, : empty[i]]


def _scale_budgets(budgets: list[tuple[int, ...]], k: int) -> list[int]:
    """Return the ranks of a list of k for each part of the budgets in turn.

    Where they do not divide, the earlier ones are rounded up.
    """
    parts = np.array([part for budget in budgets for part in budget])
    ends = [-(-int(end) * k // int(parts.sum())) for end in np.cumsum(parts)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def _scaled_events(rows: Ragged, items: int) -> sp.csr_matrix:
    """Return (N, U) items by users, each entry divided by the square root of both degrees."""
    choices = rows.matrix(items)
    choices.sum_duplicates()
    choices.data[:] = 1
    user_degrees = np.maximum(np.diff(choices.indptr), 1)
    item_degrees = np.maximum(np.bincount(choices.indices, minlength=items), 1)
    scaled = sp.diags(1 / np.sqrt(item_degrees)) @ choices.T @ sp.diags(1 / np.sqrt(user_degrees))
    return scaled.tocsr()
