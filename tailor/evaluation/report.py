"""What was measured: every user's values, figures of the lists, intervals; and the same as plain
values.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from tailor.errors import DataError, nearest
from tailor.evaluation.significance import bootstrap

SCHEMA = 1  # of Report.to_dict
# in a report, where recommenders have seen items removed or kept: what is judged was given
GIVEN = "given"
FEW = 30  # users of a stratum below which its figures say little
Intervals = dict[str, tuple[float, float]]  # metric -> low and high


@dataclass(frozen=True, eq=False)
class Result:
    """One method's values: per user, and of its lists as a whole."""

    per_user: dict[str, np.ndarray]
    """"NDCG@10" -> (U,); NaN: undefined for that user."""
    lists: dict[str, float]
    """Coverage, gini, novelty in bits, tail share, personalisation, empty (share of users who got
    nothing), short.
    """
    seconds: float
    """Of recommending to all users."""
    trained_on: str
    """"train" or "train+valid" of the split judged on, "other data", or "unknown" for given lists.
    """


@dataclass(frozen=True, eq=False)
class Report:
    """What `evaluate` measured; users stand in the same order in every array."""

    split: dict[str, Any]
    """Kind, hash and what was kept."""
    part: str
    user_ids: list[str]
    strata: dict[str, np.ndarray]
    """Name -> (U,) bool."""
    results: dict[tuple[str, str], Result]
    """(method, "removed" or "kept") -> values."""
    repeat_targets: float
    """Share of targets that the user had seen before: no list without seen items can hold them."""
    ranked: str = "the whole catalogue"
    """Or the label of candidates."""
    reachable: float = 1.0
    """Share of the targets that could be recommended at all."""
    interval: dict[tuple[str, str], Intervals] = field(default_factory=dict)
    seed: int = 0
    """Of the intervals."""

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(name for name, _ in self.results))

    @property
    def metrics(self) -> list[str]:
        return list(next(iter(self.results.values())).per_user)

    @cached_property
    def strata_interval(self) -> dict[tuple[str, str, str], Intervals]:
        """(method, seen, stratum) -> 95 % intervals over the users of each stratum; made when first
        asked for.
        """
        return {
            (*key, name): found
            for name, mask in self.strata.items()
            for key, found in _intervals(self, mask, self.seed).items()
        }

    def mean(
        self, method: str, metric: str, seen: str = "removed", stratum: str | None = None
    ) -> float:
        """The mean over the users for whom the metric is defined; NaN where there are none."""
        values = self.results[method, seen].per_user[metric]
        values = values if stratum is None else values[self.strata[stratum]]
        return mean_of_defined(values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values in the schema of docs/guide/evaluation.md, None where a figure is undefined
        (JSON knows no NaN).
        """
        rows = []
        for (method, seen), result in self.results.items():
            for metric in self.metrics:
                low, high = self.interval[method, seen][metric]
                rows.append(
                    {
                        "method": method,
                        "seen": seen,
                        "metric": metric,
                        "mean": self.mean(method, metric, seen),
                        "low": low,
                        "high": high,
                        "users": int((~np.isnan(result.per_user[metric])).sum()),
                    }
                )
        strata = [
            {
                "method": method,
                "seen": seen,
                "stratum": name,
                "users": int(mask.sum()),
                "metric": metric,
                "mean": self.mean(method, metric, seen, name),
                "low": low,
                "high": high,
            }
            for (method, seen) in self.results
            for name, mask in self.strata.items()
            for metric, (low, high) in self.strata_interval[method, seen, name].items()
        ]
        lists = [
            {
                "method": method,
                "seen": seen,
                "trained_on": result.trained_on,
                "seconds": round(result.seconds, 4),
                **result.lists,
            }
            for (method, seen), result in self.results.items()
        ]
        about = {
            "schema": SCHEMA,
            "split": self.split,
            "part": self.part,
            "users": len(self.user_ids),
            "repeat_targets": self.repeat_targets,
            "ranked": self.ranked,
            "reachable": self.reachable,
            "metrics": rows,
            "strata": strata,
            "lists": lists,
        }
        return cast(dict[str, Any], without_nan(about))


def add_intervals(report: Report, seed: int) -> Report:
    """The same report with 95 % bootstrap intervals of every mean over all users."""
    found = _intervals(report, np.ones(len(report.user_ids), dtype=bool), seed)
    return replace(report, interval=found, seed=seed)


def _intervals(report: Report, mask: np.ndarray, seed: int) -> dict[tuple[str, str], Intervals]:
    columns = [(key, metric) for key in report.results for metric in report.metrics]
    values = np.stack(
        [report.results[key].per_user[metric][mask] for key, metric in columns], axis=1
    )
    out: dict[tuple[str, str], Intervals] = {key: {} for key in report.results}
    for (key, metric), low, high in zip(columns, *bootstrap(values, seed=seed), strict=True):
        out[key][metric] = (float(low), float(high))
    return out


def write_per_user(report: Report, path: Path) -> None:
    """Every user's values as an .npz file: `user_ids`, and "method|seen|metric" -> (U,)."""
    arrays: dict[str, Any] = {
        f"{method}|{seen}|{metric}": values
        for (method, seen), result in report.results.items()
        for metric, values in result.per_user.items()
    }
    np.savez_compressed(path, user_ids=np.array(report.user_ids, dtype=np.str_), **arrays)


def read_per_user(path: Path) -> tuple[list[str], dict[tuple[str, str], dict[str, np.ndarray]]]:
    """User ids, and (method, seen) -> metric -> (U,) values, of a file of `write_per_user`."""
    values: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    with np.load(path, allow_pickle=False) as held:
        for name in held.files:
            if name != "user_ids":
                method, seen, metric = name.rsplit("|", 2)
                values.setdefault((method, seen), {})[metric] = held[name]
        return held["user_ids"].tolist(), values


def mean_of_defined(values: np.ndarray) -> float:
    """Of those that are defined; NaN where none is."""
    return float(np.nanmean(values)) if (~np.isnan(values)).any() else float("nan")


def check_names(what: str, given: Sequence[str], known: Iterable[str]) -> None:
    if isinstance(given, str) or not given:
        raise DataError(f"{what} is {given!r}: give a list of at least one of {', '.join(known)}")
    for one in given:
        if one not in known:
            raise DataError(f"{what} holds {one!r}.{nearest(one, known)}")


def check_depths(k: object) -> None:
    """Raise DataError for what is no list of depths."""
    if (
        not isinstance(k, Sequence)
        or isinstance(k, str)
        or not k
        or not all(isinstance(one, int | np.integer) and one >= 1 for one in k)
    ):
        raise DataError(f"k is {k!r}: give a list of depths, each at least 1, such as (10,)")


def without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_nan(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
