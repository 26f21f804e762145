"""Gradient-boosted trees as plain arrays, grown by scikit-learn and read by NumPy.

Shapes: n rows, F features, R trees, m nodes of all trees.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

CELLS = 2**22  # rows times trees of one block


@dataclass(frozen=True, eq=False)
class Trees:
    """Trees whose leaves' values are added up; a leaf is its own child."""

    roots: np.ndarray
    """(R,) int32 node of each root."""
    features: np.ndarray
    """(m,) int32 feature that a node asks for."""
    thresholds: np.ndarray
    """(m,) largest value that goes left."""
    missing_left: np.ndarray
    """(m,) bool: whether NaN goes left."""
    lefts: np.ndarray
    """(m,) int32 left child."""
    rights: np.ndarray
    """(m,) int32 right child."""
    values: np.ndarray
    """(m,) value of a leaf."""
    gains: np.ndarray
    """(m,) gain of a node's question; 0 for a leaf."""

    @classmethod
    def of(cls, model: Any) -> "Trees":
        """Return the trees of a fitted HistGradientBoosting model of one output."""
        nodes = [predictors[0].nodes for predictors in model._predictors]
        starts = np.cumsum([0, *map(len, nodes)])[:-1]
        first_of_tree = np.repeat(starts, [len(tree) for tree in nodes])
        table = np.concatenate(nodes)
        is_leaf = table["is_leaf"].astype(bool)
        numbers = np.arange(len(table))
        return cls(
            starts.astype(np.int32),
            np.where(is_leaf, 0, table["feature_idx"]).astype(np.int32),
            np.where(is_leaf, np.inf, table["num_threshold"]),
            table["missing_go_to_left"].astype(bool),
            np.where(is_leaf, numbers, first_of_tree + table["left"]).astype(np.int32),
            np.where(is_leaf, numbers, first_of_tree + table["right"]).astype(np.int32),
            np.where(is_leaf, table["value"], 0.0),
            np.where(is_leaf, 0.0, table["gain"]),
        )

    def leaf_values(self, rows: np.ndarray) -> np.ndarray:
        """Return (n, R) the value of each tree's leaf for rows (n, F); NaN is missing."""
        size = max(1, CELLS // max(len(self.roots), 1))
        starts = range(0, len(rows), size)
        blocks = [self._leaf_values(rows[start : start + size]) for start in starts]
        return np.concatenate(blocks) if blocks else np.zeros((0, len(self.roots)))

    def _leaf_values(self, rows: np.ndarray) -> np.ndarray:
        nodes = np.tile(self.roots, (len(rows), 1))  # n, R
        positions = np.arange(len(rows))[:, None]
        while True:
            values = rows[positions, self.features[nodes]]
            goes_left = np.where(
                np.isnan(values), self.missing_left[nodes], values <= self.thresholds[nodes]
            )
            below = np.where(goes_left, self.lefts[nodes], self.rights[nodes])
            if (below == nodes).all():
                return self.values[nodes]
            nodes = below

    def first(self, trees: int) -> "Trees":
        """Return the first trees alone."""
        if trees >= len(self.roots):
            return self
        nodes = int(self.roots[trees])
        arrays = (getattr(self, field.name)[:nodes] for field in fields(self)[1:])
        return Trees(self.roots[:trees], *arrays)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Trees":
        """Return the trees of `arrays`."""
        return cls(*(arrays[field.name] for field in fields(cls)))
