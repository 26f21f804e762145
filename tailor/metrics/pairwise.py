"""Strengths and soft labels from comparisons of pairs."""

from itertools import combinations

import numpy as np
from scipy.optimize import brentq

from tailor.metrics.recalibration import fit_logistic

PAIR_RIDGE = 0.1  # keeps the strength of what wins all comparisons finite


def bradley_terry(votes: np.ndarray) -> np.ndarray:
    """Return strengths (n,) of documents from the scores (T, n) that T teachers give them.

    Each pair is a comparison a teacher; equal scores are half a win each (Bradley and Terry 1952).
    """
    n = votes.shape[1]
    pairs = list(combinations(range(n), 2))
    if not pairs:
        return np.zeros(n)
    first, second = np.array(pairs).T
    gaps = votes[:, first] - votes[:, second]
    wins = ((gaps > 0) + 0.5 * (gaps == 0)).mean(axis=0)
    inputs = np.zeros((len(pairs), n))
    inputs[np.arange(len(pairs)), first] = 1
    inputs[np.arange(len(pairs)), second] = -1
    return fit_logistic(wins, inputs, PAIR_RIDGE)


def soft_labels(strengths: np.ndarray, total: float) -> np.ndarray:
    """Return labels (n,) by the logistic function of strengths, shifted to sum to `total`.

    So the labels of a list hold as many answers as its judgements name, and stay calibrated.
    """
    if not 0 < total < len(strengths):
        return np.full(len(strengths), float(total > 0))
    widest = np.abs(strengths).max() + 30

    def excess(shift: float) -> float:
        return float((1 / (1 + np.exp(shift - strengths))).sum()) - total

    labels: np.ndarray = 1 / (1 + np.exp(brentq(excess, -widest, widest) - strengths))
    return labels
