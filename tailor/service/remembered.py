"""Figures that take a while: counted in a thread, one at a time, and remembered."""

import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from threading import Lock
from typing import Any, Generic, NamedTuple, TypeVar

from tailor.service.problems import ProblemError

T = TypeVar("T")
FRESH_S = 10.0  # for which figures are remembered at least
IDLE_PARTS = 20  # figures are remembered for so many times as long as they took to count
FIRST_WAIT_S, WAIT_S = 20.0, 2.0  # of a caller, without figures and with older ones
RETRY_S = 2


class Figures(NamedTuple, Generic[T]):
    """Figures, and when they were counted."""

    value: T
    made_ms: int


class _Entry(NamedTuple):
    figures: Figures[Any]
    fresh_until_s: float


class Remembered(Generic[T]):
    """Counts figures by a key in one thread, and remembers them.

    However large a tenant is, counting takes one core for a twentieth of the time at most: figures
    are counted again after FRESH_S, or after IDLE_PARTS times as long as the last count took. The
    first count, which reads what later ones remember, is left out of that.
    """

    def __init__(self, count: Callable[..., T]) -> None:
        self._count = count
        self._entries: dict[Hashable, _Entry] = {}
        self._running: dict[Hashable, Future[None]] = {}
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(1, "tailor-figures")

    def get(self, *key: Hashable) -> Figures[T]:
        """Return figures of `count(*key)`, at most so old as the class says.

        Where counting takes long, the figures of before are returned. Raises ProblemError where
        there are none yet, and what counting raises.
        """
        entry = self._entries.get(key)
        if entry is not None and time.monotonic() < entry.fresh_until_s:
            return entry.figures
        job = self._begin(key)
        try:
            job.result(FIRST_WAIT_S if entry is None else WAIT_S)
        except FutureTimeoutError:
            if entry is None:
                raise ProblemError(
                    503, "the figures are being counted: ask again soon", retry_s=RETRY_S
                ) from None
        return self._entries[key].figures

    def _begin(self, key: tuple[Hashable, ...]) -> "Future[None]":
        """Return the job that counts, a running one where there is one."""
        with self._lock:
            job = self._running.get(key)
            if job is None:
                job = self._running[key] = self._pool.submit(self._run, key)
            return job

    def _run(self, key: tuple[Hashable, ...]) -> None:
        began_s = time.monotonic()
        made_ms = int(time.time() * 1000)
        try:
            value = self._count(*key)
            now_s = time.monotonic()
            took_s = now_s - began_s if key in self._entries else 0.0
            fresh_s = max(FRESH_S, IDLE_PARTS * took_s)
            self._entries[key] = _Entry(Figures(value, made_ms), now_s + fresh_s)
        finally:
            with self._lock:
                del self._running[key]

    def forget(self) -> None:
        """Drop all figures."""
        self._entries.clear()

    def close(self) -> None:
        """End the thread; what waits is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)
