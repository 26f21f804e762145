"""How good candidates are before anything orders them: what can be reached, who is served, what
each source adds.

U users, K list length, N items; rows (U, K) int item rows, -1 for none; hits (U, K) bool. recall@K
and hit@K are those of ranking.py.
"""

from collections.abc import Mapping

import numpy as np

from tailor.metrics.lists import exposure
from tailor.metrics.ranking import ndcg


def ceiling(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """(U,) NDCG@k of a perfect ranker of these candidates. Range 0 to 1; NaN without a relevant
    item.
    """
    return ndcg(np.sort(hits, axis=1)[:, ::-1], relevant, k)


def distributional_coverage(rows: np.ndarray, items: int) -> float:
    """Entropy of the shares of exposure / log N: 1 where all items are shown equally, 0 where one
    is. NaN for empty lists or one item.
    """
    counts = exposure(rows, items)
    if not counts.sum() or items < 2:
        return float("nan")
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum() / np.log(items))


def user_coverage(rows: np.ndarray) -> float:
    """Share of users with at least one candidate. Range 0 to 1; NaN for no users."""
    return float((rows >= 0).any(axis=1).mean()) if len(rows) else float("nan")


def source_overlap(sources: Mapping[str, np.ndarray]) -> dict[tuple[str, str], float]:
    """Mean over users of shared / all items of two sources' lists (U, K) each, by pair of names;
    users with neither list are left out.
    """
    names = list(sources)
    pairs = [(a, b) for at, a in enumerate(names) for b in names[at + 1 :]]
    return {(a, b): float(_mean_overlap(sources[a], sources[b])) for a, b in pairs}


def _mean_overlap(a: np.ndarray, b: np.ndarray) -> float:
    shared = shared_items(a, b)
    union = (a >= 0).sum(axis=1) + (b >= 0).sum(axis=1) - shared
    some = union > 0
    return float((shared[some] / union[some]).mean()) if some.any() else float("nan")


def shared_items(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(U,) number of items that stand in both lists of each user; a, b (U, K) int item rows, -1 for
    none, none twice.
    """
    both = np.sort(np.concatenate([a, b], axis=1), axis=1)
    return (
        ((both[:, 1:] == both[:, :-1]) & (both[:, 1:] >= 0)).sum(axis=1)
        if both.shape[1] > 1
        else np.zeros(len(a), np.int64)
    )


def unique_hits(
    sources: Mapping[str, np.ndarray], hits: Mapping[str, np.ndarray]
) -> dict[str, int]:
    """By source, how many (user, relevant item) pairs it alone finds; `sources` lists (U, K),
    `hits` (U, K) bool, by the same names.
    """
    pairs = {name: _pairs(rows, hits[name]) for name, rows in sources.items()}
    out = {}
    for name, own in pairs.items():
        others = [one for other, one in pairs.items() if other != name]
        out[name] = int((~np.isin(own, np.concatenate(others))).sum()) if others else len(own)
    return out


def _pairs(rows: np.ndarray, hits: np.ndarray) -> np.ndarray:
    owners, places = np.nonzero(hits)
    return owners.astype(np.int64) << 32 | rows[owners, places].astype(np.int64)
