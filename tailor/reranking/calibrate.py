"""Calibrate: lists have the mix of categories that the user's history has."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse as sp

from tailor.core.specs import build
from tailor.data.dataset import Dataset
from tailor.data.filling import fill_places, scaled_scores
from tailor.data.queries import Queries, Rankings
from tailor.reranking.reordering import Reordering, category_matrix

MIX = 0.01  # of the history's shares in the list's, so that a missing category costs not all
MAX_CELLS = 4_000_000  # of an array of a block of queries: 32 MB


@dataclass(eq=False)
class Calibrate(Reordering):
    """Takes the item that is good and brings the list's categories nearest to the history's.

    Calibrated recommendations (Steck 2018): the value of an item is (1 - strength) x its score from
    `inner`, the best of a list at 1, minus strength x the divergence of the history's shares of
    categories from those of the list with that item (`metrics.calibration.list_miscalibration`). An
    item's categories share it equally. Who has no history with categories keeps the order.
    """

    value_kind: ClassVar[str] = "relevance and calibration"

    categories_: sp.csr_matrix = field(init=False, repr=False)
    """(N, C) shares of each item's categories, which sum to 1; zero where none is known."""

    @classmethod
    def tiny(cls) -> Self:
        return build({"class": "Calibrate", "inner": {"class": "CoVisitation"}}, cls)

    def _learn(self, data: Dataset) -> dict[str, Any]:
        self.categories_ = category_shares(data, self.name)
        unknown = int((np.diff(self.categories_.indptr) == 0).sum())
        return {"categories": self.categories_.shape[1], "items_without_categories": unknown}

    def _order(self, queries: Queries, lists: Rankings, k: int) -> tuple[np.ndarray, np.ndarray]:
        order = np.full((len(lists), k), -1)
        values = np.full(order.shape, -np.inf, np.float32)
        widest = int(np.diff(self.categories_.indptr).max(initial=1))
        cells = max(self.categories_.shape[1], lists.rows.shape[1] * widest, 1)
        step = max(1, MAX_CELLS // cells)
        for start in range(0, len(lists), step):
            block = slice(start, start + step)
            rows = lists.rows[block]
            scores = scaled_scores(lists.scores[block], rows >= 0)
            targets = history_shares(queries, np.arange(len(lists))[block], self.categories_)
            order[block], values[block] = calibrated_order(
                rows, scores, self.categories_, targets, self.strength, k
            )
        return order, values


def category_shares(data: Dataset, method: str) -> sp.csr_matrix:
    """Return (N, C) rows that sum to 1: each item's categories in equal shares."""
    matrix = category_matrix(data, method)
    counts = np.diff(matrix.indptr)
    matrix.data /= np.repeat(np.maximum(counts, 1), counts)
    return matrix


def history_shares(queries: Queries, chosen: np.ndarray, categories: sp.csr_matrix) -> np.ndarray:
    """Return (B, C) the shares of categories in the histories of chosen queries; zero for none."""
    histories = queries.histories.take(chosen)
    is_known = histories.values >= 0
    ones = np.ones(int(is_known.sum()), np.float32)
    places = (histories.row_ids[is_known], histories.values[is_known])
    counts = sp.csr_matrix((ones, places), shape=(len(chosen), categories.shape[0]))
    sums: np.ndarray = (counts @ categories).toarray()
    totals = sums.sum(axis=1, keepdims=True)
    return sums / np.where(totals > 0, totals, 1)


def calibrated_order(
    rows: np.ndarray,
    scores: np.ndarray,
    categories: sp.csr_matrix,
    targets: np.ndarray,
    strength: float,
    k: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Order lists by score and by the divergence of their categories from the target shares.

    `rows` (B, L) items, -1 after the last; `scores` (B, L) from 0 to 1; `targets` (B, C). Returns
    (B, k) places in the lists in the order taken, -1 where a list ends, and (B, k) values.
    """
    codes, shares = _padded(categories, np.maximum(rows, 0))  # B, L, W
    targets_by_item = _of_lists(targets, codes)  # B, L, W
    is_shared = (targets_by_item > 0) & (shares > 0)
    has_targets: np.ndarray = np.any(targets, axis=1, keepdims=True)
    entropy = _cross_entropy(targets, targets)  # B
    listed = np.zeros(targets.shape)  # sums of shares of the items taken

    def gains(step: int) -> np.ndarray:
        mixed = (1 - MIX) * listed / (step + 1) + MIX * targets  # B, C
        before = _of_lists(mixed, codes)
        after = before + (1 - MIX) * shares / (step + 1)
        ratio = np.where(is_shared, after, 1) / np.where(is_shared, before, 1)
        nearer = (targets_by_item * np.log(ratio)).sum(axis=2)
        divergence = (_cross_entropy(targets, mixed) - entropy)[:, None] - nearer
        result: np.ndarray = -strength * np.where(has_targets, divergence, 0)
        return result

    def note(step: int, lists: np.ndarray, places: np.ndarray) -> None:
        np.add.at(listed, (lists[:, None], codes[lists, places]), shares[lists, places])

    value = np.where(rows >= 0, (1 - strength) * scores, -np.inf)
    return fill_places(value, k, gains, note)


def _cross_entropy(targets: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return (B,) minus the sum of targets times the logarithms of shares, both (B, C)."""
    is_target = targets > 0
    logs = np.log(np.where(is_target, shares, 1))
    entropies: np.ndarray = -np.where(is_target, targets * logs, 0).sum(axis=1)
    return entropies


def _padded(categories: sp.csr_matrix, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return category numbers and shares of the items of lists, (B, L, W), shares 0 at the end."""
    lengths = np.diff(categories.indptr)
    width = max(int(lengths.max(initial=0)), 1)
    positions = np.minimum(
        categories.indptr[:-1, None] + np.arange(width), max(categories.nnz - 1, 0)
    )
    is_there = np.arange(width) < lengths[:, None]
    if not categories.nnz:
        empty = np.zeros((*rows.shape, width))
        return empty.astype(np.int64), empty
    codes = np.where(is_there, categories.indices[positions], 0)
    shares = np.where(is_there, categories.data[positions], 0.0)
    return codes[rows], shares[rows]


def _of_lists(table: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return (B, L, W) the values of a table (B, C) at category numbers."""
    if not table.shape[1]:
        return np.zeros(codes.shape)
    flat = codes.reshape(len(codes), -1)
    return np.take_along_axis(table, flat, axis=1).reshape(codes.shape)
