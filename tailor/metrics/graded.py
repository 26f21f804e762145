"""Ranking metrics of lists whose relevance has grades, one value per user.

U users, K list length; grades (U, K) float, 0 for an item that is not relevant. Every function
returns (U,) float64, NaN for a user without an item of a grade above 0. Lists shorter than K gain
nothing at the ranks they do not fill.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from tailor.metrics.ranking import first_places, hits, places_of


def grades_of(
    rows: np.ndarray, offsets: np.ndarray, targets: np.ndarray, grades: np.ndarray
) -> np.ndarray:
    """Return (U, K) float64 the grade at each rank, 0 where not judged.

    `rows` (U, K) int item rows, -1 for none; user u's judged rows are `targets[offsets[u]:offsets[u
    + 1]]`, with `grades` parallel to them. Raises ValueError where a list holds an item twice, or a
    user's judgements do.
    """
    list_grades = np.zeros(rows.shape)
    base = int(max(rows.max(initial=0), targets.max(initial=0))) + 1
    keys = np.repeat(np.arange(len(rows)) * base, np.diff(offsets)) + targets
    order = np.argsort(keys)
    if (np.diff(keys[order]) == 0).any():
        raise ValueError("a user judged the same item twice")
    owners, places = places_of(hits(rows, offsets, targets), max(rows.shape[1], 1))
    hit_keys = owners * base + rows[owners, places]
    positions = np.searchsorted(keys, hit_keys, sorter=order)
    list_grades[owners, places] = grades[order[positions]]
    return list_grades


def best_grades(offsets: np.ndarray, grades: np.ndarray, k: int) -> np.ndarray:
    """Return (U, k or fewer) float64 the grades of a perfect list: highest first, then 0.

    No wider than the longest list of judged items.
    """
    users = len(offsets) - 1
    lengths = np.diff(offsets)
    width = min(k, int(lengths.max(initial=1)))
    owners = np.repeat(np.arange(users), lengths)
    order = np.lexsort((-grades, owners))
    places = np.arange(len(grades)) - np.repeat(offsets[:-1], lengths)
    is_first = places < width
    best = np.zeros((users, width))
    best[owners[is_first], places[is_first]] = grades[order][is_first]
    return best


def _defined(values: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Return the values with NaN for users without a grade above 0."""
    return np.where((best > 0).any(axis=1), values, np.nan)


def _discounted(grades: np.ndarray, k: int, exponential: bool = False) -> np.ndarray:
    """Return (U,) sum over ranks of gain / log2(rank + 1)."""
    owners, places = places_of(grades != 0, k)
    gains = grades[owners, places]
    if exponential:
        gains = np.exp2(gains) - 1
    return np.bincount(owners, gains / np.log2(places + 2), minlength=len(grades))


def dcg(grades: np.ndarray, best: np.ndarray, k: int) -> np.ndarray:
    """Sum over ranks j of grade / log2(j + 1): linear gain (Järvelin and Kekäläinen 2002).

    Range 0 upwards.
    """
    return _defined(_discounted(grades, k), best)


def dcg_exponential(grades: np.ndarray, best: np.ndarray, k: int) -> np.ndarray:
    """Sum over ranks j of (2^grade - 1) / log2(j + 1) (Burges et al. 2005). Range 0 upwards."""
    return _defined(_discounted(grades, k, exponential=True), best)


def ndcg(grades: np.ndarray, best: np.ndarray, k: int) -> np.ndarray:
    """DCG@k with linear gain, divided by that of the perfect list. Range 0 to 1.

    `best` is `best_grades` for k or more.
    """
    return dcg(grades, best, k) / dcg(best, best, k)


def ndcg_exponential(grades: np.ndarray, best: np.ndarray, k: int) -> np.ndarray:
    """DCG@k with gain 2^grade - 1, divided by that of the perfect list. Range 0 to 1."""
    return dcg_exponential(grades, best, k) / dcg_exponential(best, best, k)


def rank_biased_precision(
    grades: np.ndarray, best: np.ndarray, k: int, p: float = 0.8
) -> np.ndarray:
    """(1 - p) * sum of grade * p^(rank - 1) (Moffat and Zobel 2008).

    Below 1 where grades are at most 1.
    """
    top = first_places(grades, k)
    weights = p ** np.arange(float(top.shape[1]))
    return _defined((1 - p) * np.asarray(top @ weights), best)


def expected_reciprocal_rank(
    grades: np.ndarray, best: np.ndarray, k: int, highest: int = 4
) -> np.ndarray:
    """Expected 1 / rank at which a satisfied reader stops (Chapelle et al. 2009).

    An item satisfies with probability (2^grade - 1) / 2^highest. Range 0 to 1. Raises ValueError
    for a grade above `highest`, the highest of the scale (not of the data).
    """
    top = first_places(grades, k)
    if (top > highest).any():
        raise ValueError(f"a grade of {top.max():g} is above the highest of the scale, {highest}")
    satisfies = (np.exp2(top) - 1) / 2.0**highest
    continues = np.concatenate([np.ones((len(top), 1)), 1 - satisfies], axis=1)
    reaches = np.cumprod(continues, axis=1)[:, :-1]
    ranks = np.arange(1, top.shape[1] + 1)
    return _defined((satisfies * reaches / ranks).sum(axis=1), best)


GRADED: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "DCG": dcg,
    "DCG-exp": dcg_exponential,
    "NDCG": ndcg,
    "NDCG-exp": ndcg_exponential,
    "RBP": rank_biased_precision,
    "RBP.95": partial(rank_biased_precision, p=0.95),
    "ERR": expected_reciprocal_rank,
}
