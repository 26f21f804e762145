"""Probabilities made to happen as often as they say. Fit on validation, never on what is judged."""

from typing import NamedTuple

import numpy as np

from tailor.metrics.prediction import CLIP, checked_labels, checked_probabilities

STEPS = 100  # of Newton's method at most


class Platt(NamedTuple):
    """1 / (1 + exp(-(slope * log-odds + shift))): two numbers, for few labels (Platt 1999)."""

    slope: float
    shift: float

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """(n,) probabilities -> (n,)."""
        out: np.ndarray = _sigmoid(self.slope * _log_odds(probabilities) + self.shift)
        return out


class Isotonic(NamedTuple):
    """A rising line through steps: whatever shape the error has, for thousands of labels (Zadrozny
    and Elkan 2002).
    """

    at: np.ndarray
    """(b,) ascending probabilities."""
    values: np.ndarray
    """(b,) what happened there, never falling."""

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """(n,) probabilities -> (n,); straight lines between the steps, flat beyond them."""
        return np.interp(
            checked_probabilities(np.asarray(probabilities, dtype=np.float64)), self.at, self.values
        )


def platt(truth: np.ndarray, probabilities: np.ndarray) -> Platt:
    """The slope and shift of largest likelihood, found by Newton's method; labels are drawn in a
    little, as Platt does, so that nothing becomes certain.

    `truth` (n,) of 0 and 1. Raises ValueError where only one label occurs.
    """
    truth, p = checked_labels(truth, probabilities)
    slope, shift = logistic(truth, np.column_stack([_log_odds(p), np.ones(len(p))]))
    return Platt(float(slope), float(shift))


def logistic(truth: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """(p,) weights of `inputs` (n, p), whose sum gives log-odds, of largest likelihood; labels as
    in `platt`, found by Newton's method.

    `truth` (n,) of 0 and 1. Raises ValueError where only one label occurs.
    """
    positive = float(truth.sum())
    if not 0 < positive < len(truth):
        raise ValueError(
            f"{len(truth)} labels, {positive:g} of them 1: both must occur to fit a calibration"
        )
    wanted = np.where(truth > 0, (positive + 1) / (positive + 2), 1 / (len(truth) - positive + 2))
    weights = np.zeros(inputs.shape[1])

    def loss(of: np.ndarray) -> float:
        z = inputs @ of
        return float((np.logaddexp(0, z) - wanted * z).sum())

    for _ in range(STEPS):
        said = _sigmoid(inputs @ weights)
        gradient = inputs.T @ (said - wanted)
        curve = (inputs * (said * (1 - said))[:, None]).T @ inputs + 1e-10 * np.eye(len(weights))
        step, size = np.linalg.solve(curve, gradient), 1.0
        while size > 1e-8 and loss(weights - size * step) > loss(weights):
            size /= 2
        weights = weights - size * step
        if np.abs(size * step).max() < 1e-10:
            break
    return weights


def isotonic(truth: np.ndarray, probabilities: np.ndarray) -> Isotonic:
    """The rising function of least squared error, by pooling neighbours that fall (pool adjacent
    violators). Raises ValueError for no rows.
    """
    truth, p = checked_labels(truth, probabilities)
    if not len(p):
        raise ValueError("no labels: there is nothing to fit a calibration to")
    at, place = np.unique(checked_probabilities(p), return_inverse=True)
    weight = np.bincount(place).astype(np.float64)
    mean = np.bincount(place, truth) / weight
    means, weights, sizes = list[float](), list[float](), list[int]()
    for value, mass in zip(mean.tolist(), weight.tolist(), strict=True):
        means.append(value)
        weights.append(mass)
        sizes.append(1)
        while len(means) > 1 and means[-2] >= means[-1]:
            both = weights[-2] + weights[-1]
            means[-2:] = [(means[-2] * weights[-2] + means[-1] * weights[-1]) / both]
            weights[-2:], sizes[-2:] = [both], [sizes[-2] + sizes[-1]]
    values = np.repeat(means, sizes)
    edge = np.r_[True, (values[1:] != values[:-1]), True]
    kept = edge[1:] | edge[:-1]  # both ends of every step
    return Isotonic(at[kept], values[kept])


def _log_odds(probabilities: np.ndarray) -> np.ndarray:
    p = np.clip(checked_probabilities(np.asarray(probabilities, dtype=np.float64)), CLIP, 1 - CLIP)
    out: np.ndarray = np.log(p) - np.log1p(-p)
    return out


def _sigmoid(z: np.ndarray) -> np.ndarray:
    out: np.ndarray = np.exp(-np.logaddexp(0, -z))
    return out
