"""Running statistics: earlier rows only, counted by hand."""

import numpy as np
import pytest

from tailor.data.queries import NO_TIME
from tailor.ranking.running import RunningStatistics

KEYS = np.array([7, 7, 3, 7, 3])
TIMES = np.array([10, 20, 20, 20, 5])
LABELS = np.array([1.0, 0.0, 1.0, 1.0, 0.5])


@pytest.mark.parametrize(
    ("key", "time", "count", "total"),
    [
        (7, 10, 0, 0.0),  # not the row itself
        (7, 11, 1, 1.0),
        (7, 20, 1, 1.0),  # nor another row of the same moment
        (7, 21, 3, 2.0),
        (3, 20, 1, 0.5),
        (3, NO_TIME, 2, 1.5),
        (5, NO_TIME, 0, 0.0),
        (99, 30, 0, 0.0),
    ],
)
def test_rows_before_a_moment_are_counted(key, time, count, total):
    statistics = RunningStatistics.of(KEYS, TIMES, LABELS)
    counts, sums = statistics.before(np.array([key]), np.array([time]))
    assert (counts[0], sums[0]) == (count, total)


def test_random_rows_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    keys, times, labels = rng.integers(5, size=60), rng.integers(20, size=60), rng.random(60)
    statistics = RunningStatistics.of(keys, times, labels)
    again = RunningStatistics.from_arrays("x", statistics.arrays("x"))
    counts, sums = again.before(keys[:, None], times[:, None])
    for row in range(60):
        is_earlier = (keys == keys[row]) & (times < times[row])
        assert counts[row, 0] == is_earlier.sum()
        assert sums[row, 0] == pytest.approx(labels[is_earlier].sum())


def test_nothing_learned_is_nothing_known():
    none = np.zeros(0, dtype=np.int64)
    counts, sums = RunningStatistics.of(none, none, none).before(np.array([1]), np.array([1]))
    assert counts[0] == sums[0] == 0
