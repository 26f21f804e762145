"""Times of a worker's answers: a ring of histograms, one a minute and tenant.

A request costs one look-up in a table of bounds and one addition.
"""

import time
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MINUTES = 180  # that a ring remembers
MINUTE_MS = 60_000
STEP = 1.2  # between two bounds: a quantile is right within a tenth
BOUNDS_S = tuple((0.00025 * STEP ** np.arange(65)).tolist())  # to half a minute
REFUSED, FAILED = 400, 500


@dataclass(eq=False, slots=True)
class _Minute:
    """Counts of the answers of one minute."""

    number: int
    """Minutes since 1970."""
    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    """Answers between two bounds."""
    refused: int = 0
    failed: int = 0


class LatencyRings:
    """Counts answers by minute, tenant and time taken. Counted in one thread, read in any."""

    def __init__(self) -> None:
        self.started_ms = int(time.time() * 1000)
        self._rings: dict[str, list[_Minute]] = {}  # by tenant; a minute's place is its remainder

    def note(self, tenant: str, took_s: float, status: int, now_s: float) -> None:
        """Count an answer."""
        ring = self._rings.get(tenant)
        if ring is None:
            ring = self._rings[tenant] = [_Minute(-1) for _ in range(MINUTES)]
        number = int(now_s) // 60
        minute = ring[number % MINUTES]
        if minute.number != number:
            minute = ring[number % MINUTES] = _Minute(number)
        minute.counts[bisect_right(BOUNDS_S, took_s)] += 1
        if status >= FAILED:
            minute.failed += 1
        elif status >= REFUSED:
            minute.refused += 1

    def minutes(self, tenant: str, now_s: float) -> list[dict[str, Any]]:
        """Return the figures of the minutes with answers, the oldest first."""
        oldest = int(now_s) // 60 - MINUTES
        minutes = [minute for minute in self._rings.get(tenant, ()) if minute.number > oldest]
        return [_figures(minute) for minute in sorted(minutes, key=lambda minute: minute.number)]


def _figures(minute: _Minute) -> dict[str, Any]:
    """Return the figures of a minute."""
    counts = np.array(minute.counts)
    return {
        "time_ms": minute.number * MINUTE_MS,
        "requests": int(counts.sum()),
        "median_ms": quantile_ms(counts, 0.5),
        "p99_ms": quantile_ms(counts, 0.99),
        "refused": minute.refused,
        "errors": minute.failed,
    }


def quantile_ms(counts: np.ndarray, share: float) -> float:
    """Return a quantile of the times counted: the middle of the bounds that it lies between."""
    last = len(BOUNDS_S) - 1
    bound = int(np.searchsorted(np.cumsum(counts), share * counts.sum()))
    upper_s = BOUNDS_S[min(bound, last)]
    middle_s = upper_s / STEP**0.5 if bound <= last else upper_s
    return round(middle_s * 1000, 3)
