"""Measure lists apart from their accuracy: coverage, concentration, novelty, diversity.

U users, K list length, N items; rows (U, K) int item rows of the lists, -1 for none.
"""

import numpy as np
import scipy.sparse as sp


def exposure(rows: np.ndarray, items: int) -> np.ndarray:
    """Count (N,) the lists that hold each item."""
    return np.bincount(rows[rows >= 0], minlength=items)


def coverage(rows: np.ndarray, items: int) -> float:
    """Share of the catalogue that is in at least one list. Range 0 to 1."""
    return float((exposure(rows, items) > 0).mean()) if items else float("nan")


def gini(rows: np.ndarray, items: int) -> float:
    """Concentration of exposure over the catalogue.

    0 when all items are shown equally, (N - 1) / N when only one is. NaN for empty lists.
    """
    return concentration(exposure(rows, items))


def concentration(amounts: np.ndarray) -> float:
    """Gini coefficient of (N,) amounts, such as exposure or sales.

    0 where all are equal, (N - 1) / N where one has all. NaN where all are 0.
    """
    ordered = np.sort(amounts)
    n = len(ordered)
    if not ordered.sum():
        return float("nan")
    weights = 2 * np.arange(1, n + 1) - n - 1
    return float((weights * ordered).sum() / (n * ordered.sum()))


def novelty(rows: np.ndarray, item_users: np.ndarray, users: int) -> np.ndarray:
    """Mean (U,) of -log2(share of users who have the item), in bits.

    `item_users` (N,) users per item; an item without users counts as having one. NaN for an empty
    list.
    """
    bits = -np.log2(np.maximum(item_users, 1) / max(users, 1))
    is_item = rows >= 0
    return _mean(np.where(is_item, bits[rows], 0.0).sum(axis=1), is_item.sum(axis=1))


def intra_list_diversity(rows: np.ndarray, vectors: np.ndarray | sp.csr_matrix) -> np.ndarray:
    """Mean (U,) of 1 - cosine over the pairs of items of a list.

    `vectors` (N, D) of unit length, dense or sparse. NaN for fewer than 2 items. Uses |sum of
    vectors|^2 = sum of squares + twice the sum over pairs, so no loop over pairs is needed.
    """
    is_item = rows >= 0
    counts = is_item.sum(axis=1)
    owners = np.repeat(np.arange(len(rows)), counts)
    lists = sp.csr_matrix(
        (np.ones(len(owners), np.float64), (owners, rows[is_item])),
        shape=(len(rows), vectors.shape[0]),
    )
    total = _squared_lengths(lists @ vectors)
    sum_of_squares = lists @ _squared_lengths(vectors)
    pairs = counts * (counts - 1) / 2
    return 1 - _mean((total - sum_of_squares) / 2, pairs)


def _squared_lengths(rows: np.ndarray | sp.csr_matrix) -> np.ndarray:
    """Return (n,) squared Euclidean lengths of rows (n, D)."""
    squares = rows.multiply(rows) if isinstance(rows, sp.csr_matrix) else rows**2
    return np.asarray(squares.sum(axis=1)).ravel()


def _mean(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return sums / counts with NaN for counts of 0."""
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
