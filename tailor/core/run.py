"""Run: settings of one run, as opposed to settings of the method."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tailor.progress import Progress, silent


def usable_cores() -> int:
    """Return the cores that this process may use, which may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_workers() -> int:
    """Return OMP_NUM_THREADS where it is set, else the usable cores, 8 at most."""
    requested = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if requested.isdecimal() and int(requested) > 0:
        return int(requested)
    return min(usable_cores(), 8)


def ignore_progress_value(step: int, value: float) -> None:
    """Do nothing: the default of `Run.watch`."""


@dataclass(frozen=True)
class Run:
    """Settings of one run: seed, device, threads, progress, deadline, number format."""

    seed: int = 0
    """Seed of everything that is drawn."""
    device: str = "cpu"
    """Device of nets: "cpu", "cuda", or "cuda:N"."""
    workers: int = field(default_factory=default_workers)
    """Most threads used; by default OMP_NUM_THREADS, or the cores.

    A net takes one thread instead where that is measured to be faster.
    """
    progress: Progress = silent
    """Wrapper of long loops that shows progress."""
    deadline_s: float | None = None
    """Seconds after which training stops; None: no deadline."""
    dtype: str = "auto"
    """Number format of products in nets: float32, bfloat16, or auto for the faster one here."""
    checkpoints: Path | None = None
    """Folder where nets keep their state while training, so that a killed run can go on."""
    watch: Callable[[int, float], None] = ignore_progress_value
    """Called with (step, validation value) during a fit; may raise to end the fit."""

    def rng(self, *key: str | int) -> np.random.Generator:
        """Return the generator of a key: `run.rng("sample", request_id)`.

        The same seed and key always give the same generator; other keys give independent ones.
        """
        digest = hashlib.blake2b(json.dumps([self.seed, *key]).encode(), digest_size=16).digest()
        return np.random.default_rng(int.from_bytes(digest, "little"))
