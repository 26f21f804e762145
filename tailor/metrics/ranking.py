"""How good an ordered list is, one value a user. U users, K list length; hits (U, K) bool, best
first.

Every function returns (U,) float64, NaN for a user without a relevant item: undefined is never 0. k
is at least 1. Lists shorter than K count as misses at the ranks they do not fill. Each value is
between 0 and 1 where nothing else is said. Relevance with grades: graded.py.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

FEW = 5  # relevant items a user up to which comparing with each of them is quicker than a table
ROOM = 64  # slots of a user's table for each relevant item, so that few of them share one
TABLE = 2**18  # slots held at a time: 1 MB, which stays in the second-level cache


def hits(rows: np.ndarray, offsets: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(U, K) bool: whether the item at each rank is relevant.

    `rows` (U, K) int item rows, -1 for none; user u's relevant rows are
    `targets[offsets[u]:offsets[u + 1]]`. Raises ValueError where a list holds an item twice, which
    would count it twice. Needs no memory that grows with the catalogue.
    """
    refuse_repeats(rows)
    most = int(np.diff(offsets).max(initial=0))
    if most <= FEW:
        found = np.zeros(rows.shape, dtype=bool)
        for place in range(most):
            has = offsets[:-1] + place < offsets[1:]
            wanted = np.where(has, targets[np.where(has, offsets[:-1] + place, 0)], -1)
            found |= rows == wanted[:, None].astype(rows.dtype)
        return found & (rows >= 0)
    bits = (ROOM * most - 1).bit_length()
    size = max(1, TABLE >> bits)
    parts = [
        _hits_by_table(rows[at : at + size], offsets[at : at + size + 1], targets, bits)
        for at in range(0, len(rows), size)
    ]
    return np.concatenate(parts)


def refuse_repeats(rows: np.ndarray) -> None:
    """Raise ValueError where one of the lists `rows` (U, K) holds an item twice; -1 is no item."""
    ordered = np.sort(rows, axis=1)
    if rows.shape[1] > 1 and ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        raise ValueError("a list holds the same item twice")


def _hits_by_table(
    rows: np.ndarray, offsets: np.ndarray, targets: np.ndarray, bits: int
) -> np.ndarray:
    """Each user's relevant items stand in a table of 2^bits slots, at their hash; those whose slot
    another one took are compared one by one.
    """
    wanted = targets[offsets[0] : offsets[-1]]
    owners = np.repeat(np.arange(len(rows)), np.diff(offsets))
    owners, wanted = owners[wanted >= 0], wanted[wanted >= 0].astype(np.int32)
    table = np.full(len(rows) << bits, -1, dtype=np.int32)
    slots = (owners << bits) + _hashed(wanted, bits)
    table[slots] = wanted
    found = (table.take((np.arange(len(rows)) << bits)[:, None] + _hashed(rows, bits)) == rows) & (
        rows >= 0
    )
    lost = np.flatnonzero(table[slots] != wanted)
    at, places = np.nonzero(rows[owners[lost]] == wanted[lost][:, None])
    found[owners[lost][at], places] = True
    return found


def _hashed(rows: np.ndarray, bits: int) -> np.ndarray:
    return (rows.astype(np.uint32) * np.uint32(2654435761)) >> np.uint32(32 - bits)


def relevant_counts(offsets: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(U,) number of distinct relevant items of each user."""
    users = len(offsets) - 1
    base = int(targets.max(initial=0)) + 2  # -1, an unknown item, is one more
    keys = np.sort(np.repeat(np.arange(users) * base, np.diff(offsets)) + targets + 1)
    return np.bincount(keys[np.diff(keys, prepend=-1) > 0] // base, minlength=users)


def _defined(values: np.ndarray | np.floating, relevant: np.ndarray) -> np.ndarray:
    return np.where(relevant > 0, values, np.nan)


def first_places(hits: np.ndarray, k: int) -> np.ndarray:
    """The places up to rank k. Raises ValueError for k below 1."""
    if k < 1:
        raise ValueError(f"k is {k}: a list has at least one place")
    return hits[:, :k]


def places_of(hits: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(h,) user and (h,) place from 0 of every hit among the first k: hits are few, so what follows
    costs no (U, K) numbers.
    """
    top = np.ascontiguousarray(first_places(hits, k))
    at = np.flatnonzero(top)
    width = max(top.shape[1], 1)
    owners = at // width
    return owners, at - owners * width


def _sums(owners: np.ndarray, values: np.ndarray | None, users: int) -> np.ndarray:
    return np.bincount(owners, values, minlength=users).astype(np.float64)


def hit_count(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Relevant items among the first k. Range 0 to k."""
    return _defined(_sums(places_of(hits, k)[0], None, len(hits)), relevant)


def hit_rate(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """1 where any of the first k is relevant (success@k). Equals recall where each user has one
    relevant item.
    """
    return _defined(first_places(hits, k).any(axis=1).astype(np.float64), relevant)


def recall(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Relevant items among the first k / all relevant items; below 1 where there are more than k."""
    return hit_count(hits, relevant, k) / np.maximum(relevant, 1)


def capped_recall(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Relevant items among the first k / min(k, all relevant items): 1 can always be reached."""
    return hit_count(hits, relevant, k) / np.clip(relevant, 1, k)


def precision(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Relevant items among the first k / k."""
    return hit_count(hits, relevant, k) / k


def r_precision(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Relevant items among the first R / R, R being the number of relevant items; the list is cut
    at k first.
    """
    owners, places = places_of(hits, k)
    within = owners[places < relevant[owners]]
    return _defined(_sums(within, None, len(hits)) / np.maximum(relevant, 1), relevant)


def f1(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """2 * precision * recall / (precision + recall) = 2 * hits / (k + relevant); 0 without a hit
    (van Rijsbergen 1979).
    """
    return 2 * hit_count(hits, relevant, k) / (k + np.maximum(relevant, 1))


def reciprocal_rank(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """1 / rank of the first relevant item among the first k, else 0; its mean is MRR@k (Voorhees
    1999).
    """
    top = first_places(hits, k)
    if not top.shape[1]:
        return _defined(np.zeros(len(top)), relevant)
    return _defined(top.any(axis=1) / (top.argmax(axis=1) + 1.0), relevant)


def average_precision(
    hits: np.ndarray, relevant: np.ndarray, k: int, capped: bool = True
) -> np.ndarray:
    """Mean of precision@j over the ranks j of the hits, the sum divided by min(k, relevant); its
    mean is MAP@k.

    `capped=False` divides by all relevant items, as trec_eval's map_cut and ranx do; for k >=
    relevant they are the same.
    """
    owners, places = places_of(hits, k)
    counts = np.bincount(owners, minlength=len(hits))
    order = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    sums = _sums(owners, (order + 1) / (places + 1), len(hits))
    return _defined(sums / np.clip(relevant, 1, k if capped else None), relevant)


def average_recall(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Mean of recall@1 to recall@k: a hit at rank r counts (k - r + 1) / k; its mean is MAR@k."""
    owners, places = places_of(hits, k)
    return _defined(_sums(owners, (k - places) / k, len(hits)) / np.maximum(relevant, 1), relevant)


def average_reciprocal_hit_rank(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Sum of 1 / rank over the hits among the first k. Range 0 to 1 + 1/2 + ... + 1/k (Deshpande
    and Karypis 2004).
    """
    owners, places = places_of(hits, k)
    return _defined(_sums(owners, 1 / (places + 1), len(hits)), relevant)


def rank_biased_precision(
    hits: np.ndarray, relevant: np.ndarray, k: int, p: float = 0.8
) -> np.ndarray:
    """(1 - p) * sum over hits of p^(rank - 1): a reader goes on to the next rank with chance p
    (Moffat and Zobel 2008). Below 1.
    """
    owners, places = places_of(hits, k)
    return _defined((1 - p) * _sums(owners, p ** places.astype(np.float64), len(hits)), relevant)


def ndcg(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Sum over hits of 1 / log2(rank + 1), divided by that of a perfect list (Järvelin and
    Kekäläinen 2002, binary gains).
    """
    owners, places = places_of(hits, k)
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discounts)[np.clip(relevant, 1, k) - 1]
    return _defined(_sums(owners, discounts[places], len(hits)) / ideal, relevant)


def mean_rank(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Mean rank of the relevant items, those not among the first k counted as k + 1: a lower bound.
    Range 1 to k + 1, lower is better.
    """
    owners, places = places_of(hits, k)
    missed = relevant - np.bincount(owners, minlength=len(hits))
    return _defined(
        (_sums(owners, places + 1.0, len(hits)) + missed * (k + 1)) / np.maximum(relevant, 1),
        relevant,
    )


def percentile_rank(hits: np.ndarray, relevant: np.ndarray, k: int, items: int) -> np.ndarray:
    """Mean of (rank - 1) / (items - 1) over the relevant items: 0 best, .5 by chance, 1 worst (Hu,
    Koren and Volinsky 2008).

    An item not among the first k is taken to stand in the middle of the rest of the catalogue of
    `items`. Raises ValueError for k > items.
    """
    if not k <= items:
        raise ValueError(f"k={k} is more than the {items} items there are")
    owners, places = places_of(hits, k)
    missed = relevant - np.bincount(owners, minlength=len(hits))
    total = _sums(owners, places.astype(np.float64), len(hits)) + missed * (k + items - 1) / 2
    return _defined(total / np.maximum(relevant, 1) / max(items - 1, 1), relevant)


def bpref(
    hits: np.ndarray, refused: np.ndarray, relevant: np.ndarray, not_relevant: np.ndarray
) -> np.ndarray:
    """Mean over the relevant items R of 1 - (judged items without relevance above it, at most R) /
    min(R, N); 0 for one not in the list.

    `refused` (U, K) bool marks the items judged without relevance, of which user u has N =
    not_relevant[u]: items that nobody judged are passed over (Buckley and Voorhees 2004, as
    trec_eval computes it).
    """
    owners, places = places_of(hits, max(hits.shape[1], 1))
    bad = np.flatnonzero(np.ascontiguousarray(refused))
    starts = owners * hits.shape[1]
    above = np.searchsorted(bad, starts + places) - np.searchsorted(bad, starts)
    most = relevant[owners]
    share = np.where(
        above > 0,
        np.minimum(above, most) / np.maximum(np.minimum(most, not_relevant[owners]), 1),
        0.0,
    )
    return _defined(_sums(owners, 1 - share, len(hits)) / np.maximum(relevant, 1), relevant)


PER_USER: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "HR": hit_rate,
    "recall": recall,
    "precision": precision,
    "NDCG": ndcg,
    "MRR": reciprocal_rank,
    "MAP": average_precision,
    "hits": hit_count,
    "recall-capped": capped_recall,
    "R-precision": r_precision,
    "F1": f1,
    "MAP-uncapped": partial(average_precision, capped=False),
    "MAR": average_recall,
    "ARHR": average_reciprocal_hit_rank,
    "RBP": rank_biased_precision,
}
