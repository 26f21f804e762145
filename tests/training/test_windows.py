"""Windows of histories: times of events and queries, counts of items before a position."""

import numpy as np
import pytest

pytest.importorskip("torch")

from tailor.data.queries import NO_TIME
from tailor.training.sequences import Windows, ask_at_next, count_items, padded_times

ROWS = np.array([5, 6, 7, 8, 9], np.int32)
TIMES_MS = np.array([10, 20, 30, 40, 50])


def test_training_windows_are_asked_at_the_time_of_the_next_event():
    batch = Windows(ROWS, np.array([0, 3]), np.array([2, 1]), TIMES_MS)
    assert ask_at_next(batch).now_ms.tolist() == [30, 50]
    assert padded_times(ask_at_next(batch)).tolist() == [[10, 20, 30], [40, 50, NO_TIME]]
    untimed = Windows(ROWS, np.array([0]), np.array([2]))
    assert ask_at_next(untimed) is untimed


def test_times_that_are_missing_are_no_time():
    batch = Windows(ROWS, np.array([1, 4]), np.array([3, 1]), TIMES_MS)
    assert padded_times(batch).tolist() == [
        [20, 30, 40, NO_TIME],
        [50, NO_TIME, NO_TIME, NO_TIME],
    ]
    asked = Windows(ROWS, np.array([1]), np.array([2]), now_ms=np.array([99]))
    assert padded_times(asked).tolist() == [[NO_TIME, NO_TIME, 99]]


def test_items_are_counted_where_the_mask_says():
    rows = np.array([[2, 2, 0, 1], [1, 0, 1, 1]])
    mask = np.array([[True, True, True, False], [True, False, True, True]])
    cells, counts = count_items(rows, mask, 3)
    dense = np.zeros(6)
    dense[cells] = counts
    assert dense.reshape(2, 3).tolist() == [[1, 0, 2], [0, 3, 0]]
