"""Hold what was measured: every user's values, figures of the lists, intervals, plain values."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from tailor.errors import DataError, nearest
from tailor.evaluation.significance import bootstrap

SCHEMA = 1  # version of Report.to_dict
# stands in a report for "removed" or "kept" where methods order given items
GIVEN = "given"
FEW = 30  # users of a stratum below which its figures say little
Intervals = dict[str, tuple[float, float]]  # metric -> low and high


@dataclass(frozen=True, eq=False)
class Result:
    """Values of one method: per user, and over its lists as a whole."""

    per_user: dict[str, np.ndarray]
    """"NDCG@10" -> (U,); NaN where undefined for that user."""
    lists: dict[str, float]
    """Coverage, gini, novelty in bits, tail share, personalisation, share of empty and of short
    lists.
    """
    seconds: float
    """Time of recommending to all users."""
    trained_on: str
    """"train" or "train+valid" of the evaluated split, "other data", or "unknown" for external
    runs.
    """


@dataclass(frozen=True, eq=False)
class Report:
    """Measurements of `evaluate`; all arrays have the same order of users."""

    split: dict[str, Any]
    """Kind, hash and sizes of the split."""
    part: str
    user_ids: list[str]
    strata: dict[str, np.ndarray]
    """Name -> (U,) bool."""
    results: dict[tuple[str, str], Result]
    """(method, "removed" or "kept") -> values."""
    repeat_targets: float
    """Share of targets in the user's history, which no list with seen items removed can hold."""
    ranked: str = "the whole catalogue"
    """Items that were ranked: the whole catalogue or the label of candidates."""
    reachable: float = 1.0
    """Share of the targets that are among the ranked items."""
    interval: dict[tuple[str, str], Intervals] = field(default_factory=dict)
    """(method, seen) -> 95 % intervals over all users."""
    seed: int = 0
    """Seed of the intervals' random draws."""

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(name for name, _ in self.results))

    @property
    def treatments(self) -> list[str]:
        """Treatments of seen items that were measured."""
        return list(dict.fromkeys(seen for _, seen in self.results))

    @property
    def metrics(self) -> list[str]:
        return list(next(iter(self.results.values())).per_user)

    @cached_property
    def strata_interval(self) -> dict[tuple[str, str, str], Intervals]:
        """(method, seen, stratum) -> 95 % intervals over the users of each stratum."""
        return {
            (*key, name): intervals
            for name, mask in self.strata.items()
            for key, intervals in _intervals(self, mask, self.seed).items()
        }

    def mean(
        self, method: str, metric: str, seen: str = "removed", stratum: str | None = None
    ) -> float:
        """Return the mean over users with a defined value; NaN without any."""
        values = self.results[method, seen].per_user[metric]
        if stratum is not None:
            values = values[self.strata[stratum]]
        return mean_of_defined(values)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values in the schema of docs/guide/evaluation.md.

        Undefined figures are None, since JSON has no NaN.
        """
        content = {
            "schema": SCHEMA,
            "split": self.split,
            "part": self.part,
            "users": len(self.user_ids),
            "repeat_targets": self.repeat_targets,
            "ranked": self.ranked,
            "reachable": self.reachable,
            "metrics": self._metric_rows(),
            "strata": self._strata_rows(),
            "lists": self._list_rows(),
        }
        return cast(dict[str, Any], without_nan(content))

    def _metric_rows(self) -> list[dict[str, Any]]:
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
        return rows

    def _strata_rows(self) -> list[dict[str, Any]]:
        return [
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

    def _list_rows(self) -> list[dict[str, Any]]:
        return [
            {
                "method": method,
                "seen": seen,
                "trained_on": result.trained_on,
                "seconds": round(result.seconds, 4),
                **result.lists,
            }
            for (method, seen), result in self.results.items()
        ]


def add_intervals(report: Report, seed: int) -> Report:
    """Return the report with 95 % bootstrap intervals of every mean over all users."""
    everyone = np.ones(len(report.user_ids), dtype=bool)
    return replace(report, interval=_intervals(report, everyone, seed), seed=seed)


def _intervals(report: Report, mask: np.ndarray, seed: int) -> dict[tuple[str, str], Intervals]:
    """Return intervals of every mean over the users of a mask (U,)."""
    columns = [(key, metric) for key in report.results for metric in report.metrics]
    values = np.stack(
        [report.results[key].per_user[metric][mask] for key, metric in columns], axis=1
    )
    lows, highs = bootstrap(values, seed=seed)
    intervals: dict[tuple[str, str], Intervals] = {key: {} for key in report.results}
    for (key, metric), low, high in zip(columns, lows, highs, strict=True):
        intervals[key][metric] = (float(low), float(high))
    return intervals


def write_per_user(report: Report, path: Path) -> None:
    """Write every user's values as .npz: `user_ids`, and "method|seen|metric" -> (U,)."""
    arrays: dict[str, Any] = {
        f"{method}|{seen}|{metric}": values
        for (method, seen), result in report.results.items()
        for metric, values in result.per_user.items()
    }
    np.savez_compressed(path, user_ids=np.array(report.user_ids, dtype=np.str_), **arrays)


def read_per_user(path: Path) -> tuple[list[str], dict[tuple[str, str], dict[str, np.ndarray]]]:
    """Read a file of `write_per_user`: user ids, and (method, seen) -> metric -> (U,) values."""
    values: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            if name != "user_ids":
                method, seen, metric = name.rsplit("|", 2)
                values.setdefault((method, seen), {})[metric] = arrays[name]
        return arrays["user_ids"].tolist(), values


def mean_of_defined(values: np.ndarray) -> float:
    """Return the mean of the values that are not NaN; NaN without any."""
    return float(np.nanmean(values)) if (~np.isnan(values)).any() else float("nan")


def check_names(label: str, names: Sequence[str], valid_names: Iterable[str]) -> None:
    """Raise DataError unless `names` is a non-empty list of valid names."""
    if isinstance(names, str) or not names:
        valid = ", ".join(valid_names)
        raise DataError(f"{label} is {names!r}: give a list of at least one of {valid}")
    for name in names:
        if name not in valid_names:
            raise DataError(f"{label} holds {name!r}.{nearest(name, valid_names)}")


def check_depths(k: object) -> None:
    """Raise DataError unless k is a non-empty list of whole numbers from 1."""
    depths = k if isinstance(k, Sequence) and not isinstance(k, str) else ()
    is_valid = [isinstance(depth, int | np.integer) and depth >= 1 for depth in depths]
    if not is_valid or not all(is_valid):
        raise DataError(f"k is {k!r}: give a list of depths, each at least 1, such as (10,)")


def without_nan(value: Any) -> Any:
    """Return plain values with None in place of NaN and infinity."""
    if isinstance(value, dict):
        return {name: without_nan(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(entry) for entry in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
