"""Measure discovery by lists: novelty, surprise, variety, the long tail.

U users, K list length, N items; rows (U, K) int item rows, -1 for none; hits (U, K) bool. Per-user
figures are (U,) float64, NaN for an empty list unless stated otherwise.
"""

import numpy as np
import scipy.sparse as sp

from tailor.metrics.candidates import shared_items

PAIRS = 10_000  # pairs of users sampled for `personalisation`


def _mean_over(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return (U,) means of values (U, K) where the mask is set."""
    counts = mask.sum(axis=1)
    sums = np.where(mask, values, 0.0).sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _discounts(width: int) -> np.ndarray:
    """Return (width,) the discounts of NDCG."""
    return 1 / np.log2(np.arange(2, width + 2))


def average_popularity(rows: np.ndarray, item_users: np.ndarray) -> np.ndarray:
    """Mean number of users of a list's items (ARP; Yin et al. 2012).

    `item_users` (N,) users per item. Range 0 to the number of users.
    """
    return _mean_over(item_users[rows], rows >= 0)


def long_tail_share(rows: np.ndarray, is_tail: np.ndarray) -> np.ndarray:
    """Share of a list's items that are in the long tail (APLT; Abdollahpouri et al. 2019).

    `is_tail` (N,) bool. Range 0 to 1.
    """
    return _mean_over(is_tail[rows], rows >= 0)


def long_tail(item_users: np.ndarray, share: float = 0.2) -> np.ndarray:
    """Return (N,) bool: the least popular items, which together have the last `share` of events.

    `item_users` (N,) users per item. Items without users belong to the tail.
    """
    order = np.argsort(-item_users, kind="stable")
    users_before = np.cumsum(item_users[order]) - item_users[order]
    is_tail = np.empty(len(item_users), dtype=bool)
    is_tail[order] = users_before >= (1 - share) * item_users.sum()
    return is_tail | (item_users == 0)


def expected_popularity_complement(
    rows: np.ndarray, hits: np.ndarray, item_users: np.ndarray
) -> np.ndarray:
    """Discounted mean over hits of 1 - popularity / highest popularity (EPC).

    Divided by the sum of discounts (Vargas and Castells 2011). Range 0 to 1.
    """
    popularity = item_users / max(item_users.max(initial=0), 1)
    return _discounted_hits(rows, hits, 1 - popularity)


def expected_free_discovery(
    rows: np.ndarray, hits: np.ndarray, item_users: np.ndarray
) -> np.ndarray:
    """Discounted mean over hits of -log2(the item's share of all events), in bits (EFD).

    Vargas and Castells 2011. An item without users counts as having one.
    """
    shares = np.maximum(item_users, 1) / max(item_users.sum(), 1)
    return _discounted_hits(rows, hits, -np.log2(shares))


def _discounted_hits(rows: np.ndarray, hits: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Return (U,) discounted sum of the hits' gains (N,) / sum of discounts of the list."""
    is_item = rows >= 0
    discounts = _discounts(rows.shape[1])
    total = is_item @ discounts
    gained = np.where(hits & is_item, gains[rows], 0.0) @ discounts
    return np.where(total > 0, gained / np.where(total > 0, total, 1), np.nan)


def unexpectedness(rows: np.ndarray, obvious: np.ndarray) -> np.ndarray:
    """Share of a list that a primitive method does not recommend (Ge et al. 2010).

    `obvious` (U, any) item rows of the primitive method, which belongs beside the figure.
    """
    lengths = (rows >= 0).sum(axis=1)
    shared = shared_items(rows, obvious)
    return np.where(lengths > 0, 1 - shared / np.maximum(lengths, 1), np.nan)


def serendipity(rows: np.ndarray, hits: np.ndarray, obvious: np.ndarray) -> np.ndarray:
    """Share of a list that is relevant and not obvious (Ge et al. 2010).

    `obvious` as for `unexpectedness`. Range 0 to `unexpectedness`.
    """
    lengths = (rows >= 0).sum(axis=1)
    relevant = np.where(hits, rows, -1)
    surprising_hits = (relevant >= 0).sum(axis=1) - shared_items(relevant, obvious)
    return np.where(lengths > 0, surprising_hits / np.maximum(lengths, 1), np.nan)


def temporal_diversity(rows: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Share of a list that was not in the previous visit's list (Lathia et al. 2010).

    `before` (U, any) item rows of the previous visit. Range 0 to 1.
    """
    return unexpectedness(rows, before)


def personalisation(rows: np.ndarray, seed: int = 0, pairs: int = PAIRS) -> float:
    """1 - mean share of a list that is also in another user's list.

    Over random pairs of users with lists, or all pairs where there are no more than `pairs`; the
    share is of the shorter list. Range 0 to 1; NaN for fewer than 2 users.
    """
    lists = rows[(rows >= 0).any(axis=1)]
    n = len(lists)
    if n < 2:
        return float("nan")
    if n * (n - 1) // 2 <= pairs:
        first, second = np.triu_indices(n, 1)
    else:
        rng = np.random.default_rng(seed)
        first = rng.integers(0, n, pairs)
        second = (first + rng.integers(1, n, pairs)) % n
    lengths = (lists >= 0).sum(axis=1)
    shared = shared_items(lists[first], lists[second])
    return float(1 - (shared / np.minimum(lengths[first], lengths[second])).mean())


# ---- over categories: `categories` (N, C) sparse or dense, above 0 where an item has one


def category_counts(rows: np.ndarray, categories: np.ndarray | sp.spmatrix) -> np.ndarray:
    """Count (U, C) a list's items of each category."""
    is_item = rows >= 0
    owners = np.repeat(np.arange(len(rows)), is_item.sum(axis=1))
    lists = sp.csr_matrix(
        (np.ones(len(owners)), (owners, rows[is_item])), shape=(len(rows), categories.shape[0])
    )
    return np.asarray((lists @ sp.csr_matrix(categories)).todense())


def category_entropy(rows: np.ndarray, categories: np.ndarray | sp.spmatrix) -> np.ndarray:
    """Entropy in bits of a list's shares of categories.

    Range 0 to log2 C; NaN where no item has a category.
    """
    counts = category_counts(rows, categories)
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.where(totals > 0, totals, 1)
    logarithms = np.log2(np.where(shares > 0, shares, 1))
    bits = -(shares * logarithms).sum(axis=1)
    has_category = totals[:, 0] > 0
    return np.where(has_category, bits, np.nan)


def subtopic_recall(
    rows: np.ndarray,
    hits: np.ndarray,
    categories: np.ndarray | sp.spmatrix,
    user_categories: np.ndarray,
) -> np.ndarray:
    """Share of a user's wanted categories that a relevant item of the list has (Zhai et al. 2003).

    `user_categories` (U, C) bool. NaN for a user who wants none.
    """
    is_covered = category_counts(np.where(hits, rows, -1), categories) > 0
    counts = user_categories.sum(axis=1)
    covered = (is_covered & user_categories).sum(axis=1)
    return np.where(counts > 0, covered / np.maximum(counts, 1), np.nan)


def alpha_ndcg(
    rows: np.ndarray,
    aspects: sp.csr_matrix | np.ndarray,
    user_aspects: sp.csr_matrix | np.ndarray,
    candidates: list[np.ndarray],
    k: int,
    alpha: float = 0.5,
) -> np.ndarray:
    """NDCG@k in which an aspect seen j times before gains (1 - alpha)^j (Clarke et al. 2008).

    `aspects` (N, C) above 0 where an item has an aspect, `user_aspects` (U, C) above 0 where a user
    wants it, `candidates` each user's relevant item rows, from which the ideal list is made
    greedily, as is usual: the true best is hard to find, so that values slightly above 1 are
    possible. Range 0 to 1; NaN where nothing can be gained. Loops over users: for judged sets, not
    for millions.
    """
    has_aspect = np.asarray(sp.csr_matrix(aspects).todense()) > 0
    is_wanted = np.asarray(sp.csr_matrix(user_aspects).todense()) > 0
    values = np.full(len(rows), np.nan)
    for user, row in enumerate(rows):
        relevant = candidates[user]
        ideal = _greedy_alpha_dcg(has_aspect[relevant] & is_wanted[user], k, alpha)
        if ideal > 0:
            items = row[row >= 0][:k]
            is_relevant = np.isin(items, relevant)[:, None]
            covers = has_aspect[items] & is_wanted[user] & is_relevant
            values[user] = _alpha_dcg(covers, alpha) / ideal
    return values


def _alpha_dcg(covers: np.ndarray, alpha: float) -> float:
    """Return alpha-DCG of a list; covers (k, C) bool: the aspects of the item at each rank."""
    times_before = np.cumsum(covers, axis=0) - covers
    gains = (covers * (1 - alpha) ** times_before).sum(axis=1)
    return float((gains * _discounts(len(covers))).sum())


def _greedy_alpha_dcg(covers: np.ndarray, k: int, alpha: float) -> float:
    """Return alpha-DCG of the list that takes the item of largest gain at each rank.

    covers (n, C) bool: the aspects of the n relevant items.
    """
    times_covered = np.zeros(covers.shape[1])
    is_left = np.ones(len(covers), dtype=bool)
    total = 0.0
    for discount in _discounts(min(k, len(covers))):
        gains = np.where(is_left, covers @ (1 - alpha) ** times_covered, -1.0)
        best = int(gains.argmax())
        total += gains[best] * discount
        times_covered += covers[best]
        is_left[best] = False
    return total
