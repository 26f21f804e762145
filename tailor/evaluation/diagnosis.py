"""What a data set and its split can measure: how far next items can be foreseen, which shortcuts
solve the test, what leaks.
"""

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
MOST = 10_000  # users whom floors are measured on
DEEPEST = 2_000  # popular items looked at for somebody who knows many of them
WINDOW, DECAY = 5, 0.5  # of co-visitation, as in the floors of docs/guide/evaluation.md
PAIRS = 50_000  # of random items, to which neighbours in histories are compared
SOLVED = 0.5  # share of users that one shortcut may solve before a benchmark measures little else


@dataclass(frozen=True)
class Floor:
    """What a way of answering that understands nothing reaches: share of users whose target is
    among the first ten, and NDCG@10.
    """

    name: str
    hit: float
    low: float
    """95 % interval of the hits (Wilson); of random lists, by calculation, the same."""
    high: float
    ndcg: float
    users: int


@dataclass(frozen=True)
class Diagnosis:
    """Figures, floors and findings of one split; `facts` that the data do not allow are None."""

    name: str
    part: str
    facts: dict[str, float | None]
    floors: list[Floor]
    findings: list[Finding]
    seconds: float

    @property
    def wrong(self) -> list[Finding]:
        return [one for one in self.findings if one.wrong]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        about = {
            "name": self.name,
            "part": self.part,
            "facts": self.facts,
            "floors": [asdict(one) for one in self.floors],
            "findings": [one.to_dict() for one in self.findings],
            "seconds": round(self.seconds, 2),
        }
        return dict(without_nan(about))


def diagnose(split: Split, part: str = "test", run: Run = Run()) -> Diagnosis:
    """Measure everything on the users of a split's part, with seen items removed; floors on at most
    10,000 users, drawn by the run's seed.

    Raises DataError where the part has no users.
    """
    started = time.perf_counter()
    case = _Case(split, part, run)
    steps = [("sizes", _sizes), ("next items", _next_items), ("texts", _texts), ("drift", _drift)]
    facts: dict[str, float | None] = {}
    for _, step in run.progress(steps, "diagnosing", len(steps)):
        facts |= step(case)
    solved: dict[str, np.ndarray] = {}
    floors = []
    for name, found in _answers(case, facts):
        solved[name] = np.asarray(found.any(axis=1))
        low, high = wilson(int(solved[name].sum()), len(found))
        floors.append(
            Floor(
                name,
                float(solved[name].mean()),
                low,
                high,
                float(np.nanmean(ndcg(found, case.relevant, K))),
                len(found),
            )
        )
    facts |= _dependence(floors)
    floors.append(_chance(case))
    facts["solved by any shortcut"] = float(np.stack(list(solved.values())).any(axis=0).mean())
    findings = [*check(split.data), *_judged(facts, floors, case)]
    return Diagnosis(
        split.data.name,
        part,
        facts,
        floors,
        sorted(findings, key=lambda one: not one.wrong),
        time.perf_counter() - started,
    )


class _Case:
    """What the steps share: training sequences, and the queries, last items and targets of the
    users measured on.
    """

    def __init__(self, split: Split, part: str, run: Run) -> None:
        self.split, self.run, self.items = split, run, len(split.data.catalogue)
        self.train = split.train.sequences.rows
        queries, targets = split.queries(part)
        self.all_targets = targets
        some = np.sort(run.rng("diagnose").permutation(len(queries))[:MOST])
        self.histories, self.targets = queries.histories.take(some), targets.take(some)
        self.relevant = relevant_counts(self.targets.offsets, self.targets.values)
        known: np.ndarray = self.histories.lengths > 0
        self.last = np.full(len(some), -1, dtype=np.int64)
        self.last[known] = self.histories.values[self.histories.offsets[1:][known] - 1]
        self.counts = np.bincount(self.train.values, minlength=self.items)
        self.next = transitions(self.train, self.items, {1: 1.0}, None, run.workers)
        self.words: sp.csr_matrix | None = None  # (N, V) of unit length, where items have words

    def found(self, rows: np.ndarray) -> np.ndarray:
        """(U, K) bool: where the targets stand in lists of item rows."""
        return hits(rows, self.targets.offsets, self.targets.values)

    def by_weights(self, weights: sp.csr_matrix, decay: float = DECAY) -> np.ndarray:
        """(U, K) the best items by the sum of rows of `weights` over a fading history."""
        out = []
        for start, stop in blocks(len(self.histories), self.items):
            history = self.histories.slice(start, stop)
            scores = history.decayed_matrix(self.items, decay, 100) @ weights
            out.append(top_k(scores, K, exclude=history)[0])
        return np.concatenate(out)

    def after_last(self, weights: sp.csr_matrix) -> np.ndarray:
        """(U, K) the items of largest weight after the last one of each history."""
        known = self.last >= 0
        rows = sp.csr_matrix(
            (np.ones(known.sum(), np.float32), (np.flatnonzero(known), self.last[known])),
            shape=(len(self.last), self.items),
        )
        return top_k(rows @ weights, K, exclude=self.histories)[0]


def _sizes(case: _Case) -> dict[str, float | None]:
    found = stats(case.split.data)
    names = {
        "users": "users",
        "items": "items",
        "events": "events",
        "repeats": "repeats_share",
        "exact duplicates": "exact_duplicates",
        "tied times": "tied_times_share",
        "targets decided by a tie": "tied_last_share",
    }
    learned = case.counts > 0
    targets = case.all_targets.values
    return {
        **{name: found[key] for name, key in names.items()},
        "events a user (median)": found["events_per_user"]["median"],
        "held by the top tenth of items": found["top_items_share"],
        "targets of items not in training": float((~learned[targets]).mean()),
    }


def _next_items(case: _Case) -> dict[str, float | None]:
    """How many items could come next: e to the entropy of what followed an item, over all steps;
    and how much of it is seen twice.
    """
    counts = case.next
    if not counts.nnz:
        return {"branching": None, "steps seen once": None, "test steps seen in training": None}
    totals = np.asarray(counts.sum(axis=1)).ravel()
    p = counts.data / np.repeat(totals, np.diff(counts.indptr))
    entropy = float(-(counts.data * np.log(p)).sum() / counts.data.sum())
    steps = sp.csr_matrix(counts, copy=True)
    steps.sort_indices()
    known = case.last >= 0
    first = case.targets.values[case.targets.offsets[:-1]][known]
    seen = np.asarray(steps[case.last[known], first]).ravel() > 0 if known.any() else np.zeros(0)
    return {
        "branching": float(np.exp(entropy)),
        "steps seen once": float((counts.data == 1).sum() / counts.data.sum()),
        "test steps seen in training": float(seen.mean()) if len(seen) else None,
    }


def _texts(case: _Case) -> dict[str, float | None]:
    """Feature smoothness: the cosine of the words of items that follow one another, beside that of
    any two.
    """
    texts = case.split.data.item_texts
    if not any(text.strip() for text in texts):
        return {"text likeness of next items": None, "text likeness of any two items": None}
    case.words = rare_word_vectors(texts, 0.1)
    here, there = case.next.nonzero()
    rng = case.run.rng("diagnose", "pairs")
    if len(here) > PAIRS:
        picked = rng.choice(len(here), PAIRS, replace=False)
        here, there = here[picked], there[picked]
    any_two = rng.integers(0, case.items, (2, PAIRS))
    return {
        "text likeness of next items": _likeness(case.words, here, there),
        "text likeness of any two items": _likeness(case.words, *any_two),
    }


def _likeness(words: sp.csr_matrix, a: np.ndarray, b: np.ndarray) -> float | None:
    apart = a != b
    return (
        float(np.asarray(words[a[apart]].multiply(words[b[apart]]).sum(axis=1)).mean())
        if apart.any()
        else None
    )


def _drift(case: _Case) -> dict[str, float | None]:
    """Whether what is popular stays so: rank correlation of the items' events in the two halves of
    the training time.
    """
    data = case.split.train
    if not data.has_times or len(data.events) < 2:
        return {"popularity kept over time": None}
    rows, events = data.sequences.rows.values, data.sequences.events
    late = np.empty(len(rows), dtype=bool)
    late[:] = events >= len(rows) // 2  # the events table stands in order of time
    halves = [np.bincount(rows[part], minlength=case.items) for part in (~late, late)]
    seen = (halves[0] + halves[1]) > 0
    return {
        "popularity kept over time": rank_correlation(
            halves[0][seen].astype(float), halves[1][seen].astype(float)
        )
    }


# ---- floors


def _answers(case: _Case, facts: dict[str, float | None]) -> Iterator[tuple[str, np.ndarray]]:
    """Name and (U, K) hits of every shortcut the data allow."""
    yield "most popular", case.found(_popular(case, case.counts))
    if case.split.train.has_times:
        lately = case.split.train.sequences.rows.values[
            case.split.train.sequences.events >= 0.9 * len(case.train.values)
        ]
        yield (
            "most popular lately",
            case.found(_popular(case, np.bincount(lately, minlength=case.items))),
        )
    if facts["repeats"]:
        yield (
            "the last item again",
            case.found(np.where(np.arange(K) == 0, case.last[:, None], -1).astype(np.int32)),
        )
    window = transitions(
        case.train, case.items, {step: 1.0 for step in range(1, WINDOW + 1)}, None, case.run.workers
    )
    yield "co-visitation", case.found(case.by_weights(window))
    yield "co-visitation, last item only", case.found(case.after_last(window))
    shuffled = case.train.with_values(_shuffled(case.train, case.run.rng("diagnose", "order")))
    yield (
        "co-visitation, order shuffled",
        case.found(
            case.after_last(
                transitions(shuffled, case.items, {step: 1.0 for step in range(1, WINDOW + 1)})
            )
        ),
    )
    if case.words is not None:
        yield "most similar text to the last item", case.found(_similar(case, case.words))
    numbers = _numbers(case)
    if numbers is not None:
        rows = _next_ids(case, numbers)
        yield "the ten ids after the history's largest", case.found(rows)


def _popular(case: _Case, counts: np.ndarray) -> np.ndarray:
    """(U, K) the items of most events that are not in the history."""
    longest = int(case.histories.lengths.max(initial=0))
    best = np.argsort(-counts, kind="stable")[: min(K + longest, DEEPEST, int((counts > 0).sum()))]
    place = np.full(case.items, -1, dtype=np.int64)
    place[best] = np.arange(len(best))
    allowed = np.ones((len(case.histories), len(best)), dtype=bool)
    known = place[case.histories.values] >= 0
    allowed[case.histories.row_ids[known], place[case.histories.values[known]]] = False
    first = np.argsort(~allowed, axis=1, kind="stable")[:, :K]
    return np.where(np.take_along_axis(allowed, first, 1), best[first], -1).astype(np.int32)


def _shuffled(rows: Ragged, rng: np.random.Generator) -> np.ndarray:
    return rows.values[np.lexsort((rng.random(len(rows.values)), rows.row_ids))]


def _similar(case: _Case, words: sp.csr_matrix) -> np.ndarray:
    out = np.full((len(case.last), K), -1, dtype=np.int32)
    known, columns = np.flatnonzero(case.last >= 0), words.T.tocsr()
    for start in range(0, len(known), 500):
        some = known[start : start + 500]
        scores = sp.csr_matrix(words[case.last[some]] @ columns)
        out[some] = top_k(scores, K, exclude=case.histories.take(some))[0]
    return out


def _numbers(case: _Case) -> np.ndarray | None:
    """(N,) the ids as numbers, where all are."""
    ids = case.split.data.catalogue.ids
    return (
        np.array([int(one) for one in ids])
        if all(one.isascii() and one.isdigit() and len(one) <= 15 for one in ids)
        else None
    )


def _next_ids(case: _Case, numbers: np.ndarray) -> np.ndarray:
    """(U, K) the rows of the ten ids that follow the largest of each history."""
    order = np.argsort(numbers)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    largest = np.full(len(case.histories), -1)
    np.maximum.at(largest, case.histories.row_ids, place[case.histories.values])
    after = largest[:, None] + np.arange(1, K + 1)
    return np.where(
        (after < len(order)) & (largest >= 0)[:, None], order[np.minimum(after, len(order) - 1)], -1
    ).astype(np.int32)


def _chance(case: _Case) -> Floor:
    """What random lists of unseen items reach on average, by calculation."""
    had = case.histories.matrix(case.items) > 0  # once, however often somebody chose it
    wanted = case.targets.keep(case.targets.values >= 0).matrix(case.items) > 0
    unseen = case.items - np.asarray(had.sum(axis=1)).ravel()
    # what is asked for again is in no list of unseen items
    found = np.asarray((wanted > had).sum(axis=1)).ravel()
    left = unseen[:, None] - np.arange(K)
    hit = 1 - np.prod(1 - np.clip(found[:, None] / np.maximum(left, 1), 0, 1), axis=1)
    discounts = 1 / np.log2(np.arange(2, K + 2))
    shown = ((left > 0) * discounts).sum(axis=1)
    gain = (
        found
        / np.maximum(unseen, 1)
        * shown
        / np.cumsum(discounts)[np.clip(case.relevant, 1, K) - 1]
    )
    mean = float(hit.mean())
    return Floor("random", mean, mean, mean, float(gain.mean()), len(hit))


# ---- what follows


def _dependence(floors: list[Floor]) -> dict[str, float | None]:
    """How much the whole history says beside the last item, and the order beside the set."""
    hit = {floor.name: floor.hit for floor in floors}
    whole, last, shuffled = (
        hit[f"co-visitation{more}"] for more in ("", ", last item only", ", order shuffled")
    )
    return {
        "history beside last item": whole / last if last else None,
        "order beside shuffled": last / shuffled if shuffled else None,
    }


def _judged(facts: dict[str, float | None], floors: list[Floor], case: _Case) -> Iterator[Finding]:
    best = max((one for one in floors if one.name != "random"), key=lambda one: one.hit)
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
    overlap = facts["targets of items not in training"]
    if overlap and overlap > SOLVED:
        yield Finding(
            "new_targets",
            False,
            "events",
            round(overlap * len(case.all_targets.values)),
            f"{overlap:.1%} of the targets are of items never learned from",
            "most methods cannot name them: use methods that read texts, or another split",
            [],
        )
