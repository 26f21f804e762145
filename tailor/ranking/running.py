"""Counts and sums of labelled rows by key, as they were before any moment.

Shapes: n learned rows, K keys, T times.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from tailor.data.queries import NO_TIME


@dataclass(frozen=True, eq=False)
class RunningStatistics:
    """Labelled rows by key in the order of time, so that a lookup sees earlier rows only.

    No row is counted for itself, nor for another row of the same moment. Means that include their
    own row would tell its label.
    """

    keys: np.ndarray
    """(K,) int64, distinct and ascending."""
    times: np.ndarray
    """(T,) int64, distinct and ascending."""
    moments: np.ndarray
    """(n,) int64 ascending: position of the row's key * (T + 1) + position of its time."""
    sums: np.ndarray
    """(n + 1,) cumulated labels."""

    @classmethod
    def of(cls, keys: np.ndarray, times: np.ndarray, labels: np.ndarray) -> "RunningStatistics":
        """Return the statistics of rows: keys, times and labels (n,)."""
        distinct_keys, key_positions = np.unique(keys, return_inverse=True)
        distinct_times, time_positions = np.unique(times, return_inverse=True)
        moments = key_positions * (len(distinct_times) + 1) + time_positions
        order = np.argsort(moments, kind="stable")
        sums = np.r_[0.0, np.cumsum(labels[order], dtype=np.float64)]
        return cls(distinct_keys, distinct_times, moments[order], sums)

    def before(self, keys: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return counts and sums of labels of the rows of each key before each time.

        `keys` and `times` have shapes that broadcast. All rows count for NO_TIME, none for an
        unknown key.
        """
        keys, times = np.broadcast_arrays(keys, times)
        if not len(self.keys):
            return np.zeros(keys.shape), np.zeros(keys.shape)
        positions = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        is_known = self.keys[positions] == keys
        earlier = np.searchsorted(self.times, times)
        earlier = np.where(times == NO_TIME, len(self.times), earlier)
        first_moments = positions * (len(self.times) + 1)
        starts = np.searchsorted(self.moments, first_moments)
        stops = np.searchsorted(self.moments, first_moments + earlier)
        counts = np.where(is_known, stops - starts, 0).astype(np.float64)
        sums = np.where(is_known, self.sums[stops] - self.sums[starts], 0.0)
        return counts, sums

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Return the arrays under names that begin with `name`."""
        return {f"{name}.{field.name}": getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, name: str, arrays: Mapping[str, np.ndarray]) -> "RunningStatistics":
        """Return the statistics of `arrays`."""
        return cls(*(arrays[f"{name}.{field.name}"] for field in fields(cls)))
