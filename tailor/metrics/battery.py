"""Compute many ranking metrics of many users at once, in shards that bound the memory."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tailor.metrics.graded import GRADED, best_grades, grades_of
from tailor.metrics.ranking import PER_USER, bpref, hits, relevant_counts

# list positions of a shard: 1 MB of hits, which fit the cache, and some 10 MB for looking up items
SHARD_POSITIONS = 2**20


def per_user(
    rows: np.ndarray,
    offsets: np.ndarray,
    targets: np.ndarray,
    k: Sequence[int],
    metrics: Sequence[str],
    *,
    grades: np.ndarray | None = None,
    threads: int | None = None,
) -> dict[str, np.ndarray]:
    """Return `"NDCG@10"` -> (U,) for every metric and depth.

    NaN for a user without a relevant item. `rows` (U, K) int item rows, best first, -1 for none (a
    memory map works too); user u's relevant rows are `targets[offsets[u]:offsets[u + 1]]`. Metrics
    are those of `ranking.PER_USER`; with `grades` parallel to the targets also "bpref" and those of
    `graded.GRADED`, which replace binary ones of the same name, and a grade of 0 or less means
    judged not relevant. Shards run on `threads` threads (default: one per core). Raises ValueError
    for an unknown metric, a depth below 1, a list that holds an item twice, or wrong offsets.
    """
    _check_arguments(rows, offsets, targets, k, metrics, grades)
    values = {f"{name}@{depth}": np.empty(len(rows)) for name in metrics for depth in k}
    size = max(1, SHARD_POSITIONS // max(rows.shape[1], 1))

    def compute_shard(start: int) -> None:
        stop = min(start + size, len(rows))
        first, last = offsets[start], offsets[stop]
        shard_rows = rows[start:stop]
        shard_offsets = offsets[start : stop + 1] - first
        shard_targets = targets[first:last]
        if grades is None:
            shard = _binary(shard_rows, shard_offsets, shard_targets, k, metrics)
        else:
            shard_grades = grades[first:last]
            shard = _graded(shard_rows, shard_offsets, shard_targets, shard_grades, k, metrics)
        for name, column in shard.items():
            values[name][start:stop] = column

    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        list(pool.map(compute_shard, range(0, len(rows), size)))
    return values


def _check_arguments(
    rows: np.ndarray,
    offsets: np.ndarray,
    targets: np.ndarray,
    k: Sequence[int],
    metrics: Sequence[str],
    grades: np.ndarray | None,
) -> None:
    """Raise ValueError for arguments of `per_user` that do not fit together."""
    valid_names = PER_USER if grades is None else {**PER_USER, **GRADED, "bpref": bpref}
    for name in metrics:
        if name not in valid_names:
            needs = ", which needs grades" if name in GRADED or name == "bpref" else ""
            raise ValueError(f'there is no metric "{name}"{needs}; known: {", ".join(valid_names)}')
    if len(offsets) != len(rows) + 1:
        raise ValueError(f"{len(rows)} lists, but offsets for {len(offsets) - 1} users")
    if offsets[0] != 0 or offsets[-1] != len(targets) or (np.diff(offsets) < 0).any():
        raise ValueError(
            f"offsets go from {offsets[0]} to {offsets[-1]}: they must rise from 0 to the"
            f" {len(targets)} relevant items there are"
        )
    if grades is not None and (len(grades) != len(targets) or not np.isfinite(grades).all()):
        raise ValueError(
            f"{len(grades)} grades for {len(targets)} judged items, of which one is"
            f" {np.max(grades, initial=0)}: give one finite number each"
        )
    if not k or min(k) < 1:
        raise ValueError(f"k is {k!r}: give depths of at least 1")


def _binary(
    rows: np.ndarray,
    offsets: np.ndarray,
    targets: np.ndarray,
    k: Sequence[int],
    metrics: Sequence[str],
) -> dict[str, np.ndarray]:
    """Compute the metrics of a shard with binary relevance."""
    is_hit = hits(rows, offsets, targets)
    relevant = relevant_counts(offsets, targets)
    return {
        f"{name}@{depth}": PER_USER[name](is_hit, relevant, depth)
        for name in metrics
        for depth in k
    }


def _graded(
    rows: np.ndarray,
    offsets: np.ndarray,
    targets: np.ndarray,
    grades: np.ndarray,
    k: Sequence[int],
    metrics: Sequence[str],
) -> dict[str, np.ndarray]:
    """Compute the metrics of a shard with graded relevance."""
    # -1 marks what was judged not relevant, 0 what was not judged
    judgements = grades_of(rows, offsets, targets, np.where(grades > 0, grades, -1.0))
    is_hit = judgements > 0
    relevant = np.diff(np.r_[0, np.cumsum(grades > 0)][offsets])
    gains = np.maximum(judgements, 0)
    best = best_grades(offsets, np.maximum(grades, 0), max(k))
    values = {}
    for name in metrics:
        for depth in k:
            if name == "bpref":
                is_first = np.arange(rows.shape[1]) < depth
                refused = (judgements < 0) & is_first
                not_relevant = np.diff(offsets) - relevant
                column = bpref(is_hit & is_first, refused, relevant, not_relevant)
            elif name in GRADED:
                column = GRADED[name](gains, best, depth)
            else:
                column = PER_USER[name](is_hit, relevant, depth)
            values[f"{name}@{depth}"] = column
    return values
