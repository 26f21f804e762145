"""Co-visitation: what people go on to after an item."""

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
    """Items that followed the items of your history in other people's histories, the latest of
    yours counting most.

    Counts, over all sequences, how often j stands at most `window` places after i, nearer pairs
    counting more, and adds up the counts of the history's items. No paper of its own: the counter
    that sequence models must beat.
    """

    window: Annotated[int, Range(1, 15)] = 5
    """Places between the two items of a pair."""
    distance_power: Annotated[float, Range(0.0, 2.0)] = 1.0
    """A pair at distance d weighs 1 / d ** power; 0: all the same."""
    reverse: Annotated[float, Range(0.0, 1.0)] = 0.3
    """Weight of j before i, relative to j after i."""
    popularity_power: Annotated[float, Range(0.0, 0.6)] = 0.0
    """Counts of j are divided by its number of events to this power."""
    top_n: int | None = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.window <= 100:
            raise DataError(f"window is {self.window}: it must be from 1 to 100")
        for name in ("reverse", "distance_power", "popularity_power"):
            if not getattr(self, name) >= 0:
                raise DataError(f"{name} is {getattr(self, name)}: it must be 0 or more")

    def _work_units(self, data: Dataset) -> float:
        """Pairs counted."""
        lengths = data.sequences.rows.lengths
        return float(sum(np.maximum(lengths - d, 0).sum() for d in range(1, self.window + 1)))

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        steps = {d: 1 / d**self.distance_power for d in range(1, self.window + 1)}
        if self.reverse:
            steps |= {-d: self.reverse * weight for d, weight in steps.items()}
        rows = data.sequences.rows
        if not self.popularity_power:
            self.weights_ = transitions(rows, len(self.items_), steps, self.top_n, run.workers)
        else:
            counts = np.bincount(rows.values, minlength=len(self.items_))
            scale = sp.diags(
                (1 / np.maximum(counts, 1) ** self.popularity_power).astype(np.float32)
            )
            every = (transitions(rows, len(self.items_), steps, None, run.workers) @ scale).tocsr()
            self.weights_ = every if self.top_n is None else heaviest(every, self.top_n)
        self.fit_report_ = {
            "items_with_neighbours": int((np.diff(self.weights_.indptr) > 0).sum()),
            "pairs": self.weights_.nnz,
        }
