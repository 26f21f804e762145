"""Fusion weights: choose the recommenders that help, and the weights with the best NDCG@10.

Shapes: P parts, T targets, M rivals of targets.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
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
    """Votes of P parts on T targets, and on the M rivals that may stand before these targets."""

    targets: np.ndarray
    """(T, P) float32 votes on the targets that may be among the first DEPTH."""
    rivals: np.ndarray
    """(M, P) float32 votes on the items that may stand before the target of a query."""
    is_ahead: np.ndarray
    """(M,) bool: true for a rival that stands before the target where their scores are equal."""
    rival_counts: np.ndarray
    """(T,) number of rivals of each target."""
    gains: np.ndarray
    """(T,) 1 / (ideal DCG of the target's query)."""


@dataclass(frozen=True)
class Choice:
    """Weights chosen for P parts, and what they are worth on the queries of the search."""

    weights: list[float]
    """(P,) weights that sum to 1; exactly 0 for a part that does not help."""
    ndcg: float
    """NDCG@10 with these weights."""
    alone: list[float]
    """(P,) NDCG@10 of each part alone."""


class WeightSearch:
    """A search of parts and weights on queries with known targets.

    search = WeightSearch()
    search.add(votes, targets)        # block after block of queries
    choice = search.choice(parts)
    """

    def __init__(self) -> None:
        self.blocks: list[TargetVotes] = []
        self.query_count = 0
        self.pair_count = 0
        """Rivals held in memory."""

    def add(self, votes: Sequence[sp.csr_matrix], targets: Ragged) -> None:
        """Add B queries: (B, N) votes of each part, and the targets' rows of N, -1 for unknown.

        Targets that are misses whatever the weights, and rivals that are never before the target,
        are not held: they count as queries only.
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
        block = _pruned(block)
        self.blocks.append(block)
        self.query_count += len(targets)
        self.pair_count += len(block.rivals)

    def choice(self, parts: int) -> Choice:
        """Return the parts and weights found by forward selection.

        Starts with the best part alone. The part that raises the NDCG most comes in, and weight is
        moved between the parts that are in while that helps; and so on, until no part raises it.
        Where nothing can be told apart, all weights are equal.
        """
        quality = _MeanNdcg(self.blocks, self.query_count)
        if not quality.target_count:
            return Choice([1 / parts] * parts, 0.0, [0.0] * parts)
        alone = [
            tuple(STEP if part == other else 0 for part in range(parts)) for other in range(parts)
        ]
        best = max(alone, key=quality)
        while True:
            larger = _with_one_more(best, quality)
            if larger is None or quality(larger) <= quality(best):
                break
            best = larger
        weights = [steps / STEP for steps in best]
        return Choice(weights, quality(best), [quality(steps) for steps in alone])


def _pruned(block: TargetVotes) -> TargetVotes:
    """Return the block without rivals and targets that no weights can make a difference for.

    A rival that no part puts level with the target or above it is never before it. A target with
    DEPTH rivals that all parts put above it is a miss.
    """
    own = np.repeat(block.targets, block.rival_counts, axis=0)  # M, P
    target_of = np.repeat(np.arange(len(block.targets)), block.rival_counts)
    may_lead = ((block.rivals >= own * np.float32(1 - TIE)) & (block.rivals > 0)).any(axis=1)
    always_leads = ((block.rivals > own * np.float32(1 + TIE)) | (own == 0)).all(axis=1)
    leaders = np.bincount(target_of, always_leads, len(block.targets))
    is_open = leaders < DEPTH
    is_kept = may_lead & is_open[target_of]
    counts = np.bincount(target_of, is_kept, len(block.targets)).astype(np.int64)
    return TargetVotes(
        targets=block.targets[is_open],
        rivals=block.rivals[is_kept],
        is_ahead=block.is_ahead[is_kept],
        rival_counts=counts[is_open],
        gains=block.gains[is_open],
    )


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
            self.target_of = np.repeat(np.arange(self.target_count), self.votes.rival_counts)
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
        bars = target_scores[self.target_of] * self.tie_factor
        is_above = (self.votes.rivals @ weights) > bars  # M
        ranks_before = np.bincount(self.target_of[is_above], minlength=self.target_count)
        is_hit = (ranks_before < DEPTH) & (target_scores > 0)
        discounts = np.where(is_hit, 1 / np.log2(ranks_before + 2), 0.0)
        return float((discounts * self.votes.gains).sum() / self.query_count)


def _with_one_more(best: Steps, quality: _MeanNdcg) -> Steps | None:
    """Return the weights with the one further part that raises the quality most.

    None where all parts are in.
    """
    inside = [part for part, steps in enumerate(best) if steps]
    outside = [part for part, steps in enumerate(best) if not steps]
    entries = [
        _moved(best, source, part, size)
        for part in outside
        for source in inside
        for size in MOVES
        if best[source] > size
    ]
    if not entries:
        return None
    entered = max(entries, key=quality)
    for size in MOVES:
        entered = _climbed(entered, size, quality)
    return entered


def _climbed(best: Steps, size: int, quality: _MeanNdcg) -> Steps:
    """Move `size` steps of weight among the parts that have some, as long as it helps."""
    while True:
        inside = [part for part, steps in enumerate(best) if steps]
        moves = [
            _moved(best, source, target, size)
            for source, target in itertools.permutations(inside, 2)
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
