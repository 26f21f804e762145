"""Wrap a loop to show how far it is and how long it will take."""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Protocol, TypeVar

T = TypeVar("T")
Label = str | Callable[[], str]
"""Text beside the bar, or a function that returns it at every step."""


class Progress(Protocol):
    """A wrapper of a loop: `for step in progress(steps, "fitting", total=10)`.

    Yields the steps unchanged.
    """

    def __call__(
        self, steps: Iterable[T], label: Label, /, total: int | None = None
    ) -> Iterator[T]: ...


def silent(steps: Iterable[T], label: Label, total: int | None = None) -> Iterator[T]:
    """Show nothing: the default of every library call."""
    yield from steps


class TerminalProgress:
    """A bar with the time left on standard error, removed when done.

    Shows nothing where standard error is not a terminal. A process has one bar at a time: a loop
    within a loop (a part's fit within a fusion's), or in another thread, runs without one.
    """

    def __init__(self) -> None:
        self._bar_lock = threading.Lock()

    def __call__(self, steps: Iterable[T], label: Label, total: int | None = None) -> Iterator[T]:
        """Yield the steps, with a bar unless another loop has it."""
        if not sys.stderr.isatty() or not self._bar_lock.acquire(blocking=False):
            yield from steps
            return
        try:
            yield from _with_bar(steps, label, total)
        finally:
            self._bar_lock.release()


terminal = TerminalProgress()


def _with_bar(steps: Iterable[T], label: Label, total: int | None) -> Iterator[T]:
    """Yield the steps and draw a bar that advances with them."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    if total is None and isinstance(steps, Sized):
        total = len(steps)
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(_text(label), total=total)
        for step in steps:
            yield step
            bar.update(task, advance=1, description=_text(label))


def _text(label: Label) -> str:
    return label if isinstance(label, str) else label()
