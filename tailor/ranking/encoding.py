"""Examples as arrays, and batches of them for a net.

Shapes: n examples, S slots, H histories, m events of all histories, B examples of a batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from tailor.data.arrays import Ragged
from tailor.data.queries import NO_TIME, Queries
from tailor.nn.fields import FieldBatch
from tailor.nn.packing import pad_rows

HOUR_MS = 3_600_000


@dataclass(frozen=True, eq=False)
class Behaviours:
    """Latest events of H histories, oldest first."""

    items: Ragged
    """(H,) item rows."""
    gaps: np.ndarray
    """(m,) float32: log(1 + hours) from each event to the request; 0 where a time is absent."""
    values: np.ndarray
    """(m,) float32 numbers of the events, such as ratings; NaN where absent."""

    @classmethod
    def of(cls, queries: Queries, length: int) -> "Behaviours":
        """Return the last `length` events of every query."""
        items = queries.histories.last(length)
        gaps = np.zeros(len(items.values), np.float32)
        times = queries.columns.get("times_ms")
        if times is not None and queries.now_ms is not None:
            event_ms = times.last(length).values
            now_ms = queries.now_ms[items.row_ids]
            is_known = (event_ms != NO_TIME) & (now_ms != NO_TIME)
            hours = np.where(is_known, np.maximum(now_ms - event_ms, 0), 0) / HOUR_MS
            gaps = np.log1p(hours).astype(np.float32)
        values = np.full(len(items.values), np.nan, np.float32)
        if "values" in queries.columns:
            values = queries.columns["values"].last(length).values.astype(np.float32)
        return cls(items, gaps, values)


@dataclass(frozen=True, eq=False)
class Encoded:
    """n examples as codes and weights of their slots, with the histories they share."""

    codes: np.ndarray
    """(n, S) int64 over all fields."""
    weights: np.ndarray
    """(n, S) float32."""
    items: np.ndarray
    """(n,) int64 item rows; N for an unknown item."""
    owners: np.ndarray
    """(n,) int64 the history of each example."""
    behaviours: Behaviours
    unknown: int
    """The row of an unknown item: N."""
    attached: np.ndarray | None = None
    """(n, X) int64 rows of a table that a method attaches to each example; -1 for none."""

    def __len__(self) -> int:
        return len(self.codes)

    def blocks(self, pairs: int, histories: int) -> Iterator[slice]:
        """Yield all examples in blocks of at most `pairs` examples of `histories` histories."""
        start = 0
        while start < len(self):
            stop = int(np.searchsorted(self.owners, self.owners[start] + histories))
            stop = min(stop, start + pairs)
            yield slice(start, stop)
            start = stop

    def batch(self, rows: np.ndarray | slice) -> FieldBatch:
        """Return some of the examples as tensors; histories are padded to the longest of them."""
        histories, owners = _once_each(self.owners[rows])
        items = self.behaviours.items
        starts = items.offsets[histories]
        lengths = items.lengths[histories]
        padded, is_real = pad_rows(items.values, starts, lengths)
        gaps, _ = pad_rows(self.behaviours.gaps, starts, lengths)
        values, _ = pad_rows(self.behaviours.values, starts, lengths)
        attached = np.zeros((len(owners), 0), np.int64)
        if self.attached is not None:
            attached = self.attached[rows]
        return FieldBatch(
            torch.from_numpy(self.codes[rows]),
            torch.from_numpy(self.weights[rows]),
            torch.from_numpy(self.items[rows]),
            torch.from_numpy(owners),
            torch.from_numpy(np.where(is_real, padded, self.unknown).astype(np.int64)),
            torch.from_numpy(is_real),
            torch.from_numpy(gaps),
            torch.from_numpy(values),
            torch.from_numpy(attached),
        )


def _once_each(owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct histories (H,), and each example's position in them (B,).

    Where no two examples share one, histories stand in the order of the examples.
    """
    distinct, positions = np.unique(owners, return_inverse=True)
    if len(distinct) == len(owners):
        return owners, np.arange(len(owners))
    return distinct, positions
