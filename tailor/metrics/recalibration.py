"""Recalibrate probabilities. Fit on validation data, never on what is evaluated."""

from typing import NamedTuple

import numpy as np

from tailor.metrics.prediction import CLIP, checked_labels, checked_probabilities

STEPS = 100  # most steps of Newton's method


class Platt(NamedTuple):
    """Logistic function of log-odds, for few labels: two parameters (Platt 1999).

    1 / (1 + exp(-(slope * log-odds + shift))).
    """

    slope: float
    shift: float

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """Recalibrate probabilities (n,) -> (n,)."""
        return _sigmoid(self.slope * _log_odds(probabilities) + self.shift)


class Isotonic(NamedTuple):
    """Monotone step function, for thousands of labels (Zadrozny and Elkan 2002).

    It fits any monotone shape of the error.
    """

    knots: np.ndarray
    """(b,) ascending probabilities."""
    values: np.ndarray
    """(b,) calibrated probabilities there, never decreasing."""

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """Recalibrate probabilities (n,) -> (n,), linear between knots, constant beyond them."""
        p = checked_probabilities(np.asarray(probabilities, dtype=np.float64))
        return np.interp(p, self.knots, self.values)


def platt(truth: np.ndarray, probabilities: np.ndarray) -> Platt:
    """Fit slope and shift by maximum likelihood.

    Labels are smoothed as Platt does, so that no probability becomes 0 or 1. `truth` (n,) of 0 and
    1. Raises ValueError where only one label occurs.
    """
    truth, p = checked_labels(truth, probabilities)
    slope, shift = logistic(truth, np.column_stack([_log_odds(p), np.ones(len(p))]))
    return Platt(float(slope), float(shift))


def logistic(truth: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """Fit weights (p,) of a logistic regression by Newton's method.

    `truth` (n,) of 0 and 1, smoothed as in `platt`; `inputs` (n, p), whose weighted sum gives
    log-odds. Raises ValueError where only one label occurs.
    """
    positives = float(truth.sum())
    if not 0 < positives < len(truth):
        raise ValueError(
            f"{len(truth)} labels, {positives:g} of them 1: both must occur to fit a calibration"
        )
    negatives = len(truth) - positives
    smoothed = np.where(truth > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    return fit_logistic(smoothed, inputs)


def fit_logistic(targets: np.ndarray, inputs: np.ndarray, ridge: float = 1e-10) -> np.ndarray:
    """Fit weights (p,) whose log-odds come nearest to probabilities, by Newton's method.

    `targets` (n,) are probabilities from 0 to 1, soft labels, `inputs` (n, p). The loss is the
    summed binary cross-entropy, plus `ridge` / 2 times the squared weights.
    """
    weights = np.zeros(inputs.shape[1])

    def loss(candidate: np.ndarray) -> float:
        z = inputs @ candidate
        penalty = ridge / 2 * float(candidate @ candidate)
        return float((np.logaddexp(0, z) - targets * z).sum()) + penalty

    for _ in range(STEPS):
        predicted = _sigmoid(inputs @ weights)
        gradient = inputs.T @ (predicted - targets) + ridge * weights
        variance = predicted * (1 - predicted)
        hessian = (inputs * variance[:, None]).T @ inputs + ridge * np.eye(len(weights))
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while size > 1e-8 and loss(weights - size * step) > loss(weights):
            size /= 2
        weights = weights - size * step
        if np.abs(size * step).max() < 1e-10:
            break
    return weights


def isotonic(truth: np.ndarray, probabilities: np.ndarray) -> Isotonic:
    """Fit the non-decreasing function of least squared error.

    By pooling adjacent violators. Raises ValueError for no rows.
    """
    truth, p = checked_labels(truth, probabilities)
    if not len(p):
        raise ValueError("no labels: there is nothing to fit a calibration to")
    knots, codes = np.unique(checked_probabilities(p), return_inverse=True)
    rows = np.bincount(codes).astype(np.float64)
    values = pool_adjacent_violators(np.bincount(codes, truth) / rows, rows)
    is_edge = np.r_[True, (values[1:] != values[:-1]), True]
    is_end = is_edge[1:] | is_edge[:-1]  # both ends of every step
    return Isotonic(knots[is_end], values[is_end])


def pool_adjacent_violators(means: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return (b,) the non-decreasing values nearest to means (b,), weighted by rows (b,)."""
    pool_means: list[float] = []
    pool_rows: list[float] = []
    pool_sizes: list[int] = []
    for mean, weight in zip(means.tolist(), rows.tolist(), strict=True):
        pool_means.append(mean)
        pool_rows.append(weight)
        pool_sizes.append(1)
        while len(pool_means) > 1 and pool_means[-2] >= pool_means[-1]:
            total = pool_rows[-2] + pool_rows[-1]
            weighted = pool_means[-2] * pool_rows[-2] + pool_means[-1] * pool_rows[-1]
            pool_means[-2:] = [weighted / total]
            pool_rows[-2:] = [total]
            pool_sizes[-2:] = [pool_sizes[-2] + pool_sizes[-1]]
    return np.repeat(pool_means, pool_sizes)


def _log_odds(probabilities: np.ndarray) -> np.ndarray:
    p = np.clip(checked_probabilities(np.asarray(probabilities, dtype=np.float64)), CLIP, 1 - CLIP)
    log_odds: np.ndarray = np.log(p) - np.log1p(-p)
    return log_odds


def _sigmoid(z: np.ndarray) -> np.ndarray:
    probabilities: np.ndarray = np.exp(-np.logaddexp(0, -z))
    return probabilities
