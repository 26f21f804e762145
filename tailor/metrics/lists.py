"""What lists are like apart from being right: coverage, concentration, novelty, diversity.

U users, K list length, N items; rows (U, K) int item rows of the lists, -1 for none.
"""

import numpy as np
import scipy.sparse as sp


def exposure(rows: np.ndarray, items: int) -> np.ndarray:
    """(N,) in how many lists each item stands."""
    return np.bincount(rows[rows >= 0], minlength=items)


def coverage(rows: np.ndarray, items: int) -> float:
    """Share of the catalogue that stands in at least one list. Range 0 to 1."""
    return float((exposure(rows, items) > 0).mean()) if items else float("nan")


def gini(rows: np.ndarray, items: int) -> float:
    """Concentration of exposure over the catalogue: 0 when all items are shown equally, (N - 1) / N
    when one is. NaN for empty lists.
    """
    return concentration(exposure(rows, items))


def concentration(amounts: np.ndarray) -> float:
    """Gini coefficient of (N,) amounts, exposure or sales: 0 where all are equal, (N - 1) / N where
    one has all. NaN where all are 0.
    """
    ordered = np.sort(amounts)
    n = len(ordered)
    if not ordered.sum():
        return float("nan")
    return float(((2 * np.arange(1, n + 1) - n - 1) * ordered).sum() / (n * ordered.sum()))


def novelty(rows: np.ndarray, item_users: np.ndarray, users: int) -> np.ndarray:
    """(U,) mean of -log2(share of the users who know the item), in bits; an item nobody knows
    counts as known by one. NaN: empty list.
    """
    bits = -np.log2(np.maximum(item_users, 1) / max(users, 1))
    shown = rows >= 0
    return _mean(np.where(shown, bits[rows], 0.0).sum(axis=1), shown.sum(axis=1))


def intra_list_diversity(rows: np.ndarray, vectors: np.ndarray | sp.csr_matrix) -> np.ndarray:
    """(U,) mean of 1 - cosine over the pairs of a list; `vectors` (N, D) of unit length, dense or
    sparse. NaN: fewer than 2 items.

    Uses |sum of vectors|^2 = sum of squares + twice the sum over pairs, so no pair is visited.
    """
    shown = rows >= 0
    counts = shown.sum(axis=1)
    owners = np.repeat(np.arange(len(rows)), counts)
    picks = sp.csr_matrix(
        (np.ones(len(owners), np.float64), (owners, rows[shown])),
        shape=(len(rows), vectors.shape[0]),
    )
    summed = picks @ vectors
    total, own = _squared_lengths(summed), picks @ _squared_lengths(vectors)
    pairs = counts * (counts - 1) / 2
    return 1 - _mean((total - own) / 2, pairs)


def _squared_lengths(rows: np.ndarray | sp.csr_matrix) -> np.ndarray:
    return np.asarray(
        (rows.multiply(rows) if isinstance(rows, sp.csr_matrix) else rows**2).sum(axis=1)
    ).ravel()


def _mean(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
