"""Stop a long command by SIGTERM, but never in the middle of what belongs together."""

import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TypeVar

from tailor.progress import Label, Progress

T = TypeVar("T")


class Stopping:
    """Ends the process by SIGTERM at once, or after a section that is held together.

    A signal that arrives where Python swallows errors is not lost: the next step looks again.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._is_asked = False
        self._sections = 0
        self._previous: signal._HANDLER = None

    def __enter__(self) -> "Stopping":
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def progress(self, steps: Iterable[T], label: Label, total: int | None = None) -> Iterator[T]:
        """Yield the steps as the progress does, and end between two of them if asked to."""
        for step in self._progress(steps, label, total):
            self.check()
            yield step

    def sleep(self, seconds: float) -> None:
        """Wait; a signal ends the process at once."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self.check()
            time.sleep(min(1.0, max(0.0, end_s - time.monotonic())))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Hold a section together: a signal ends the process after it."""
        self._sections += 1
        try:
            yield
        finally:
            self._sections -= 1
        self.check()

    def check(self) -> None:
        """End the process if that was asked for and no section is held together."""
        if self._is_asked and not self._sections:
            signal.signal(signal.SIGTERM, self._previous or signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._is_asked = True
        self.check()
