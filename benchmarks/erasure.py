"""How long writers wait while a person is erased beside millions of logged lists.

    python benchmarks/erasure.py [--lists 3000000] [--theirs 2000] [--folder FOLDER]

Makes a SQLite store of lists of ten items, one list in three with a text. A thread writes an event
every 5 ms through the server's writer, first alone, then while a person with many lists is erased
and the whole log is scanned. Prints the longest and the 99th percentile of the waits.
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from tailor.service.erasing import Erasures
from tailor.store.engine import connect, now_ms, overwrite_deleted, writing
from tailor.store.events import add_events
from tailor.store.impressions import INSERT_IMPRESSIONS
from tailor.store.migrating import migrate
from tailor.store.subjects import subjects_for
from tailor.store.writer import Writer

TENANT, PERSON = "shop", "the person"
PEOPLE, ITEMS, CHUNK = 20_000, 10, 20_000
INSERT_REQUESTS = (
    "INSERT INTO requests (tenant, request_id, user_id, time_ms, surface, sealed, model) VALUES"
    " (?, ?, ?, ?, 'search', ?, 'm@1')"
)


class Nothing:
    """The memory of a worker that remembers nobody."""

    name = "memory"

    def export(self, *_):
        return []

    def erase(self, *_):
        return 0

    scan = erase


def fill(engine: sa.Engine, lists: int, theirs: int) -> None:
    """Write the lists, of which `theirs` are of the person who is erased."""
    rng = np.random.default_rng(0)
    with writing(engine) as connection:
        names = [f"u{number}" for number in range(PEOPLE)]
        subjects = list(subjects_for(connection, TENANT, names).values())
        person = subjects_for(connection, TENANT, [PERSON])[PERSON]
    is_theirs = np.zeros(lists, bool)
    is_theirs[rng.choice(lists, min(theirs, lists), replace=False)] = True
    now = now_ms()
    for start in range(0, lists, CHUNK):
        request_rows, impression_rows = [], []
        item_ids = [f"i{item}" for item in rng.integers(50_000, size=CHUNK * ITEMS)]
        owners = rng.integers(PEOPLE, size=CHUNK)
        for number in range(start, min(start + CHUNK, lists)):
            subject = person if is_theirs[number] else subjects[owners[number - start]]
            request_id = f"{now - lists + number:012x}{number:012x}"
            sealed = None if number % 3 else subject.encrypt(f"words {number}", "requests.text")
            request_rows.append((TENANT, request_id, subject.token, now, sealed))
            impression_rows += [
                (TENANT, request_id, position, item_ids.pop(), 1.0, 1.0)
                for position in range(1, ITEMS + 1)
            ]
        with writing(engine) as connection:
            connection.exec_driver_sql(INSERT_REQUESTS, request_rows)
            connection.exec_driver_sql(INSERT_IMPRESSIONS["sqlite"], impression_rows)
    overwrite_deleted(engine)


class Load:
    """Writes an event every 5 ms and keeps the waits."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.waits_s: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        number = 0
        while not self._stop.wait(0.005):
            row = {"user_id": f"u{number % PEOPLE}", "item_id": "i1", "time_ms": now_ms()}
            row["event_id"] = f"e{time.monotonic_ns()}"
            began_s = time.monotonic()
            self.writer.do(lambda connection, row=row: add_events(connection, TENANT, [row], 1))
            self.waits_s.append(time.monotonic() - began_s)
            number += 1

    def describe(self) -> str:
        """Return the longest wait and the 99th percentile."""
        waits_ms = 1_000 * np.array(self.waits_s)
        return (
            f"{len(waits_ms):,} writes, longest {waits_ms.max():.0f} ms,"
            f" 99 of 100 within {np.percentile(waits_ms, 99):.0f} ms"
        )


def main() -> None:
    """Make the store, erase the person, and print the waits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lists", type=int, default=3_000_000)
    parser.add_argument("--theirs", type=int, default=2_000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        engine = connect(f"{folder}/shop.db")
        migrate(engine)
        began_s = time.monotonic()
        fill(engine, options.lists, options.theirs)
        size_gb = Path(f"{folder}/shop.db").stat().st_size / 2**30
        print(f"{options.lists:,} lists, {size_gb:.1f} GB, in {time.monotonic() - began_s:.0f} s")
        measure(engine)


def measure(engine: sa.Engine) -> None:
    """Erase the person beside a writer and print the waits."""
    writer = Writer(engine)
    erasures = Erasures(engine, writer, Nothing())
    erasures.start()
    with Load(writer) as load:
        time.sleep(5)
    print(f"before: {load.describe()}", flush=True)
    with Load(writer) as load:
        began_s = time.monotonic()
        receipt = erasures.erase(TENANT, PERSON)
        print(f"erased in {time.monotonic() - began_s:.1f} s: {receipt['rows']}", flush=True)
        print(f"while erasing: {load.describe()}", flush=True)
        receipt = erasures.follow(receipt, PERSON)
        while receipt["scan"] == "running" or not receipt["overwritten"]:
            time.sleep(0.5)
            receipt = erasures.receipt(TENANT, receipt["receipt_id"]) or receipt
        print(f"scanned after {time.monotonic() - began_s:.1f} s: {receipt['scanned']}")
    print(f"while erasing and scanning: {load.describe()}", flush=True)
    erasures.stop()
    writer.close()
    engine.dispose()


if __name__ == "__main__":
    main()
