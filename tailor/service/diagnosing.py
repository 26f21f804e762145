"""Diagnoses of what is stored: a process of its own, whose state all workers know.

State and result are kept in the store, so that any worker shows or cancels them. They name nobody.
"""

import json
import logging
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import IO, Any, Literal

import sqlalchemy as sa

from tailor.errors import StoreError
from tailor.store.engine import UNAVAILABLE, now_ms, reading
from tailor.store.marks import read_mark, write_mark
from tailor.store.writer import Writer

log = logging.getLogger("tailor.service")
COMMAND = (sys.executable, "-m", "tailor.service.diagnosis_process")
BEAT_S = 1.0  # between two signs of life
DEAD_MS = 30_000  # without a sign of life, after which a run is broken off
QUICK_S = 2.0  # for which a caller waits for the result
MOST_RUNS = 1  # of a worker at once
AWAY = (*UNAVAILABLE, StoreError)
State = Literal["none", "running", "cancelling", "done", "failed", "cancelled"]
OPEN: tuple[State, ...] = ("running", "cancelling")


@dataclass(frozen=True)
class RunState:
    """The latest run of a tenant."""

    state: State = "none"
    """How it stands; none: there was no run."""
    name: str = ""
    """Name of the run: one that was replaced writes no more."""
    begun_ms: int | None = None
    """When it began."""
    ended_ms: int | None = None
    """When it ended; None: it runs."""
    step: str = ""
    """What it does now."""
    done: int = 0
    """Parts of that step that are done."""
    total: int = 0
    """Parts of that step; 0: not known."""
    beat_ms: int = 0
    """Its last sign of life."""
    problem: str | None = None
    """Why it failed."""


class Diagnoses:
    """Runs diagnoses of tenants, one at a time in a worker."""

    def __init__(self, engine: sa.Engine, writer: Writer) -> None:
        self._engine = engine
        self._writer = writer
        self._slots = threading.Semaphore(MOST_RUNS)
        self._stop = threading.Event()
        self._threads: dict[str, threading.Thread] = {}  # by name of the run

    def begin(self, tenant: str) -> None:
        """Begin a run, unless one runs; wait for a quick one."""
        name = secrets.token_hex(8)
        fresh = RunState("running", name, now_ms(), step="waiting", beat_ms=now_ms())

        def job(connection: sa.Connection) -> bool:
            if read_state(connection, tenant).state in OPEN:
                return False
            _write_state(connection, tenant, fresh)
            return True

        if not self._writer.do(job):
            return
        thread = threading.Thread(target=self._work, args=(tenant, fresh), daemon=True)
        self._threads[fresh.name] = thread
        thread.start()
        thread.join(QUICK_S)

    def cancel(self, tenant: str) -> None:
        """Have the run end, in whatever worker it is."""

        def job(connection: sa.Connection) -> str:
            state = read_state(connection, tenant)
            if state.state in OPEN:
                _write_state(connection, tenant, replace(state, state="cancelling"))
            return state.name

        thread = self._threads.get(self._writer.do(job))
        if thread is not None:
            thread.join(QUICK_S)

    def show(self, tenant: str) -> dict[str, Any]:
        """Return the state of the latest run, and the latest result with its time."""
        with reading(self._engine) as connection:
            state = read_state(connection, tenant)
            latest = json.loads(read_mark(connection, _result_name(tenant)) or "{}")
        fields = asdict(state)
        del fields["name"], fields["beat_ms"]
        result = latest.get("result")
        return {
            **fields,
            "seconds_left": _seconds_left(state, result),
            "result": result,
            "result_ms": latest.get("made_ms"),
        }

    def close(self) -> None:
        """End all runs of this worker."""
        self._stop.set()
        for thread in list(self._threads.values()):
            thread.join(5)

    def _work(self, tenant: str, run: RunState) -> None:
        """Wait for a slot, run the process, and write how it ended."""
        while not self._slots.acquire(timeout=BEAT_S):
            run = replace(run, beat_ms=now_ms())
            if not self._is_wanted(tenant, run):
                self._end(tenant, replace(run, state="cancelled"))
                return
        try:
            self._run(tenant, run)
        except Exception as error:  # of any kind: nobody else would end the run
            log.error("a diagnosis broke off", extra={"error": type(error).__name__})
            problem = "the run broke off: the server's log says why"
            self._end(tenant, replace(run, state="failed", problem=problem))
        finally:
            self._slots.release()
            self._threads.pop(run.name, None)

    def _run(self, tenant: str, run: RunState) -> None:
        url = self._engine.url.render_as_string(hide_password=False)
        with subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            lines = _Lines(process.stdout)
            try:
                _send(process.stdin, {"url": url, "tenant": tenant})
                while not lines.wait(BEAT_S):
                    run = replace(run, **lines.step(), beat_ms=now_ms())
                    if not self._is_wanted(tenant, run):
                        self._end(tenant, replace(run, state="cancelled"))
                        return
            finally:
                process.kill()
                lines.finish()
                _close(process.stdin)
        self._end(tenant, _ended(run, lines.last), lines.last.get("result"))

    def _is_wanted(self, tenant: str, run: RunState) -> bool:
        """Write a sign of life; return False where the run was cancelled or replaced."""

        def job(connection: sa.Connection) -> bool:
            state = read_state(connection, tenant)
            if state.name != run.name or state.state != "running":
                return False
            _write_state(connection, tenant, run)
            return True

        if self._stop.is_set():
            return False
        with suppress(*AWAY):  # it goes on while the store is away
            return self._writer.do(job)
        return True

    def _end(self, tenant: str, run: RunState, result: Any = None) -> None:
        """Write how a run ended, and keep its result."""

        def job(connection: sa.Connection) -> None:
            if read_state(connection, tenant).name != run.name:
                return
            _write_state(connection, tenant, replace(run, ended_ms=now_ms()))
            if result is not None:
                content = {"result": result, "made_ms": run.begun_ms}
                write_mark(connection, _result_name(tenant), json.dumps(content))

        with suppress(*AWAY):  # it counts as broken off later
            self._writer.do(job)


class _Lines:
    """Reads the lines of a process in a thread, and keeps the last one."""

    def __init__(self, file: IO[bytes] | None) -> None:
        self.last: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._read, args=(file or (),), daemon=True)
        self._thread.start()

    def _read(self, file: Iterable[bytes]) -> None:
        for line in file:
            with suppress(ValueError):
                self.last = json.loads(line)

    def wait(self, most_s: float) -> bool:
        """Wait `most_s` seconds at most, and return whether the last line was read."""
        self._thread.join(most_s)
        return not self._thread.is_alive()

    def finish(self) -> None:
        """Wait for the last line of a process that has ended."""
        self._thread.join()

    def step(self) -> dict[str, Any]:
        """Return what the process does now, as fields of a RunState."""
        return self.last if "step" in self.last else {}


def _send(file: IO[bytes] | None, request: dict[str, Any]) -> None:
    """Write the request; the file stays open as long as the process is wanted."""
    if file is not None:
        with suppress(BrokenPipeError):  # its end is noticed soon enough
            file.write(json.dumps(request).encode() + b"\n")
            file.flush()


def _close(file: IO[bytes] | None) -> None:
    """Close a file whose reader may have ended."""
    if file is not None:
        with suppress(BrokenPipeError):
            file.close()


def _ended(run: RunState, last: dict[str, Any]) -> RunState:
    """Return the state of a run whose process has ended."""
    if "result" in last:
        return replace(run, state="done", step="", done=0, total=0)
    problem = last.get("problem", "its process ended: there may be too little memory")
    return replace(run, state="failed", problem=problem)


def _seconds_left(state: RunState, result: dict[str, Any] | None) -> float | None:
    """Return about how long a run still takes, by the latest result; None where nobody knows."""
    if state.state not in OPEN or result is None or state.begun_ms is None:
        return None
    passed_s = (now_ms() - state.begun_ms) / 1000
    return max(0.0, round(result["run_seconds"] - passed_s, 1))


def read_state(connection: sa.Connection, tenant: str) -> RunState:
    """Return the state of a tenant's latest run; one without a sign of life has failed."""
    content = read_mark(connection, _state_name(tenant))
    state = RunState() if content is None else RunState(**json.loads(content))
    if state.state in OPEN and now_ms() - state.beat_ms > DEAD_MS:
        problem = "the run broke off with its server: begin again"
        return replace(state, state="failed", ended_ms=state.beat_ms, problem=problem)
    return state


def _write_state(connection: sa.Connection, tenant: str, state: RunState) -> None:
    write_mark(connection, _state_name(tenant), json.dumps(asdict(state)))


def _state_name(tenant: str) -> str:
    return f"diagnosis run of {tenant}"


def _result_name(tenant: str) -> str:
    return f"diagnosis of {tenant}"
