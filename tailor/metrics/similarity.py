"""Measure how alike two vectors or sets are, pair by pair.

P pairs, D entries; x and y (P, D) float, NaN where an entry was not observed. Only entries observed
in both count. Every function returns (P,) float64, NaN where the figure is undefined.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import kendalltau, rankdata


class _Pairs(NamedTuple):
    """Two sets of vectors with 0 at entries that are not observed in both."""

    x: np.ndarray
    y: np.ndarray
    observed: np.ndarray
    """(P, D) bool: observed in both."""


def _aligned(x: np.ndarray, y: np.ndarray) -> _Pairs:
    """Return the pairs with only entries observed in both; ValueError for other shapes."""
    x = np.asarray(x, dtype=np.float64)
    y = np.asarray(y, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 2:
        raise ValueError(f"x has shape {x.shape}, y {y.shape}: both must be (P, D)")
    observed = ~np.isnan(x) & ~np.isnan(y)
    return _Pairs(np.where(observed, x, 0.0), np.where(observed, y, 0.0), observed)


def _ratio(dividend: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    """Return dividend / divisor with NaN for divisors of 0."""
    return np.where(divisor > 0, dividend / np.where(divisor > 0, divisor, 1), np.nan)


def shrunk(similarity: np.ndarray, observed: np.ndarray, beta: float) -> np.ndarray:
    """Shrink similarities of little evidence towards 0 (Bell and Koren 2007).

    similarity * n / (n + beta) for n entries observed in both.
    """
    return similarity * observed / (observed + beta)


def cosine(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x.y / (|x| |y|). Range -1 to 1; NaN for a vector of zeros."""
    x, y, _ = _aligned(x, y)
    lengths = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return _ratio((x * y).sum(axis=1), lengths)


def adjusted_cosine(x: np.ndarray, y: np.ndarray, user_means: np.ndarray) -> np.ndarray:
    """Cosine of two items' ratings minus each user's mean (Sarwar et al. 2001).

    Entries are users; `user_means` (D,). Range -1 to 1.
    """
    return cosine(x - user_means, y - user_means)


def pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Cosine of the vectors minus their own means over the shared entries. Range -1 to 1.

    NaN for fewer than 2 shared entries or a constant vector.
    """
    x, y, observed = _aligned(x, y)
    counts = observed.sum(axis=1, keepdims=True)
    counts = np.maximum(counts, 1)
    x_means = x.sum(axis=1, keepdims=True) / counts
    y_means = y.sum(axis=1, keepdims=True) / counts
    x = np.where(observed, x - x_means, 0.0)
    y = np.where(observed, y - y_means, 0.0)
    x_squares = (x**2).sum(axis=1)
    y_squares = (y**2).sum(axis=1)
    spread = np.sqrt(x_squares * y_squares)
    spread = np.where(spread > 1e-12, spread, 0)
    products = (x * y).sum(axis=1)
    return np.clip(_ratio(products, spread), -1, 1)


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson of the mid-ranks among the shared entries. Range -1 to 1; NaN as for `pearson`."""
    x, y, observed = _aligned(x, y)
    x_ranks = rankdata(np.where(observed, x, np.nan), axis=1, nan_policy="omit")
    y_ranks = rankdata(np.where(observed, y, np.nan), axis=1, nan_policy="omit")
    return pearson(x_ranks, y_ranks)


def kendall(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Tau-b: concordant minus discordant pairs / geometric mean of the untied pairs.

    Range -1 to 1; NaN as for `pearson`.
    """
    x, y, observed = _aligned(x, y)
    values = np.full(len(x), np.nan)
    for i, mask in enumerate(observed):
        if mask.sum() > 1:
            values[i] = kendalltau(x[i][mask], y[i][mask]).statistic
    return values


def jaccard(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Shared / all of two sets, each (P, D) bool. Range 0 to 1; NaN for two empty sets."""
    x = np.asarray(x, dtype=bool)
    y = np.asarray(y, dtype=bool)
    return _ratio((x & y).sum(axis=1).astype(float), (x | y).sum(axis=1))


def weighted_jaccard(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sum of the smaller / sum of the larger weights.

    Range 0 to 1; NaN where all are 0. Raises ValueError for a negative weight.
    """
    x, y, _ = _aligned(x, y)
    lowest = min(x.min(initial=0), y.min(initial=0))
    if lowest < 0:
        raise ValueError(f"weights are not below 0, one is {lowest:g}")
    smaller = np.minimum(x, y)
    larger = np.maximum(x, y)
    return _ratio(smaller.sum(axis=1), larger.sum(axis=1))


def _distance(x: np.ndarray, y: np.ndarray, order: float) -> np.ndarray:
    """Return the norm of x - y of an order, NaN without a shared entry."""
    x, y, observed = _aligned(x, y)
    return np.where(observed.any(axis=1), np.linalg.norm(x - y, order, axis=1), np.nan)


def euclidean(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance: root of the sum of squared differences.

    Range 0 upwards; NaN without a shared entry.
    """
    return _distance(x, y, 2)


def manhattan(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance: sum of absolute differences. Range 0 upwards; NaN without a shared entry."""
    return _distance(x, y, 1)


def chebyshev(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance: the largest absolute difference. Range 0 upwards; NaN without a shared entry."""
    return _distance(x, y, np.inf)


def hamming(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance: share of shared entries that differ. Range 0 to 1; NaN without a shared entry."""
    x, y, observed = _aligned(x, y)
    return _ratio((x != y).sum(axis=1).astype(float), observed.sum(axis=1))


def from_distance(distance: np.ndarray) -> np.ndarray:
    """Return the similarity 1 / (1 + distance). Range above 0 to 1."""
    return 1 / (1 + distance)
