"""The one protocol: full ranking over the whole catalogue, with and without the items already seen,
every user's values kept.
"""

import time
from collections.abc import Mapping, Sequence

import numpy as np

from tailor.core.methods import Method, Recommender, may_hold_targets
from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split
from tailor.errors import DataError, ModelError
from tailor.evaluation.comparing import Comparison, compare, joined
from tailor.evaluation.report import (
    Report,
    Result,
    known_depths,
    known_names,
    mean_of_defined,
    with_intervals,
)
from tailor.evaluation.runs import Candidates, GivenLists
from tailor.metrics.battery import per_user
from tailor.metrics.discovery import long_tail, long_tail_share, personalisation
from tailor.metrics.lists import coverage, gini, novelty
from tailor.metrics.ranking import PER_USER, hits

SEEN = ("removed", "kept")
# what people ask for together
__all__ = ["Comparison", "Report", "Result", "compare", "evaluate", "joined", "refuse_seen_targets"]


def evaluate(
    methods: Recommender | Mapping[str, Recommender | GivenLists],
    split: Split,
    part: str = "test",
    k: Sequence[int] = (10,),
    metrics: Sequence[str] = ("HR", "NDCG"),
    seen: Sequence[str] = SEEN,
    run: Run = Run(),
    candidates: Candidates | None = None,
) -> Report:
    """Measure fitted recommenders on the users of a split's part ("test", or "valid" while settings
    are chosen).

    The whole catalogue is ranked, once with the items of the user's history removed and once with
    them kept; lists too short count as misses. `candidates` (`given.candidates_of`, `sampled`,
    `only_new_items`) restricts what may be chosen, and the report says so. `GivenLists` are judged
    as they are. Raises ModelError for a method that learned from the events it would be judged by.
    """
    named = {methods.name: methods} if isinstance(methods, Recommender) else dict(methods)
    if not named:
        raise DataError("there is no method to evaluate")
    known_depths(k)
    known_names("metrics", metrics, PER_USER)
    known_names("seen", seen, SEEN)
    for method in named.values():
        if isinstance(method, Recommender):
            refuse_seen_targets(method, split, part)
    queries, targets = split.queries(part)
    given = None if candidates is None else candidates.over(queries)
    known = item_users(split)
    learned_users = int((split.train.sequences.rows.lengths > 0).sum())
    results: dict[tuple[str, str], Result] = {}
    jobs = [(name, how) for name in named for how in seen]
    for name, how in run.progress(jobs, "evaluating", len(jobs)):
        asked = queries.without_history() if how == "removed" else queries
        started = time.perf_counter()
        lists = _answer(named[name], asked, max(k), given)
        seconds = time.perf_counter() - started
        values = per_user(
            _rows_in_place(lists, queries), targets.offsets, targets.values, k, metrics
        )
        of_lists = _of_lists(
            lists.reindexed(queries.catalogue), lists.lengths, known, learned_users, max(k)
        )
        results[name, how] = Result(values, of_lists, seconds, trained_on(named[name], split))
    report = Report(
        {name: value for name, value in split.report.items() if name != "cuts_ms"},
        part,
        queries.user_ids.tolist(),
        strata(split, queries, targets),
        results,
        _repeat_share(queries, targets.row_ids, targets.values),
        "the whole catalogue" if candidates is None else candidates.label,
        _reachable(given, targets),
    )
    return with_intervals(report, run.seed)


def _answer(
    method: Recommender | GivenLists, queries: Queries, k: int, candidates: Rankings | None
) -> Rankings:
    if isinstance(method, Recommender):
        return method.recommend(queries, k, candidates)
    if candidates is not None:
        raise DataError(
            "lists that were made elsewhere cannot be restricted to candidates: give methods, or"
            " judge the lists as they are"
        )
    return method.answer(queries, k)


def _reachable(candidates: Rankings | None, targets: Ragged) -> float:
    """Share of the targets that stand among the candidates."""
    if candidates is None:
        return 1.0
    found = hits(candidates.rows, targets.offsets, targets.values)
    return round(float(found.sum() / max(len(targets.values), 1)), 4)


def _rows_in_place(lists: Rankings, queries: Queries) -> np.ndarray:
    """(U, K) rows of the queries' catalogue; an item that it does not know leaves its place empty,
    so that it is a miss.
    """
    to = lists.catalogue.mapping_to(queries.catalogue)
    return lists.rows if to is None else np.where(lists.rows >= 0, to[lists.rows], -1)


def trained_on(method: Method | GivenLists, split: Split) -> str:
    if isinstance(method, GivenLists):
        return "unknown"
    return next(
        (one.part for one in method.trained_on_.chain() if one.split_hash == split.hash),
        "other data",
    )


def refuse_seen_targets(method: Method, split: Split, part: str) -> None:
    """Raise ModelError where a method may have learned from the events of this split's part."""
    method._check_fitted()
    if not may_hold_targets(method.trained_on_, split):
        return  # fitted on other data
    allowed = ("train",) if part == "valid" else ("train", "train+valid")
    parts = [one.part for one in method.trained_on_.chain() if one.split_hash == split.hash]
    if not parts:
        is_whole = method.trained_on_.split_hash is None
        which = (
            "the whole data set"
            if is_whole
            else "another split of the same data or of the data it was cut from"
        )
        raise ModelError(
            f"{method.name} was fitted on {which}, which may hold this split's targets: fit it on"
            " this split's train part"
        )
    for seen in parts:
        if seen not in allowed:
            raise ModelError(
                f'{method.name} was fitted on "{seen}", which holds the {part} targets: fit it on'
                f' "{allowed[0]}"'
            )


def item_users(split: Split) -> np.ndarray:
    """(N,) number of users of the training part who have each item."""
    rows = split.train.sequences.rows
    pairs = np.unique(rows.row_ids * len(split.data.catalogue) + rows.values)
    return np.bincount(
        pairs % max(len(split.data.catalogue), 1), minlength=len(split.data.catalogue)
    )


def by_history(lengths: np.ndarray) -> dict[str, np.ndarray]:
    """(U,) masks of users by how many events (U,) they have."""
    return {
        "history 0": lengths == 0,
        "history 1-5": (lengths > 0) & (lengths <= 5),
        "history 6-20": (lengths > 5) & (lengths <= 20),
        "history 21+": lengths > 20,
    }


def strata(split: Split, queries: Queries, targets: Ragged) -> dict[str, np.ndarray]:
    """(U,) masks of users by the length of their history, and by how often their first target was
    chosen in training.

    Head, middle and tail items hold the top 20 %, the middle 60 % and the last 20 % of the training
    events.
    """
    lengths = queries.histories.lengths
    out = by_history(lengths)
    counts = np.bincount(split.train.sequences.rows.values, minlength=len(split.data.catalogue))
    order = np.argsort(-counts, kind="stable")
    passed = np.cumsum(counts[order]) / max(counts.sum(), 1)
    group = np.empty(len(counts), dtype=np.int8)
    group[order] = np.searchsorted(
        [0.2, 0.8], passed - counts[order] / max(counts.sum(), 1), side="right"
    )
    group[counts == 0] = 3
    first = targets.values[targets.offsets[:-1]]
    names = ("target head", "target middle", "target tail", "target new")
    out |= {name: group[first] == code for code, name in enumerate(names)}
    return {name: mask for name, mask in out.items() if mask.any()}


def _of_lists(
    lists: Rankings, lengths: np.ndarray, known: np.ndarray, users: int, k: int
) -> dict[str, float]:
    items = len(known)
    bits = novelty(lists.rows, known, users)
    return {
        "coverage": coverage(lists.rows, items),
        "gini": gini(lists.rows, items),
        "novelty_bits": mean_of_defined(bits),
        "tail_share": mean_of_defined(long_tail_share(lists.rows, long_tail(known))),
        "personalisation": personalisation(lists.rows),
        "empty": float((lengths == 0).mean()),
        "short": float((lengths < k).mean()),
    }


def _repeat_share(queries: Queries, owners: np.ndarray, targets: np.ndarray) -> float:
    base = max(len(queries.catalogue), 1)
    seen = queries.histories.row_ids * base + queries.histories.values
    return round(float(np.isin(owners * base + targets, seen).mean()), 4)
