"""Erasures of a worker: the scans for residues, and the overwriting of SQLite's logs."""

import logging
import queue
import threading
import time
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from typing import Any, NamedTuple

import sqlalchemy as sa

from tailor.errors import StoreError
from tailor.store.engine import UNAVAILABLE, is_overwriting_due, overwrite_deleted, reading
from tailor.store.erasables import Erasable
from tailor.store.erasing import SIGN_S, Scan, erase_person
from tailor.store.memory import read_forgetting
from tailor.store.users import read_receipt, sign_life
from tailor.store.writer import Writer

log = logging.getLogger("tailor.service")
AWAY = (*UNAVAILABLE, StoreError, FutureTimeoutError)
QUICK_S = 1.0  # for which a caller waits for the scan
FIRST_S, LONGEST_S = 0.1, 5.0  # between two tries to overwrite the logs
LOOK_S = 10.0  # between two looks whether another process left something to overwrite


class _Asked(NamedTuple):
    scan: Scan
    user_id: str
    done: threading.Event


class Erasures:
    """Erases people, then scans and overwrites in threads of its own."""

    def __init__(self, engine: sa.Engine, writer: Writer, memory: Erasable) -> None:
        self.engine = engine
        self.writer = writer
        self.memory = memory
        self._queue: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._scans: dict[str, Scan] = {}  # by receipt, those that run or wait
        self._due = threading.Event()
        self._stop = threading.Event()
        self._signed_s = time.monotonic()
        self._threads = [
            threading.Thread(target=self._scan_all, name="tailor-scan", daemon=True),
            threading.Thread(target=self._overwrite_all, name="tailor-overwrite", daemon=True),
        ]

    def start(self) -> None:
        """Start the threads; what an earlier process left is overwritten first."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads; scans that are not done are broken off."""
        self._stop.set()
        self._due.set()
        self._queue.put(None)
        for scan in list(self._scans.values()):
            scan.stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(10)

    def erase(self, tenant: str, user_id: str) -> dict[str, Any]:
        """Erase a person and return the receipt; `follow` does the rest."""
        return erase_person(self.writer.do, tenant, user_id, (self.memory,))

    def follow(self, receipt: dict[str, Any], user_id: str) -> dict[str, Any]:
        """Look for residues, and overwrite logs until it succeeds; return the receipt.

        It is as of then where the scan is quick, else "scan" says that it is running.
        """
        self._due.set()
        tenant, receipt_id = receipt["tenant"], receipt["receipt_id"]
        scan = Scan(self.engine, self.writer.do, tenant, receipt_id)
        entry = _Asked(scan, user_id, threading.Event())
        self._scans[receipt_id] = scan
        self._queue.put(entry)
        entry.done.wait(QUICK_S)
        with suppress(*AWAY):  # the receipt must not be lost
            return self.receipt(tenant, receipt_id) or receipt
        return receipt

    def overwrite(self) -> None:
        """Overwrite what was deleted now; while the store is away it is tried again and again."""
        with suppress(*UNAVAILABLE):  # the receipt must not be lost
            overwrite_deleted(self.engine)

    def receipt(self, tenant: str, receipt_id: str) -> dict[str, Any] | None:
        """Return a receipt as of now, None for an unknown id."""
        with reading(self.engine) as connection:
            erased = read_receipt(connection, tenant, receipt_id)
            return erased or read_forgetting(connection, tenant, receipt_id)

    def _scan_all(self) -> None:
        while not self._stop.is_set():
            entry = self._queue.get()
            if entry is None:
                return
            try:
                entry.scan.run(entry.user_id, (self.memory,))
            except Exception as error:  # of any kind: the next scan must begin
                log.error("a scan broke off", extra={"error": type(error).__name__})
            finally:
                self._scans.pop(entry.scan.receipt_id, None)
                entry.done.set()

    def _overwrite_all(self) -> None:
        wait_s = FIRST_S
        while not self._stop.is_set():
            self._sign_life()
            if self._try_to_overwrite():
                self._due.wait(LOOK_S)
                self._due.clear()
                wait_s = FIRST_S
            else:
                self._stop.wait(wait_s)
                wait_s = min(2 * wait_s, LONGEST_S)

    def _sign_life(self) -> None:
        """Say that scans go on which wait for another one."""
        receipt_ids = list(self._scans)
        now_s = time.monotonic()
        if receipt_ids and now_s - self._signed_s > SIGN_S:
            self._signed_s = now_s
            with suppress(*AWAY):
                self.writer.do(lambda connection: sign_life(connection, receipt_ids))

    def _try_to_overwrite(self) -> bool:
        try:
            return not is_overwriting_due(self.engine) or overwrite_deleted(self.engine)
        except AWAY as error:
            kind = type(error).__name__
            log.warning("deleted rows are not overwritten yet", extra={"error": kind})
            return False
