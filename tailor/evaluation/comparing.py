"""Compare methods: paired differences per user, corrected for many comparisons."""

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
    """Mean difference b - a of two methods over the same users, with interval and p-values."""

    a: str
    b: str
    metric: str
    seen: str
    difference: float
    low: float
    """95 % bootstrap interval of the difference."""
    high: float
    p: float
    p_holm: float
    wins: int
    """Users for whom b is better."""
    losses: int
    p_bh: float = float("nan")
    """p-value adjusted for the share of false alarms (Benjamini-Hochberg)."""
    detectable: float = float("nan")
    """Smallest true difference that this test finds in 4 of 5 cases."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return cast(dict[str, Any], without_nan(asdict(self)))

    @property
    def is_significant(self) -> bool:
        return self.p_holm < LEVEL


def compare(
    report: Report,
    baseline: str,
    metrics: Sequence[str] | None = None,
    seen: str | Sequence[str] = "removed",
    seed: int = 0,
    kind: str = "permutation",
) -> list[Comparison]:
    """Compare every other method with `baseline`, paired per user.

    `seen` names one or several treatments of seen items; `kind` a test of
    `significance.paired_test`. P-values are corrected over all comparisons of one call, which share
    their random draws. Raises DataError where some methods learned from "train" and others from
    "train+valid", which would compare amounts of data. Reports of separate runs: join them with
    `join_reports`.
    """
    metrics = report.metrics if metrics is None else metrics
    treatments = (seen,) if isinstance(seen, str) else tuple(seen)
    _check_comparable(report, baseline, metrics, treatments)
    cases = [
        (method, metric, treatment)
        for treatment in treatments
        for metric in metrics
        for method in report.methods
        if method != baseline
    ]
    if not cases:
        return []
    columns = []
    for method, metric, treatment in cases:
        baseline_values = report.results[baseline, treatment].per_user[metric]
        columns.append(report.results[method, treatment].per_user[metric] - baseline_values)
    differences = np.stack(columns, axis=1)  # U, comparisons
    lows, highs = bootstrap(differences, seed=seed)
    p_values = paired_tests(differences, seed=seed, kind=kind)
    holm_values = holm(p_values)
    bh_values = benjamini_hochberg(p_values)
    return [
        Comparison(
            a=baseline,
            b=method,
            metric=metric,
            seen=treatment,
            difference=mean_of_defined(column),
            low=float(lows[i]),
            high=float(highs[i]),
            p=float(p_values[i]),
            p_holm=float(holm_values[i]),
            wins=int((column > 0).sum()),
            losses=int((column < 0).sum()),
            p_bh=float(bh_values[i]),
            detectable=detectable(column, LEVEL / len(cases)),
        )
        for i, ((method, metric, treatment), column) in enumerate(zip(cases, columns, strict=True))
    ]


def _check_comparable(
    report: Report, baseline: str, metrics: Sequence[str], treatments: Sequence[str]
) -> None:
    """Raise DataError for names the report lacks and for methods trained on different parts."""
    if baseline not in report.methods:
        methods = ", ".join(report.methods)
        raise DataError(f'no method "{baseline}" in this report; it has {methods}')
    check_names("metrics", metrics, report.metrics)
    check_names("seen", treatments, report.treatments)
    parts = {result.trained_on for result in report.results.values()}
    parts -= {"other data", "unknown"}
    if len(parts) > 1:
        raise DataError(
            f"some methods were trained on {' and some on '.join(sorted(parts))}: fit all on the"
            " same part to compare them"
        )


def join_reports(reports: Sequence[Report], seed: int = 0) -> Report:
    """Return one report of methods that were run separately.

    Raises DataError unless split, part, users, metrics and candidates are the same and the methods
    have different names.
    """
    _refuse_mixing(reports)
    names = [name for report in reports for name in report.methods]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f'two reports hold a method "{name}": give them different names')
    results = {key: result for report in reports for key, result in report.results.items()}
    return add_intervals(replace(reports[0], results=results), seed)


def _refuse_mixing(reports: Sequence[Report]) -> None:
    """Raise DataError unless all reports measured the same thing on the same users."""
    if not reports:
        raise DataError("there is no report to put together")
    first = reports[0]
    for other in reports[1:]:
        for label, a, b in (
            ("splits", first.split["hash"], other.split["hash"]),
            ("parts", first.part, other.part),
            ("metrics", first.metrics, other.metrics),
            ("candidates", first.ranked, other.ranked),
        ):
            if a != b:
                raise DataError(
                    f"these are runs of different {label} ({a} and {b}): what they measured cannot"
                    " be compared"
                )
        if first.user_ids != other.user_ids:
            raise DataError(
                f"these are runs of different users ({_user_difference(first, other)}): what they"
                " measured cannot be compared"
            )


def _user_difference(first: Report, other: Report) -> str:
    """Return in words how the users of two reports differ."""
    unshared = sorted({*first.user_ids} ^ {*other.user_ids})
    if not unshared:
        return "their order differs"
    return f"{len(unshared)} of them are in one only, such as {unshared[0]}"


@dataclass(frozen=True)
class Repeated:
    """One metric of one method over several random states."""

    method: str
    metric: str
    seen: str
    means: tuple[float, ...]
    """Mean over users of each repeat."""
    mean: float
    deviation: float
    """Standard deviation of the means; NaN for one repeat."""
    low: float
    """95 % interval over repeats and users."""
    high: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return cast(dict[str, Any], without_nan(asdict(self)))


def over_seeds(reports: Sequence[Report], seed: int = 0) -> list[Repeated]:
    """Return the table of seeds from reports of the same methods, one report a random state.

    Raises DataError where anything but the random state differs.
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
