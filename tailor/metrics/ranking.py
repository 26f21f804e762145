"""Ranking metrics of lists with binary relevance, one value per user.

U users, K list length; hits (U, K) bool, best first. Every function returns (U,) float64, NaN for a
user without a relevant item: undefined is never 0. k is at least 1. Lists shorter than K count as
misses at the ranks they do not fill. Values are between 0 and 1 unless stated. Relevance with
grades: graded.py.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

FEW = 5  # relevant items per user up to which comparing with each is quicker than a hash table
SLOTS_PER_ITEM = 64  # slots of a user's hash table per relevant item, so that few items collide
TABLE = 2**18  # slots of all users processed together: 1 MB, which fits the second-level cache


def hits(rows: np.ndarray, offsets: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return (U, K) bool: whether the item at each rank is relevant.

    `rows` (U, K) int item rows, -1 for none; user u's relevant rows are
    `targets[offsets[u]:offsets[u + 1]]`. Raises ValueError where a list holds an item twice, which
    would count it twice. Memory does not grow with the catalogue.
    """
    refuse_repeats(rows)
    most_targets = int(np.diff(offsets).max(initial=0))
    if most_targets <= FEW:
        return _hits_by_comparison(rows, offsets, targets, most_targets)
    bits = (SLOTS_PER_ITEM * most_targets - 1).bit_length()
    block = max(1, TABLE >> bits)
    parts = [
        _hits_by_table(
            rows[start : start + block], offsets[start : start + block + 1], targets, bits
        )
        for start in range(0, len(rows), block)
    ]
    return np.concatenate(parts)


def refuse_repeats(rows: np.ndarray) -> None:
    """Raise ValueError where a list of rows (U, K) repeats an item; -1 is none."""
    ordered = np.sort(rows, axis=1)
    is_repeat = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if is_repeat.any():
        raise ValueError("a list holds the same item twice")


def _hits_by_comparison(
    rows: np.ndarray, offsets: np.ndarray, targets: np.ndarray, most_targets: int
) -> np.ndarray:
    """Compare the lists with the first, second, ... relevant item of every user."""
    is_hit = np.zeros(rows.shape, dtype=bool)
    for i in range(most_targets):
        positions = offsets[:-1] + i
        has_target = positions < offsets[1:]
        target = np.where(has_target, targets[np.where(has_target, positions, 0)], -1)
        is_hit |= rows == target[:, None].astype(rows.dtype)
    return is_hit & (rows >= 0)


def _hits_by_table(
    rows: np.ndarray, offsets: np.ndarray, targets: np.ndarray, bits: int
) -> np.ndarray:
    """Look up the lists in a hash table per user of 2^bits slots.

    Relevant items whose slot was overwritten by another are compared one by one.
    """
    block_targets = targets[offsets[0] : offsets[-1]]
    owners = np.repeat(np.arange(len(rows)), np.diff(offsets))
    is_known = block_targets >= 0
    owners = owners[is_known]
    block_targets = block_targets[is_known].astype(np.int32)
    table = np.full(len(rows) << bits, -1, dtype=np.int32)
    slots = (owners << bits) + _hash_rows(block_targets, bits)
    table[slots] = block_targets
    row_slots = (np.arange(len(rows)) << bits)[:, None] + _hash_rows(rows, bits)
    is_hit = (table.take(row_slots) == rows) & (rows >= 0)
    lost = np.flatnonzero(table[slots] != block_targets)
    lost_index, positions = np.nonzero(rows[owners[lost]] == block_targets[lost][:, None])
    is_hit[owners[lost][lost_index], positions] = True
    return is_hit


def _hash_rows(rows: np.ndarray, bits: int) -> np.ndarray:
    """Return multiplicative hashes of `bits` bits (Knuth)."""
    return (rows.astype(np.uint32) * np.uint32(2654435761)) >> np.uint32(32 - bits)


def relevant_counts(offsets: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return (U,) the number of distinct relevant items per user."""
    users = len(offsets) - 1
    base = int(targets.max(initial=0)) + 2  # -1, an unknown item, is one more
    keys = np.sort(np.repeat(np.arange(users) * base, np.diff(offsets)) + targets + 1)
    is_first = np.diff(keys, prepend=-1) > 0
    return np.bincount(keys[is_first] // base, minlength=users)


def _defined(values: np.ndarray | np.floating, relevant: np.ndarray) -> np.ndarray:
    """Return the values with NaN for users without a relevant item."""
    return np.where(relevant > 0, values, np.nan)


def _at_most(relevant: np.ndarray, k: int | None) -> np.ndarray:
    """Clip the counts to 1 to k; k may exceed every integer type."""
    return np.clip(relevant, 1, None if k is None else min(k, 2**62))


def first_places(hits: np.ndarray, k: int) -> np.ndarray:
    """Return the columns up to rank k. Raises ValueError for k below 1."""
    if k < 1:
        raise ValueError(f"k is {k}: a list has at least one place")
    return hits[:, :k]


def places_of(hits: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (h,) user and (h,) position from 0 of every hit among the first k.

    Hits are few, so metrics computed from them need no (U, K) arrays of numbers.
    """
    top = np.ascontiguousarray(first_places(hits, k))
    flat = np.flatnonzero(top)
    width = max(top.shape[1], 1)
    owners = flat // width
    return owners, flat - owners * width


def _sums(owners: np.ndarray, values: np.ndarray | None, users: int) -> np.ndarray:
    """Return (U,) sums of values (h,) by user, or counts without values."""
    return np.bincount(owners, values, minlength=users).astype(np.float64)


def hit_count(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Count the relevant items among the first k. Range 0 to k."""
    return _defined(_sums(places_of(hits, k)[0], None, len(hits)), relevant)


def hit_rate(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Return 1 where any of the first k is relevant (success@k), else 0.

    Equals recall where each user has one relevant item.
    """
    return _defined(first_places(hits, k).any(axis=1).astype(np.float64), relevant)


def recall(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Relevant items among the first k / all relevant items.

    Below 1 where there are more than k relevant items.
    """
    return hit_count(hits, relevant, k) / np.maximum(relevant, 1)


def capped_recall(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Relevant items among the first k / min(k, all relevant items).

    Unlike recall, 1 can always be reached.
    """
    return hit_count(hits, relevant, k) / _at_most(relevant, k)


def precision(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Relevant items among the first k / k."""
    return hit_count(hits, relevant, k) / k


def r_precision(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Relevant items among the first R / R, where R is the number of relevant items.

    The list is cut at k first.
    """
    owners, places = places_of(hits, k)
    within = owners[places < relevant[owners]]
    return _defined(_sums(within, None, len(hits)) / np.maximum(relevant, 1), relevant)


def f1(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Harmonic mean of precision and recall: 2 * hits / (k + relevant) (van Rijsbergen 1979)."""
    return 2 * hit_count(hits, relevant, k) / (float(k) + np.maximum(relevant, 1))


def reciprocal_rank(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """1 / rank of the first relevant item among the first k, else 0.

    Its mean over users is MRR@k (Voorhees 1999).
    """
    top = first_places(hits, k)
    if not top.shape[1]:
        return _defined(np.zeros(len(top)), relevant)
    return _defined(top.any(axis=1) / (top.argmax(axis=1) + 1.0), relevant)


def average_precision(
    hits: np.ndarray, relevant: np.ndarray, k: int, capped: bool = True
) -> np.ndarray:
    """Sum of precision@j over the ranks j of the hits, divided by min(k, relevant).

    Its mean over users is MAP@k. `capped=False` divides by all relevant items, as trec_eval's
    map_cut and ranx do; for k >= relevant they are the same.
    """
    owners, places = places_of(hits, k)
    counts = np.bincount(owners, minlength=len(hits))
    hits_before = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    sums = _sums(owners, (hits_before + 1) / (places + 1), len(hits))
    return _defined(sums / _at_most(relevant, k if capped else None), relevant)


def average_recall(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Mean of recall@1 to recall@k: a hit at rank r counts (k - r + 1) / k.

    Its mean over users is MAR@k.
    """
    owners, places = places_of(hits, k)
    gains = (float(k) - places) / float(k)
    return _defined(_sums(owners, gains, len(hits)) / np.maximum(relevant, 1), relevant)


def average_reciprocal_hit_rank(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Sum of 1 / rank over the hits among the first k (Deshpande and Karypis 2004).

    Range 0 to 1 + 1/2 + ... + 1/k.
    """
    owners, places = places_of(hits, k)
    return _defined(_sums(owners, 1 / (places + 1), len(hits)), relevant)


def rank_biased_precision(
    hits: np.ndarray, relevant: np.ndarray, k: int, p: float = 0.8
) -> np.ndarray:
    """(1 - p) * sum over hits of p^(rank - 1) (Moffat and Zobel 2008). Below 1.

    A reader goes on to the next rank with probability p.
    """
    owners, places = places_of(hits, k)
    return _defined((1 - p) * _sums(owners, p ** places.astype(np.float64), len(hits)), relevant)


def ndcg(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Sum over hits of 1 / log2(rank + 1), divided by that of a perfect list.

    Järvelin and Kekäläinen 2002, with binary gains.
    """
    owners, places = places_of(hits, k)
    most_relevant = int(relevant.max(initial=1))
    depth = min(k, max(hits.shape[1], most_relevant))  # k may be far beyond both
    ranks = np.arange(1, depth + 1)
    discounts = 1 / np.log2(ranks + 1)
    ideal_hits = _at_most(relevant, k)
    ideal = np.cumsum(discounts)[ideal_hits - 1]
    gains = _sums(owners, discounts[places], len(hits))
    return _defined(gains / ideal, relevant)


def mean_rank(hits: np.ndarray, relevant: np.ndarray, k: int) -> np.ndarray:
    """Mean rank of the relevant items.

    Items not among the first k count as k + 1: a lower bound of the true mean. Range 1 to k + 1,
    lower is better.
    """
    owners, places = places_of(hits, k)
    hit_counts = np.bincount(owners, minlength=len(hits))
    misses = relevant - hit_counts
    hit_ranks = _sums(owners, places + 1.0, len(hits))
    total = hit_ranks + misses * float(k + 1)
    mean = total / np.maximum(relevant, 1)
    return _defined(mean, relevant)


def percentile_rank(hits: np.ndarray, relevant: np.ndarray, k: int, items: int) -> np.ndarray:
    """Mean of (rank - 1) / (items - 1) over the relevant items (Hu, Koren and Volinsky 2008).

    0 is best, .5 is chance, 1 is worst. An item not among the first k is assumed in the middle of
    the remaining catalogue of `items`. Raises ValueError for k > items.
    """
    if not k <= items:
        raise ValueError(f"k={k} is more than the {items} items there are")
    owners, places = places_of(hits, k)
    hit_counts = np.bincount(owners, minlength=len(hits))
    misses = relevant - hit_counts
    hit_places = _sums(owners, places.astype(np.float64), len(hits))
    total = hit_places + misses * (k + items - 1) / 2
    mean = total / np.maximum(relevant, 1)
    return _defined(mean / max(items - 1, 1), relevant)


def bpref(
    hits: np.ndarray, refused: np.ndarray, relevant: np.ndarray, not_relevant: np.ndarray
) -> np.ndarray:
    """Binary preference: how few items judged bad are above the relevant ones.

    Mean over the R relevant items of 1 - min(bad items above it, R) / min(R, N); 0 for one that is
    not in the list. `refused` (U, K) bool marks the items judged bad, of which user u has N =
    not_relevant[u]; items without a judgement are skipped (Buckley and Voorhees 2004, as trec_eval
    computes it).
    """
    owners, places = places_of(hits, max(hits.shape[1], 1))
    bad_positions = np.flatnonzero(np.ascontiguousarray(refused))
    starts = owners * hits.shape[1]
    bad_before = np.searchsorted(bad_positions, starts + places)
    bad_above = bad_before - np.searchsorted(bad_positions, starts)
    cap = relevant[owners]
    divisor = np.maximum(np.minimum(cap, not_relevant[owners]), 1)
    penalty = np.where(bad_above > 0, np.minimum(bad_above, cap) / divisor, 0.0)
    return _defined(_sums(owners, 1 - penalty, len(hits)) / np.maximum(relevant, 1), relevant)


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
