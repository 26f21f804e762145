"""Fill lists place by place, where the worth of an item depends on those taken before."""

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp

from tailor.data.arrays import Ragged


def fill_places(
    value: np.ndarray,
    k: int,
    gains: Callable[[int], np.ndarray],
    note: Callable[[int, np.ndarray, np.ndarray], None],
) -> tuple[np.ndarray, np.ndarray]:
    """Fill lists place by place, each time with the item of the highest value plus gain.

    `value` (B, L) of each item by itself, -inf where there is none. `gains(step)` returns (B, L)
    for the place `step`, from 0; `note(step, lists, places)` is told which items were taken, as
    numbers of lists and of places in them. Returns (B, k) places in the order taken, -1 where a
    list ends, and (B, k) values. Of equals the first is taken.
    """
    n = len(value)
    left = value.copy()
    lists = np.arange(n)
    order = np.full((n, k), -1)
    values = np.full((n, k), -np.inf, np.float32)
    for step in range(k):
        marginal = left + gains(step)
        best = marginal.argmax(axis=1)
        is_left = left[lists, best] > -np.inf
        order[is_left, step] = best[is_left]
        values[is_left, step] = marginal[lists, best][is_left]
        left[lists, best] = -np.inf
        if step + 1 < k:
            note(step, lists[is_left], best[is_left])
    return order, values


def scaled_scores(scores: np.ndarray, is_item: np.ndarray) -> np.ndarray:
    """Return (B, L) scores with the best of each list at 1; 0 where there is no item.

    Lists with scores below 0 are moved up to 0 first.
    """
    scores = np.where(is_item, scores, 0)
    low = scores.min(axis=1, initial=0, keepdims=True)
    high_or_low = np.where(is_item, scores, low)
    high = high_or_low.max(axis=1, keepdims=True, initial=-np.inf)
    width = np.where(high > low, high - low, 1)
    scaled = (scores - low) / width
    return np.where(is_item, scaled, 0)


def marginal_order(
    rows: np.ndarray, scores: np.ndarray, vectors: sp.csr_matrix, strength: float, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Order lists by maximal marginal relevance.

    `rows` and `scores` are (B, L), -1 after the last item; `vectors` (N, V) of unit length.
    Returns (B, k) places in the lists in the order taken, -1 where a list ends, and (B, k) values.
    """
    n, width = rows.shape
    is_item = rows >= 0
    max_cosine = np.zeros((n, width), np.float32)  # to the items taken
    cosines = _ListCosines(vectors[np.maximum(rows, 0).ravel()], n, width)

    def gains(step: int) -> np.ndarray:
        return -strength * max_cosine

    def note(step: int, lists: np.ndarray, places: np.ndarray) -> None:
        if strength:
            best = np.zeros(n, np.int64)
            best[lists] = places
            np.maximum(max_cosine, cosines.to(best), out=max_cosine)

    value = np.where(is_item, (1 - strength) * scaled_scores(scores, is_item), -np.inf)
    return fill_places(value, k, gains, note)


class _ListCosines:
    """Cosines within lists to one item of each list, without the products of all pairs."""

    def __init__(self, vectors: sp.csr_matrix, n: int, width: int) -> None:
        self.vectors = vectors  # (n * L, V)
        self.shape = (n, width)
        self.entry_row = np.repeat(np.arange(n * width), np.diff(vectors.indptr))
        self.entry_slot = self.entry_row // width * vectors.shape[1] + vectors.indices
        # (n * V,) the vector of one item a list
        self.chosen = np.zeros(n * vectors.shape[1], np.float32)

    def to(self, best: np.ndarray) -> np.ndarray:
        """Return (n, L) cosines of every item to the one at place `best` (n,) of its list."""
        n, width = self.shape
        by_row = Ragged(self.vectors.indptr, np.arange(len(self.entry_row)))
        entries = by_row.take(np.arange(n) * width + best).values
        self.chosen[self.entry_slot[entries]] = self.vectors.data[entries]
        products = self.vectors.data * self.chosen[self.entry_slot]
        cosines = np.bincount(self.entry_row, products, minlength=n * width)
        self.chosen[self.entry_slot[entries]] = 0
        return cosines.reshape(n, width).astype(np.float32)
