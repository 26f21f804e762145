"""Many metrics of many users at once: users are cut into shards, so that memory stays that of one
shard a thread.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tailor.metrics.graded import GRADED, best_grades, grades_of
from tailor.metrics.ranking import PER_USER, bpref, hits, relevant_counts

# list places of a shard: 1 MB of hits, which stay in the cache, and some 10 MB while items are
# looked up
SHARD_PLACES = 2**20


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
    """`"NDCG@10"` -> (U,) for every metric named and every depth; NaN for a user without a relevant
    item.

    `rows` (U, K) int item rows, best first, -1 for none (a memory map will do); user u's relevant
    rows are `targets[offsets[u]:offsets[u + 1]]`. Metrics are those of `ranking.PER_USER`; with
    `grades` parallel to the targets also "bpref" and those of `graded.GRADED`, which take the place
    of binary ones of the same name, and what has a grade of 0 or less is judged not to be relevant.
    Shards run on `threads` threads (default: one a core). Raises ValueError for an unknown metric,
    a depth below 1, a list that holds an item twice, or offsets that do not fit.
    """
    known = PER_USER if grades is None else {**PER_USER, **GRADED, "bpref": bpref}
    for name in metrics:
        if name not in known:
            needs = ", which needs grades" if name in GRADED or name == "bpref" else ""
            raise ValueError(f'there is no metric "{name}"{needs}; known: {", ".join(known)}')
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
    out = {f"{name}@{depth}": np.empty(len(rows)) for name in metrics for depth in k}
    size = max(1, SHARD_PLACES // max(rows.shape[1], 1))

    def shard(start: int) -> None:
        stop = min(start + size, len(rows))
        part = offsets[start : stop + 1]
        own, ends = targets[part[0] : part[-1]], part - part[0]
        values = (
            _binary(rows[start:stop], ends, own, k, metrics)
            if grades is None
            else _graded(rows[start:stop], ends, own, grades[part[0] : part[-1]], k, metrics)
        )
        for name, column in values.items():
            out[name][start:stop] = column

    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        list(pool.map(shard, range(0, len(rows), size)))
    return out


def _binary(
    rows: np.ndarray,
    offsets: np.ndarray,
    targets: np.ndarray,
    k: Sequence[int],
    metrics: Sequence[str],
) -> dict[str, np.ndarray]:
    found, relevant = hits(rows, offsets, targets), relevant_counts(offsets, targets)
    return {
        f"{name}@{depth}": PER_USER[name](found, relevant, depth) for name in metrics for depth in k
    }


def _graded(
    rows: np.ndarray,
    offsets: np.ndarray,
    targets: np.ndarray,
    grades: np.ndarray,
    k: Sequence[int],
    metrics: Sequence[str],
) -> dict[str, np.ndarray]:
    judged = grades_of(rows, offsets, targets, np.where(grades > 0, grades, -1.0))
    found, positive = judged > 0, np.r_[0, np.cumsum(grades > 0)][offsets]
    relevant = np.diff(positive)
    best, gains = best_grades(offsets, np.maximum(grades, 0), max(k)), np.maximum(judged, 0)
    out = {}
    for name in metrics:
        for depth in k:
            if name == "bpref":
                kept = np.arange(rows.shape[1]) < depth
                out[f"{name}@{depth}"] = bpref(
                    found & kept, (judged < 0) & kept, relevant, np.diff(offsets) - relevant
                )
            elif name in GRADED:
                out[f"{name}@{depth}"] = GRADED[name](gains, best, depth)
            else:
                out[f"{name}@{depth}"] = PER_USER[name](found, relevant, depth)
    return out
