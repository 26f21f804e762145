"""Measure how far two systems agree.

a, b (U, K) int item rows of the same users, best first, -1 for none; figures are (U,) float64, NaN
where undefined.
"""

import numpy as np
from scipy.stats import kendalltau

from tailor.metrics.candidates import shared_items
from tailor.metrics.ranking import first_places


def overlap(a: np.ndarray, b: np.ndarray, k: int) -> np.ndarray:
    """Items in both lists' first k / k.

    Range 0 to 1; NaN where both lists are empty. Raises ValueError for k below 1.
    """
    a = first_places(a, k)
    b = first_places(b, k)
    return np.where(_both_empty(a, b), np.nan, shared_items(a, b) / float(k))


def _both_empty(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return (U,) whether neither list holds an item."""
    has_items = (a >= 0).any(axis=1) | (b >= 0).any(axis=1)
    return np.asarray(~has_items)


def rank_biased_overlap(a: np.ndarray, b: np.ndarray, p: float = 0.9) -> np.ndarray:
    """(1 - p) / p * sum over depths d of overlap@d * p^d (Webber et al. 2010).

    Extrapolated with the overlap at the last depth. For two full lists of the same length K: range
    0 to 1, 1 for equal lists. Lists shorter than K count as disagreeing beyond their end.
    """
    depth = min(a.shape[1], b.shape[1])
    if not depth:
        return np.full(len(a), np.nan)
    columns: list[np.ndarray] = []
    for d in range(1, depth + 1):
        shared = shared_items(a[:, :d], b[:, :d])
        columns.append(shared / d)
    overlaps = np.stack(columns, axis=1)  # U, depths
    weights = p ** np.arange(1.0, depth + 1)
    weighted = (1 - p) / p * (overlaps @ weights)
    remainder = overlaps[:, -1] * p**depth
    return np.where(_both_empty(a, b), np.nan, weighted + remainder)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Kendall's tau-b of two systems' values (n,) for the same objects.

    Range -1 to 1; NaN for fewer than 2 values or a constant one.
    """
    is_defined = ~np.isnan(a) & ~np.isnan(b)
    if is_defined.sum() < 2:
        return float("nan")
    return float(kendalltau(a[is_defined], b[is_defined]).statistic)


def wins(a: np.ndarray, b: np.ndarray) -> tuple[int, int, int]:
    """Count the users for whom b is higher, equal and lower.

    a, b (U,) values per user; users with NaN are left out.
    """
    differences = (b - a)[~np.isnan(a) & ~np.isnan(b)]
    higher = int((differences > 0).sum())
    equal = int((differences == 0).sum())
    lower = int((differences < 0).sum())
    return higher, equal, lower


def adjusted_rand(a: np.ndarray, b: np.ndarray) -> float:
    """Share of pairs on which two groupings (n,) agree, less chance (Hubert and Arabie 1985).

    Range up to 1 for equal groupings, 0 on average for independent ones; 1 where neither groups.
    """
    first = np.unique(a, return_inverse=True)[1]
    second = np.unique(b, return_inverse=True)[1]
    table = np.zeros((int(first.max(initial=-1)) + 1, int(second.max(initial=-1)) + 1))
    np.add.at(table, (first, second), 1)
    together = _pairs(table).sum()
    in_first = _pairs(table.sum(axis=1)).sum()
    in_second = _pairs(table.sum(axis=0)).sum()
    expected = in_first * in_second / max(_pairs(np.array(float(len(a)))), 1.0)
    most = (in_first + in_second) / 2
    return 1.0 if most == expected else float((together - expected) / (most - expected))


def _pairs(counts: np.ndarray) -> np.ndarray:
    pairs: np.ndarray = counts * (counts - 1) / 2
    return pairs
