"""The one protocol: full ranking over the whole catalogue, with and without the items already seen, every user's values kept."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import numpy as np

from tailor.base import Method, Recommender, Run, may_hold_targets
from tailor.data.arrays import Ragged
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split
from tailor.errors import DataError, ModelError, nearest
from tailor.evaluation.significance import bootstrap, holm, paired_test
from tailor.metrics.battery import per_user
from tailor.metrics.discovery import long_tail, long_tail_share, personalisation
from tailor.metrics.lists import coverage, gini, novelty
from tailor.metrics.ranking import PER_USER

SCHEMA = 1  # of Report.to_dict
SEEN = ("removed", "kept")


@dataclass(frozen=True, eq=False)
class Result:
    """One method's values: per user, and of its lists as a whole."""

    per_user: dict[str, np.ndarray]  # "NDCG@10" -> (U,); NaN: undefined for that user
    lists: dict[str, float]  # coverage, gini, novelty in bits, tail share, personalisation, empty (share of users who got nothing), short
    seconds: float  # of recommending to all users
    trained_on: str  # "train" or "train+valid" of the split judged on, or "other data"


@dataclass(frozen=True, eq=False)
class Report:
    """What `evaluate` measured; users stand in the same order in every array."""

    split: dict[str, Any]  # kind, hash and what was kept
    part: str
    user_ids: list[str]
    strata: dict[str, np.ndarray]  # name -> (U,) bool
    results: dict[tuple[str, str], Result]  # (method, "removed" or "kept") -> values
    repeat_targets: float  # share of targets that the user had seen before: no list without seen items can hold them
    interval: dict[tuple[str, str], dict[str, tuple[float, float]]] = field(default_factory=dict)

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(name for name, _ in self.results))

    @property
    def metrics(self) -> list[str]:
        return list(next(iter(self.results.values())).per_user)

    def mean(self, method: str, metric: str, seen: str = "removed", stratum: str | None = None) -> float:
        """The mean over the users for whom the metric is defined; NaN where there are none."""
        values = self.results[method, seen].per_user[metric]
        values = values if stratum is None else values[self.strata[stratum]]
        return _mean(values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values in the schema of docs/guide/evaluation.md, None where a figure is undefined (JSON knows no NaN)."""
        rows = []
        for (method, seen), result in self.results.items():
            for metric in self.metrics:
                low, high = self.interval[method, seen][metric]
                rows.append({"method": method, "seen": seen, "metric": metric, "mean": self.mean(method, metric, seen), "low": low, "high": high,
                             "users": int((~np.isnan(result.per_user[metric])).sum())})  # fmt: skip
        strata = [{"method": method, "seen": seen, "stratum": name, "users": int(mask.sum()), "metric": metric,
                   "mean": self.mean(method, metric, seen, name)}
                  for (method, seen) in self.results for name, mask in self.strata.items() for metric in self.metrics]  # fmt: skip
        lists = [{"method": method, "seen": seen, "trained_on": result.trained_on, "seconds": round(result.seconds, 4), **result.lists}
                 for (method, seen), result in self.results.items()]  # fmt: skip
        about = {"schema": SCHEMA, "split": self.split, "part": self.part, "users": len(self.user_ids),
                 "repeat_targets": self.repeat_targets, "metrics": rows, "strata": strata, "lists": lists}  # fmt: skip
        return cast(dict[str, Any], _without_nan(about))


def evaluate(
    methods: Recommender | Mapping[str, Recommender],
    split: Split,
    part: str = "test",
    k: Sequence[int] = (10,),
    metrics: Sequence[str] = ("HR", "NDCG"),
    seen: Sequence[str] = SEEN,
    run: Run = Run(),  # noqa: B008 (frozen)
) -> Report:
    """Measure fitted recommenders on the users of a split's part ("test", or "valid" while settings are chosen).

    The whole catalogue is ranked, once with the items of the user's history removed and once with them kept; lists too
    short count as misses. Raises ModelError for a method that learned from the events it would be judged by.
    """
    named = {methods.name: methods} if isinstance(methods, Recommender) else dict(methods)
    if not named:
        raise DataError("there is no method to evaluate")
    if isinstance(k, int) or not k or min(k) < 1:
        raise DataError(f"k is {k!r}: give a list of depths, each at least 1, such as (10,)")
    _known("metrics", metrics, PER_USER)
    _known("seen", seen, SEEN)
    for method in named.values():
        refuse_seen_targets(method, split, part)
    queries, targets = split.queries(part)
    known = item_users(split)
    learned_users = int((split.train.sequences.rows.lengths > 0).sum())
    results: dict[tuple[str, str], Result] = {}
    jobs = [(name, how) for name in named for how in seen]
    for name, how in run.progress(jobs, "evaluating", len(jobs)):
        asked = queries.without_history() if how == "removed" else queries
        started = time.perf_counter()
        lists = cast(Rankings, named[name].recommend(asked, max(k)))
        seconds = time.perf_counter() - started
        values = per_user(_rows_in_place(lists, queries), targets.offsets, targets.values, k, metrics)
        of_lists = _of_lists(lists.over(queries.catalogue), lists.lengths, known, learned_users, max(k))
        results[name, how] = Result(values, of_lists, seconds, _trained_on(named[name], split))
    report = Report({name: value for name, value in split.report.items() if name != "cuts_ms"}, part, queries.user_ids.tolist(),
                    strata(split, queries, targets), results, _repeat_share(queries, targets.owners, targets.values))  # fmt: skip
    for key, result in results.items():
        low, high = bootstrap(np.stack(list(result.per_user.values()), axis=1), seed=run.seed)
        report.interval[key] = {metric: (float(a), float(b)) for metric, a, b in zip(report.metrics, low, high, strict=True)}
    return report


def _known(what: str, given: Sequence[str], known: Iterable[str]) -> None:
    if isinstance(given, str) or not given:
        raise DataError(f"{what} is {given!r}: give a list of at least one of {', '.join(known)}")
    for one in given:
        if one not in known:
            raise DataError(f"{what} holds {one!r}.{nearest(one, known)}")


def _rows_in_place(lists: Rankings, queries: Queries) -> np.ndarray:
    """(U, K) rows of the queries' catalogue; an item that it does not know leaves its place empty, so that it is a miss."""
    to = lists.catalogue.mapping_to(queries.catalogue)
    return lists.rows if to is None else np.where(lists.rows >= 0, to[lists.rows], -1)


def _trained_on(method: Method, split: Split) -> str:
    return next((one.part for one in method.trained_on_.chain() if one.split_hash == split.hash), "other data")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def refuse_seen_targets(method: Method, split: Split, part: str) -> None:
    """Raise ModelError where a method may have learned from the events of this split's part."""
    method._check_fitted()
    if not may_hold_targets(method.trained_on_, split):
        return  # fitted on other data
    allowed = ("train",) if part == "valid" else ("train", "train+valid")
    parts = [one.part for one in method.trained_on_.chain() if one.split_hash == split.hash]
    if not parts:
        is_whole = method.trained_on_.split_hash is None
        which = "the whole data set" if is_whole else "another split of the same data or of the data it was cut from"
        raise ModelError(f"{method.name} was fitted on {which}, which may hold this split's targets: fit it on this split's train part")
    for seen in parts:
        if seen not in allowed:
            raise ModelError(f'{method.name} was fitted on "{seen}", which holds the {part} targets: fit it on "{allowed[0]}"')


def item_users(split: Split) -> np.ndarray:
    """(N,) number of users of the training part who have each item."""
    rows = split.train.sequences.rows
    pairs = np.unique(rows.owners * len(split.data.catalogue) + rows.values)
    return np.bincount(pairs % max(len(split.data.catalogue), 1), minlength=len(split.data.catalogue))


def strata(split: Split, queries: Queries, targets: Ragged) -> dict[str, np.ndarray]:
    """(U,) masks of users by the length of their history, and by how often their first target was chosen in training.

    Head, middle and tail items hold the top 20 %, the middle 60 % and the last 20 % of the training events.
    """
    lengths = queries.histories.lengths
    out = {"history 0": lengths == 0, "history 1-5": (lengths > 0) & (lengths <= 5), "history 6-20": (lengths > 5) & (lengths <= 20),
           "history 21+": lengths > 20}  # fmt: skip
    counts = np.bincount(split.train.sequences.rows.values, minlength=len(split.data.catalogue))
    order = np.argsort(-counts, kind="stable")
    passed = np.cumsum(counts[order]) / max(counts.sum(), 1)
    group = np.empty(len(counts), dtype=np.int8)
    group[order] = np.searchsorted([0.2, 0.8], passed - counts[order] / max(counts.sum(), 1), side="right")
    group[counts == 0] = 3
    first = targets.values[targets.offsets[:-1]]
    names = ("target head", "target middle", "target tail", "target new")
    out |= {name: group[first] == code for code, name in enumerate(names)}
    return {name: mask for name, mask in out.items() if mask.any()}


def _of_lists(lists: Rankings, lengths: np.ndarray, known: np.ndarray, users: int, k: int) -> dict[str, float]:
    items = len(known)
    bits = novelty(lists.rows, known, users)
    return {"coverage": coverage(lists.rows, items), "gini": gini(lists.rows, items),
            "novelty_bits": _mean(bits), "tail_share": _mean(long_tail_share(lists.rows, long_tail(known))),
            "personalisation": personalisation(lists.rows),
            "empty": float((lengths == 0).mean()), "short": float((lengths < k).mean())}  # fmt: skip


def _mean(values: np.ndarray) -> float:
    """Of those that are defined; NaN where none is."""
    return float(np.nanmean(values)) if (~np.isnan(values)).any() else float("nan")


def _repeat_share(queries: Queries, owners: np.ndarray, targets: np.ndarray) -> float:
    base = max(len(queries.catalogue), 1)
    seen = queries.histories.owners * base + queries.histories.values
    return round(float(np.isin(owners * base + targets, seen).mean()), 4)


@dataclass(frozen=True)
class Comparison:
    """The mean difference b - a of two methods over the same users, its interval, and how surely it is not chance."""

    a: str
    b: str
    metric: str
    seen: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    wins: int  # users for whom b is better
    losses: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return cast(dict[str, Any], _without_nan(asdict(self)))

    @property
    def is_significant(self) -> bool:
        return self.p_holm < 0.05


def compare(report: Report, baseline: str, metrics: Sequence[str] | None = None, seen: str = "removed", seed: int = 0) -> list[Comparison]:
    """Every other method against `baseline`, paired per user, p-values corrected by Holm over all comparisons made here.

    Raises DataError where some learned from "train" and others from "train+valid": more data is no better method.
    """
    if baseline not in report.methods:
        raise DataError(f'no method "{baseline}" in this report; it has {", ".join(report.methods)}')
    _known("metrics", report.metrics if metrics is None else metrics, report.metrics)
    _known("seen", (seen,), dict.fromkeys(how for _, how in report.results))
    learned = {result.trained_on for result in report.results.values()} - {"other data"}
    if len(learned) > 1:
        raise DataError(f"some methods were trained on {' and some on '.join(sorted(learned))}: fit all on the same part to compare them")
    rows = []
    for metric in metrics or report.metrics:
        base = report.results[baseline, seen].per_user[metric]
        for method in report.methods:
            if method != baseline:
                values = report.results[method, seen].per_user[metric]
                low, high = bootstrap((values - base)[:, None], seed=seed)
                rows.append((method, metric, values - base, low[0], high[0], paired_test(values, base, seed=seed)))
    adjusted = holm([row[-1] for row in rows])
    return [Comparison(baseline, method, metric, seen, float(np.nanmean(d)), float(low), float(high), p, float(p_holm),
                       int((d > 0).sum()), int((d < 0).sum()))
            for (method, metric, d, low, high, p), p_holm in zip(rows, adjusted, strict=True)]  # fmt: skip
