"""How good predicted numbers are: ratings, probabilities, classes. All arrays (n,) of one length;
NaN where a figure is undefined.

Every function raises ValueError for arrays of different lengths and for NaN or infinite
predictions: a figure over what happened to be finite would be wrong.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

CLIP = 1e-7  # of probabilities before their logarithm


class Counted(NamedTuple):
    """A figure, and on how many rows or users it rests."""

    value: float
    kept: int
    left_out: int


def _checked(truth: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    truth, predicted = np.asarray(truth, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise ValueError(
            f"truth has shape {truth.shape}, the predictions {predicted.shape}: both must be (n,)"
        )
    for what, values in (("truth", truth), ("prediction", predicted)):
        if not np.isfinite(values).all():
            raise ValueError(
                f"a {what} is {values[~np.isfinite(values)][0]}: leave such rows out, and say how"
                " many"
            )
    return truth, predicted


def checked_labels(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    truth, scores = _checked(truth, scores)
    if not np.isin(truth, (0, 1)).all():
        raise ValueError(f"labels are 0 or 1, one is {truth[~np.isin(truth, (0, 1))][0]:g}")
    return truth, scores


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


# ---- numbers


def mean_absolute_error(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean of |truth - predicted|. Range 0 upwards, lower is better."""
    truth, predicted = _checked(truth, predicted)
    return _mean(np.abs(truth - predicted))


def mean_squared_error(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean of (truth - predicted)^2. Range 0 upwards, lower is better."""
    truth, predicted = _checked(truth, predicted)
    return _mean((truth - predicted) ** 2)


def root_mean_squared_error(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Root of the mean of (truth - predicted)^2, in the unit of the truth. Lower is better."""
    return float(np.sqrt(mean_squared_error(truth, predicted)))


def mean_absolute_percentage_error(truth: np.ndarray, predicted: np.ndarray) -> Counted:
    """Mean of |truth - predicted| / |truth|; rows whose truth is 0 are left out and counted. Lower
    is better.
    """
    truth, predicted = _checked(truth, predicted)
    kept = truth != 0
    return Counted(
        _mean(np.abs((truth - predicted)[kept] / truth[kept])), int(kept.sum()), int((~kept).sum())
    )


def r_squared(truth: np.ndarray, predicted: np.ndarray) -> float:
    """1 - squared error / squared distance of the truth to its mean. 1 best, 0 the mean's, below 0
    worse. NaN for a constant truth.
    """
    truth, predicted = _checked(truth, predicted)
    spread = ((truth - _mean(truth)) ** 2).sum()
    return (
        float(1 - ((truth - predicted) ** 2).sum() / spread)
        if spread > 0 and np.ptp(truth) > 0
        else float("nan")
    )


def explained_variance(truth: np.ndarray, predicted: np.ndarray) -> float:
    """1 - variance of the error / variance of the truth: R squared that forgives a constant shift.
    NaN for a constant truth.
    """
    truth, predicted = _checked(truth, predicted)
    return (
        float(1 - np.var(truth - predicted) / np.var(truth))
        if len(truth) and np.ptp(truth) > 0
        else float("nan")
    )


def max_error(truth: np.ndarray, predicted: np.ndarray) -> float:
    """The largest |truth - predicted|. Lower is better."""
    truth, predicted = _checked(truth, predicted)
    return float(np.abs(truth - predicted).max()) if len(truth) else float("nan")


# ---- labels 0 and 1


def auc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Chance that a row of label 1 has a higher score than one of label 0, ties counted half. NaN
    where a class is missing.

    From the mid-ranks of the scores (Hanley and McNeil 1982).
    """
    truth, scores = checked_labels(truth, scores)
    ones = truth.sum()
    zeros = len(truth) - ones
    if not ones or not zeros:
        return float("nan")
    return float((rankdata(scores)[truth == 1].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def grouped_auc(truth: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> Counted:
    """Mean AUC within each group (user), weighted by its rows; groups with one class only are left
    out and counted (Zhu et al. 2017).

    `groups` (n,) integers. All groups at once: the rank within a group is the rank among all rows
    less that of its first.
    """
    truth, scores = checked_labels(truth, scores)
    names, group, rows = np.unique(groups, return_inverse=True, return_counts=True)
    ranks = _mid_ranks_within(group, scores)
    ones = np.bincount(group, truth, len(names))
    zeros = rows - ones
    both = (ones > 0) & (zeros > 0)
    sums = np.bincount(group, ranks * truth, len(names)) - ones * (ones + 1) / 2
    values = sums[both] / (ones[both] * zeros[both])
    weights = rows[both]
    value = float((values * weights).sum() / weights.sum()) if both.any() else float("nan")
    return Counted(value, int(both.sum()), int((~both).sum()))


def _mid_ranks_within(group: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(n,) rank of each score within its group from 1, ties sharing the mean of theirs."""
    if not len(group):
        return np.zeros(0)
    order = np.lexsort((scores, group))
    g, s = group[order], scores[order]
    run = np.r_[True, (g[1:] != g[:-1]) | (s[1:] != s[:-1])]
    first = np.flatnonzero(run)
    lengths = np.diff(np.r_[first, len(g)])
    starts = np.searchsorted(g, g[first])
    ranks = np.empty(len(g))
    ranks[order] = np.repeat(first - starts + (lengths + 1) / 2, lengths)
    return ranks


def average_precision_of_scores(truth: np.ndarray, scores: np.ndarray) -> float:
    """Area under precision and recall as the sum over thresholds of (recall gained) * precision;
    tied scores share a threshold.

    Range 0 to 1; the share of label 1 by chance. NaN without a row of label 1.
    """
    truth, scores = checked_labels(truth, scores)
    if not truth.sum():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    last = np.r_[np.flatnonzero(np.diff(scores[order])), len(scores) - 1]
    found = np.cumsum(truth[order])[last]
    return float((np.diff(np.r_[0, found]) * found / (last + 1)).sum() / truth.sum())


def log_loss(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of -log of the probability given to what happened, in nats; probabilities are clipped to
    [1e-7, 1 - 1e-7]. Lower is better.
    """
    truth, p = checked_labels(truth, probabilities)
    p = np.clip(checked_probabilities(p), CLIP, 1 - CLIP)
    return _mean(-np.where(truth == 1, np.log(p), np.log1p(-p)))


def normalised_entropy(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Log loss / entropy of the share of label 1: 1 is that of always saying the share (He et al.
    2014). NaN where a class is missing.
    """
    truth, p = checked_labels(truth, probabilities)
    share = _mean(truth)
    if not 0 < share < 1:
        return float("nan")
    return log_loss(truth, p) / float(-share * np.log(share) - (1 - share) * np.log(1 - share))


def brier(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of (label - probability)^2 (Brier 1950). Range 0 to 1, lower is better."""
    truth, p = checked_labels(truth, probabilities)
    return _mean((truth - checked_probabilities(p)) ** 2)


def checked_probabilities(p: np.ndarray) -> np.ndarray:
    if len(p) and (p.min() < 0 or p.max() > 1):
        raise ValueError(
            f"probabilities are between 0 and 1, these go from {p.min():g} to {p.max():g}"
        )
    return p


# ---- classes


def confusion(truth: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The classes (C,), sorted, and (C, C) counts: entry (i, j) is how often class i was called
    class j.
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise ValueError(
            f"truth has shape {truth.shape}, the predictions {predicted.shape}: both must be (n,)"
        )
    classes, codes = np.unique(np.concatenate([truth, predicted]), return_inverse=True)
    table = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(table, (codes[: len(truth)], codes[len(truth) :]), 1)
    return classes, table


def accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Share of rows called by their class. Range 0 to 1; NaN for no rows."""
    _, table = confusion(truth, predicted)
    return float(np.trace(table) / table.sum()) if table.sum() else float("nan")


def macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean over classes of 2 * right / (rows of the class + rows called it). Range 0 to 1; NaN for
    no rows.
    """
    _, table = confusion(truth, predicted)
    return (
        float((2 * np.diag(table) / (table.sum(axis=0) + table.sum(axis=1))).mean())
        if len(table)
        else float("nan")
    )
