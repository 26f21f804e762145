"""How good an ordered list is, one value a user. U users, K list length; hits (U, K) bool, best first.

Every function returns (U,) float64, NaN for a user without a relevant item: undefined is never 0.
Lists shorter than K count as misses at the ranks they do not fill.
"""

import numpy as np


def hits(rows: np.ndarray, offsets: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(U, K) bool: whether the item at each rank is relevant.

    `rows` (U, K) int item rows, -1 for none; user u's relevant rows are `targets[offsets[u]:offsets[u + 1]]`.
    Raises ValueError where a list holds an item twice, which would count it twice.
    """
    users, width = rows.shape
    ordered = np.sort(rows, axis=1)
    if width > 1 and ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        raise ValueError("a list holds the same item twice")
    counts = np.diff(offsets)
    if (counts == 1).all():
        return (rows == targets[:, None]) & (rows >= 0)
    base = int(max(rows.max(initial=0), targets.max(initial=0))) + 1
    owners = np.repeat(np.arange(users), counts)
    keys = np.arange(users)[:, None] * base + rows
    return np.isin(keys, (owners * base + targets)[targets >= 0]) & (rows >= 0)


def relevant_counts(offsets: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(U,) number of distinct relevant items of each user."""
    owners = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    base = int(targets.max(initial=0)) + 2  # -1, an unknown item, is one more
    pairs = np.unique(owners * base + targets + 1)
    return np.bincount(pairs // base, minlength=len(offsets) - 1)


def _defined(values: np.ndarray | np.floating, relevant: np.ndarray) -> np.ndarray:
    return np.where(relevant > 0, values, np.nan)


def hit_rate(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """1 where any of the first k is relevant. Range 0 to 1. Equals recall where each user has one relevant item."""
    return _defined(hits[:, :k].any(axis=1).astype(np.float64), relevant)


def recall(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Relevant items among the first k / all relevant items. Range 0 to 1; below 1 where there are more than k."""
    return _defined(hits[:, :k].sum(axis=1) / np.maximum(relevant, 1), relevant)


def precision(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Relevant items among the first k / k. Range 0 to 1."""
    return _defined(hits[:, :k].sum(axis=1) / k, relevant)


def reciprocal_rank(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """1 / rank of the first relevant item among the first k, else 0; its mean is MRR@k."""
    top = hits[:, :k]
    return _defined((top / np.arange(1, top.shape[1] + 1)).max(axis=1, initial=0.0), relevant)


def average_precision(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Mean of precision@j over the ranks j of the hits, the sum divided by min(k, relevant); its mean is MAP@k."""
    top = hits[:, :k]
    precision_at = np.cumsum(top, axis=1) / np.arange(1, top.shape[1] + 1)
    return _defined((precision_at * top).sum(axis=1) / np.maximum(np.minimum(relevant, k), 1), relevant)


def ndcg(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Sum over hits of 1 / log2(rank + 1), divided by that of a perfect list (Järvelin and Kekäläinen 2002, binary gains)."""
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discounts)[np.clip(np.minimum(relevant, k), 1, None) - 1]
    top = hits[:, :k]
    gained = np.asarray(top @ discounts[: top.shape[1]])
    return _defined(gained / ideal, relevant)


PER_USER = {"HR": hit_rate, "recall": recall, "precision": precision, "NDCG": ndcg, "MRR": reciprocal_rank, "MAP": average_precision}
