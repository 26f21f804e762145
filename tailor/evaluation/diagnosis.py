"""Diagnose a data set and its split: predictability, shortcuts that solve the test, leaks."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from tailor.core.methods import blocks
from tailor.core.run import Run
from tailor.data.arrays import Ragged, top_k
from tailor.data.checks import Finding, check
from tailor.data.graphs import transitions
from tailor.data.splits import Split
from tailor.data.stats import stats
from tailor.evaluation.report import without_nan
from tailor.evaluation.significance import wilson
from tailor.metrics.agreement import rank_correlation
from tailor.metrics.ranking import hits, ndcg, relevant_counts
from tailor.text.tfidf import rare_word_vectors

K = 10
MOST_SHORTCUTS = 8
MOST = 10_000  # users whose shortcuts are measured
DEEPEST = 2_000  # popular items that are looked at for a user who has many of them
WINDOW = 5  # steps of co-visitation, as in docs/guide/evaluation.md
DECAY = 0.5  # weight of each older item of a history in co-visitation
PAIRS = 50_000  # random pairs of items that neighbours in histories are compared with
SOLVED = 0.5  # share of users that one shortcut may solve before a benchmark measures little else

Facts = dict[str, float | None]


@dataclass(frozen=True)
class Floor:
    """Accuracy of a shortcut: share of users with a target among the first ten, and NDCG@10."""

    name: str
    hit: float
    low: float
    """95 % interval of the hits (Wilson); equal to `hit` for random lists, which are calculated."""
    high: float
    ndcg: float
    users: int


@dataclass(frozen=True)
class Diagnosis:
    """Figures, shortcuts and findings of one split; figures that the data lack are None."""

    name: str
    part: str
    facts: Facts
    floors: list[Floor]
    findings: list[Finding]
    seconds: float

    @property
    def wrong(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.wrong]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        content = {
            "name": self.name,
            "part": self.part,
            "facts": self.facts,
            "floors": [asdict(floor) for floor in self.floors],
            "findings": [finding.to_dict() for finding in self.findings],
            "seconds": round(self.seconds, 2),
        }
        return dict(without_nan(content))


def diagnose(split: Split, part: str = "test", run: Run = Run()) -> Diagnosis:
    """Measure a split's part with seen items removed.

    Shortcuts are measured on at most 10,000 users, drawn by the run's seed. Raises DataError where
    the part has no users.
    """
    started = time.perf_counter()
    case = _Case(split, part, run)
    steps = [("sizes", _sizes), ("next items", _next_items), ("texts", _texts), ("drift", _drift)]
    facts: Facts = {}
    for _, step in run.progress(steps, "diagnosing", len(steps)):
        facts |= step(case)
    is_solved = np.zeros(len(case.histories), dtype=bool)
    floors = []
    for name, is_hit in run.progress(_shortcuts(case, facts), "shortcuts", MOST_SHORTCUTS):
        floors.append(_floor(name, is_hit, case.relevant))
        is_solved |= is_hit.any(axis=1)
    facts |= _dependence(floors)
    floors.append(_random_floor(case))
    facts["solved by any shortcut"] = float(is_solved.mean())
    findings = [*check(split.data), *_findings(facts, floors, case)]
    return Diagnosis(
        split.data.name,
        part,
        facts,
        floors,
        sorted(findings, key=lambda finding: not finding.wrong),
        time.perf_counter() - started,
    )


class _Case:
    """Data that the steps share: training sequences, and a sample of users with their targets."""

    def __init__(self, split: Split, part: str, run: Run) -> None:
        self.split = split
        self.run = run
        self.items = len(split.data.catalogue)
        self.train = split.train.sequences.rows
        queries, targets = split.queries(part)
        sample = np.sort(run.rng("diagnose").permutation(len(queries))[:MOST])
        self.all_targets = targets
        self.histories = queries.histories.take(sample)
        self.targets = targets.take(sample)
        self.relevant = relevant_counts(self.targets.offsets, self.targets.values)
        self.last = _last_items(self.histories)
        self.counts = np.bincount(self.train.values, minlength=self.items)
        self.next = transitions(self.train, self.items, {1: 1.0}, None, run.workers)
        self.words: sp.csr_matrix | None = None  # (N, V) of unit length, where items have words

    def hits_of(self, rows: np.ndarray) -> np.ndarray:
        """Return (U, K) bool: whether lists of item rows (U, K) hold a target at each rank."""
        return hits(rows, self.targets.offsets, self.targets.values)

    def rank_by_history(self, weights: sp.csr_matrix, decay: float = DECAY) -> np.ndarray:
        """Return (U, K) the best items by weights (N, N) summed over a decaying history."""
        lists = []
        for start, stop in blocks(len(self.histories), self.items):
            history = self.histories.slice(start, stop)
            scores = history.decayed_matrix(self.items, decay, 100) @ weights
            lists.append(top_k(scores, K, exclude=history)[0])
        return np.concatenate(lists)

    def rank_by_last(self, weights: sp.csr_matrix) -> np.ndarray:
        """Return (U, K) the items of largest weight after the last one of each history."""
        users = np.flatnonzero(self.last >= 0)
        last_items = sp.csr_matrix(
            (np.ones(len(users), np.float32), (users, self.last[users])),
            shape=(len(self.last), self.items),
        )
        return top_k(last_items @ weights, K, exclude=self.histories)[0]


def _last_items(histories: Ragged) -> np.ndarray:
    """Return (U,) the last item row of each history, -1 for an empty one."""
    last = np.full(len(histories), -1, dtype=np.int64)
    has_history: np.ndarray = histories.lengths > 0
    last[has_history] = histories.values[histories.offsets[1:][has_history] - 1]
    return last


# ---- figures


def _sizes(case: _Case) -> Facts:
    """Return sizes of the data set and the share of targets never learned from."""
    statistics = stats(case.split.data)
    names = {
        "users": "users",
        "items": "items",
        "events": "events",
        "repeats": "repeats_share",
        "exact duplicates": "exact_duplicates",
        "tied times": "tied_times_share",
        "targets decided by a tie": "tied_last_share",
    }
    is_unlearned = case.counts[case.all_targets.values] == 0
    return {
        **{name: statistics[key] for name, key in names.items()},
        "events a user (median)": statistics["events_per_user"]["median"],
        "held by the top tenth of items": statistics["top_items_share"],
        "targets of items not in training": float(is_unlearned.mean()),
    }


def _next_items(case: _Case) -> Facts:
    """Return the branching of sequences, and how many steps occur again.

    Branching is exp(entropy of the next item given the last one), a number of equally likely items.
    """
    counts = case.next
    if not counts.nnz:
        return {"branching": None, "steps seen once": None, "test steps seen in training": None}
    total = counts.data.sum()
    row_totals = np.asarray(counts.sum(axis=1)).ravel()
    shares = counts.data / np.repeat(row_totals, np.diff(counts.indptr))
    entropy = float(-(counts.data * np.log(shares)).sum() / total)
    steps = sp.csr_matrix(counts, copy=True)
    steps.sort_indices()
    has_last = case.last >= 0
    seen_share = None
    if has_last.any():
        first_targets = case.targets.values[case.targets.offsets[:-1]][has_last]
        times_seen = np.asarray(steps[case.last[has_last], first_targets]).ravel()
        seen_share = float((times_seen > 0).mean())
    return {
        "branching": float(np.exp(entropy)),
        "steps seen once": float((counts.data == 1).sum() / total),
        "test steps seen in training": seen_share,
    }


def _texts(case: _Case) -> Facts:
    """Return feature smoothness: cosine of the words of neighbours, and of random pairs."""
    texts = case.split.data.item_texts
    if not any(text.strip() for text in texts):
        return {"text likeness of next items": None, "text likeness of any two items": None}
    case.words = rare_word_vectors(texts, 0.1)
    first, second = case.next.nonzero()
    rng = case.run.rng("diagnose", "pairs")
    if len(first) > PAIRS:
        sample = rng.choice(len(first), PAIRS, replace=False)
        first = first[sample]
        second = second[sample]
    random_pairs = rng.integers(0, case.items, (2, PAIRS))
    return {
        "text likeness of next items": _mean_cosine(case.words, first, second),
        "text likeness of any two items": _mean_cosine(case.words, *random_pairs),
    }


def _mean_cosine(words: sp.csr_matrix, first: np.ndarray, second: np.ndarray) -> float | None:
    """Return the mean cosine over pairs (p,) of different items; None without any."""
    differs = first != second
    if not differs.any():
        return None
    products = words[first[differs]].multiply(words[second[differs]])
    return float(np.asarray(products.sum(axis=1)).mean())


def _drift(case: _Case) -> Facts:
    """Return the rank correlation of popularity in the two halves of the training time."""
    data = case.split.train
    if not data.has_times or len(data.events) < 2:
        return {"popularity kept over time": None}
    rows = data.sequences.rows.values
    # the events table is in order of time
    is_late = data.sequences.events >= len(rows) // 2
    early_counts = np.bincount(rows[~is_late], minlength=case.items).astype(float)
    late_counts = np.bincount(rows[is_late], minlength=case.items).astype(float)
    has_events = early_counts + late_counts > 0
    correlation = rank_correlation(early_counts[has_events], late_counts[has_events])
    return {"popularity kept over time": correlation}


# ---- shortcuts


def _floor(name: str, is_hit: np.ndarray, relevant: np.ndarray) -> Floor:
    """Return the accuracy of a shortcut from its hits (U, K)."""
    is_solved = is_hit.any(axis=1)
    low, high = wilson(int(is_solved.sum()), len(is_hit))
    mean_ndcg = float(np.nanmean(ndcg(is_hit, relevant, K)))
    return Floor(name, float(is_solved.mean()), low, high, mean_ndcg, len(is_hit))


def _shortcuts(case: _Case, facts: Facts) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and hits (U, K) of every shortcut that the data allow."""
    yield "most popular", case.hits_of(_most_popular(case, case.counts))
    if case.split.train.has_times:
        sequences = case.split.train.sequences
        is_recent = sequences.events >= 0.9 * len(case.train.values)
        counts = np.bincount(sequences.rows.values[is_recent], minlength=case.items)
        yield "most popular lately", case.hits_of(_most_popular(case, counts))
    if facts["repeats"]:
        repeats = np.full((len(case.last), K), -1, dtype=np.int32)
        repeats[:, 0] = case.last
        yield "the last item again", case.hits_of(repeats)
    steps = dict.fromkeys(range(1, WINDOW + 1), 1.0)
    window = transitions(case.train, case.items, steps, None, case.run.workers)
    yield "co-visitation", case.hits_of(case.rank_by_history(window))
    yield "co-visitation, last item only", case.hits_of(case.rank_by_last(window))
    shuffled = _shuffle_histories(case.train, case.run.rng("diagnose", "order"))
    shuffled_window = transitions(shuffled, case.items, steps)
    yield "co-visitation, order shuffled", case.hits_of(case.rank_by_last(shuffled_window))
    if case.words is not None:
        rows = _most_similar(case, case.words)
        yield "most similar text to the last item", case.hits_of(rows)
    numbers = _numeric_ids(case)
    if numbers is not None:
        yield "the ten ids after the history's largest", case.hits_of(_next_ids(case, numbers))


def _most_popular(case: _Case, counts: np.ndarray) -> np.ndarray:
    """Return (U, K) the items of largest count (N,) that are not in the history."""
    longest = int(case.histories.lengths.max(initial=0))
    depth = min(K + longest, DEEPEST, int((counts > 0).sum()))
    best = np.argsort(-counts, kind="stable")[:depth]
    order = np.full(case.items, -1, dtype=np.int64)
    order[best] = np.arange(depth)
    history_order = order[case.histories.values]
    is_best = history_order >= 0
    is_allowed = np.ones((len(case.histories), depth), dtype=bool)
    is_allowed[case.histories.row_ids[is_best], history_order[is_best]] = False
    first = np.argsort(~is_allowed, axis=1, kind="stable")[:, :K]
    is_item = np.take_along_axis(is_allowed, first, 1)
    return np.where(is_item, best[first], -1).astype(np.int32)


def _shuffle_histories(rows: Ragged, rng: np.random.Generator) -> Ragged:
    """Return the same histories with their items in random order."""
    order = np.lexsort((rng.random(len(rows.values)), rows.row_ids))
    return rows.with_values(rows.values[order])


def _most_similar(case: _Case, words: sp.csr_matrix) -> np.ndarray:
    """Return (U, K) the items whose words are most like those of the last item."""
    lists = np.full((len(case.last), K), -1, dtype=np.int32)
    users = np.flatnonzero(case.last >= 0)
    columns = words.T.tocsr()
    for start in range(0, len(users), 500):
        block = users[start : start + 500]
        scores = sp.csr_matrix(words[case.last[block]] @ columns)
        lists[block] = top_k(scores, K, exclude=case.histories.take(block))[0]
    return lists


def _numeric_ids(case: _Case) -> np.ndarray | None:
    """Return (N,) the item ids as numbers, or None unless all are numbers."""
    ids = case.split.data.catalogue.ids
    if not all(item_id.isascii() and item_id.isdigit() and len(item_id) <= 15 for item_id in ids):
        return None
    return np.array([int(item_id) for item_id in ids])


def _next_ids(case: _Case, numbers: np.ndarray) -> np.ndarray:
    """Return (U, K) the rows of the ten ids that follow the largest one of each history."""
    items = len(numbers)
    rows_by_number = np.argsort(numbers)
    order = np.empty(items, dtype=np.int64)
    order[rows_by_number] = np.arange(items)
    largest = np.full(len(case.histories), -1)
    np.maximum.at(largest, case.histories.row_ids, order[case.histories.values])
    following = largest[:, None] + np.arange(1, K + 1)
    exists = (following < items) & (largest >= 0)[:, None]
    rows = rows_by_number[np.minimum(following, items - 1)]
    return np.where(exists, rows, -1).astype(np.int32)


def _random_floor(case: _Case) -> Floor:
    """Return the expected accuracy of random lists of unseen items, by calculation."""
    has_item = case.histories.matrix(case.items) > 0  # once, however often the user chose it
    is_target = case.targets.keep(case.targets.values >= 0).matrix(case.items) > 0
    unseen = case.items - np.asarray(has_item.sum(axis=1)).ravel()
    # targets in the history are in no list of unseen items
    reachable = np.asarray((is_target > has_item).sum(axis=1)).ravel()
    left = unseen[:, None] - np.arange(K)  # unseen items left at each rank
    hit_probability = np.clip(reachable[:, None] / np.maximum(left, 1), 0, 1)
    hit_rates = 1 - np.prod(1 - hit_probability, axis=1)
    discounts = 1 / np.log2(np.arange(2, K + 2))
    discount_sums = ((left > 0) * discounts).sum(axis=1)
    ideal = np.cumsum(discounts)[np.clip(case.relevant, 1, K) - 1]
    ndcgs = reachable / np.maximum(unseen, 1) * discount_sums / ideal
    mean_hit = float(hit_rates.mean())
    return Floor("random", mean_hit, mean_hit, mean_hit, float(ndcgs.mean()), len(hit_rates))


# ---- conclusions


def _dependence(floors: list[Floor]) -> Facts:
    """Return what the whole history adds to the last item, and the order to the set."""
    hit_rate = {floor.name: floor.hit for floor in floors}
    whole = hit_rate["co-visitation"]
    last = hit_rate["co-visitation, last item only"]
    shuffled = hit_rate["co-visitation, order shuffled"]
    return {
        "history beside last item": whole / last if last else None,
        "order beside shuffled": last / shuffled if shuffled else None,
    }


def _findings(facts: Facts, floors: list[Floor], case: _Case) -> Iterator[Finding]:
    """Yield what makes the split a doubtful benchmark."""
    best = max((floor for floor in floors if floor.name != "random"), key=lambda floor: floor.hit)
    if best.hit > SOLVED:
        yield Finding(
            "shortcut",
            False,
            "events",
            round(best.hit * best.users),
            f'"{best.name}" alone puts the target of {best.hit:.1%} of the users in the first ten',
            "report figures on the users it does not solve beside those on all",
            [],
        )
    new_share = facts["targets of items not in training"]
    if new_share and new_share > SOLVED:
        yield Finding(
            "new_targets",
            False,
            "events",
            round(new_share * len(case.all_targets.values)),
            f"{new_share:.1%} of the targets are of items never learned from",
            "most methods cannot name them: use methods that read texts, or another split",
            [],
        )
