"""Time single requests, one after the other."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Times(NamedTuple):
    """Milliseconds of single requests, and of the same ones again: their noise floor."""

    first: np.ndarray
    """(n,)."""
    again: np.ndarray
    """(n,) the same requests, each right after the first."""

    def within(self, budget_ms: float) -> tuple[np.ndarray, np.ndarray]:
        """Return (n,) 1 where an answer comes in time, else 0; then the same asked again."""
        return (self.first <= budget_ms) * 1.0, (self.again <= budget_ms) * 1.0


def time_requests(answer: Callable[[int], Any], count: int) -> Times:
    """Return the times of `answer(0)` to `answer(count - 1)`, after one call that is not timed."""
    answer(0)
    times = np.empty((2, count))
    for i in range(count):
        for turn in range(2):
            start_s = time.perf_counter()
            answer(i)
            times[turn, i] = 1000 * (time.perf_counter() - start_s)
    return Times(times[0], times[1])
