"""Strategies of reranking: which documents are shown together, and in which order.

A strategy is a pure generator, a `Plan`. It yields groups of places in the first-stage list; all
groups of one step can be asked side by side. It is sent one array of scores a group, higher is
better, NaN where nothing could be read, and returns the scores (n,) of all documents. It knows
neither texts nor models, so each strategy is tested with a judge of a few lines.

Sources: windows (Sun et al. 2023), pairs (Qin et al. 2023), sets (Zhuang et al. 2023), groups
(GroupRank, 2025), tournaments (TourRank, 2024).
"""

from collections.abc import Callable, Generator, Sequence
from itertools import combinations
from typing import TypeVar

import numpy as np

from tailor.errors import DataError

Group = tuple[int, ...]
"""Places of documents in the first-stage list, in the order in which they are shown."""
Plan = Generator[list[Group], list[np.ndarray], np.ndarray]
Combine = Callable[[int, Sequence[Group], Sequence[np.ndarray]], np.ndarray]
T = TypeVar("T")
Step = Generator[list[Group], list[np.ndarray], T]


def settled(group: Sequence[int], scores: np.ndarray) -> list[int]:
    """Return places best first; a place without a score (NaN) stays where it stood."""
    is_scored = ~np.isnan(scores)
    scored = np.flatnonzero(is_scored)
    best_first = scored[np.argsort(-scores[scored], kind="stable")]
    settled_docs = list(group)
    for position, source in zip(scored.tolist(), best_first.tolist(), strict=True):
        settled_docs[position] = group[source]
    return settled_docs


def scores_of_order(order: Sequence[int]) -> np.ndarray:
    """Return (n,) scores of documents whose places are given best first: 0, -1, -2, ..."""
    scores = np.empty(len(order))
    scores[list(order)] = -np.arange(len(order))
    return scores


def pointwise(n: int) -> Plan:
    """Show every document alone: n calls."""
    answers = yield [(doc,) for doc in range(n)]
    return np.array([float(answer[0]) for answer in answers])


def windows(n: int, width: int = 20, step: int = 10, passes: int = 1) -> Plan:
    """Order windows from the back of the list to its front.

    Takes passes * (ceil(max(n - width, 0) / step) + 1) calls.
    """
    if not 0 < step <= width or passes < 1:
        raise DataError(
            f"windows of {width} documents in steps of {step}, {passes} times: the step lies"
            " between 1 and the width, and there is at least one pass"
        )
    order = list(range(n))
    for _ in range(passes if n else 0):
        start = max(n - width, 0)
        while True:
            group = order[start : start + width]
            (scores,) = yield [tuple(group)]
            order[start : start + width] = settled(group, scores)
            if start == 0:
                break
            start = max(start - step, 0)
    return scores_of_order(order)


def mean_scores(n: int, groups: Sequence[Group], answers: Sequence[np.ndarray]) -> np.ndarray:
    """Return (n,) the mean score of each document over the groups that it stood in."""
    sums, counts = np.zeros(n), np.zeros(n)
    for group, scores in zip(groups, answers, strict=True):
        is_scored = ~np.isnan(scores)
        docs = np.array(group)[is_scored]
        np.add.at(sums, docs, scores[is_scored])
        np.add.at(counts, docs, 1)
    means = np.full(n, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def groupwise(
    n: int,
    size: int,
    repeats: int,
    rng: np.random.Generator,
    anchors: Sequence[int] = (),
    combine: Combine = mean_scores,
) -> Plan:
    """Score documents in shuffled groups, `repeats` times: repeats * ceil(n / size) calls.

    All groups are asked at once. `anchors` are places shown at the end of every group that lacks
    them, so that `combine` can compare groups.
    """
    groups = []
    for _ in range(repeats):
        order = rng.permutation(n).tolist()
        for start in range(0, n, size):
            group = order[start : start + size]
            groups.append((*group, *(doc for doc in anchors if doc not in group)))
    answers = yield groups
    return combine(n, groups, answers)


def tournament(n: int, size: int, keep: int, repeats: int, rng: np.random.Generator) -> Plan:
    """Let the `keep` best of every group go on, round by round; each round gives a point.

    The last group, of at most `size`, is ordered. Points are summed over `repeats` shuffles, all in
    lockstep: a round of n_r documents takes ceil(n_r / size) calls a repeat.
    """
    if not 0 < keep < size:
        raise DataError(f"{keep} of {size} go on: at least 1, and fewer than a group has")
    points = np.zeros(n)
    survivors = [rng.permutation(n).tolist() for _ in range(repeats if n else 0)]
    while any(len(docs) > size for docs in survivors):
        groups = [_split(docs, size) if len(docs) > size else [] for docs in survivors]
        answers = iter((yield [tuple(group) for of_repeat in groups for group in of_repeat]))
        for repeat, of_repeat in enumerate(groups):
            if of_repeat:
                best = [settled(group, next(answers))[:keep] for group in of_repeat]
                survivors[repeat] = [doc for group in best for doc in group]
                points[survivors[repeat]] += 1
    finals = yield [tuple(sorted(docs)) for docs in survivors]
    for docs, scores in zip(survivors, finals, strict=True):
        ordered = settled(sorted(docs), scores)
        points[ordered] += 1 - np.arange(len(ordered)) / len(ordered)
    return points


def _split(docs: Sequence[int], size: int) -> list[list[int]]:
    return [list(docs[start : start + size]) for start in range(0, len(docs), size)]


def _share_won(answers: Sequence[np.ndarray]) -> float:
    """Return the share of two showings, (a, b) and (b, a), that a wins; a tie is half."""
    first, second = answers
    return (_win(first[0], first[1]) + _win(second[1], second[0])) / 2


def _win(mine: float, other: float) -> float:
    if np.isnan(mine) or np.isnan(other) or mine == other:
        return 0.5
    return float(mine > other)


def all_pairs(n: int) -> Plan:
    """Show every pair in both orders: n * (n - 1) calls.

    A document's score is the number of pairs it wins (Copeland); a pair whose two showings
    contradict each other counts half.
    """
    pairs = list(combinations(range(n), 2))
    answers = yield [group for a, b in pairs for group in ((a, b), (b, a))]
    wins = np.zeros(n)
    for i, (a, b) in enumerate(pairs):
        share = _share_won(answers[2 * i : 2 * i + 2])
        wins[a] += share
        wins[b] += 1 - share
    return wins


def _is_better(a: int, b: int) -> Step[bool]:
    """Show two documents in both orders; on a tie the one that stood first is better."""
    answers = yield [(a, b), (b, a)]
    share = _share_won(answers)
    return a < b if share == 0.5 else share > 0.5


def _best_of(docs: Sequence[int]) -> Step[int]:
    """Show a set and return the best; what stood first is best where nothing is said."""
    (scores,) = yield [tuple(docs)]
    return min(zip(np.where(np.isnan(scores), np.inf, -scores), docs, strict=True))[1]


def _best_of_pair(docs: Sequence[int]) -> Step[int]:
    """Return the best of a parent and its children, compared pair by pair."""
    best = docs[0]
    for doc in docs[1:]:
        if (yield from _is_better(doc, best)):
            best = doc
    return best


def _heap(n: int, k: int, arity: int, best_of: Callable[[Sequence[int]], Step[int]]) -> Plan:
    """Take the k best from a heap whose nodes have `arity` children; the rest stays as it was."""
    heap = list(range(n))
    for node in range((n - 2) // arity, -1, -1) if n > 1 else ():
        yield from _sift(heap, node, arity, best_of)
    winners: list[int] = []
    while heap and len(winners) < k:
        winners.append(heap[0])
        last = heap.pop()
        if heap:
            heap[0] = last
            if len(winners) < k:
                yield from _sift(heap, 0, arity, best_of)
    return scores_of_order([*winners, *sorted(heap)])


def _sift(
    heap: list[int], node: int, arity: int, best_of: Callable[[Sequence[int]], Step[int]]
) -> Step[None]:
    """Move a node down until it is the best of its family."""
    while node * arity + 1 < len(heap):
        children = range(node * arity + 1, min(node * arity + arity + 1, len(heap)))
        family = [node, *children]
        best = yield from best_of([heap[member] for member in family])
        winner = family[[heap[member] for member in family].index(best)]
        if winner == node:
            return
        heap[node], heap[winner] = heap[winner], heap[node]
        node = winner


def pair_heap(n: int, k: int) -> Plan:
    """Find the k best by a heap of pairs: at most 2 * (2n + 2k * ceil(log2 n)) calls."""
    return _heap(n, k, 2, _best_of_pair)


def set_heap(n: int, k: int, size: int) -> Plan:
    """Find the k best by a heap of sets of `size`, one call for the best of a set.

    At most (I + k) * (h - 1) calls, with I = ceil((n - 1) / (size - 1)) inner nodes on h levels.
    """
    _check_size(size)
    return _heap(n, k, size - 1, _best_of)


def pair_bubble(n: int, k: int) -> Plan:
    """Bring the k best to the front by neighbouring pairs; a pass without a swap ends it.

    Takes at most 2 * sum over i < k of (n - 1 - i) calls.
    """
    order = list(range(n))
    for i in range(min(k, n)):
        has_swapped = False
        for j in range(n - 1, i, -1):
            if (yield from _is_better(order[j], order[j - 1])):
                order[j - 1], order[j] = order[j], order[j - 1]
                has_swapped = True
        if not has_swapped:
            break
    return scores_of_order(order)


def set_bubble(n: int, k: int, size: int) -> Plan:
    """Bring the k best to the front by sets: at most k * ceil((n - 1) / (size - 1)) calls."""
    _check_size(size)
    order = list(range(n))
    for i in range(min(k, n)):
        stop = n
        while stop - i > 1:
            start = max(stop - size, i)
            group = order[start:stop]
            best = yield from _best_of(group)
            order[start:stop] = [best, *(doc for doc in group if doc != best)]
            stop = start + 1
    return scores_of_order(order)


def _check_size(size: int) -> None:
    if size < 2:
        raise DataError(f"sets of {size} documents: at least 2 are compared")


def rewritten(plan: Plan, ask: Callable[[list[Group]], Step[list[np.ndarray]]]) -> Plan:
    """Follow a plan, and let `ask` show its groups in another way.

    `ask` yields what is shown, and returns the scores of the plan's own groups.
    """
    answers = None
    while True:
        try:
            groups = plan.send(answers)  # type: ignore[arg-type]
        except StopIteration as stop:
            scores: np.ndarray = stop.value
            return scores
        answers = yield from ask(groups)


def permuted(plan: Plan, order: Sequence[int]) -> Plan:
    """Follow a plan over a list in another order.

    Place p of the plan is place `order[p]` of the list.
    """

    def ask(groups: list[Group]) -> Step[list[np.ndarray]]:
        answers = yield [tuple(order[doc] for doc in group) for group in groups]
        return answers

    scores = np.empty(len(order))
    scores[list(order)] = yield from rewritten(plan, ask)
    return scores


def shuffled(plan: Plan, rng: np.random.Generator) -> Plan:
    """Follow a plan whose groups are shown in random order, so that no place is preferred."""

    def ask(groups: list[Group]) -> Step[list[np.ndarray]]:
        orders = [rng.permutation(len(group)) for group in groups]
        of_shown = yield [
            tuple(group[position] for position in order)
            for group, order in zip(groups, orders, strict=True)
        ]
        return [scores[np.argsort(order)] for scores, order in zip(of_shown, orders, strict=True)]

    return rewritten(plan, ask)
