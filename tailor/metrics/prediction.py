"""Metrics of predicted numbers, probabilities and classes.

All arrays are (n,) of one length; NaN where a figure is undefined. Every function raises ValueError
for arrays of different lengths and for NaN or infinite predictions: leaving them out silently would
give wrong figures.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

CLIP = 1e-7  # smallest probability before the logarithm


class Counted(NamedTuple):
    """A figure with the number of rows or users that it covers."""

    value: float
    included: int
    left_out: int


def _checked(truth: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both as float64, or raise ValueError for other shapes and values not finite."""
    truth = np.asarray(truth, dtype=np.float64)
    predicted = np.asarray(predicted, dtype=np.float64)
    _check_shapes(truth, predicted)
    for label, values in (("truth", truth), ("prediction", predicted)):
        if not np.isfinite(values).all():
            bad_value = values[~np.isfinite(values)][0]
            raise ValueError(f"a {label} is {bad_value}: leave such rows out, and say how many")
    return truth, predicted


def _check_shapes(truth: np.ndarray, predicted: np.ndarray) -> None:
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise ValueError(
            f"truth has shape {truth.shape}, the predictions {predicted.shape}: both must be (n,)"
        )


def checked_labels(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both as float64, or raise ValueError for labels other than 0 and 1."""
    truth, scores = _checked(truth, scores)
    is_label = np.isin(truth, (0, 1))
    if not is_label.all():
        raise ValueError(f"labels are 0 or 1, one is {truth[~is_label][0]:g}")
    return truth, scores


def checked_probabilities(p: np.ndarray) -> np.ndarray:
    """Return p, or raise ValueError for values below 0 or above 1."""
    if len(p) and (p.min() < 0 or p.max() > 1):
        raise ValueError(
            f"probabilities are between 0 and 1, these go from {p.min():g} to {p.max():g}"
        )
    return p


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
    """Mean of |truth - predicted| / |truth|. Lower is better.

    Rows whose truth is 0 are left out and counted.
    """
    truth, predicted = _checked(truth, predicted)
    is_defined = truth != 0
    errors = np.abs((truth - predicted)[is_defined] / truth[is_defined])
    return Counted(_mean(errors), int(is_defined.sum()), int((~is_defined).sum()))


def r_squared(truth: np.ndarray, predicted: np.ndarray) -> float:
    """1 - squared error / squared distance of the truth to its mean.

    1 is best, 0 is that of always predicting the mean. NaN for a constant truth.
    """
    truth, predicted = _checked(truth, predicted)
    spread = ((truth - _mean(truth)) ** 2).sum()
    if not spread > 0 or np.ptp(truth) == 0:
        return float("nan")
    return float(1 - ((truth - predicted) ** 2).sum() / spread)


def explained_variance(truth: np.ndarray, predicted: np.ndarray) -> float:
    """1 - variance of the error / variance of the truth.

    Like R squared, but insensitive to a constant shift. NaN for a constant truth.
    """
    truth, predicted = _checked(truth, predicted)
    if not len(truth) or np.ptp(truth) == 0:
        return float("nan")
    return float(1 - np.var(truth - predicted) / np.var(truth))


def max_error(truth: np.ndarray, predicted: np.ndarray) -> float:
    """The largest |truth - predicted|. Lower is better."""
    truth, predicted = _checked(truth, predicted)
    return float(np.abs(truth - predicted).max()) if len(truth) else float("nan")


# ---- labels 0 and 1


def auc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Probability that a row of label 1 has a higher score than one of label 0.

    Ties count half. NaN where a class is missing. From the mid-ranks of the scores (Hanley and
    McNeil 1982).
    """
    truth, scores = checked_labels(truth, scores)
    ones = truth.sum()
    zeros = len(truth) - ones
    if not ones or not zeros:
        return float("nan")
    rank_sum = rankdata(scores)[truth == 1].sum()
    return float((rank_sum - ones * (ones + 1) / 2) / (ones * zeros))


def grouped_auc(truth: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> Counted:
    """Mean AUC within each group (user), weighted by its rows (Zhu et al. 2017).

    `groups` (n,) integers. Groups with one class only are left out and counted. All groups are
    ranked at once: the rank within a group is the rank among all rows minus that of its first.
    """
    truth, scores = checked_labels(truth, scores)
    names, codes, rows = np.unique(groups, return_inverse=True, return_counts=True)
    ranks = _mid_ranks_within(codes, scores)
    ones = np.bincount(codes, truth, len(names))
    zeros = rows - ones
    has_both = (ones > 0) & (zeros > 0)
    value = float("nan")
    if has_both.any():
        sums = np.bincount(codes, ranks * truth, len(names)) - ones * (ones + 1) / 2
        values = sums[has_both] / (ones[has_both] * zeros[has_both])
        weights = rows[has_both]
        value = float((values * weights).sum() / weights.sum())
    return Counted(value, int(has_both.sum()), int((~has_both).sum()))


def _mid_ranks_within(groups: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return (n,) the rank of each score within its group, from 1.

    Ties share their mean rank.
    """
    if not len(groups):
        return np.zeros(0)
    order = np.lexsort((scores, groups))
    sorted_groups = groups[order]
    sorted_scores = scores[order]
    is_new_group = sorted_groups[1:] != sorted_groups[:-1]
    is_new_score = sorted_scores[1:] != sorted_scores[:-1]
    tie_starts = np.flatnonzero(np.r_[True, is_new_group | is_new_score])
    tie_lengths = np.diff(np.r_[tie_starts, len(groups)])
    group_starts = np.searchsorted(sorted_groups, sorted_groups[tie_starts])
    mid_ranks = tie_starts - group_starts + (tie_lengths + 1) / 2
    ranks = np.empty(len(groups))
    ranks[order] = np.repeat(mid_ranks, tie_lengths)
    return ranks


def average_precision_of_scores(truth: np.ndarray, scores: np.ndarray) -> float:
    """Area under precision and recall: sum over thresholds of recall gained * precision.

    Tied scores share a threshold. Range 0 to 1; by chance the share of label 1. NaN without a row
    of label 1.
    """
    truth, scores = checked_labels(truth, scores)
    if not truth.sum():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    last_of_ties = np.r_[np.flatnonzero(np.diff(scores[order])), len(scores) - 1]
    true_positives = np.cumsum(truth[order])[last_of_ties]
    gained = np.diff(np.r_[0, true_positives])
    return float((gained * true_positives / (last_of_ties + 1)).sum() / truth.sum())


def log_loss(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of -log(probability of the true label), in nats. Lower is better.

    Probabilities are clipped to [1e-7, 1 - 1e-7].
    """
    truth, p = checked_labels(truth, probabilities)
    p = np.clip(checked_probabilities(p), CLIP, 1 - CLIP)
    return _mean(-np.where(truth == 1, np.log(p), np.log1p(-p)))


def normalised_entropy(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Log loss / entropy of the share of label 1 (He et al. 2014).

    1 is that of always predicting the share. NaN where a class is missing.
    """
    truth, p = checked_labels(truth, probabilities)
    share = _mean(truth)
    if not 0 < share < 1:
        return float("nan")
    entropy = float(-share * np.log(share) - (1 - share) * np.log(1 - share))
    return log_loss(truth, p) / entropy


def brier(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of (label - probability)^2 (Brier 1950). Range 0 to 1, lower is better."""
    truth, p = checked_labels(truth, probabilities)
    return _mean((truth - checked_probabilities(p)) ** 2)


# ---- classes


def confusion(truth: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes (C,), sorted, and (C, C) counts of class i predicted as class j."""
    truth = np.asarray(truth)
    predicted = np.asarray(predicted)
    _check_shapes(truth, predicted)
    classes, codes = np.unique(np.concatenate([truth, predicted]), return_inverse=True)
    table = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(table, (codes[: len(truth)], codes[len(truth) :]), 1)
    return classes, table


def accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Share of rows whose class was predicted. Range 0 to 1; NaN for no rows."""
    _, table = confusion(truth, predicted)
    return float(np.trace(table) / table.sum()) if table.sum() else float("nan")


def macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean over classes of the F1 score.

    2 * correct / (rows of the class + rows predicted as it). Range 0 to 1; NaN for no rows.
    """
    _, table = confusion(truth, predicted)
    return float(macro_f1_of_tables(table))


def macro_f1_of_tables(tables: np.ndarray) -> np.ndarray:
    """Return (...) the macro F1 of tables (..., C, C) of class i predicted as class j.

    Classes that neither occur nor are predicted do not count. NaN for an empty table.
    """
    correct = np.diagonal(tables, axis1=-2, axis2=-1)
    totals = tables.sum(axis=-1) + tables.sum(axis=-2)
    scores = np.where(totals > 0, 2 * correct / np.maximum(totals, 1), 0.0)
    classes = (totals > 0).sum(axis=-1)
    return np.asarray(scores.sum(axis=-1) / np.where(classes > 0, classes, np.nan))


def class_log_loss(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of -log(probability of the true class), in nats. Lower is better.

    `truth` (n,) are classes from 0, `probabilities` (n, C), clipped below at 1e-7. Raises
    ValueError for a class that has no column.
    """
    truth = np.asarray(truth)
    if probabilities.ndim != 2 or len(probabilities) != len(truth):
        raise ValueError(
            f"truth has shape {truth.shape}, the probabilities {probabilities.shape}: (n,) and"
            " (n, C)"
        )
    is_class = np.isin(truth, np.arange(probabilities.shape[1]))
    if not is_class.all():
        raise ValueError(f"a class is {truth[~is_class][0]}: they are numbered from 0 to C - 1")
    p = checked_probabilities(probabilities.ravel()).reshape(probabilities.shape)
    true = p[np.arange(len(truth)), truth.astype(int)]
    return _mean(-np.log(np.maximum(true, CLIP)))
