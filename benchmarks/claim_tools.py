"""What claim programs share: figures of a report as plain numbers."""

from tailor.evaluation.comparing import compare
from tailor.evaluation.report import Report


def lead(report: Report, method: str, over: str, metric: str, seed: int = 0) -> dict[str, float]:
    """By how much a method is above another, paired over users, seen removed: difference, 95 %
    interval, p after Holm.
    """
    one = next(one for one in compare(report, over, [metric], seed=seed) if one.b == method)
    return {
        "difference": round(one.difference, 5),
        "low": round(one.low, 5),
        "high": round(one.high, 5),
        "p": round(one.p_holm, 4),
    }


def means(report: Report) -> dict[str, dict[str, float]]:
    """method -> metric -> mean, seen removed."""
    return {
        name: {metric: round(report.mean(name, metric, "removed"), 5) for metric in report.metrics}
        for name in report.methods
    }
