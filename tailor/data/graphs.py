"""Graphs of items: which item follows which, counted over all users' sequences."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.sparse as sp

from tailor.data.arrays import Ragged
from tailor.errors import DataError

BLOCK_PAIRS = 500_000  # pairs held at a time by a thread: their working set stays in the second-level cache
FARTHEST = 127  # places between the two items of a pair: what a byte holds


def transitions(sequences: Ragged, items: int, steps: Mapping[int, float], top_n: int | None = None, threads: int = 2) -> sp.csr_matrix:
    """(N, N) sparse float32: entry (i, j) is the sum of `steps[d]` over all places where j stands d places after i.

    `steps` maps a distance (-127 to 127, not 0; negative: before i) to its weight, all positive. `top_n` keeps the heaviest per row, equal
    weights in column order. A row's entries stand heaviest first. Pairs are counted item by item: each item's few
    hundred followers are sorted inside the cache, which beats one sort over all pairs five times; memory is that of the
    result and of one block a thread. Raises DataError for a step or a weight out of range.
    """
    for step, weight in steps.items():
        if not (1 <= abs(step) <= FARTHEST and weight > 0):
            raise DataError(f"step {step} with weight {weight}: steps go from 1 to {FARTHEST} places either way, weights are above 0")
    if not steps or not items:
        return sp.csr_matrix((items, items), dtype=np.float32)
    rows, events = sequences.values, len(sequences.values)
    # a counting sort: the places where each item stands, item by item
    places = sp.csr_matrix((np.empty(events, np.int8), rows, np.arange(events + 1)), shape=(events, items)).tocsc()
    after = np.minimum(sequences.from_end, FARTHEST).astype(np.int8)  # how many events follow in the same sequence
    before = np.minimum(np.arange(events) - np.repeat(sequences.offsets[:-1], sequences.lengths), FARTHEST).astype(np.int8)
    room = {step: after if step > 0 else before for step in steps}
    narrow = rows.astype(np.uint32 if items * len(steps) < 2**32 else np.uint64)  # a key holds an item and a step

    def block(first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        start, stop = places.indptr[first], places.indptr[last]
        return _block(places.indices[start:stop], places.indptr[first : last + 1] - start, narrow, room, steps, top_n)

    edges = _block_edges(places.indptr, max(1, BLOCK_PAIRS // max(len(steps), 1)))
    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(block, edges[:-1], edges[1:]))
    lengths, columns, weights = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return sp.csr_matrix((weights, columns, np.r_[0, np.cumsum(lengths)]), shape=(items, items))


def _block_edges(indptr: np.ndarray, size: int) -> np.ndarray:
    """Items 0 = e0 < e1 < ... = N such that each block holds about `size` events (one item may hold more)."""
    cuts = np.searchsorted(indptr, np.arange(size, indptr[-1], size))
    return np.unique(np.r_[0, cuts, len(indptr) - 1])


def _block(
    places: np.ndarray,
    indptr: np.ndarray,
    rows: np.ndarray,
    room: Mapping[int, np.ndarray],
    steps: Mapping[int, float],
    top_n: int | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lengths, columns and weights of the result's rows for one block of items, whose events stand at `places`."""
    fits = np.stack([room[step][places] >= abs(step) for step in steps], axis=1)  # (events, steps)
    at = (places[:, None] + np.array(list(steps), dtype=places.dtype))[fits]
    bounds = np.r_[0, np.cumsum(fits.sum(axis=1))][indptr]
    weight_of = np.array(list(steps.values()), dtype=np.float32)
    even = len(set(steps.values())) == 1
    keys = rows[at]
    if not even:  # the low digits carry which step it was, so that sorting keeps the weight beside the pair
        keys = keys * keys.dtype.type(len(steps)) + np.nonzero(fits)[1].astype(keys.dtype)
    _sort_within(keys, bounds)
    columns = keys if even else keys // keys.dtype.type(len(steps))
    new = np.r_[True, columns[1:] != columns[:-1]] if len(columns) else np.zeros(0, bool)
    new[bounds[:-1][np.diff(bounds) > 0]] = True
    first = np.flatnonzero(new)
    if even:
        weights = np.diff(np.r_[first, len(columns)]).astype(np.float32) * weight_of[0]
    else:
        weights = np.add.reduceat(weight_of[keys % keys.dtype.type(len(steps))], first) if len(first) else np.zeros(0, np.float32)
    return _heaviest_first(columns[first], weights, np.searchsorted(first, bounds), top_n)


def _sort_within(keys: np.ndarray, bounds: np.ndarray) -> None:
    """Sort each run `keys[bounds[i]:bounds[i + 1]]` in place."""
    longer = np.flatnonzero(np.diff(bounds) > 1)
    for start, stop in zip(bounds[longer].tolist(), bounds[longer + 1].tolist(), strict=True):
        keys[start:stop].sort()


def _heaviest_first(
    columns: np.ndarray, weights: np.ndarray, bounds: np.ndarray, top_n: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # bits of positive floats order as the floats do: one key holds "heavier first, then column ascending"
    keys = ((~weights.view(np.uint32)).astype(np.uint64) << np.uint64(32)) | columns
    _sort_within(keys, bounds)
    lengths = np.diff(bounds)
    if top_n is not None:
        rank = np.arange(len(keys)) - np.repeat(bounds[:-1], lengths)
        keys = keys[rank < top_n]
        lengths = np.minimum(lengths, top_n)
    heavy = ~(keys >> np.uint64(32)).astype(np.uint32)
    return lengths, (keys & np.uint64(0xFFFFFFFF)).astype(np.int32), heavy.view(np.float32)


def heaviest(matrix: sp.csr_matrix, top_n: int) -> sp.csr_matrix:
    """The `top_n` largest positive entries of every row, largest first, equal ones in column order."""
    matrix = sp.csr_matrix(matrix, dtype=np.float32, copy=True)  # what follows changes it in place
    matrix.sum_duplicates()
    matrix.data[matrix.data < 0] = 0
    matrix.eliminate_zeros()
    lengths, columns, weights = _heaviest_first(matrix.indices.astype(np.uint64), matrix.data, matrix.indptr.astype(np.int64), top_n)
    return sp.csr_matrix((weights, columns, np.r_[0, np.cumsum(lengths)]), shape=matrix.shape)
