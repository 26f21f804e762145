"""Co-visitation: what users choose after an item."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import scipy.sparse as sp

from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.dataset import Dataset
from tailor.data.graphs import heaviest, transitions
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.retrieval.neighbours import ItemToItem


@dataclass(eq=False)
class CoVisitation(ItemToItem):
    """Recommend items that followed the items of the history in other users' histories.

    Counts, over all histories, how often item j is at most `window` events after item i, nearer
    pairs counting more, and adds the counts of the history's items, the latest counting most. No
    paper of its own: the counter that sequence models must beat.
    """

    window: Annotated[int, Range(1, 15)] = 5
    """Largest distance in events between the two items of a pair."""
    distance_power: Annotated[float, Range(0.0, 2.0)] = 1.0
    """A pair at distance d weighs 1 / d ** power; 0: all pairs the same."""
    reverse: Annotated[float, Range(0.0, 1.0)] = 0.3
    """Weight of pairs with j before i, relative to those with j after i."""
    popularity_power: Annotated[float, Range(0.0, 0.6)] = 0.0
    """Power of the number of events of j by which its counts are divided; 0: not divided."""
    top_n: int | None = 100
    """Neighbours kept per item; None keeps all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.window <= 100:
            raise DataError(f"window is {self.window}: it must be from 1 to 100")
        for name in ("reverse", "distance_power", "popularity_power"):
            if not getattr(self, name) >= 0:
                raise DataError(f"{name} is {getattr(self, name)}: it must be 0 or more")

    def _work_units(self, data: Dataset) -> float:
        """Return the number of pairs that are counted."""
        lengths = data.sequences.rows.lengths
        return float(sum(np.maximum(lengths - d, 0).sum() for d in range(1, self.window + 1)))

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        n = len(self.items_)
        distance_weights = {d: 1 / d**self.distance_power for d in range(1, self.window + 1)}
        if self.reverse:
            distance_weights |= {-d: self.reverse * w for d, w in distance_weights.items()}
        rows = data.sequences.rows
        if not self.popularity_power:
            self.weights_ = transitions(rows, n, distance_weights, self.top_n, run.workers)
        else:
            counts = np.maximum(np.bincount(rows.values, minlength=n), 1)
            scale = sp.diags((1 / counts**self.popularity_power).astype(np.float32))
            pairs = transitions(rows, n, distance_weights, None, run.workers)
            self.weights_ = (pairs @ scale).tocsr()
            if self.top_n is not None:
                self.weights_ = heaviest(self.weights_, self.top_n)
        self.fit_report_ = {
            "items_with_neighbours": int((np.diff(self.weights_.indptr) > 0).sum()),
            "pairs": self.weights_.nnz,
        }
