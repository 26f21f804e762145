"""Calls to servers that may be slow, busy or gone: limited, repeated, and never past a deadline."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from tailor.errors import ModelError

T = TypeVar("T")
U = TypeVar("U")
PAUSE_S = 0.5  # longest pause before the first repetition; doubled each time
LONGEST_PAUSE_S = 20.0
SHORTEST_TIMEOUT_S = 0.001


class CallFailed(Exception):
    """A call that failed.

    `retryable` says whether it may succeed when repeated, `after_s` how many seconds the server
    wants to be left alone.
    """

    def __init__(self, reason: str, retryable: bool, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retryable, self.after_s = retryable, after_s


@dataclass
class Circuit:
    """The connection to one server, shared by all callers: a limit on calls at once, and a breaker.

    The breaker opens after failures in a row. While it is open, no call is made.
    """

    slots: threading.BoundedSemaphore
    """One for each call at once."""
    failures: int = 0
    """Failed calls in a row."""
    open_until_s: float = 0.0
    """Time of time.monotonic() until which the circuit is open."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Guards the numbers above."""

    @property
    def is_open(self) -> bool:
        """True while no call may be made."""
        return time.monotonic() < self.open_until_s

    def record(self, succeeded: bool, open_after: int, open_s: float) -> None:
        """Count a call, and open the circuit for `open_s` after `open_after` failures in a row."""
        with self.lock:
            self.failures = 0 if succeeded else self.failures + 1
            if self.failures >= open_after:
                self.failures = 0
                self.open_until_s = time.monotonic() + open_s


_circuits: dict[tuple[str, int], Circuit] = {}
_circuits_lock = threading.Lock()


def circuit_of(server: str, concurrency: int) -> Circuit:
    """Return the one circuit to a server in this process."""
    with _circuits_lock:
        fresh = Circuit(threading.BoundedSemaphore(concurrency))
        return _circuits.setdefault((server, concurrency), fresh)


@dataclass(frozen=True)
class RetryPolicy:
    """Repeats calls to a server, within a deadline, and stops where all of them fail."""

    server: str
    """Address of the server; policies of one address share a circuit."""
    concurrency: int = 8
    """Calls at once."""
    retries: int = 4
    """Repetitions of a failed call."""
    deadline_s: float = 120.0
    """Seconds for a batch of calls, repetitions and waiting included."""
    open_after: int = 8
    """Failed calls in a row that open the circuit."""
    open_s: float = 30.0
    """Seconds that the circuit stays open."""

    def call_all(
        self, call: Callable[[T, float], U], requests: Sequence[T]
    ) -> list[U | ModelError]:
        """Return `call(request, seconds left)` of each request, in order.

        Where a call failed for good, its answer is a ModelError.
        """
        deadline = time.monotonic() + self.deadline_s
        if not requests:
            return []
        with ThreadPoolExecutor(min(self.concurrency, len(requests))) as threads:
            return list(threads.map(lambda request: self._call(call, request, deadline), requests))

    def _call(self, call: Callable[[T, float], U], request: T, deadline: float) -> U | ModelError:
        circuit = circuit_of(self.server, self.concurrency)
        reason = "it was never reached"
        for attempt in range(self.retries + 1):
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not circuit.slots.acquire(timeout=left_s):
                return ModelError(
                    f"{self.server}: no answer within {self.deadline_s:g} s ({reason})"
                )
            try:
                if circuit.is_open:
                    return ModelError(
                        f"{self.server} is not called for now: {self.open_after} calls in a row"
                        f" failed ({reason})"
                    )
                answer = call(request, max(deadline - time.monotonic(), SHORTEST_TIMEOUT_S))
                circuit.record(True, self.open_after, self.open_s)
                return answer
            except CallFailed as error:
                reason = str(error)
                if not error.retryable:  # the server is well, the call is wrong
                    return ModelError(f"{self.server}: {reason}")
                circuit.record(False, self.open_after, self.open_s)
                pause_s = max(error.after_s, _backoff_s(attempt))
            finally:
                circuit.slots.release()
            if attempt < self.retries:
                time.sleep(max(0.0, min(pause_s, deadline - time.monotonic())))
        return ModelError(f"{self.server}: {reason} ({self.retries + 1} tries)")


def _backoff_s(attempt: int) -> float:
    """Return a random pause in seconds; its limit doubles with every attempt."""
    return random.uniform(0, min(PAUSE_S * 2**attempt, LONGEST_PAUSE_S))
