"""Measure calibration of probabilities, and of lists to the history they were made for."""

from typing import NamedTuple

import numpy as np

from tailor.metrics.prediction import checked_labels, checked_probabilities

BINS = 15


class Reliability(NamedTuple):
    """Reliability table: one entry per bin, lowest probabilities first."""

    rows: np.ndarray
    """Number of rows."""
    predicted: np.ndarray
    """Mean probability."""
    happened: np.ndarray
    """Share of label 1."""


def reliability(truth: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> Reliability:
    """Bin the rows by probability into `bins` of about equal size.

    Equal probabilities always share a bin; empty bins are left out.
    """
    truth, p = checked_labels(truth, probabilities)
    order = np.argsort(checked_probabilities(p), kind="stable")
    p = p[order]
    truth = truth[order]
    first_of_equals = np.searchsorted(p, p)  # decides for all equal probabilities
    _, bin_of_row = np.unique(first_of_equals * bins // max(len(p), 1), return_inverse=True)
    rows = np.bincount(bin_of_row)
    return Reliability(
        rows=rows,
        predicted=np.bincount(bin_of_row, p) / rows,
        happened=np.bincount(bin_of_row, truth) / rows,
    )


def expected_calibration_error(
    truth: np.ndarray, probabilities: np.ndarray, bins: int = BINS
) -> float:
    """Mean over rows of |share of label 1 - mean probability| of the row's bin.

    Bins of equal mass (Naeini et al. 2015). 0 is best, at most 1; NaN for no rows.
    """
    table = reliability(truth, probabilities, bins)
    if not len(table.rows):
        return float("nan")
    gaps = np.abs(table.happened - table.predicted)
    return float((gaps * table.rows).sum() / table.rows.sum())


def maximum_calibration_error(
    truth: np.ndarray, probabilities: np.ndarray, bins: int = BINS
) -> float:
    """Largest |share of label 1 - mean probability| of a bin.

    0 is best, at most 1; NaN for no rows.
    """
    table = reliability(truth, probabilities, bins)
    if not len(table.rows):
        return float("nan")
    return float(np.abs(table.happened - table.predicted).max())


class BrierParts(NamedTuple):
    """Brier score = reliability - resolution + uncertainty + within, exactly."""

    reliability: float
    """Squared distance of probabilities from observed shares; lower is better."""
    resolution: float
    """Squared distance of the bins' shares from the overall share; higher is better."""
    uncertainty: float
    """Variance of the labels."""
    within: float
    """Loss by binning; 0 where each bin holds one probability."""


def brier_parts(truth: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> BrierParts:
    """Decompose the Brier score over bins (Murphy 1973). NaN for no rows.

    With the remainder within bins of Stephenson et al. 2008.
    """
    truth, p = checked_labels(truth, probabilities)
    if not len(p):
        return BrierParts(*[float("nan")] * 4)
    table = reliability(truth, p, bins)
    share = float(truth.mean())
    weights = table.rows / len(p)
    unreliability = float((weights * (table.predicted - table.happened) ** 2).sum())
    resolution = float((weights * (table.happened - share) ** 2).sum())
    uncertainty = share * (1 - share)
    brier = float(((truth - p) ** 2).mean())
    within = brier - (unreliability - resolution + uncertainty)
    return BrierParts(unreliability, resolution, uncertainty, within)


def clicks_over_predicted(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Sum of labels / sum of probabilities.

    1 is right on average; above 1, probabilities are too low. NaN where all are 0.
    """
    truth, p = checked_labels(truth, probabilities)
    return float(truth.sum() / checked_probabilities(p).sum()) if p.sum() > 0 else float("nan")


def list_miscalibration(history: np.ndarray, listed: np.ndarray, mix: float = 0.01) -> np.ndarray:
    """Kullback-Leibler divergence (U,) of a list's categories from those of the history.

    In nats, 0 where the shares are the same (Steck 2018). `history`, `listed` (U, C) non-negative
    counts or weights by category. The list's shares q are mixed with `mix` of the history's p, so
    that a missing category costs much but not infinitely: sum p log(p / ((1 - mix) q + mix p)). NaN
    where either is empty. Lower is better; at most -log(mix).
    """
    history_sums = history.sum(axis=1)
    list_sums = listed.sum(axis=1)
    has_history = history_sums > 0
    has_list = list_sums > 0
    p = history / np.where(has_history, history_sums, 1)[:, None]
    q = listed / np.where(has_list, list_sums, 1)[:, None]
    mixed = (1 - mix) * q + mix * p
    is_liked = p > 0
    ratio = np.where(is_liked, p, 1) / np.where(is_liked, mixed, 1)
    terms = np.where(is_liked, p * np.log(ratio), 0.0)
    divergence = terms.sum(axis=1)
    return np.where(has_history & has_list, divergence, np.nan)
