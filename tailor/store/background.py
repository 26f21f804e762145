"""Rows that nobody waits for: written in the background, together, four times a second.

A crash loses the rows of the last quarter of a second.
"""

import threading
from abc import ABC, abstractmethod
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Generic, TypeVar

from tailor.store.encryption import KeysError
from tailor.store.writer import UnavailableError, Writer

Row = TypeVar("Row")
AWAY = (UnavailableError, KeysError, FutureTimeoutError)  # the rows wait for the database


class BackgroundLog(ABC, Generic[Row]):
    """Collects rows and writes them in a thread; a subclass says how (`_put`)."""

    def __init__(self, writer: Writer, every_s: float, most: int, thread_name: str) -> None:
        """Begin to write every `every_s` seconds; at most `most` rows wait for a database."""
        self.writer = writer
        self.every_s = every_s
        self.most = most
        self.lost = 0  # rows dropped because the database was away for long
        self._waiting: list[Row] = []
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name=thread_name, daemon=True)
        self._thread.start()

    @abstractmethod
    def _put(self, rows: list[Row]) -> None:
        """Write rows, or let them wait again."""

    def close(self) -> None:
        """Write what waits, then end."""
        self._stop.set()
        self._thread.join(10)

    def _work(self) -> None:
        while not self._stop.wait(self.every_s):
            self._write()
        self._write()

    def _write(self) -> None:
        """Write what waits; return once all rows of before are written, by any thread."""
        with self._writing:
            with self._lock:
                rows, self._waiting = self._waiting, []
            if rows:
                self._put(rows)

    def _wait_again(self, rows: list[Row]) -> list[Row]:
        """Put rows before those that wait; the lock is held. Return those beyond `most`.

        They are dropped and count as lost.
        """
        together = rows + self._waiting
        surplus = max(0, len(together) - self.most)
        self.lost += surplus
        self._waiting = together[surplus:]
        return together[:surplus]
