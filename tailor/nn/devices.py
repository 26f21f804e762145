"""Where a net runs and in which number format: asked for, checked, or measured."""

import ctypes
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch

from tailor.errors import ModelError

FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TRIM = -1  # mallopt's names for: free bytes that are given back;
TOP_PAD = -2  # bytes asked for in advance;
MAPPED = -3  # blocks kept apart from the heap
KEPT = {TRIM: 2**30, TOP_PAD: 2**26, MAPPED: 2**25}
# glibc's own, but for MAPPED, which it raises by itself as it goes
GIVEN_BACK = {TRIM: 2**17, TOP_PAD: 2**17, MAPPED: 2**25}


def device_for(name: str) -> torch.device:
    """The device of that name. Raises ModelError where it is not there: nothing else is taken in
    its place.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        found = [f"cuda:{i}" for i in range(torch.cuda.device_count())] + (
            ["mps"] if torch.backends.mps.is_available() else []
        )
        raise ModelError(
            f'device "{name}" cannot be used ({str(error).splitlines()[0]}): take one of'
            f" {', '.join(['cpu', *found])}"
        ) from None
    return device


def format_for(name: str, device: torch.device) -> torch.dtype:
    """The number format of products: by name, or for "auto" the one that is faster here."""
    if name == "auto":
        return torch.bfloat16 if _gain_of_bfloat16(device.type) > 1.5 else torch.float32
    if name not in FORMATS:
        raise ModelError(f'dtype is "{name}": it must be auto, {" or ".join(FORMATS)}')
    return FORMATS[name]


@lru_cache
def _gain_of_bfloat16(device: str) -> float:
    """How many times faster a product of the size of a training step is in bfloat16: 2-4 where the
    processor has instructions for it, else below 1.
    """
    seconds = {}
    for name, kind in FORMATS.items():
        left, right = (
            torch.ones(2048, 64, dtype=kind, device=device),
            torch.ones(64, 1024, dtype=kind, device=device),
        )
        tries = []
        for _ in range(7):
            started = time.perf_counter()
            (left @ right).sum().item()
            tries.append(time.perf_counter() - started)
        seconds[name] = min(tries)
    return seconds["float32"] / seconds["bfloat16"]


@contextmanager
def computing(seed: int, workers: int) -> Iterator[None]:
    """Torch's random state and number of threads as given inside, as they were outside."""
    threads = torch.get_num_threads()
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices), freed_memory_kept():
        torch.manual_seed(seed)
        torch.set_num_threads(max(1, workers))
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """What a step frees stays with the process for the next step: given back to the system and
    asked for again, it takes a third of the time of training.

    With another C library than glibc nothing is changed.
    """
    library: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        yield
        return
    for setting, size in KEPT.items():
        library.mallopt(setting, size)
    try:
        yield
    finally:
        for setting, size in GIVEN_BACK.items():
            library.mallopt(setting, size)
        library.malloc_trim(0)
