"""Is one method better than another? Paired per user, corrected for many comparisons, with what
could have been found.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np

from tailor.errors import DataError
from tailor.evaluation.report import (
    Report,
    add_intervals,
    check_names,
    mean_of_defined,
    without_nan,
)
from tailor.evaluation.significance import (
    benjamini_hochberg,
    bootstrap,
    bootstrap_over_seeds,
    detectable,
    holm,
    paired_tests,
)

LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
    """The mean difference b - a of two methods over the same users, its interval, and how surely it
    is not chance.
    """

    a: str
    b: str
    metric: str
    seen: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    wins: int
    """Users for whom b is better."""
    losses: int
    p_bh: float = float("nan")
    """Benjamini-Hochberg: the share of false alarms, instead of any at all."""
    detectable: float = float("nan")
    """The smallest true difference that this test would find in 4 of 5 cases."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return cast(dict[str, Any], without_nan(asdict(self)))

    @property
    def is_significant(self) -> bool:
        return self.p_holm < LEVEL


def compare(
    report: Report,
    baseline: str,
    metrics: Sequence[str] | None = None,
    seen: str = "removed",
    seed: int = 0,
    kind: str = "permutation",
) -> list[Comparison]:
    """Every other method against `baseline`, paired per user, p-values corrected by Holm over all
    comparisons made here.

    `kind` of test: permutation, bootstrap, t or wilcoxon (`significance.paired_test`). All
    comparisons share their draws. Raises DataError where some methods learned from "train" and
    others from "train+valid": more data is no better method. Reports of separate runs: put them
    together by `join_reports`.
    """
    if baseline not in report.methods:
        raise DataError(
            f'no method "{baseline}" in this report; it has {", ".join(report.methods)}'
        )
    metrics = report.metrics if metrics is None else metrics
    check_names("metrics", metrics, report.metrics)
    check_names("seen", (seen,), dict.fromkeys(how for _, how in report.results))
    learned = {result.trained_on for result in report.results.values()} - {"other data", "unknown"}
    if len(learned) > 1:
        raise DataError(
            f"some methods were trained on {' and some on '.join(sorted(learned))}: fit all on the"
            " same part to compare them"
        )
    pairs = [
        (method, metric) for metric in metrics for method in report.methods if method != baseline
    ]
    if not pairs:
        return []
    values = {
        (method, metric): report.results[method, seen].per_user[metric]
        for method in report.methods
        for metric in metrics
    }
    differences = np.stack(
        [values[method, metric] - values[baseline, metric] for method, metric in pairs], axis=1
    )
    lows, highs = bootstrap(differences, seed=seed)
    p = paired_tests(differences, seed=seed, kind=kind)
    p_holm, p_bh = holm(p), benjamini_hochberg(p)
    return [
        Comparison(
            baseline,
            method,
            metric,
            seen,
            mean_of_defined(d := differences[:, at]),
            float(lows[at]),
            float(highs[at]),
            float(p[at]),
            float(p_holm[at]),
            int((d > 0).sum()),
            int((d < 0).sum()),
            float(p_bh[at]),
            detectable(d, LEVEL / len(pairs)),
        )
        for at, (method, metric) in enumerate(pairs)
    ]


def join_reports(reports: Sequence[Report], seed: int = 0) -> Report:
    """One report of methods that were run separately. Raises DataError where they are not of the
    same split, part, users and metrics.
    """
    _refuse_mixing(reports)
    names = [name for report in reports for name in report.methods]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f'two reports hold a method "{name}": give them different names')
    results = {key: result for report in reports for key, result in report.results.items()}
    return add_intervals(replace(reports[0], results=results), seed)


def _refuse_mixing(reports: Sequence[Report]) -> None:
    if not reports:
        raise DataError("there is no report to put together")
    first = reports[0]
    for other in reports[1:]:
        for what, a, b in (
            ("splits", first.split["hash"], other.split["hash"]),
            ("parts", first.part, other.part),
            ("metrics", first.metrics, other.metrics),
            ("candidates", first.ranked, other.ranked),
        ):
            if a != b:
                raise DataError(
                    f"these are runs of different {what} ({a} and {b}): what they measured cannot"
                    " be compared"
                )
        if first.user_ids != other.user_ids:
            apart = sorted({*first.user_ids} ^ {*other.user_ids})
            which = (
                f"{len(apart)} of them are in one only, such as {apart[0]}"
                if apart
                else "their order differs"
            )
            raise DataError(
                f"these are runs of different users ({which}): what they measured cannot be"
                " compared"
            )


@dataclass(frozen=True)
class Repeated:
    """One metric of one method over several random states."""

    method: str
    metric: str
    seen: str
    means: tuple[float, ...]
    """One a repeat."""
    mean: float
    deviation: float
    """Standard deviation of the means; NaN for one repeat."""
    low: float
    """95 % interval over repeats and users."""
    high: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return cast(dict[str, Any], without_nan(asdict(self)))


def over_seeds(reports: Sequence[Report], seed: int = 0) -> list[Repeated]:
    """The table of seeds: reports of the same methods fitted with other random states. Raises
    DataError where anything else differs.
    """
    _refuse_mixing(reports)
    if any(set(report.results) != set(reports[0].results) for report in reports):
        raise DataError(
            "these reports hold different methods: a table of seeds repeats the same ones"
        )
    rows = []
    for method, seen in reports[0].results:
        for metric in reports[0].metrics:
            values = np.stack([report.results[method, seen].per_user[metric] for report in reports])
            means = tuple(mean_of_defined(row) for row in values)
            low, high = bootstrap_over_seeds(values, seed=seed)
            deviation = float(np.std(means, ddof=1)) if len(means) > 1 else float("nan")
            rows.append(
                Repeated(method, metric, seen, means, float(np.mean(means)), deviation, low, high)
            )
    return rows
