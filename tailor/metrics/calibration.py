"""Whether what is predicted happens as often as predicted, and whether a list is like the history
it was made for.
"""

from typing import NamedTuple

import numpy as np

from tailor.metrics.prediction import checked_labels, checked_probabilities

BINS = 15


class Reliability(NamedTuple):
    """One entry a bin, lowest probabilities first."""

    rows: np.ndarray
    """How many."""
    predicted: np.ndarray
    """Mean probability."""
    happened: np.ndarray
    """Share of label 1."""


def reliability(truth: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> Reliability:
    """Rows cut into `bins` of about equal size by their probability; rows of one probability always
    share a bin, empty ones are left out.
    """
    truth, p = checked_labels(truth, probabilities)
    order = np.argsort(checked_probabilities(p), kind="stable")
    p, truth = p[order], truth[order]
    at = np.searchsorted(p, p)  # the first of equal ones decides for all
    _, bin_of = np.unique(at * bins // max(len(p), 1), return_inverse=True)
    count = np.bincount(bin_of)
    return Reliability(count, np.bincount(bin_of, p) / count, np.bincount(bin_of, truth) / count)


def expected_calibration_error(
    truth: np.ndarray, probabilities: np.ndarray, bins: int = BINS
) -> float:
    """Mean over rows of |share of label 1 - mean probability| of the row's bin, bins of equal mass
    (Naeini et al. 2015). 0 best, at most 1.
    """
    table = reliability(truth, probabilities, bins)
    gaps = np.abs(table.happened - table.predicted)
    return float((gaps * table.rows).sum() / table.rows.sum()) if len(gaps) else float("nan")


def maximum_calibration_error(
    truth: np.ndarray, probabilities: np.ndarray, bins: int = BINS
) -> float:
    """The largest |share of label 1 - mean probability| of a bin. 0 best, at most 1."""
    table = reliability(truth, probabilities, bins)
    return (
        float(np.abs(table.happened - table.predicted).max(initial=0.0))
        if len(table.rows)
        else float("nan")
    )


class BrierParts(NamedTuple):
    """Brier score = reliability - resolution + uncertainty + within, exactly."""

    reliability: float
    """How far probabilities are from what happens; lower is better."""
    resolution: float
    """How far what happens differs between bins; higher is better."""
    uncertainty: float
    """Of the labels themselves."""
    within: float
    """What binning loses; 0 where each bin holds one probability."""


def brier_parts(truth: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> BrierParts:
    """The Brier score taken apart over bins (Murphy 1973; the rest within bins, Stephenson et al.
    2008). NaN for no rows.
    """
    truth, p = checked_labels(truth, probabilities)
    if not len(p):
        return BrierParts(*[float("nan")] * 4)
    table = reliability(truth, p, bins)
    share, weight = float(truth.mean()), table.rows / len(p)
    parts = (
        float((weight * (table.predicted - table.happened) ** 2).sum()),
        float((weight * (table.happened - share) ** 2).sum()),
        share * (1 - share),
    )
    return BrierParts(*parts, float(((truth - p) ** 2).mean()) - (parts[0] - parts[1] + parts[2]))


def clicks_over_predicted(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Sum of labels / sum of probabilities: 1 is right on average, above 1 too careful. NaN where
    all probabilities are 0.
    """
    truth, p = checked_labels(truth, probabilities)
    return float(truth.sum() / checked_probabilities(p).sum()) if p.sum() > 0 else float("nan")


def list_miscalibration(history: np.ndarray, shown: np.ndarray, mix: float = 0.01) -> np.ndarray:
    """(U,) Kullback-Leibler divergence, in nats, of a list's shares of categories from those of the
    history; 0 where they are the same (Steck 2018).

    `history`, `shown` (U, C) non-negative counts or weights by category. The list's shares are
    mixed with `mix` of the history's, so that a missing category costs much and not everything: sum
    p log(p / ((1 - mix) q + mix p)). NaN where either is empty. Lower is better; at most -log(mix).
    """
    sums = history.sum(axis=1), shown.sum(axis=1)
    p, q = (
        values / np.where(total > 0, total, 1)[:, None]
        for values, total in zip((history, shown), sums, strict=True)
    )
    mixed = (1 - mix) * q + mix * p
    terms = np.where(p > 0, p * np.log(np.where(p > 0, p, 1) / np.where(p > 0, mixed, 1)), 0.0)
    return np.where((sums[0] > 0) & (sums[1] > 0), terms.sum(axis=1), np.nan)
