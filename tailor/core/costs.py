"""Estimate what a fit will take, before it is begun.

A slice of the real work is done and timed here, and the rest is extrapolated from counts.

    cost = estimate(method, data, run, valid)      # seconds, bytes kept, bytes at the peak

A class may say more about its own work, by one of two optional hooks:

    _estimate_cost(self, data, run, valid) -> Cost   time a slice; leave `self` able to answer
    _work_units(self, data) -> float                 work of a fit on `data`, in any unit

A hook counts only if it stands in the class that defines `_fit`, or in a subclass of it: what an
ancestor says of its work does not hold for a class that works otherwise.
"""

import copy
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import numpy as np
import scipy.sparse as sp

from tailor.core.methods import Method
from tailor.core.run import Run, ignore_progress_value
from tailor.data.dataset import Dataset
from tailor.data.splits import Split

M = TypeVar("M", bound=Method)
SAMPLE_EVENTS = (20_000, 80_000, 320_000, 1_280_000)  # sizes of the samples that are fitted
SAMPLE_S = 0.4  # no larger sample once a fit takes this long
EVENT_BYTES = 40  # memory per event while counts of it are sorted


@dataclass(frozen=True)
class Cost:
    """Time and memory that a fit takes on this machine, as busy as it is now."""

    seconds: float
    kept_bytes: float = 0
    """Size of the learned state."""
    peak_bytes: float = 0
    """Memory at the peak, beside the data and what was held before."""
    at_most: bool = False
    """True if training may stop earlier."""
    guessed: tuple[str, ...] = ()
    """Names of methods whose work is assumed to grow with the number of events."""
    parts: tuple[tuple[str, "Cost"], ...] = ()
    """Costs of the parts, by name."""

    @classmethod
    def in_turn(cls, parts: Sequence[tuple[str, "Cost"]]) -> "Cost":
        """Return the cost of parts fitted one after the other, their state staying in memory."""
        kept_bytes, peak_bytes = 0.0, 0.0
        for _, cost in parts:
            peak_bytes = max(peak_bytes, kept_bytes + cost.peak_bytes)
            kept_bytes += cost.kept_bytes
        guessed = dict.fromkeys(name for _, cost in parts for name in cost.guessed)
        return cls(
            sum(cost.seconds for _, cost in parts),
            kept_bytes,
            peak_bytes,
            any(cost.at_most for _, cost in parts),
            tuple(guessed),
            tuple(parts),
        )

    def times(self, n: float) -> Self:
        """Return the cost of doing it `n` times, each replacing the state of the one before."""
        return replace(self, seconds=self.seconds * n)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        names = ("seconds", "kept_bytes", "peak_bytes", "at_most")
        return {
            **{name: getattr(self, name) for name in names},
            "guessed": list(self.guessed),
            "parts": [{"part": name, **cost.to_dict()} for name, cost in self.parts],
        }


class Stopwatch:
    """Seconds since it was made, or since it was last read."""

    def __init__(self) -> None:
        self.since = time.perf_counter()

    def lap(self) -> float:
        """Return the seconds since the last lap, and start the next one."""
        start, self.since = self.since, time.perf_counter()
        return self.since - start


def estimate(method: Method, data: Dataset, run: Run = Run(), valid: Split | None = None) -> Cost:
    """Return what `method.fit(data, run, valid)` takes; the method stays as it is."""
    return stand_in(method, data, run, valid)[1]


def stand_in(method: M, data: Dataset, run: Run, valid: Split | None) -> tuple[M, Cost]:
    """Return a copy that answers about as fast as the fitted method, and the cost of fitting.

    The copy's answers mean nothing: it may have learned from a sample of the users.
    """
    fresh = copy.copy(method)
    fresh.__dict__ = method.params() | {"fit_report_": {}}
    run = replace(run, checkpoints=None, watch=ignore_progress_value)
    hook: Any = fresh
    if _has_own(type(method), "_estimate_cost"):
        cost = hook._estimate_cost(data, run, valid)
    else:
        cost = _extrapolated(fresh, data, run, valid)
    fresh.trained_on_ = data.provenance
    return fresh, cost


def _has_own(kind: type, hook: str) -> bool:
    """Return whether a hook is defined by the class that defines `_fit`, or by a subclass of it."""
    owner = next((cls for cls in kind.__mro__ if hook in vars(cls)), None)
    fit_owner = next(cls for cls in kind.__mro__ if "_fit" in vars(cls))
    return owner is not None and issubclass(owner, fit_owner)


def _extrapolated(method: Method, data: Dataset, run: Run, valid: Split | None) -> Cost:
    """Fit growing samples of users until a fit takes SAMPLE_S, and extrapolate by their work."""
    states_work = _has_own(type(method), "_work_units")
    hook: Any = method

    def work_of(sample: Dataset) -> float:
        return hook._work_units(sample) if states_work else float(len(sample.events))

    points: list[tuple[float, float]] = [(0.0, 0.0)]  # work, seconds
    sample = data
    for size in SAMPLE_EVENTS:
        sample = some_users(data, size, run.seed)
        watch = Stopwatch()
        method.__dict__ = method.params() | {"fit_report_": {}}  # forget the smaller sample
        method._fit(sample, run, valid if sample is data else None)
        points.append((work_of(sample), watch.lap()))
        if sample is data or (len(points) > 2 and points[-1][1] > SAMPLE_S):
            break
    work, seconds = points[-1]
    if sample is not data:  # the constant part is in both points
        smaller_work, smaller_seconds = points[-2]
        slope = max(seconds - smaller_seconds, 0) / max(work - smaller_work, 1)
        seconds += slope * (work_of(data) - work)
    kept_bytes = bytes_of(method.state())
    peak_bytes = 2 * kept_bytes + EVENT_BYTES * len(data.events)
    is_guess = sample is not data and not states_work
    return Cost(seconds, kept_bytes, peak_bytes, guessed=(method.name,) if is_guess else ())


def some_users(data: Dataset, events: int, seed: int = 0) -> Dataset:
    """Return whole users drawn at random until they have about `events` events.

    Returns `data` itself where it has no more events than that.
    """
    rows = data.sequences.rows
    if len(rows.values) <= events:
        return data
    drawn = np.random.default_rng(seed).permutation(len(rows))
    count = 1 + np.searchsorted(rows.lengths[drawn].cumsum(), events)
    is_chosen = np.zeros(len(rows), dtype=bool)
    is_chosen[drawn[:count]] = True
    mask = np.zeros(len(data.events), dtype=bool)
    mask[data.sequences.events] = np.repeat(is_chosen, rows.lengths)
    return data.cut(mask)


def bytes_of(state: Any) -> int:
    """Return the bytes of all arrays in learned state, however deeply nested."""
    if isinstance(state, np.ndarray):
        return state.nbytes
    if sp.issparse(state):
        return int(state.data.nbytes + state.indices.nbytes + state.indptr.nbytes)
    if isinstance(state, Mapping):
        return sum(bytes_of(part) for part in state.values())
    if isinstance(state, list | tuple):
        return sum(bytes_of(part) for part in state)
    return bytes_of(state.state()) if hasattr(state, "state") else 0


def resident_bytes() -> int:
    """Return the memory that this process holds now."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux: the most it has held
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
