"""What a fit will take: told before it is begun, from a slice of the real work done and timed here,
and from counts of the rest.
"""

import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import scipy.sparse as sp

from tailor.data.dataset import Dataset


@dataclass(frozen=True)
class Cost:
    """What fitting takes on this machine, as it is now."""

    seconds: float
    kept_bytes: float = 0
    """Of what is learned."""
    peak_bytes: float = 0
    """At the worst moment, beside the data and what was there before."""
    at_most: bool = False
    """Training may stop earlier by itself."""
    guessed: tuple[str, ...] = ()
    """Methods whose work is taken to grow with the events, because they say nothing else of it."""
    parts: tuple[tuple[str, "Cost"], ...] = ()

    @classmethod
    def in_turn(cls, parts: Sequence[tuple[str, "Cost"]]) -> "Cost":
        """One after the other, what each learned staying in memory."""
        kept, peak = 0.0, 0.0
        for _, one in parts:
            peak, kept = max(peak, kept + one.peak_bytes), kept + one.kept_bytes
        guessed = dict.fromkeys(name for _, one in parts for name in one.guessed)
        return cls(
            sum(one.seconds for _, one in parts),
            kept,
            peak,
            any(one.at_most for _, one in parts),
            tuple(guessed),
            tuple(parts),
        )

    def times(self, n: float) -> Self:
        """The same done `n` times, what is learned replaced each time."""
        return replace(self, seconds=self.seconds * n)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        own = {
            name: getattr(self, name) for name in ("seconds", "kept_bytes", "peak_bytes", "at_most")
        }
        return own | {
            "guessed": list(self.guessed),
            "parts": [{"part": name, **one.to_dict()} for name, one in self.parts],
        }


class Stopwatch:
    """Seconds since it was made, or since it was last read."""

    def __init__(self) -> None:
        self.since = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap."""
        before, self.since = self.since, time.perf_counter()
        return self.since - before


def some_users(data: Dataset, events: int, seed: int = 0) -> Dataset:
    """`data` with users drawn at random, whole, until they have about as many events; the data
    itself where it has no more.
    """
    rows = data.sequences.rows
    if len(rows.values) <= events:
        return data
    drawn = np.random.default_rng(seed).permutation(len(rows))
    chosen = np.zeros(len(rows), dtype=bool)
    chosen[drawn[: 1 + np.searchsorted(rows.lengths[drawn].cumsum(), events)]] = True
    mask = np.zeros(len(data.events), dtype=bool)
    mask[data.sequences.events] = np.repeat(chosen, rows.lengths)
    return data.cut(mask)


def bytes_of(learned: Any) -> int:
    """Of the arrays in what a method has learned, however deep."""
    if isinstance(learned, np.ndarray):
        return learned.nbytes
    if sp.issparse(learned):
        return int(learned.data.nbytes + learned.indices.nbytes + learned.indptr.nbytes)
    if isinstance(learned, Mapping):
        return sum(bytes_of(one) for one in learned.values())
    if isinstance(learned, list | tuple):
        return sum(bytes_of(one) for one in learned)
    return bytes_of(learned.state()) if hasattr(learned, "state") else 0


def resident_bytes() -> int:
    """Of memory that this process holds now."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux: the most it has held
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
