"""Rows by key in the order of time: which came before a moment, and what they add up to.

Shapes: n rows, K keys, T times.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from tailor.data.queries import NO_TIME


@dataclass(frozen=True, eq=False)
class Timeline:
    """Rows ordered by key, then by time."""

    keys: np.ndarray
    """(K,) int64, distinct and ascending."""
    times: np.ndarray
    """(T,) int64, distinct and ascending."""
    moments: np.ndarray
    """(n,) int64 ascending: position of the row's key * (T + 1) + position of its time."""

    @classmethod
    def of(cls, keys: np.ndarray, times: np.ndarray) -> "tuple[Timeline, np.ndarray]":
        """Return the timeline of rows with keys and times (n,), and their order (n,)."""
        distinct_keys, key_positions = np.unique(keys, return_inverse=True)
        distinct_times, time_positions = np.unique(times, return_inverse=True)
        moments = key_positions * (len(distinct_times) + 1) + time_positions
        order = np.argsort(moments, kind="stable")
        return cls(distinct_keys, distinct_times, moments[order]), order

    def before(self, keys: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the first place of each key's rows, and the place after its last earlier one.

        `keys` and `times` have shapes that broadcast. A row of the same time is not earlier. All
        rows are earlier than NO_TIME; an unknown key has none.
        """
        keys, times = np.broadcast_arrays(keys, times)
        if not len(self.keys):
            return np.zeros(keys.shape, np.int64), np.zeros(keys.shape, np.int64)
        positions = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        earlier = np.searchsorted(self.times, times)
        earlier = np.where(times == NO_TIME, len(self.times), earlier)
        first_moments = positions * (len(self.times) + 1)
        starts = np.searchsorted(self.moments, first_moments)
        stops = np.searchsorted(self.moments, first_moments + earlier)
        return starts, np.where(self.keys[positions] == keys, stops, starts)

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Return the arrays under names that begin with `name`."""
        return {f"{name}.{field.name}": getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, name: str, arrays: Mapping[str, np.ndarray]) -> "Timeline":
        """Return the timeline of `arrays`."""
        return cls(*(arrays[f"{name}.{field.name}"] for field in fields(cls)))


@dataclass(frozen=True, eq=False)
class RunningStatistics:
    """Counts and sums of labelled rows by key, as they were before any moment.

    No row is counted for itself, nor for another row of the same moment. Means that include their
    own row would tell its label.
    """

    timeline: Timeline
    sums: np.ndarray
    """(n + 1,) cumulated labels."""

    @classmethod
    def of(cls, keys: np.ndarray, times: np.ndarray, labels: np.ndarray) -> "RunningStatistics":
        """Return the statistics of rows: keys, times and labels (n,)."""
        timeline, order = Timeline.of(keys, times)
        return cls(timeline, np.r_[0.0, np.cumsum(labels[order], dtype=np.float64)])

    def before(self, keys: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return counts and sums of labels of the rows of each key before each time.

        As `Timeline.before`.
        """
        starts, stops = self.timeline.before(keys, times)
        return (stops - starts).astype(np.float64), self.sums[stops] - self.sums[starts]

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Return the arrays under names that begin with `name`."""
        return {f"{name}.sums": self.sums, **self.timeline.arrays(name)}

    @classmethod
    def from_arrays(cls, name: str, arrays: Mapping[str, np.ndarray]) -> "RunningStatistics":
        """Return the statistics of `arrays`."""
        return cls(Timeline.from_arrays(name, arrays), arrays[f"{name}.sums"])
