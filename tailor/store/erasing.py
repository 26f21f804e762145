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
from tailor.store.erasables import ERASABLES, LISTS, SLICE, Erasable, delete_slice
from tailor.store.events import latest_time
from tailor.store.subjects import subject_of
from tailor.store.users import NOTHING, Earlier, erase_rows, note_scan

T = TypeVar("T")
SIGN_S = 10.0  # between two signs of life of a scan
SHARE = 0.5  # of the time, at most, in which a scan reads
Residues = dict[str, int]


class Write(Protocol):
    """A function that runs a job in a transaction and returns what the job returned."""

    def __call__(self, job: Callable[[sa.Connection], T], /) -> T:
        """Return what the job returned, once its writes are on the disk."""


def erase_person(
    write: Write, tenant: str, user_id: str, others: Sequence[Erasable] = ()
) -> str:
    """Erase a person in transactions of few rows each and return the receipt's id.

    Broken off between two of them, the person has fewer rows: ask again. Raises what
    `users.erase_rows` raises.
    """
    earlier = NOTHING
    receipt_id = None
    while receipt_id is None:
        earlier, receipt_id = write(_step(tenant, user_id, others, earlier))
    return receipt_id


def _step(
    tenant: str, user_id: str, others: Sequence[Erasable], earlier: Earlier
) -> Callable[[sa.Connection], tuple[Earlier, str | None]]:
    """Return the job of a transaction: a slice, and the end where little is left."""

    def job(connection: sa.Connection) -> tuple[Earlier, str | None]:
        together = earlier
        person = subject_of(connection, tenant, user_id, for_erasure=True) if user_id else None
        if person is not None:
            counts, last_ms = delete_slice(connection, tenant, person)
            together = _add(earlier, counts, last_ms)
            if counts["requests"] >= LISTS or counts["events"] >= SLICE:
                return together, None
        return together, erase_rows(connection, tenant, user_id, others, together)

    return job


def _add(earlier: Earlier, counts: Mapping[str, int], last_ms: int | None) -> Earlier:
    rows = {name: count + earlier.rows.get(name, 0) for name, count in counts.items()}
    times = [time_ms for time_ms in (earlier.last_ms, last_ms) if time_ms is not None]
    return Earlier(rows, max(times, default=None))


def scan_person(
    engine: sa.Engine,
    write: Write,
    tenant: str,
    user_id: str,
    receipt_id: str,
    others: Sequence[Erasable] = (),
    stop: threading.Event | None = None,
) -> Residues | None:
    """Look for residues in all tables, write them into the receipt, and return them, by store.

    Reads slices of rows, and rests between them as long as it read. Returns None where it was
    stopped before the end.
    """
    stopped = stop or threading.Event()
    residues: Residues = {}
    for place in others:
        with reading(engine) as connection:
            residues[place.name] = place.scan(connection, tenant, user_id)
    sign_s = time.monotonic()
    for place in ERASABLES:
        after: Any = None
        residues[place.name] = 0
        while True:
            began_s = time.monotonic()
            with reading(engine) as connection:
                count, after = place.scan_slice(connection, tenant, user_id, after)
            residues[place.name] += count
            if after is None:
                break
            now_s = time.monotonic()
            if stopped.wait((now_s - began_s) * (1 - SHARE) / SHARE):
                return None
            if now_s - sign_s > SIGN_S:
                sign_s = now_s
                _note(write, tenant, receipt_id, residues, is_done=False)
    _note(write, tenant, receipt_id, residues, is_done=True)
    return residues


def _note(
    write: Write, tenant: str, receipt_id: str, residues: Residues, is_done: bool
) -> None:
    counts = dict(residues)
    write(lambda connection: note_scan(connection, tenant, receipt_id, counts, is_done))
