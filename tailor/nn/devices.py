"""Device, number format and threads of a net: requested, checked, or measured."""

import ctypes
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from tailor.errors import ModelError

CPU = torch.device("cpu")
FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
BFLOAT16_GAIN = 1.5  # times faster that bfloat16 must be to be chosen
THREADS_GAIN = 1.1  # times faster that several threads must be to be chosen

# numbers of glibc's mallopt settings
TRIM_THRESHOLD = -1  # free bytes at the end of the heap that are returned to the system
TOP_PAD = -2  # bytes requested in advance
MMAP_THRESHOLD = -3  # size from which a block is kept apart from the heap
KEEP_FREED = {TRIM_THRESHOLD: 2**30, TOP_PAD: 2**26, MMAP_THRESHOLD: 2**25}
# glibc's defaults, except MMAP_THRESHOLD, which it raises by itself
RETURN_FREED = {TRIM_THRESHOLD: 2**17, TOP_PAD: 2**17, MMAP_THRESHOLD: 2**25}


def index_tensor(rows: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return rows or positions as an int64 tensor on a device."""
    return torch.from_numpy(rows.astype(np.int64, copy=False)).to(device)


def device_for(name: str) -> torch.device:
    """Return the device of that name.

    Raises ModelError where it cannot be used: no other device is taken instead.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        usable = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        if torch.backends.mps.is_available():
            usable.append("mps")
        raise ModelError(
            f'device "{name}" cannot be used ({str(error).splitlines()[0]}): take one of'
            f" {', '.join(usable)}"
        ) from None
    return device


def format_for(name: str, device: torch.device) -> torch.dtype:
    """Return the number format of products: by name, or the faster one here for "auto"."""
    if name == "auto":
        is_faster = _gain_of_bfloat16(device.type) > BFLOAT16_GAIN
        return torch.bfloat16 if is_faster else torch.float32
    if name not in FORMATS:
        raise ModelError(f'dtype is "{name}": it must be auto, {" or ".join(FORMATS)}')
    return FORMATS[name]


def threads_for(workers: int, device: torch.device) -> int:
    """Return the threads of a training: `workers`, or 1 where that is faster here and now.

    On a machine whose cores are busy, several threads wait for each other at every product.
    """
    if workers <= 1 or device.type != "cpu":
        return max(1, workers)
    return workers if _gain_of_threads(workers) > THREADS_GAIN else 1


@lru_cache
def _gain_of_bfloat16(device: str) -> float:
    """Return how many times faster a product of a training step is in bfloat16.

    About 2 to 4 where the processor has instructions for it, else below 1.
    """
    seconds = {}
    for name, dtype in FORMATS.items():
        seconds[name] = min(_times(_training_product(dtype, device), 7))
    return seconds["float32"] / seconds["bfloat16"]


@lru_cache
def _gain_of_threads(threads: int) -> float:
    """Return how many times faster products of a training step are with several threads.

    Compares sums of times, not the best ones: on a busy machine the slow rounds are what training
    takes. The rounds alternate, so that other work of the machine hits both alike.
    """
    before = torch.get_num_threads()
    product = _training_product(torch.float32, "cpu")
    seconds = {1: 0.0, threads: 0.0}
    try:
        for _ in range(4):
            for count in seconds:
                torch.set_num_threads(count)
                product()  # starts the threads
                seconds[count] += sum(_times(product, 5))
    finally:
        torch.set_num_threads(before)
    return seconds[1] / seconds[threads]


def _training_product(dtype: torch.dtype, device: str) -> Callable[[], float]:
    """Return a function that computes a matrix product of the size of a training step's."""
    left = torch.ones(2048, 64, dtype=dtype, device=device)
    right = torch.ones(64, 1024, dtype=dtype, device=device)
    return lambda: (left @ right).sum().item()


def _times(compute: Callable[[], float], n: int) -> list[float]:
    """Return the seconds of each of `n` calls."""
    seconds = []
    for _ in range(n):
        start = time.perf_counter()
        compute()
        seconds.append(time.perf_counter() - start)
    return seconds


@contextmanager
def computing(seed: int, workers: int, device: torch.device = CPU) -> Iterator[None]:
    """Set torch's seed and number of threads inside the context, and restore them after it.

    On a processor the same computation gives the same numbers, with any number of threads.
    """
    threads = torch.get_num_threads()
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices), keep_freed_memory(), _repeatable(device):
        torch.manual_seed(seed)
        torch.set_num_threads(max(1, workers))
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@contextmanager
def _repeatable(device: torch.device) -> Iterator[None]:
    """Add up gradients of rows that occur several times in one order, on a processor.

    By default threads add them as they come, and the last digits differ from run to run. A GPU
    keeps its settings: there, operations of one order can be many times slower, or be missing.
    """
    if device.type != "cpu":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    warns_only = torch.is_deterministic_algorithms_warn_only_enabled()
    settings: Any = torch.utils.deterministic
    fills = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    settings.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns_only)
        settings.fill_uninitialized_memory = fills


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Keep memory that a training step frees in the process, for the next step.

    Returning it to the system and requesting it again takes a third of the time of training.
    Changes nothing with another C library than glibc.
    """
    library: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        yield
        return
    for setting, size in KEEP_FREED.items():
        library.mallopt(setting, size)
    try:
        yield
    finally:
        for setting, size in RETURN_FREED.items():
            library.mallopt(setting, size)
        library.malloc_trim(0)
