"""Run: what concerns one run and not the method."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tailor.progress import Progress, silent


def _cores() -> int:
    """Those this process may use, which may be fewer than the machine has: two threads on one core
    wait for each other.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def unwatched(step: int, value: float) -> None:
    """Nobody looks on while a method is fitted: the default."""


@dataclass(frozen=True)
class Run:
    """What concerns this run and not the method: seed, device, workers, progress, deadline, number
    format, who looks on.
    """

    seed: int = 0
    device: str = "cpu"
    workers: int = field(default_factory=lambda: min(_cores(), 8))
    """Threads."""
    progress: Progress = silent
    deadline_s: float | None = None
    dtype: str = "auto"
    """Of products in nets: float32, bfloat16, or whichever is faster here."""
    checkpoints: Path | None = None
    """Folder where nets in training keep their state, so that a killed run goes on."""
    watch: Callable[[int, float], None] = unwatched
    """Told (step, figure on `valid`) while a method is fitted; may raise to end that."""

    def rng(self, *key: str | int) -> np.random.Generator:
        """A generator of its own for every key, the same for the same seed and key:
        `run.rng("sample", request_id)`.
        """
        digest = hashlib.blake2b(json.dumps([self.seed, *key]).encode(), digest_size=16).digest()
        return np.random.default_rng(int.from_bytes(digest, "little"))
