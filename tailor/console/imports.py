"""Imports of uploaded files: read and checked first, then sent to the service in batches.

A job belongs to a login, not to an open page: it goes on while the reader looks elsewhere. A large
file is read in a process of its own, whose memory is given back with it.
"""

import hashlib
import json
import math
import multiprocessing
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, TypeVar

import polars as pl

from tailor.client import Client
from tailor.console.session import is_away
from tailor.data.event_ids import PREFIX, with_event_ids
from tailor.data.importers.importing import Read, import_table
from tailor.errors import DataError, ServiceError
from tailor.progress import Label, Progress

T = TypeVar("T")
Table = Literal["events", "items"]
State = Literal["reading", "read", "sending", "done", "failed", "cancelled"]
BATCH = 1_000  # rows of a request
PREVIEW = 10  # rows that are shown
MOST_REJECTS = 500  # rejected rows that are kept for the reader
SMALL_BYTES = 4 * 2**20  # of a file that is read within the console
LOOK_S = 0.2  # between two looks at the process that reads
NICE = 5  # added to its niceness: pages go first
READING, LOOKING = "reading the file", "looking through the rows"
WAIT_S = 2.0  # between two tries while the service is away
BUSY = 503  # status of a service that can take it later
KEYED, MOST_KEY = 16, 64  # bytes of the digest in a made id, and of its key
EVENT_COLUMNS = ("event_id", "user_id", "item_id", "time_ms", "action", "value", "request_id")
UNTIMED = (
    "the file has no times, and the service must know when its events happened: name their column"
    " below, as in time_ms=when"
)
PAGE_WORDS = {  # options of `tailor data import`, and the fields of the page
    "--columns": "Columns:",
    "--time-unit": "Unit of times:",
    "--encoding": "Encoding, below",
}
ITEM_COLUMNS = ("title", "text", "categories", "price")


class CancelledError(Exception):
    """Raised in the thread of a job that was cancelled."""


@dataclass(frozen=True)
class Checked:
    """Result of a dry run."""

    rows: int
    """Rows that would be sent."""
    rejected: int
    """Rows that are bad."""
    reasons: dict[str, int]
    """Reason -> rejected rows, the most frequent first."""
    rejects: list[dict[str, Any]]
    """First rejected rows with line, reason and text."""
    columns: dict[str, str]
    """Our column -> the file's."""
    further: list[str]
    """Columns of the file that go along under their own name, or are left out of events."""
    notes: list[str]
    preview: list[dict[str, Any]]
    """First rows as they were understood."""


@dataclass(eq=False)
class ImportJob:
    """One file: read in a thread, then sent in another; both can be cancelled."""

    name: str
    """Name of the file as the reader knows it."""
    table: Table
    """Table that the file holds."""
    folder: Path
    """Folder of its own, deleted once all is sent or cancelled."""
    state: State = "reading"
    """How it stands; read: it waits for the reader."""
    step: str = READING
    """What it does now."""
    done: int = 0
    """Parts of that step that are done."""
    total: int = 0
    """Parts of the step; 0: not known."""
    accepted: int = 0
    """Rows that the service took in."""
    duplicates: int = 0
    """Events that it had already."""
    refusals: Counter[str] = field(default_factory=Counter)
    """Problem -> rows that the service refused."""
    is_waiting: bool = False
    """True while the service is away."""
    problem: str = ""
    """Why it failed."""
    checked: Checked | None = None
    """Result of the dry run."""
    began_s: float = field(default_factory=time.monotonic)
    """Start of the current step."""
    _stop: threading.Event = field(default_factory=threading.Event)
    """Set where the reader cancelled."""

    @property
    def is_open(self) -> bool:
        """Return whether a thread works on it."""
        return self.state in ("reading", "sending")

    @property
    def file(self) -> Path:
        """Return the path of the uploaded file; its ending says how it is read."""
        return self.folder / f"upload{''.join(Path(self.name).suffixes[-2:]).lower()}"

    def cancel(self) -> None:
        """Have the thread end; what was sent stays."""
        self._stop.set()
        if not self.is_open:
            self.state = "cancelled"
            self._delete()

    def seconds_left(self) -> float | None:
        """Return about how long the step still takes, None where nobody knows."""
        if not self.done or not self.total:
            return None
        passed_s = time.monotonic() - self.began_s
        return max(0.0, passed_s / self.done * (self.total - self.done))

    def read(self, id_key: str, hints: "Hints") -> None:
        """Read the file and keep its rows for `send`; nothing is sent."""
        self._begin("reading", READING)
        self.checked = None
        with self._reporting():
            upload = Upload(self.table, self.file, self._rows_file, id_key, hints)
            is_small = self.file.stat().st_size <= SMALL_BYTES
            read = read_upload if is_small else self._read_apart
            self.checked = read(upload, self._progress)
            self.state = "read"

    def _read_apart(self, upload: "Upload", progress: Progress) -> Checked:
        """Read a file in a process of its own. Raises what reading raises."""
        spawning = multiprocessing.get_context("spawn")
        receiver, sender = spawning.Pipe(duplex=False)
        process = spawning.Process(target=_read_for, args=(sender, upload), daemon=True)
        process.start()
        sender.close()
        try:
            while True:
                self._check()
                if receiver.poll(LOOK_S):
                    message = receiver.recv()
                    if isinstance(message, Checked):
                        return message
                    if isinstance(message, Exception):
                        raise message
                    self.step, self.done, self.total = message
        except EOFError:
            raise DataError(
                "the process that read the file ended: there may be too little memory"
            ) from None
        finally:
            process.kill()
            process.join()
            receiver.close()

    def send(self, client: Client) -> None:
        """Send all rows; what the service has already counts once."""
        self._begin("sending", f"sending {self.table}")
        self.accepted = self.duplicates = 0
        self.refusals.clear()
        with self._reporting():
            if self.checked is None:
                raise DataError("read the file first")
            self.total = self.checked.rows
            for rows in batches(self._rows_file, self.table):
                self._send_batch(client, rows)
                self.done += len(rows)
            self.state = "done"
            self._delete()

    def _send_batch(self, client: Client, rows: Sequence[Mapping[str, Any]]) -> None:
        """Send some rows, until the service takes them."""
        while True:
            self._check()
            try:
                self._send_once(client, rows)
            except ServiceError as error:
                if not (is_away(error) or error.status == BUSY):
                    raise
                self.is_waiting = True
                self._stop.wait(WAIT_S)
            else:
                self.is_waiting = False
                return

    def _send_once(self, client: Client, rows: Sequence[Mapping[str, Any]]) -> None:
        if self.table == "items":
            self.accepted += client.put_items(rows)
            return
        answer = client.send_events(rows)
        self.accepted += answer["accepted"]
        self.duplicates += len(answer["duplicates"])
        for problem in answer["rejected"]:
            self.refusals[f"{problem['field']} {problem['problem']}"] += 1

    @property
    def _rows_file(self) -> Path:
        return self.folder / "rows.parquet"

    def _begin(self, state: State, step: str) -> None:
        self.state, self.step = state, step
        self.done = self.total = 0
        self.problem = ""
        self.began_s = time.monotonic()

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Make errors inside the context the state of the job."""
        try:
            yield
        except CancelledError:
            self.is_waiting = False
            self.state = "cancelled"
            self._delete()
        except Exception as error:  # of any kind: the reader is told which
            self.is_waiting = False
            self.state = "failed"
            self.problem = f"The file cannot be read ({type(error).__name__})."
            if isinstance(error, DataError | ServiceError):
                self.problem = problem_text(error, self)

    def _progress(self, steps: Iterable[T], label: Label, total: int | None = None) -> Iterator[T]:
        """Yield the steps of a loop, and count them."""
        self.done = 0
        self.total = total or 0
        for step in steps:
            self._check()
            yield step
            self.done += 1

    def _check(self) -> None:
        """Raise CancelledError where the reader cancelled."""
        if self._stop.is_set():
            raise CancelledError

    def _delete(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class Hints:
    """Hints of a reader for a file that is not understood by itself."""

    columns: str = ""
    """Our column = the file's, separated by commas."""
    time_unit: str = ""
    """Unit of times; empty: the column tells."""
    encoding: str = "utf-8"
    """Encoding of the file."""


@dataclass(frozen=True)
class Upload:
    """A file to read."""

    table: Table
    """Table that it holds."""
    file: Path
    """Its path."""
    rows_file: Path
    """Where its rows are written, as Parquet."""
    id_key: str
    """Key of made ids."""
    hints: Hints


def read_upload(upload: Upload, progress: Progress) -> Checked:
    """Read a file, write its rows, and return what was understood.

    Raises DataError for a file that cannot be used.
    """
    table, rejected = import_table(
        upload.table,
        upload.file,
        columns=parse_columns(upload.hints.columns),
        time_unit=upload.hints.time_unit or None,
        encoding=upload.hints.encoding,
        progress=progress,
    )
    for _ in progress(range(1), LOOKING, 0):
        frame = prepared(upload.table, table.frame, upload.id_key)
        frame.write_parquet(upload.rows_file)
    return _checked(frame, table, rejected)


def _read_for(sender: Connection, upload: Upload) -> None:
    """Read a file for another process: send the steps, then the result or the error."""
    os.nice(NICE)

    def progress(steps: Iterable[T], label: Label, total: int | None = None) -> Iterator[T]:
        step = LOOKING if label == LOOKING else READING
        for done, item in enumerate(steps):
            sender.send((step, done, total or 0))
            yield item

    try:
        result = read_upload(upload, progress)
    except DataError as error:
        sender.send(DataError(str(error)))
    except Exception as error:  # of any kind: the reader is told which
        sender.send(RuntimeError(type(error).__name__))
    else:
        sender.send(result)


def problem_text(error: Exception, job: ImportJob) -> str:
    """Return an error of the import in the words of the page."""
    text = str(error).replace(str(job.file), job.name)
    for option, name in PAGE_WORDS.items():
        text = text.replace(option, name)
    return text if text.startswith(job.name) else text[:1].upper() + text[1:]


def parse_columns(text: str) -> dict[str, str]:
    """Return our column -> the file's, of a text such as "user_id=customer, item_id=sku".

    Raises DataError for anything else.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    pairs = [part.partition("=") for part in parts]
    for ours, sign, theirs in pairs:
        if not (ours.strip() and sign and theirs.strip()):
            raise DataError(
                f'columns: write them as in "user_id=customer, item_id=sku", not {text}'
            )
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}


def prepared(table: Table, frame: pl.DataFrame, id_key: str) -> pl.DataFrame:
    """Return the rows as they are sent. Raises DataError for events without times."""
    if table == "items":
        return frame
    if "time_ms" not in frame.columns:
        raise DataError(UNTIMED)
    had_id = (
        frame["event_id"].is_not_null()
        if "event_id" in frame.columns
        else pl.repeat(False, len(frame), dtype=pl.Boolean, eager=True)
    )
    frame = with_event_ids(frame)
    ids = [
        event_id if is_own else keyed(event_id, id_key)
        for event_id, is_own in zip(frame["event_id"], had_id, strict=True)
    ]
    frame = frame.with_columns(pl.Series("event_id", ids, dtype=pl.String))
    return frame.select([name for name in EVENT_COLUMNS if name in frame.columns])


def keyed(event_id: str, id_key: str) -> str:
    """Return the id of an event that has none of its own.

    The tenant's key keeps a reader of a backup from telling whose event it is.
    """
    key = id_key.encode()[:MOST_KEY]
    return PREFIX + hashlib.blake2b(event_id.encode(), digest_size=KEYED, key=key).hexdigest()


def _checked(frame: pl.DataFrame, read: Read, rejected: pl.DataFrame) -> Checked:
    reasons = Counter(reason.partition(":")[0] for reason in rejected["reason"])
    moments = [] if read.moments is None else [f"times were read as {read.moments.unit}"]
    taken = set(read.columns.values())
    return Checked(
        len(frame),
        len(rejected),
        dict(reasons.most_common()),
        rejected.head(MOST_REJECTS).select("line", "reason", "raw").to_dicts(),
        dict(read.columns),
        [name for name in read.frame.columns if name not in read.columns and name not in taken],
        [*moments, *read.notes],
        [_texts(row) for row in frame.head(PREVIEW).to_dicts()],
    )


def _texts(row: Mapping[str, Any]) -> dict[str, str]:
    """Return a row with a short text for each value."""
    return {name: "" if value is None else str(value)[:80] for name, value in row.items()}


def batches(path: Path, table: Table) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of a file of `prepared` rows, as the service takes them."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH):
            yield [body_of(table, row) for row in batch.to_pylist()]


def body_of(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as the service takes it: without missing values, further columns in `more`."""
    present = {name: value for name, value in row.items() if not _is_missing(value)}
    if table == "events":
        return present
    columns = ("item_id", *ITEM_COLUMNS)
    body = {name: value for name, value in present.items() if name in columns}
    attributes = {name: value for name, value in present.items() if name not in columns}
    if attributes:
        body["more"] = json.loads(json.dumps(attributes, default=str))  # dates as texts
    return body


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))
