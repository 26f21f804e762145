"""Graphs of items and users: which item follows which, who chose what, and random steps."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from tailor.data.arrays import Ragged
from tailor.errors import DataError

# pairs held at a time by a thread: their working set stays in the second-level cache
BLOCK_PAIRS = 500_000
MAX_STEP = 127  # positions between the two items of a pair: fits into a byte


def transitions(
    sequences: Ragged,
    items: int,
    steps: Mapping[int, float],
    top_n: int | None = None,
    threads: int = 2,
) -> sp.csr_matrix:
    """Count which item follows which, weighted by distance.

    Returns an (N, N) sparse float32 matrix. Entry (i, j) is the sum of `steps[d]` over all
    positions where j comes d positions after i. `steps` maps a distance (-127 to 127, not 0;
    negative: before i) to a positive weight. `top_n` keeps the heaviest entries per row, equal
    weights in column order. Entries of a row are ordered by weight, the heaviest first.

    Pairs are counted item by item: the few hundred followers of an item are sorted inside the
    cache, which is five times as fast as one sort over all pairs. Memory is that of the result and
    of one block per thread. Raises DataError for a step or a weight out of range.
    """
    for step, weight in steps.items():
        if not (1 <= abs(step) <= MAX_STEP and weight > 0):
            raise DataError(
                f"step {step} with weight {weight}: steps go from 1 to {MAX_STEP} places either"
                " way, weights are above 0"
            )
    if not steps or not items:
        return sp.csr_matrix((items, items), dtype=np.float32)
    rows, events = sequences.values, len(sequences.values)
    # a counting sort: the positions of each item, item by item
    positions = sp.csr_matrix(
        (np.empty(events, np.int8), rows, np.arange(events + 1)), shape=(events, items)
    ).tocsc()
    # numbers of events after and before each event in its sequence
    after = np.minimum(sequences.from_end, MAX_STEP).astype(np.int8)
    before = np.minimum(
        np.arange(events) - np.repeat(sequences.offsets[:-1], sequences.lengths), MAX_STEP
    ).astype(np.int8)
    neighbours = {step: after if step > 0 else before for step in steps}
    # a key holds an item and a step
    narrow = rows.astype(np.uint32 if items * len(steps) < 2**32 else np.uint64)

    def block(first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        start, stop = positions.indptr[first], positions.indptr[last]
        return _block(
            positions.indices[start:stop],
            positions.indptr[first : last + 1] - start,
            narrow,
            neighbours,
            steps,
            top_n,
        )

    edges = _block_edges(positions.indptr, max(1, BLOCK_PAIRS // max(len(steps), 1)))
    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(block, edges[:-1], edges[1:]))
    lengths, columns, weights = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return sp.csr_matrix((weights, columns, np.r_[0, np.cumsum(lengths)]), shape=(items, items))


def _block_edges(indptr: np.ndarray, size: int) -> np.ndarray:
    """Return items 0 = e0 < e1 < ... = N that cut blocks of about `size` events.

    A block of one item may hold more.
    """
    cuts = np.searchsorted(indptr, np.arange(size, indptr[-1], size))
    return np.unique(np.r_[0, cuts, len(indptr) - 1])


def _block(
    positions: np.ndarray,
    indptr: np.ndarray,
    rows: np.ndarray,
    neighbours: Mapping[int, np.ndarray],
    steps: Mapping[int, float],
    top_n: int | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return lengths, columns and weights of the result's rows for one block of items.

    `positions` are those of the block's events, `indptr` their bounds per item.
    """
    fits = np.stack([neighbours[step][positions] >= abs(step) for step in steps], axis=1)
    followers = (positions[:, None] + np.array(list(steps), dtype=positions.dtype))[fits]
    bounds = np.r_[0, np.cumsum(fits.sum(axis=1))][indptr]
    weight_of = np.array(list(steps.values()), dtype=np.float32)
    has_equal_weights = len(set(steps.values())) == 1
    keys = rows[followers]
    # the low digits carry which step it was, so that sorting keeps the weight beside the pair
    if not has_equal_weights:
        keys = keys * keys.dtype.type(len(steps)) + np.nonzero(fits)[1].astype(keys.dtype)
    _sort_within(keys, bounds)
    columns = keys if has_equal_weights else keys // keys.dtype.type(len(steps))
    is_first = np.r_[True, columns[1:] != columns[:-1]] if len(columns) else np.zeros(0, bool)
    is_first[bounds[:-1][np.diff(bounds) > 0]] = True
    first = np.flatnonzero(is_first)
    if has_equal_weights:
        weights = np.diff(np.r_[first, len(columns)]).astype(np.float32) * weight_of[0]
    else:
        weights = (
            np.add.reduceat(weight_of[keys % keys.dtype.type(len(steps))], first)
            if len(first)
            else np.zeros(0, np.float32)
        )
    return _heaviest_first(columns[first], weights, np.searchsorted(first, bounds), top_n)


def _sort_within(keys: np.ndarray, bounds: np.ndarray) -> None:
    """Sort each run `keys[bounds[i]:bounds[i + 1]]` in place."""
    longer = np.flatnonzero(np.diff(bounds) > 1)
    for start, stop in zip(bounds[longer].tolist(), bounds[longer + 1].tolist(), strict=True):
        keys[start:stop].sort()


def _heaviest_first(
    columns: np.ndarray, weights: np.ndarray, bounds: np.ndarray, top_n: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Order each row's entries by weight, then column; return lengths, columns and weights."""
    # bits of positive floats have the order of the floats, so one key holds both orders
    keys = ((~weights.view(np.uint32)).astype(np.uint64) << np.uint64(32)) | columns
    _sort_within(keys, bounds)
    lengths = np.diff(bounds)
    if top_n is not None:
        rank = np.arange(len(keys)) - np.repeat(bounds[:-1], lengths)
        keys = keys[rank < top_n]
        lengths = np.minimum(lengths, top_n)
    heavy = ~(keys >> np.uint64(32)).astype(np.uint32)
    return lengths, (keys & np.uint64(0xFFFFFFFF)).astype(np.int32), heavy.view(np.float32)


def bipartite(rows: Ragged, degrees: np.ndarray) -> sp.csr_matrix:
    """Return (U, N) edges of users and items, divided by both degrees' square roots.

    `rows` hold each user's items once. `degrees` (N,) are the numbers of users of all items, which
    may be those of other users; 0 counts as 1.
    """
    user_degrees = np.repeat(rows.lengths, rows.lengths)
    products = np.maximum(degrees[rows.values], 1) * user_degrees
    return rows.matrix(len(degrees), (1 / np.sqrt(products)).astype(np.float32))


def means(rows: Ragged, items: int) -> sp.csr_matrix:
    """Return (U, N) weights that average the items of each row."""
    weights = np.repeat(1 / np.maximum(rows.lengths, 1), rows.lengths)
    return rows.matrix(items, weights.astype(np.float32))


def heaviest(matrix: sp.csr_matrix, top_n: int) -> sp.csr_matrix:
    """Return the `top_n` largest positive entries per row, largest first, ties in column order."""
    matrix = sp.csr_matrix(matrix, dtype=np.float32, copy=True)  # changed in place below
    matrix.sum_duplicates()
    matrix.data[matrix.data < 0] = 0
    matrix.eliminate_zeros()
    lengths, columns, weights = _heaviest_first(
        matrix.indices.astype(np.uint64), matrix.data, matrix.indptr.astype(np.int64), top_n
    )
    return sp.csr_matrix((weights, columns, np.r_[0, np.cumsum(lengths)]), shape=matrix.shape)


@dataclass(frozen=True, eq=False)
class AliasSteps:
    """Random steps along the edges of a weighted graph, in constant time (alias method).

    Edge e of a node with d edges is chosen by a d-th of the draws. It leads to `targets[e]` if the
    draw's remainder is below `keep[e]`, else to `aliases[e]` (Walker 1977). Takes 8 bytes per edge
    more than the graph itself, and none if all edges of each node have equal weights.
    """

    offsets: np.ndarray
    """(n + 1,) int64."""
    targets: np.ndarray
    """(edges,) int32."""
    keep: np.ndarray | None
    """(edges,) float32; None: always 1."""
    aliases: np.ndarray | None
    """(edges,) int32."""

    @classmethod
    def of(cls, graph: sp.csr_matrix) -> "AliasSteps":
        """Build the tables from edge weights, exact to about 1e-7.

        Raises DataError for a weight that is not above 0 or not finite.
        """
        if not (graph.data > 0).all() or not np.isfinite(graph.data).all():
            raise DataError(
                "a weight of the graph is not above 0 or not finite: leave such edges out"
            )
        offsets, targets = graph.indptr.astype(np.int64), graph.indices.astype(np.int32, copy=False)
        keep, alias = _alias_tables(graph.data.astype(np.float64), offsets)
        return (
            cls(offsets, targets, None, None)
            if (keep > 1 - 1e-6).all()
            else cls(offsets, targets, keep.astype(np.float32), targets[alias])
        )

    @property
    def degrees(self) -> np.ndarray:
        """Numbers of edges per node, (n,)."""
        return np.diff(self.offsets)

    def step(self, nodes: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """Return the (m,) int32 nodes that steps from `nodes` (m,) lead to.

        Every node must have edges; `draws` (m,) are uniform in [0, 1).
        """
        first = self.offsets[nodes]
        remainder = draws * (self.offsets[nodes + 1] - first)
        edge = remainder.astype(np.int64)
        remainder -= edge
        edge += first
        if self.keep is None or self.aliases is None:
            return self.targets[edge]
        return np.where(remainder < self.keep[edge], self.targets[edge], self.aliases[edge])


def _alias_tables(weights: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the share that each edge keeps, and the edge that takes the remainder.

    Both are (edges,) and cover all nodes at once. Weights are scaled to mean 1. Light edges (below
    1) leave room that heavy ones fill, in order: a light edge is filled by the first heavy one that
    the light edges before it have not used up, and a heavy edge that was used up hands on to the
    next one. So running sums of room and surplus are enough (Huebschle-Schneider and Sanders,
    arXiv:1903.00227, give this order for parallel machines).
    """
    degrees = np.diff(offsets)
    node = np.repeat(np.arange(len(degrees)), degrees)
    totals = np.bincount(node, weights, minlength=len(degrees))
    scaled = weights * degrees[node] / totals[node]
    keep, alias = np.ones(len(weights)), np.arange(len(weights))
    light, heavy = np.flatnonzero(scaled < 1), np.flatnonzero(scaled >= 1)
    if not len(light) or not len(heavy):
        return keep, alias
    room, surplus = np.cumsum(1 - scaled[light]), np.cumsum(scaled[heavy] - 1)
    # position in `heavy` of each node's last edge
    last = np.cumsum(np.bincount(node[heavy], minlength=len(degrees))) - 1
    first = np.r_[0, last[:-1] + 1]
    filler = np.searchsorted(surplus, np.r_[0, room[:-1]], side="right")
    # rounding must not reach into the next node
    filler = np.minimum(np.maximum(filler, first[node[light]]), last[node[light]])
    has_heavy = last[node[light]] >= first[node[light]]
    keep[light] = np.where(has_heavy, scaled[light], 1)
    alias[light] = np.where(has_heavy, heavy[np.minimum(filler, len(heavy) - 1)], light)
    # the first light edge that takes more than is there
    emptied_by: np.ndarray = np.searchsorted(room, surplus, side="right")
    position = np.arange(len(heavy))
    used_up = (position < last[node[heavy]]) & (emptied_by < len(room))
    # an edge whose surplus was used up exactly, or that had none, keeps all of its share
    taker = emptied_by[used_up]
    is_same_node = node[light[taker]] == node[heavy[used_up]]
    used_up[used_up] = is_same_node & (filler[taker] <= position[used_up])
    emptied = np.flatnonzero(used_up)
    keep[heavy[emptied]] = np.clip(1 + surplus[emptied] - room[emptied_by[emptied]], 0, 1)
    alias[heavy[emptied]] = heavy[emptied + 1]
    return keep, alias


def mixed(keys: np.ndarray) -> np.ndarray:
    """Scramble (m,) uint64 keys so that any pattern looks random (finaliser of splitmix64)."""
    out = keys ^ (keys >> np.uint64(30))
    out *= np.uint64(0xBF58476D1CE4E5B9)
    out ^= out >> np.uint64(27)
    out *= np.uint64(0x94D049BB133111EB)
    out ^= out >> np.uint64(31)
    return out


def draws_of(keys: np.ndarray, number: int) -> np.ndarray:
    """Return draw `number` of each key's stream, (m,) float64 in [0, 1).

    The draw depends on the key (uint64) and the number alone, not on blocks or threads.
    """
    shifted = keys + np.uint64((number + 1) * 0x9E3779B97F4A7C15 % 2**64)
    draws: np.ndarray = (mixed(shifted) >> np.uint64(11)) * 2.0**-53
    return draws
