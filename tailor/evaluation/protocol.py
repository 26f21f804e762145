"""Evaluate recommenders by full ranking, with and without the items already seen."""

import time
from collections.abc import Mapping, Sequence

import numpy as np

from tailor.core.methods import Method, Recommender, may_hold_targets
from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split
from tailor.errors import DataError, ModelError
from tailor.evaluation.comparing import Comparison, compare, join_reports
from tailor.evaluation.report import (
    Report,
    Result,
    add_intervals,
    check_depths,
    check_names,
    mean_of_defined,
)
from tailor.evaluation.runs import Candidates, ExternalRun
from tailor.metrics.battery import per_user
from tailor.metrics.discovery import long_tail, long_tail_share, personalisation
from tailor.metrics.lists import coverage, gini, novelty
from tailor.metrics.ranking import PER_USER, hits

SEEN = ("removed", "kept")
# names that are usually imported together
__all__ = [
    "Comparison",
    "Report",
    "Result",
    "compare",
    "evaluate",
    "join_reports",
    "refuse_seen_targets",
]


def evaluate(
    methods: Recommender | Mapping[str, Recommender | ExternalRun],
    split: Split,
    part: str = "test",
    k: Sequence[int] = (10,),
    metrics: Sequence[str] = ("HR", "NDCG"),
    seen: Sequence[str] = SEEN,
    run: Run = Run(),
    candidates: Candidates | None = None,
) -> Report:
    """Measure fitted recommenders on the users of a split's part.

    `part` is "test", or "valid" while settings are chosen. The whole catalogue is ranked, once with
    the items of the user's history removed and once with them kept; lists shorter than k count as
    misses. `candidates` (`runs.candidates_of`, `sampled`, `only_new_items`) restricts what may be
    recommended, and the report says so. An `ExternalRun` is measured as it is. Raises ModelError
    for a method that may have learned from the targets.
    """
    named_methods = _check_arguments(methods, split, part, k, metrics, seen)
    queries, targets = split.queries(part)
    candidate_lists = None if candidates is None else candidates.over(queries)
    users_by_item = item_users(split)
    train_users = int((split.train.sequences.rows.lengths > 0).sum())
    results: dict[tuple[str, str], Result] = {}
    jobs = [(name, treatment) for name in named_methods for treatment in seen]
    for name, treatment in run.progress(jobs, "evaluating", len(jobs)):
        method = named_methods[name]
        asked_queries = queries.without_history() if treatment == "removed" else queries
        depth = _list_depth(method, split, max(k))
        started = time.perf_counter()
        lists = _recommend(method, asked_queries, depth, candidate_lists)
        seconds = time.perf_counter() - started
        item_rows = _rows_by_rank(lists, queries)
        values = per_user(item_rows, targets.offsets, targets.values, k, metrics)
        figures = _list_figures(
            lists.reindexed(queries.catalogue), lists.lengths, users_by_item, train_users, max(k)
        )
        results[name, treatment] = Result(values, figures, seconds, trained_on(method, split))
    report = Report(
        split={name: value for name, value in split.report.items() if name != "cuts_ms"},
        part=part,
        user_ids=queries.user_ids.tolist(),
        strata=strata(split, queries, targets),
        results=results,
        repeat_targets=_repeat_share(queries, targets.row_ids, targets.values),
        ranked="the whole catalogue" if candidates is None else candidates.label,
        reachable=_reachable_share(candidate_lists, targets),
    )
    return add_intervals(report, run.seed)


def _check_arguments(
    methods: Recommender | Mapping[str, Recommender | ExternalRun],
    split: Split,
    part: str,
    k: Sequence[int],
    metrics: Sequence[str],
    seen: Sequence[str],
) -> dict[str, Recommender | ExternalRun]:
    """Return the methods by name, or raise for arguments that cannot be evaluated."""
    if isinstance(methods, Recommender):
        methods = {methods.name: methods}
    if not methods:
        raise DataError("there is no method to evaluate")
    check_depths(k)
    check_names("metrics", metrics, PER_USER)
    check_names("seen", seen, SEEN)
    for method in methods.values():
        if isinstance(method, Recommender):
            refuse_seen_targets(method, split, part)
    return dict(methods)


def _list_depth(method: Recommender | ExternalRun, split: Split, k: int) -> int:
    """Return how long lists can be: at most the catalogue of the split, where that is known."""
    if trained_on(method, split) in ("train", "train+valid"):
        return min(k, len(split.data.catalogue))
    return k


def _recommend(
    method: Recommender | ExternalRun, queries: Queries, k: int, candidates: Rankings | None
) -> Rankings:
    if isinstance(method, Recommender):
        return method.recommend(queries, k, candidates)
    if candidates is not None:
        raise DataError(
            "lists that were made elsewhere cannot be restricted to candidates: give methods, or"
            " judge the lists as they are"
        )
    return method.answer(queries, k)


def _reachable_share(candidates: Rankings | None, targets: Ragged) -> float:
    """Return the share of the targets that are among the candidates."""
    if candidates is None:
        return 1.0
    is_target = hits(candidates.rows, targets.offsets, targets.values)
    return round(float(is_target.sum() / max(len(targets.values), 1)), 4)


def _rows_by_rank(lists: Rankings, queries: Queries) -> np.ndarray:
    """Return (U, K) rows of the queries' catalogue, -1 for items that it lacks.

    An unknown item keeps its rank empty, so that it counts as a miss.
    """
    new_rows = lists.catalogue.mapping_to(queries.catalogue)
    if new_rows is None:
        return lists.rows
    return np.where(lists.rows >= 0, new_rows[lists.rows], -1)


def trained_on(method: Method | ExternalRun, split: Split) -> str:
    """Return the part of this split that a method was fitted on.

    "other data" for a method fitted elsewhere, "unknown" for an external run.
    """
    if isinstance(method, ExternalRun):
        return "unknown"
    parts = _parts_fitted_on(method, split)
    return parts[0] if parts else "other data"


def _parts_fitted_on(method: Method, split: Split) -> list[str]:
    """Return the parts of this split in the chain of data that a method was fitted on."""
    return [origin.part for origin in method.trained_on_.chain() if origin.split_hash == split.hash]


def refuse_seen_targets(method: Method, split: Split, part: str) -> None:
    """Raise ModelError where a method may have learned from the events of this split's part."""
    method._check_fitted()
    if not may_hold_targets(method.trained_on_, split):
        return  # fitted on other data
    allowed = ("train",) if part == "valid" else ("train", "train+valid")
    parts = _parts_fitted_on(method, split)
    if not parts:
        if method.trained_on_.split_hash is None:
            source = "the whole data set"
        else:
            source = "another split of the same data or of the data it was cut from"
        raise ModelError(
            f"{method.name} was fitted on {source}, which may hold this split's targets: fit it on"
            " this split's train part"
        )
    for fitted_part in parts:
        if fitted_part not in allowed:
            raise ModelError(
                f'{method.name} was fitted on "{fitted_part}", which holds the {part} targets: fit'
                f' it on "{allowed[0]}"'
            )


def item_users(split: Split) -> np.ndarray:
    """Return (N,) users of the training part per item."""
    rows = split.train.sequences.rows
    items = len(split.data.catalogue)
    pairs = np.unique(rows.row_ids * items + rows.values)
    return np.bincount(pairs % max(items, 1), minlength=items)


def by_history(lengths: np.ndarray) -> dict[str, np.ndarray]:
    """Return (U,) masks of users by their number of events (U,)."""
    return {
        "history 0": lengths == 0,
        "history 1-5": (lengths > 0) & (lengths <= 5),
        "history 6-20": (lengths > 5) & (lengths <= 20),
        "history 21+": lengths > 20,
    }


def strata(split: Split, queries: Queries, targets: Ragged) -> dict[str, np.ndarray]:
    """Return (U,) masks of users by length of history and by popularity of the first target.

    Head, middle and tail items hold the top 20 %, the middle 60 % and the last 20 % of the training
    events. Empty strata are left out.
    """
    masks = by_history(queries.histories.lengths)
    counts = np.bincount(split.train.sequences.rows.values, minlength=len(split.data.catalogue))
    order = np.argsort(-counts, kind="stable")
    total = max(counts.sum(), 1)
    share_before = (np.cumsum(counts[order]) - counts[order]) / total
    groups = np.empty(len(counts), dtype=np.int8)
    groups[order] = np.searchsorted([0.2, 0.8], share_before, side="right")
    groups[counts == 0] = 3
    first_targets = targets.values[targets.offsets[:-1]]
    names = ("target head", "target middle", "target tail", "target new")
    masks |= {name: groups[first_targets] == code for code, name in enumerate(names)}
    return {name: mask for name, mask in masks.items() if mask.any()}


def _list_figures(
    lists: Rankings, lengths: np.ndarray, users_by_item: np.ndarray, train_users: int, k: int
) -> dict[str, float]:
    """Return figures of all lists together.

    `lengths` (U,) of the lists before unknown items were dropped; `users_by_item` (N,) and
    `train_users` count users of the training part.
    """
    items = len(users_by_item)
    bits = novelty(lists.rows, users_by_item, train_users)
    tail_shares = long_tail_share(lists.rows, long_tail(users_by_item))
    return {
        "coverage": coverage(lists.rows, items),
        "gini": gini(lists.rows, items),
        "novelty_bits": mean_of_defined(bits),
        "tail_share": mean_of_defined(tail_shares),
        "personalisation": personalisation(lists.rows),
        "empty": float((lengths == 0).mean()),
        "short": float((lengths < k).mean()),
    }


def _repeat_share(queries: Queries, target_users: np.ndarray, targets: np.ndarray) -> float:
    """Return the share of targets that are in the history of their user."""
    items = max(len(queries.catalogue), 1)
    seen_pairs = queries.histories.row_ids * items + queries.histories.values
    return round(float(np.isin(target_users * items + targets, seen_pairs).mean()), 4)
