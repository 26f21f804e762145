"""Calls to servers that may be slow, busy or gone: at most so many at once, again after a pause,
never past a deadline.
"""

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
PAUSE_S = 0.5  # before the first repetition at most; doubled each time
LONGEST_S = 20.0


class Refused(Exception):
    """A call that failed; `again` says whether it may succeed when repeated, `after_s` how long the
    server wants to be left alone.
    """

    def __init__(self, why: str, again: bool, after_s: float = 0.0) -> None:
        super().__init__(why)
        self.again, self.after_s = again, after_s


@dataclass
class Line:
    """The way to one server, shared by all who call it: a limit on calls at once, and a breaker
    that opens after failures in a row.
    """

    at_once: threading.BoundedSemaphore
    failures: int = 0
    closed_until: float = 0.0
    """Of time.monotonic(): until then nothing is called."""
    lock: threading.Lock = field(default_factory=threading.Lock)


_lines: dict[tuple[str, int], Line] = {}
_lines_lock = threading.Lock()


def line_to(server: str, concurrency: int) -> Line:
    """The one line to a server in this process."""
    with _lines_lock:
        return _lines.setdefault(
            (server, concurrency), Line(threading.BoundedSemaphore(concurrency))
        )


@dataclass(frozen=True)
class Calls:
    """How a server is called: how often a call is repeated, how long all of them may take, when to
    stop asking a server that only fails.
    """

    server: str
    concurrency: int = 8
    retries: int = 4
    deadline_s: float = 120.0
    """For a batch of calls, repetitions and waiting included."""
    break_after: int = 8
    """Failed calls in a row, after which nothing is called for `break_s`."""
    break_s: float = 30.0

    def all(self, work: Callable[[T, float], U], given: Sequence[T]) -> list[U | ModelError]:
        """`work(one, seconds left)` for each, in order; where a call failed for good, a ModelError
        stands in the place of its answer.
        """
        until = time.monotonic() + self.deadline_s
        if not given:
            return []
        with ThreadPoolExecutor(min(self.concurrency, len(given))) as threads:
            return list(threads.map(lambda one: self._one(work, one, until), given))

    def _one(self, work: Callable[[T, float], U], one: T, until: float) -> U | ModelError:
        line, said = line_to(self.server, self.concurrency), "it was never reached"
        for attempt in range(self.retries + 1):
            left = until - time.monotonic()
            if left <= 0 or not line.at_once.acquire(timeout=left):
                return ModelError(f"{self.server}: no answer within {self.deadline_s:g} s ({said})")
            try:
                if time.monotonic() < line.closed_until:
                    return ModelError(
                        f"{self.server} is not asked for now: {self.break_after} calls in a row"
                        f" failed ({said})"
                    )
                answer = work(one, max(until - time.monotonic(), 0.001))
                self._note(line, True)
                return answer
            except Refused as error:
                said = str(error)
                if not error.again:  # the server is well, the call is wrong
                    return ModelError(f"{self.server}: {said}")
                self._note(line, False)
                pause = max(error.after_s, random.uniform(0, min(PAUSE_S * 2**attempt, LONGEST_S)))
            finally:
                line.at_once.release()
            if attempt < self.retries:
                time.sleep(max(0.0, min(pause, until - time.monotonic())))
        return ModelError(f"{self.server}: {said} ({self.retries + 1} tries)")

    def _note(self, line: Line, is_well: bool) -> None:
        with line.lock:
            line.failures = 0 if is_well else line.failures + 1
            if line.failures >= self.break_after:
                line.failures, line.closed_until = 0, time.monotonic() + self.break_s
