"""How alike two vectors or sets are, pair by pair. P pairs, D entries; x and y (P, D) float, NaN
where an entry was not observed.

Only entries observed in both count. Every function returns (P,) float64, NaN where the figure is
undefined.
"""

import numpy as np
from scipy.stats import kendalltau, rankdata


def _both(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x and y with 0 where one of them was not observed, and (P, D) bool where both were."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 2:
        raise ValueError(f"x has shape {x.shape}, y {y.shape}: both must be (P, D)")
    seen = ~np.isnan(x) & ~np.isnan(y)
    return np.where(seen, x, 0.0), np.where(seen, y, 0.0), seen


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.where(below > 0, above / np.where(below > 0, below, 1), np.nan)


def shrunk(similarity: np.ndarray, observed: np.ndarray, beta: float) -> np.ndarray:
    """similarity * n / (n + beta) for n entries observed in both: little evidence counts less (Bell
    and Koren 2007).
    """
    return similarity * observed / (observed + beta)


def cosine(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x.y / (|x| |y|). Range -1 to 1; NaN for a vector of zeros."""
    x, y, _ = _both(x, y)
    return _ratio((x * y).sum(axis=1), np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1)))


def adjusted_cosine(x: np.ndarray, y: np.ndarray, user_means: np.ndarray) -> np.ndarray:
    """Cosine of two items' ratings less each user's mean `user_means` (D,), the entries being users
    (Sarwar et al. 2001). Range -1 to 1.
    """
    return cosine(x - user_means, y - user_means)


def pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Cosine of what differs from each vector's own mean over the shared entries. Range -1 to 1.

    NaN for fewer than 2 shared entries or a constant vector.
    """
    x, y, seen = _both(x, y)
    n = np.maximum(seen.sum(axis=1), 1)[:, None]
    x, y = (np.where(seen, v - v.sum(axis=1, keepdims=True) / n, 0.0) for v in (x, y))
    spread = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.clip(_ratio((x * y).sum(axis=1), np.where(spread > 1e-12, spread, 0)), -1, 1)


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson of the mid-ranks among the shared entries. Range -1 to 1; NaN as for `pearson`."""
    x, y, seen = _both(x, y)
    x, y = (rankdata(np.where(seen, v, np.nan), axis=1, nan_policy="omit") for v in (x, y))
    return pearson(x, y)


def kendall(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Tau-b: (pairs in the same order - in the other) / root of the products of pairs untied in
    each. Range -1 to 1; NaN as for `pearson`.
    """
    x, y, seen = _both(x, y)
    return np.array(
        [
            kendalltau(a[s], b[s]).statistic if s.sum() > 1 else np.nan
            for a, b, s in zip(x, y, seen, strict=True)
        ]
    )


def jaccard(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Shared / all of two sets, each given as (P, D) bool. Range 0 to 1; NaN for two empty sets."""
    x, y = np.asarray(x, dtype=bool), np.asarray(y, dtype=bool)
    return _ratio((x & y).sum(axis=1).astype(float), (x | y).sum(axis=1))


def weighted_jaccard(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sum of the smaller / sum of the larger weights. Range 0 to 1; NaN where all are 0. Raises
    ValueError for a negative weight.
    """
    x, y, _ = _both(x, y)
    if min(x.min(initial=0), y.min(initial=0)) < 0:
        raise ValueError(f"weights are not below 0, one is {min(x.min(), y.min()):g}")
    return _ratio(np.minimum(x, y).sum(axis=1), np.maximum(x, y).sum(axis=1))


def _distance(x: np.ndarray, y: np.ndarray, order: float) -> np.ndarray:
    x, y, seen = _both(x, y)
    return np.where(seen.any(axis=1), np.linalg.norm(x - y, order, axis=1), np.nan)


def euclidean(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance: root of the sum of squared differences. Range 0 upwards; NaN without a shared
    entry.
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
    x, y, seen = _both(x, y)
    return _ratio((x != y).sum(axis=1).astype(float), seen.sum(axis=1))


def from_distance(distance: np.ndarray) -> np.ndarray:
    """1 / (1 + distance), a similarity. Range above 0 to 1."""
    return 1 / (1 + distance)
