"""Erase a person beside others who write: in short transactions, and with a scan outside of them.

The writer is held for a slice of rows at a time. The last slice deletes the person's entry and
writes the receipt. The scan for residues begins after that, and reads a slice at a time too.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa

from tailor.store.engine import reading
from tailor.store.erasables import (
    ERASABLES,
    Erasable,
    StoredRows,
    delete_slice,
    is_full,
)
from tailor.store.erased import REMEMBERED
from tailor.store.subjects import subject_of
from tailor.store.users import NOTHING, Earlier, erase_rows, note_scan, read_receipt

T = TypeVar("T")
SIGN_S = 10.0  # between two signs of life of a scan
SHARE = 0.5  # of the time, at most, in which a scan reads


class Write(Protocol):
    """A function that runs a job in a transaction and returns what the job returned."""

    def __call__(self, job: Callable[[sa.Connection], T], /) -> T:
        """Return what the job returned, once its writes are on the disk."""


def erase_person(
    write: Write, tenant: str, user_id: str, others: Sequence[Erasable] = ()
) -> dict[str, Any]:
    """Erase a person in transactions of few rows each and return the receipt, before the scan.

    Broken off between two of them, the person has fewer rows: ask again. Raises what
    `users.erase_rows` raises.
    """
    earlier = NOTHING
    receipt = None
    while receipt is None:
        earlier, receipt = write(_step(tenant, user_id, others, earlier))
    return receipt


def _step(
    tenant: str, user_id: str, others: Sequence[Erasable], earlier: Earlier
) -> Callable[[sa.Connection], tuple[Earlier, dict[str, Any] | None]]:
    """Return the job of a transaction: a slice, and the end where little is left."""

    def job(connection: sa.Connection) -> tuple[Earlier, dict[str, Any] | None]:
        together = earlier
        person = subject_of(connection, tenant, user_id, for_erasure=True) if user_id else None
        if person is not None:
            counts, rows = delete_slice(connection, tenant, person)
            together = _add(earlier, counts, rows)
            if is_full(counts):
                return together, None
        receipt_id = erase_rows(connection, tenant, user_id, others, together)
        return together, read_receipt(connection, tenant, receipt_id)

    return job


def _add(earlier: Earlier, counts: Mapping[str, int], events: Sequence[Any]) -> Earlier:
    """Add what a slice deleted; more events than are remembered count by the latest time."""
    rows = {name: count + earlier.rows.get(name, 0) for name, count in counts.items()}
    together = (*earlier.events, *events)
    surplus = together[REMEMBERED:]
    latest = [max(surplus, key=lambda row: row.time_ms)] if surplus else []
    return Earlier(rows, (*together[:REMEMBERED], *latest))


class Scan:
    """A scan for what is left of an erased person; its receipt says how far it is."""

    def __init__(self, engine: sa.Engine, write: Write, tenant: str, receipt_id: str) -> None:
        self.engine = engine
        self.write = write
        self.tenant = tenant
        self.receipt_id = receipt_id
        self.residues: dict[str, int] = {}
        """Rows that hold the person's id, by store."""
        self.stop = threading.Event()
        self._sign_s = time.monotonic()

    def run(self, user_id: str, others: Sequence[Erasable] = ()) -> bool:
        """Scan slice by slice, and rest in between; return False where it was stopped."""
        for holder in others:
            with reading(self.engine) as connection:
                self.residues[holder.name] = holder.scan(connection, self.tenant, user_id)
        if not all(self._scan_table(holder, user_id) for holder in ERASABLES):
            return False
        self._note(is_done=True)
        return True

    def _scan_table(self, holder: StoredRows, user_id: str) -> bool:
        after: Any = None
        self.residues[holder.name] = 0
        while True:
            began_s = time.monotonic()
            with reading(self.engine) as connection:
                count, after = holder.scan_slice(connection, self.tenant, user_id, after)
            self.residues[holder.name] += count
            if after is None:
                return True
            now_s = time.monotonic()
            if self.stop.wait((now_s - began_s) * (1 - SHARE) / SHARE):
                return False
            if now_s - self._sign_s > SIGN_S:
                self._sign_s = now_s
                self._note(is_done=False)

    def _note(self, is_done: bool) -> None:
        residues = dict(self.residues)
        self.write(
            lambda connection: note_scan(
                connection, self.tenant, self.receipt_id, residues, is_done
            )
        )
