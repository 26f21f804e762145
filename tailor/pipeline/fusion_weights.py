"""Fusion weights: search the weights of several recommenders that give the best NDCG@10."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from tailor.data.arrays import Ragged

STEP = 20  # weights are searched in steps of 1 / STEP
MOVES = (4, 2, 1)  # steps of weight moved from one part to another, largest first
DEPTH = 10  # of NDCG
TIE = 1e-6  # scores that differ by less, relatively, are equal

Steps = tuple[int, ...]


class TargetVotes(NamedTuple):
    """Votes of P parts on T targets, and on the M rivals of these targets."""

    targets: np.ndarray
    """(T, P) float32 votes on the targets that any part names."""
    rivals: np.ndarray
    """(M, P) float32 votes on all items that any part names for the query of a target."""
    is_ahead: np.ndarray
    """(M,) bool: true for a rival that stands before the target where their scores are equal."""
    rival_counts: np.ndarray
    """(T,) number of rivals of each target."""
    gains: np.ndarray
    """(T,) 1 / (ideal DCG of the target's query)."""


class WeightSearch:
    """A search of fusion weights on queries with known targets.

    search = WeightSearch()
    search.add(votes, targets)        # block after block of queries
    weights, ndcg = search.best_weights(parts)
    """

    def __init__(self) -> None:
        self.blocks: list[TargetVotes] = []
        self.query_count = 0
        self.pair_count = 0
        """Rivals held in memory."""

    def add(self, votes: Sequence[sp.csr_matrix], targets: Ragged) -> None:
        """Add B queries: (B, N) votes of each part, and the targets' rows of N, -1 for unknown.

        A target that no part names is a miss whatever the weights, and counts as a query only.
        """
        named = sum(abs(vote) for vote in votes).tocsr()  # B, N: every item that any part names
        pair_queries = np.repeat(np.arange(named.shape[0]), np.diff(named.indptr))
        pair_votes = _votes_on(votes, pair_queries, named.indices)
        is_known = targets.values >= 0
        target_votes = _votes_on(votes, targets.row_ids, targets.values * is_known)
        target_votes *= is_known[:, None]
        is_named = target_votes.any(axis=1)
        target_queries = targets.row_ids[is_named]
        pairs_of_query = Ragged(named.indptr.astype(np.int64), np.arange(len(pair_queries)))
        rivals = pairs_of_query.take(target_queries)
        target_rows = np.repeat(targets.values[is_named], rivals.lengths)
        block = TargetVotes(
            targets=target_votes[is_named],
            rivals=pair_votes[rivals.values],
            is_ahead=named.indices[rivals.values] < target_rows,
            rival_counts=rivals.lengths,
            gains=1 / _ideal_dcg(targets.lengths)[target_queries],
        )
        self.blocks.append(block)
        self.query_count += len(targets)
        self.pair_count += len(rivals.values)

    def best_weights(self, parts: int) -> tuple[list[float], float]:
        """Return the best weights found, which sum to 1, and their NDCG@10.

        Starts from equal weights and from each part alone, and moves weight from one part to
        another while that helps.
        """
        quality = _MeanNdcg(self.blocks, self.query_count)
        if not quality.target_count:
            return [1 / parts] * parts, 0.0
        equal = tuple(STEP // parts + (part < STEP % parts) for part in range(parts))
        alone = [
            tuple(STEP if part == other else 0 for part in range(parts)) for other in range(parts)
        ]
        best = max([equal, *alone], key=quality)
        for size in MOVES:
            best = _climbed(best, size, quality)
        return [steps / STEP for steps in best], quality(best)


def _votes_on(votes: Sequence[sp.csr_matrix], queries: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return (M, P) each part's votes on M pairs of a query and an item."""
    columns = [np.asarray(vote[queries, items]).ravel() for vote in votes]
    return np.stack(columns, axis=1)


def _ideal_dcg(target_counts: np.ndarray) -> np.ndarray:
    """Return the DCG@10 of lists that begin with all targets."""
    discounts = 1 / np.log2(np.arange(2, DEPTH + 2))
    return np.cumsum(discounts)[np.minimum(target_counts, DEPTH) - 1]


class _MeanNdcg:
    """Mean NDCG@10 over queries as a function of the weights, in steps."""

    def __init__(self, blocks: Sequence[TargetVotes], query_count: int) -> None:
        self.target_count = sum(len(block.targets) for block in blocks)
        self.query_count = query_count
        self.cache: dict[Steps, float] = {}
        if self.target_count:
            self.votes = TargetVotes(
                *(np.concatenate(arrays) for arrays in zip(*blocks, strict=True))
            )
            self.rival_starts = np.r_[0, np.cumsum(self.votes.rival_counts)[:-1]]
            # a rival that ties with the target is ahead of it or behind it by its row
            self.tie_factor = np.where(
                self.votes.is_ahead, np.float32(1 - TIE), np.float32(1 + TIE)
            )

    def __call__(self, steps: Steps) -> float:
        if steps not in self.cache:
            self.cache[steps] = self._value((np.array(steps) / STEP).astype(np.float32))
        return self.cache[steps]

    def _value(self, weights: np.ndarray) -> float:
        target_scores = self.votes.targets @ weights  # T
        bars = np.repeat(target_scores, self.votes.rival_counts) * self.tie_factor
        is_above = (self.votes.rivals @ weights) > bars  # M
        ranks_before = np.add.reduceat(is_above.astype(np.int32), self.rival_starts)  # T
        is_hit = (ranks_before < DEPTH) & (target_scores > 0)
        discounts = np.where(is_hit, 1 / np.log2(ranks_before + 2), 0.0)
        return float((discounts * self.votes.gains).sum() / self.query_count)


def _climbed(best: Steps, size: int, quality: _MeanNdcg) -> Steps:
    """Move `size` steps of weight from part to part as long as it helps."""
    while True:
        moves = [
            _moved(best, source, target, size)
            for source, target in itertools.permutations(range(len(best)), 2)
            if best[source] >= size
        ]
        top = max(moves, key=quality, default=best)
        if quality(top) <= quality(best):
            return best
        best = top


def _moved(steps: Steps, source: int, target: int, size: int) -> Steps:
    moved = list(steps)
    moved[source] -= size
    moved[target] += size
    return tuple(moved)
