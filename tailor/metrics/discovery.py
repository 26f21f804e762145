"""What lists let people discover: new, surprising, varied, not only the popular. U users, K list
length, N items.

rows (U, K) int item rows, -1 for none; hits (U, K) bool. Per-user figures are (U,) float64, NaN for
an empty list unless said otherwise.
"""

import numpy as np
import scipy.sparse as sp

from tailor.metrics.candidates import shared_items

PAIRS = 10_000  # of users, sampled for `personalisation`


def _mean_over(values: np.ndarray, shown: np.ndarray) -> np.ndarray:
    counts = shown.sum(axis=1)
    return np.where(
        counts > 0, np.where(shown, values, 0.0).sum(axis=1) / np.maximum(counts, 1), np.nan
    )


def _discounts(width: int) -> np.ndarray:
    return 1 / np.log2(np.arange(2, width + 2))


def average_popularity(rows: np.ndarray, item_users: np.ndarray) -> np.ndarray:
    """Mean number of users who know the items shown (ARP; Yin et al. 2012). `item_users` (N,).
    Range 0 to the number of users.
    """
    return _mean_over(item_users[rows], rows >= 0)


def long_tail_share(rows: np.ndarray, is_tail: np.ndarray) -> np.ndarray:
    """Share of a list that is of the long tail (APLT; Abdollahpouri et al. 2019). `is_tail` (N,)
    bool. Range 0 to 1.
    """
    return _mean_over(is_tail[rows], rows >= 0)


def long_tail(item_users: np.ndarray, share: float = 0.2) -> np.ndarray:
    """(N,) bool: the least known items that together hold the last `share` of all known pairs,
    unknown ones among them.
    """
    order = np.argsort(-item_users, kind="stable")
    before = np.cumsum(item_users[order]) - item_users[order]
    out = np.empty(len(item_users), dtype=bool)
    out[order] = before >= (1 - share) * item_users.sum()
    return out | (item_users == 0)


def expected_popularity_complement(
    rows: np.ndarray, hits: np.ndarray, item_users: np.ndarray
) -> np.ndarray:
    """Sum over hits of discount * (1 - popularity / highest popularity) / sum of discounts (EPC;
    Vargas and Castells 2011). Range 0 to 1.
    """
    return _discounted_hits(rows, hits, 1 - item_users / max(item_users.max(initial=0), 1))


def expected_free_discovery(
    rows: np.ndarray, hits: np.ndarray, item_users: np.ndarray
) -> np.ndarray:
    """Sum over hits of discount * -log2(share of known pairs that are of the item) / sum of
    discounts, in bits (EFD; same source).

    An item nobody knows counts as known by one.
    """
    return _discounted_hits(
        rows, hits, -np.log2(np.maximum(item_users, 1) / max(item_users.sum(), 1))
    )


def _discounted_hits(rows: np.ndarray, hits: np.ndarray, worth: np.ndarray) -> np.ndarray:
    shown, discounts = rows >= 0, _discounts(rows.shape[1])
    total = shown @ discounts
    return np.where(
        total > 0,
        np.where(hits & shown, worth[rows], 0.0) @ discounts / np.where(total > 0, total, 1),
        np.nan,
    )


def unexpectedness(rows: np.ndarray, obvious: np.ndarray) -> np.ndarray:
    """Share of a list outside the obvious one, `obvious` (U, any) item rows of a primitive method
    named beside the figure (Ge et al. 2010).
    """
    lengths = (rows >= 0).sum(axis=1)
    return np.where(lengths > 0, 1 - shared_items(rows, obvious) / np.maximum(lengths, 1), np.nan)


def serendipity(rows: np.ndarray, hits: np.ndarray, obvious: np.ndarray) -> np.ndarray:
    """Share of a list that is outside the obvious one and relevant (Ge et al. 2010). Range 0 to
    `unexpectedness`.
    """
    lengths = (rows >= 0).sum(axis=1)
    relevant = np.where(hits, rows, -1)
    found = (relevant >= 0).sum(axis=1) - shared_items(relevant, obvious)
    return np.where(lengths > 0, found / np.maximum(lengths, 1), np.nan)


def temporal_diversity(rows: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Share of a list that was not in the list of the visit before, `before` (U, any) item rows
    (Lathia et al. 2010). Range 0 to 1.
    """
    return unexpectedness(rows, before)


def personalisation(rows: np.ndarray, seed: int = 0, pairs: int = PAIRS) -> float:
    """1 - mean share of a list that also stands in another user's, over random pairs of users with
    lists. Range 0 to 1; NaN for fewer than 2.

    The share is of the shorter list; all pairs are taken where there are no more than `pairs`.
    """
    some = rows[(rows >= 0).any(axis=1)]
    n = len(some)
    if n < 2:
        return float("nan")
    if n * (n - 1) // 2 <= pairs:
        a, b = np.triu_indices(n, 1)
    else:
        rng = np.random.default_rng(seed)
        a = rng.integers(0, n, pairs)
        b = (a + rng.integers(1, n, pairs)) % n
    lengths = (some >= 0).sum(axis=1)
    return float(1 - (shared_items(some[a], some[b]) / np.minimum(lengths[a], lengths[b])).mean())


# ---- over categories: `categories` (N, C) sparse or dense, above 0 where an item has one


def category_counts(rows: np.ndarray, categories: np.ndarray | sp.spmatrix) -> np.ndarray:
    """(U, C) how many of a list's items have each category."""
    shown = rows >= 0
    owners = np.repeat(np.arange(len(rows)), shown.sum(axis=1))
    picks = sp.csr_matrix(
        (np.ones(len(owners)), (owners, rows[shown])), shape=(len(rows), categories.shape[0])
    )
    return np.asarray((picks @ sp.csr_matrix(categories)).todense())


def category_entropy(rows: np.ndarray, categories: np.ndarray | sp.spmatrix) -> np.ndarray:
    """Entropy in bits of a list's shares of categories. Range 0 to log2 C; NaN where no item has a
    category.
    """
    counts = category_counts(rows, categories)
    total = counts.sum(axis=1, keepdims=True)
    p = counts / np.where(total > 0, total, 1)
    bits = -(p * np.log2(np.where(p > 0, p, 1))).sum(axis=1)
    return np.where(total[:, 0] > 0, bits, np.nan)


def subtopic_recall(
    rows: np.ndarray, hits: np.ndarray, categories: np.ndarray | sp.spmatrix, wanted: np.ndarray
) -> np.ndarray:
    """Share of the categories a user wants, `wanted` (U, C) bool, that a relevant item of the list
    has (Zhai et al. 2003). NaN: none wanted.
    """
    found = category_counts(np.where(hits, rows, -1), categories) > 0
    counts = wanted.sum(axis=1)
    return np.where(counts > 0, (found & wanted).sum(axis=1) / np.maximum(counts, 1), np.nan)


def alpha_ndcg(
    rows: np.ndarray,
    aspects: sp.csr_matrix | np.ndarray,
    wanted: sp.csr_matrix | np.ndarray,
    candidates: list[np.ndarray],
    k: int,
    alpha: float = 0.5,
) -> np.ndarray:
    """NDCG@k in which an aspect seen j times before gains (1 - alpha)^j (Clarke et al. 2008). Range
    0 to 1; NaN where nothing can be gained.

    `aspects` (N, C) above 0 where an item has an aspect, `wanted` (U, C) above 0 where a user wants
    it, `candidates` each user's relevant item rows, from which the ideal list is made greedily, as
    is usual: the true best is hard to find, so that values a little above 1 are possible. Loops
    over users: for judged sets, not for millions.
    """
    has = np.asarray(sp.csr_matrix(aspects).todense()) > 0
    wants = np.asarray(sp.csr_matrix(wanted).todense()) > 0
    out = np.full(len(rows), np.nan)
    for user, row in enumerate(rows):
        pool = candidates[user]
        ideal = _greedy(has[pool] & wants[user], k, alpha)
        if ideal > 0:
            gained = (
                has[row[row >= 0][:k]] & wants[user] & np.isin(row[row >= 0][:k], pool)[:, None]
            )
            out[user] = _alpha_dcg(gained, alpha) / ideal
    return out


def _alpha_dcg(gained: np.ndarray, alpha: float) -> float:
    """Of (k, C) bool: which aspects each item of the list covers."""
    before = np.cumsum(gained, axis=0) - gained
    return float(((gained * (1 - alpha) ** before).sum(axis=1) * _discounts(len(gained))).sum())


def _greedy(covers: np.ndarray, k: int, alpha: float) -> float:
    """Alpha-DCG of the list that takes at each rank the item that gains most; covers (n, C) bool."""
    seen, left, total = np.zeros(covers.shape[1]), np.ones(len(covers), dtype=bool), 0.0
    for discount in _discounts(min(k, len(covers))):
        gains = np.where(left, covers @ (1 - alpha) ** seen, -1.0)
        best = int(gains.argmax())
        total += gains[best] * discount
        seen += covers[best]
        left[best] = False
    return total
