"""Progress: one function type that wraps a loop, so that a long step can say how far it is and how
long it still takes.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Called as `for step in progress(steps, "fitting", total=10)`; yields the steps unchanged.
    `what` may be a function, asked at every step.
    """

    def __call__(
        self, steps: Iterable[T], what: str | Callable[[], str], total: int | None = None
    ) -> Iterator[T]: ...


def silent(
    steps: Iterable[T], what: str | Callable[[], str], total: int | None = None
) -> Iterator[T]:
    """Shows nothing: the default of every library call."""
    yield from steps


def terminal(
    steps: Iterable[T], what: str | Callable[[], str], total: int | None = None
) -> Iterator[T]:
    """A bar with time left on standard error, gone when done; nothing where standard error is not a
    terminal.

    A step within a step (a part's fit within a fusion's) shows the outer bar only.
    """
    if not sys.stderr.isatty() or terminal.open:  # type: ignore[attr-defined]
        yield from steps
        return
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
    terminal.open = True  # type: ignore[attr-defined]
    try:
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what if isinstance(what, str) else what(), total=total)
            for step in steps:
                yield step
                bar.update(task, advance=1, description=what if isinstance(what, str) else what())
    finally:
        terminal.open = False  # type: ignore[attr-defined]


terminal.open = False  # type: ignore[attr-defined]
