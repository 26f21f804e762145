"""Pages of a list that the service answers by cursors."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Cursor = TypeVar("Cursor")


class Pages(Generic[Cursor]):
    """Remembers the way to the page that is shown: forth by the service's cursors, and back."""

    def __init__(self, turn: Callable[[], Awaitable[None]]) -> None:
        """Begin at the first page; `turn` reads and shows the page of `cursor`."""
        self._turn = turn
        self._cursors: list[Cursor | None] = [None]  # of the pages up to the one that is shown
        self.following: Cursor | None = None
        """Cursor of the page after this one; None: this is the last."""

    @property
    def cursor(self) -> Cursor | None:
        """Return the cursor of the page that is shown, None for the first."""
        return self._cursors[-1]

    @property
    def before(self) -> int:
        """Return the number of pages before the one that is shown."""
        return len(self._cursors) - 1

    async def begin(self) -> None:
        """Show the first page."""
        self._cursors = [None]
        await self._turn()

    async def go_on(self) -> None:
        """Show the page after this one."""
        self._cursors.append(self.following)
        await self._turn()

    async def go_back(self) -> None:
        """Show the page before this one; the first stays."""
        if self.before:
            self._cursors.pop()
            await self._turn()
