"""Measure candidates before they are ranked: reach, users served, contribution of each source.

U users, K list length, N items; rows (U, K) int item rows, -1 for none; hits (U, K) bool. recall@K
and hit@K are those of ranking.py.
"""

import itertools
from collections.abc import Mapping

import numpy as np

from tailor.metrics.lists import exposure
from tailor.metrics.ranking import ndcg


def ceiling(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """NDCG@k (U,) of a perfect ranker of these candidates.

    Range 0 to 1; NaN without a relevant item.
    """
    return ndcg(np.sort(hits, axis=1)[:, ::-1], relevant, k)


def distributional_coverage(rows: np.ndarray, items: int) -> float:
    """Entropy of the shares of exposure / log N.

    1 where all items are shown equally, 0 where only one is. NaN for empty lists or one item.
    """
    counts = exposure(rows, items)
    if not counts.sum() or items < 2:
        return float("nan")
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum() / np.log(items))


def user_coverage(rows: np.ndarray) -> float:
    """Share of users with at least one candidate. Range 0 to 1; NaN for no users."""
    return float((rows >= 0).any(axis=1).mean()) if len(rows) else float("nan")


def source_overlap(sources: Mapping[str, np.ndarray]) -> dict[tuple[str, str], float]:
    """Mean over users of shared / all items of two sources, by pair of names.

    `sources` are lists (U, K) by name; users with neither list are left out.
    """
    pairs = itertools.combinations(sources, 2)
    return {(a, b): _mean_overlap(sources[a], sources[b]) for a, b in pairs}


def _mean_overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Mean Jaccard similarity of two lists per user; NaN where all are empty."""
    shares = shared_share(a, b)
    has_items = ~np.isnan(shares)
    return float(shares[has_items].mean()) if has_items.any() else float("nan")


def shared_share(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Jaccard similarity (U,) of the items of two lists, whatever their order.

    a, b (U, K) int item rows, -1 for none, no item twice. Range 0 to 1; NaN where both are empty.
    """
    shared = shared_items(a, b)
    union = (a >= 0).sum(axis=1) + (b >= 0).sum(axis=1) - shared
    return np.where(union > 0, shared / np.maximum(union, 1), np.nan)


def shared_items(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Count (U,) the items in both lists of each user.

    a, b (U, K) int item rows, -1 for none, no item twice.
    """
    ordered = np.sort(np.concatenate([a, b], axis=1), axis=1)
    is_shared = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    return np.asarray(is_shared.sum(axis=1))


def unique_hits(
    sources: Mapping[str, np.ndarray], hits: Mapping[str, np.ndarray]
) -> dict[str, int]:
    """Count the (user, relevant item) pairs that only one source finds, by source.

    `sources` lists (U, K) and `hits` (U, K) bool have the same names.
    """
    keys = {name: _hit_keys(rows, hits[name]) for name, rows in sources.items()}
    counts = {}
    for name, source_keys in keys.items():
        other_keys = [other for other_name, other in keys.items() if other_name != name]
        others = np.concatenate([np.zeros(0, np.int64), *other_keys])
        counts[name] = int((~np.isin(source_keys, others)).sum())
    return counts


def _hit_keys(rows: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Return one int64 per hit made of user and item row."""
    owners, positions = np.nonzero(hits)
    return owners.astype(np.int64) << 32 | rows[owners, positions].astype(np.int64)
