"""How far two systems agree. a, b (U, K) int item rows of the same users, best first, -1 for none;
figures are (U,) float64, NaN where undefined.
"""

import numpy as np
from scipy.stats import kendalltau

from tailor.metrics.candidates import shared_items
from tailor.metrics.ranking import first_places


def overlap(a: np.ndarray, b: np.ndarray, k: int) -> np.ndarray:
    """Items in both lists' first k / k. Range 0 to 1; NaN where both lists are empty. Raises
    ValueError for k below 1.
    """
    a, b = first_places(a, k), first_places(b, k)
    empty = ~(a >= 0).any(axis=1) & ~(b >= 0).any(axis=1)
    return np.where(empty, np.nan, shared_items(a, b) / k)


def rank_biased_overlap(a: np.ndarray, b: np.ndarray, p: float = 0.9) -> np.ndarray:
    """(1 - p) / p * sum over depths d of overlap@d * p^d, extrapolated with the overlap at the last
    depth (Webber et al. 2010).

    For two lists of the same length K, both full: range 0 to 1, 1 for equal lists. Lists shorter
    than K count as disagreeing beyond their end.
    """
    depth = min(a.shape[1], b.shape[1])
    empty = ~(a >= 0).any(axis=1) & ~(b >= 0).any(axis=1)
    if not depth:
        return np.full(len(a), np.nan)
    agreed = np.stack([shared_items(a[:, :d], b[:, :d]) / d for d in range(1, depth + 1)], axis=1)
    weights = p ** np.arange(1.0, depth + 1)
    return np.where(empty, np.nan, (1 - p) / p * (agreed @ weights) + agreed[:, -1] * p**depth)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Kendall's tau-b of two systems' or measures' values (n,) over the same things. Range -1 to 1;
    NaN for fewer than 2 or a constant one.
    """
    both = ~np.isnan(a) & ~np.isnan(b)
    return float(kendalltau(a[both], b[both]).statistic) if both.sum() > 1 else float("nan")


def wins(a: np.ndarray, b: np.ndarray) -> tuple[int, int, int]:
    """Users for whom b has the higher value, the same, the lower; a, b (U,) per-user values, those
    with NaN left out.
    """
    difference = (b - a)[~np.isnan(a) & ~np.isnan(b)]
    return int((difference > 0).sum()), int((difference == 0).sum()), int((difference < 0).sum())
