"""Graph heuristic: the items a few steps after your last ones, most similar first; nothing is
trained.
"""

from dataclasses import dataclass, field, replace
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
    """Follows the arrows "bought next" one to three steps from your last items and puts the most
    similar items first; if that wins, a benchmark has a shortcut.

    Ring h of an anchor holds the items at exactly h steps in the graph of consecutive events. Each
    ring gives its budget of places, best score first: cosine of the items' vectors, in ring 1 plus
    `ring_weight` x log(1 + count) / the anchor's largest. TGH-1 of the paper is last_budget=(7, 2,
    1), previous_budget=(); TGH-2 is the default. Places left empty take what the rings have left,
    in the same order, then the items most similar to the last one, which comes last itself. Scores
    fall by steps: a whole step for each turn of that order, the item's own score within.

    Differs from the paper: vectors come from the events or from TF-IDF, not from a language model;
    budgets are shares of any k; excluded items take no place of a budget; an item that has neither
    an arrow nor a vector is no anchor, the one before it is.
    """

    last_budget: tuple[int, ...] = (5, 1)
    """Places of a list for rings 1, 2, ... around the last item."""
    previous_budget: tuple[int, ...] = (3, 1)
    """The same around the item before; empty: it is not used."""
    ring_weight: float = 0.5
    """Of the count's logarithm beside the cosine, in ring 1."""
    vectors: Literal["events", "texts"] = "events"
    """What items are compared by."""
    dims: int = 128
    """Singular directions of a vector."""

    counts_: sp.csr_matrix = field(init=False, repr=False)
    """(N, N) how often j comes right after i; no diagonal."""
    vectors_: np.ndarray = field(init=False, repr=False)
    """(N, D) float32 of unit length; zero: nothing known."""

    def __post_init__(self) -> None:
        budget = (*self.last_budget, *self.previous_budget)
        if (
            not self.last_budget
            or any(type(places) is not int or places < 0 for places in budget)
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
        counts = transitions(
            data.sequences.rows, len(self.items_), {1: 1.0}, None, run.workers
        ).tocoo()
        different = counts.row != counts.col
        self.counts_ = sp.csr_matrix(
            (counts.data[different], (counts.row[different], counts.col[different])),
            shape=counts.shape,
        )
        matrix = (
            _scaled_events(data.sequences.rows, len(self.items_))
            if self.vectors == "events"
            else tfidf(data.item_texts)
        )
        filled = np.diff(matrix.indptr) > 0
        self.vectors_ = np.zeros((len(self.items_), 1), np.float32)
        if filled.any() and min(matrix.shape) > 1:
            self.vectors_ = svd_vectors(matrix, self.dims, run.seed) * filled[:, None]
        self.fit_report_ = {
            "edges": self.counts_.nnz,
            "items_without_vector": int((~filled).sum()),
            "dims": self.vectors_.shape[1],
        }

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        """Queries are answered in the order of their last item, so that those who share it share
        the work on it.
        """
        queries = queries.reindexed(self.items_)
        lists = None if candidates is None else candidates.reindexed(self.items_).ragged()
        anchors = self._anchors(queries)
        out = Rankings.empty(self.items_, len(queries), k)
        order = np.argsort(anchors[0], kind="stable")
        order = order[anchors[0][order] >= 0]
        for start, stop in blocks(len(order), len(self.items_)):
            some = order[start:stop]
            allowed = queries.take(some).allowed(None if lists is None else lists.take(some))
            out.rows[some], out.scores[some] = self._answer(
                [one[some] for one in anchors], allowed, k
            )
        return replace(out, notes=short_notes(self.name, queries, out.rows, k))

    def _anchors(self, queries: Queries) -> list[np.ndarray]:
        """(B,) the last item of every history, and the one before, of those that lead anywhere; -1
        for none.
        """
        useful = (np.diff(self.counts_.indptr) > 0) | self.vectors_.any(axis=1)
        histories = queries.histories.keep(useful[queries.histories.values])
        out = []
        for back in range(2 if self.previous_budget else 1):
            at = histories.from_end == back
            out.append(np.full(len(queries), -1, np.int64))
            out[-1][histories.row_ids[at]] = histories.values[at]
        return out

    def _answer(
        self, anchors: list[np.ndarray], allowed: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """(B, k) rows and scores for the block of queries whose anchors and `allowed` (B, N) items
        are given; marks off `allowed`.
        """
        budgets = [self.last_budget, self.previous_budget][: len(anchors)]
        page = _Page(allowed, k, 2 * sum(map(len, budgets)) + 1, 4.0 + self.ring_weight)
        turns = []
        for anchor, budget in zip(anchors, budgets, strict=True):
            who = np.flatnonzero(anchor >= 0)
            distinct, at = np.unique(anchor[who], return_inverse=True)
            # 2: above 0, as `heaviest` wants
            similar = 2 + self.vectors_[distinct] @ self.vectors_.T
            # as unlike as can be: nobody asks for the same again
            similar[np.arange(len(distinct)), distinct] = 1
            turns += [
                (who, ring, at)
                for ring in self._rings(
                    distinct, len(budget), similar, int(page.head.max(initial=0))
                )
            ]
            if anchor is anchors[0]:
                last = similar, at
        for turn, places in zip(turns, _scaled(budgets, k), strict=True):
            page.take(*turn, places)
        for turn in turns:
            page.take(*turn, k)
        known = np.any(self.vectors_, axis=1)
        page.complete(*last, known[anchors[0]][:, None] & known)
        return page.rows, page.scores

    def _rings(
        self, anchors: np.ndarray, hops: int, similar: np.ndarray, longest: int
    ) -> list[sp.csr_matrix]:
        """(A, N) for each ring: the scores of its items, best first."""
        n = len(self.items_)
        every = np.arange(len(anchors))
        reached = np.zeros((len(anchors), n), dtype=bool)
        reached[every, anchors] = True
        ring = sp.csr_matrix(
            (np.ones(len(anchors), np.float32), (every, anchors)), shape=(len(anchors), n)
        )
        out = []
        for hop in range(hops):
            step = sp.csr_matrix(ring @ self.counts_)
            row = np.repeat(every, np.diff(step.indptr))
            new = ~reached[row, step.indices]
            row, col, bounds = row[new], step.indices[new], np.r_[0, np.cumsum(new)][step.indptr]
            reached[row, col] = True
            scores = similar[row, col]
            if hop == 0 and len(row):
                logs = np.log1p(step.data[new])
                most = np.zeros(len(anchors), np.float32)
                np.maximum.at(most, row, logs)
                scores = scores + np.float32(self.ring_weight) * logs / most[row]
            ring = sp.csr_matrix(
                (np.ones(len(row), np.float32), col, bounds), shape=(len(anchors), n)
            )
            out.append(
                heaviest(sp.csr_matrix((scores, col, bounds), shape=(len(anchors), n)), longest)
            )
        return out


class _Page:
    """Lists of a block of queries, filled from the front; what stands in one is marked off
    `allowed`.
    """

    def __init__(self, allowed: np.ndarray, k: int, turns: int, step: float) -> None:
        self.allowed, self.k, self.turns, self.step = allowed, k, turns, step
        self.rows = np.full((len(allowed), k), -1, np.int32)
        self.scores = np.full((len(allowed), k), -np.inf, np.float32)
        self.filled = np.zeros(len(allowed), np.int64)
        # as many items of a ring hold k that are allowed, if it has them
        self.head = k + allowed.shape[1] - allowed.sum(axis=1)

    def take(self, who: np.ndarray, ring: sp.csr_matrix, at: np.ndarray, places: int) -> None:
        """Give queries `who` up to `places` allowed items of row `at` of the ring, from its front."""
        self.turns -= 1
        unfinished = self.filled[who] < self.k
        who, at = who[unfinished], at[unfinished]
        lengths = np.minimum(ring.indptr[at + 1] - ring.indptr[at], self.head[who])
        entries = np.arange(lengths.sum()) + np.repeat(
            ring.indptr[at] - np.cumsum(lengths) + lengths, lengths
        )
        items, scores = Ragged.of_lengths(lengths, ring.indices[entries]), ring.data[entries]
        free = self.allowed[who[items.row_ids], items.values]
        items, scores = items.keep(free), scores[free]
        rank = np.arange(len(items.values)) - np.repeat(items.offsets[:-1], items.lengths)
        taken = rank < np.minimum(places, self.k - self.filled)[who][items.row_ids]
        owner, item = who[items.row_ids[taken]], items.values[taken]
        place = self.filled[owner] + rank[taken]
        self.rows[owner, place], self.scores[owner, place] = (
            item,
            scores[taken] + self.turns * self.step,
        )
        self.allowed[owner, item] = False
        self.filled += np.bincount(owner, minlength=len(self.filled))

    def complete(self, similar: np.ndarray, at: np.ndarray, known: np.ndarray) -> None:
        """Fill what is empty with the allowed items of the highest entries in row `at` of
        `similar`, where `known` (B, N).
        """
        short = np.flatnonzero(self.filled < self.k)
        rest = np.where(self.allowed[short] & known[short], similar[at[short]], -np.inf)
        rows, scores = top_k(rest, self.k)
        empty = self.k - self.filled[short]
        for i, query in enumerate(short.tolist()):
            self.rows[query, self.filled[query] :] = rows[i, : empty[i]]
            self.scores[query, self.filled[query] :] = scores[i, : empty[i]]


def _scaled(budgets: list[tuple[int, ...]], k: int) -> list[int]:
    """The places of a list of k for each budget in turn; where they do not divide, the earlier ones
    round up.
    """
    flat = np.array([places for budget in budgets for places in budget])
    ends = [-(-int(places) * k // int(flat.sum())) for places in np.cumsum(flat)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def _scaled_events(rows: Ragged, items: int) -> sp.csr_matrix:
    """(N, U) items by users, each entry divided by the square root of both degrees."""
    seen = rows.matrix(items)
    seen.sum_duplicates()
    seen.data[:] = 1
    users, counts = np.diff(seen.indptr), np.bincount(seen.indices, minlength=items)
    return (
        sp.diags(1 / np.sqrt(np.maximum(counts, 1)))
        @ seen.T
        @ sp.diags(1 / np.sqrt(np.maximum(users, 1)))
    ).tocsr()
