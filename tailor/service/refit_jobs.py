"""Refits in processes of their own: started, watched and cancelled, one at a time for a tenant.

Jobs lie beside the models that they make, in models/TENANT/.refits, so that every worker sees them.
Whether one runs is said by a lock that its process holds, however it ends.
"""

import fcntl
import json
import re
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa
import tomli_w

from tailor.data.folders import replaced_by
from tailor.service.paths import hide_paths
from tailor.service.problems import ProblemError
from tailor.service.refit_job import CANCEL, OUTCOME, PROGRESS, Task
from tailor.store.engine import now_ms, reading
from tailor.store.models import list_models

JOBS, JOB, LOG, LOCK = ".refits", "job.json", "log.txt", "lock"
RUNNING, DONE, FAILED, CANCELLED = "running", "done", "failed", "cancelled"
ID = re.compile(r"[0-9a-f]{20}")
KEPT_JOBS = 20  # of a tenant; older ones are deleted, their models stay
LINES = 40  # last lines of a job's log that are shown
LOG_BYTES = 20_000  # of the log that are read for them
TRY_S = 0.05  # between two tries to take the lock
TRIES = 5  # others hold it for a moment to look
ENDING_TRIES = 100  # a job that has written its outcome holds it for another moment
CANCEL_S = 8.0  # for which a cancelled job is waited for


class RefitJobs:
    """The refits of all tenants, as one worker starts and sees them."""

    def __init__(self, engine: sa.Engine, models: Path) -> None:
        self.engine = engine
        self.models = models
        self._processes: dict[str, subprocess.Popen[str]] = {}  # started here, by job
        self._lock = threading.Lock()

    def start(
        self, tenant: str, pipeline: Mapping[str, Any], note: str, started_by: str
    ) -> dict[str, Any]:
        """Start a refit of a pipeline, and return the job.

        Raises ProblemError where one of the tenant runs already, or nothing can be written.
        """
        root = (self.models / tenant).resolve() / JOBS
        job_id = f"{now_ms():012x}{secrets.token_hex(4)}"
        folder = root / job_id
        target = _target_of(folder)
        job = {
            "id": job_id,
            "note": note,
            "started_by": started_by,
            "begun_ms": now_ms(),
            "toml": tomli_w.dumps(pipeline),
            "target": target.name,
        }
        database = self.engine.url.render_as_string(hide_password=False)
        task = Task(database, tenant, dict(pipeline), note, str(folder), str(target))
        try:
            root.mkdir(parents=True, exist_ok=True)
            with _taken(root / LOCK, _tries(root)) as lock:
                if lock is None:
                    raise ProblemError(
                        409, "a refit is running: wait for it, or cancel it (GET /v1/refits)"
                    )
                self._clear(tenant, root)
                folder.mkdir()
                with replaced_by(folder / JOB) as path:
                    path.write_text(json.dumps(job), encoding="utf-8")
                self._spawn(task, folder, lock)
        except OSError as error:
            raise ProblemError(
                409, f"the folder of models cannot be written ({error.strerror}): look at --models"
            ) from None
        return self.job(tenant, job_id)

    def _spawn(self, task: Task, folder: Path, lock: IO[str]) -> None:
        """Start the process of a job, which holds the lock and the other end of its input."""
        with (folder / LOG).open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tailor.service.refit_job"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                pass_fds=[lock.fileno()],
            )
        assert process.stdin is not None
        # the password of the database is handed over where no list of processes shows it
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(asdict(task)) + "\n")
            process.stdin.flush()
        with self._lock:
            self._processes[folder.name] = process

    def _clear(self, tenant: str, root: Path) -> None:
        """Delete old jobs, and what dead ones left half done; the lock is held."""
        folders = _job_folders(root)
        for folder in folders:
            if not (folder / OUTCOME).exists():
                self._drop_unregistered(tenant, folder)
        for folder in folders[KEPT_JOBS - 1 :]:
            shutil.rmtree(folder, ignore_errors=True)

    def _drop_unregistered(self, tenant: str, folder: Path) -> None:
        """Delete what a dead job saved and never registered."""
        target = _target_of(folder)
        if self._registered(tenant, target) is None:
            shutil.rmtree(target, ignore_errors=True)
        for leftover in target.parent.glob(f".{target.name}.partial-*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def _registered(self, tenant: str, target: Path) -> int | None:
        """Return the version of a folder, None where it is not registered."""
        with reading(self.engine) as connection:
            rows = list_models(connection, tenant)
        versions = [row["version"] for row in rows if row["folder"] == str(target)]
        return versions[0] if versions else None

    def jobs(self, tenant: str) -> list[dict[str, Any]]:
        """Return the jobs of a tenant, the latest first."""
        root = (self.models / tenant).resolve() / JOBS
        return [self._shown(tenant, folder) for folder in _job_folders(root)]

    def job(self, tenant: str, job_id: str) -> dict[str, Any]:
        """Return a job with its last lines. Raises ProblemError where there is none."""
        folder = self._folder(tenant, job_id)
        description = _read(folder / JOB)
        return {
            **self._shown(tenant, folder),
            "toml": description["toml"],
            "lines": _last_lines(folder / LOG),
        }

    def _folder(self, tenant: str, job_id: str) -> Path:
        folder = (self.models / tenant).resolve() / JOBS / job_id
        if ID.fullmatch(job_id) is None or not (folder / JOB).is_file():
            raise ProblemError(404, "there is no such refit: GET /v1/refits lists them")
        return folder

    def cancel(self, tenant: str, job_id: str) -> dict[str, Any]:
        """End a running job; one that has ended stays as it is. Returns the job."""
        folder = self._folder(tenant, job_id)
        if self._shown(tenant, folder)["state"] == RUNNING:
            (folder / CANCEL).touch()
            end_s = time.monotonic() + CANCEL_S
            while time.monotonic() < end_s and self._shown(tenant, folder)["state"] == RUNNING:
                time.sleep(TRY_S)
            if not _is_locked(folder.parent / LOCK):
                self._drop_unregistered(tenant, folder)
        return self.job(tenant, job_id)

    def stop(self) -> None:
        """End the jobs that were started here: their input ends."""
        with self._lock:
            processes = list(self._processes.values())
            self._processes.clear()
        for process in processes:
            with suppress(OSError):
                process.stdin.close()  # type: ignore[union-attr]
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(CANCEL_S)

    def _reap(self, job_id: str) -> None:
        """Let the system forget a process that has ended."""
        with self._lock:
            process = self._processes.get(job_id)
            if process is not None and process.poll() is not None:
                del self._processes[job_id]
                with suppress(OSError):
                    process.stdin.close()  # type: ignore[union-attr]

    def _shown(self, tenant: str, folder: Path) -> dict[str, Any]:
        """Return a job as lists show it."""
        self._reap(folder.name)
        description = _read(folder / JOB)
        # before the outcome: a job that ends in between has written its outcome
        is_running = _is_locked(folder.parent / LOCK) and _is_latest(folder)
        outcome = _read(folder / OUTCOME)
        if not outcome:
            outcome = self._outcome_without_words(tenant, folder, is_running)
        progress = _read(folder / PROGRESS) if outcome["state"] == RUNNING else {}
        return {
            "id": folder.name,
            "state": outcome["state"],
            "note": description.get("note", ""),
            "started_by": description.get("started_by", ""),
            "begun_ms": description.get("begun_ms", 0),
            "ended_ms": outcome.get("ended_ms"),
            "stage": progress.get("stage", ""),
            "step": progress.get("step", 0),
            "steps": progress.get("steps", 0),
            "done": progress.get("done", 0),
            "total": progress.get("total", 0),
            "left_s": progress.get("left_s"),
            "version": outcome.get("version"),
            "why": hide_paths(outcome.get("why", "")),
        }

    def _outcome_without_words(self, tenant: str, folder: Path, is_running: bool) -> dict[str, Any]:
        """Return the outcome of a job that has written none."""
        if is_running:
            return {"state": RUNNING}
        version = self._registered(tenant, _target_of(folder))
        if version is not None:
            return {"state": DONE, "version": version, "why": f"version {version} is registered"}
        if (folder / CANCEL).exists():
            return {"state": CANCELLED, "why": "it was cancelled; nothing was registered"}
        return {
            "state": FAILED,
            "why": "it ended without a word, as when the server is stopped; start it again",
        }


def _target_of(folder: Path) -> Path:
    """Return the folder that the job of a folder saves its model in."""
    return folder.parents[1] / f"refit-{folder.name}"


def _tries(root: Path) -> int:
    """Return how often to try to take the lock."""
    folders = _job_folders(root)
    is_ending = bool(folders) and (folders[0] / OUTCOME).exists()
    return ENDING_TRIES if is_ending else TRIES


@contextmanager
def _taken(path: Path, tries: int) -> Iterator[IO[str] | None]:
    """Yield the open lock file, None where another process holds the lock."""
    with path.open("a+") as file:
        for _ in range(tries):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(TRY_S)
                continue
            # no explicit unlock: a process that inherited the file holds the lock on
            yield file
            return
        yield None


def _is_locked(path: Path) -> bool:
    """Return whether a job holds the lock."""
    if not path.exists():
        return False
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _is_latest(folder: Path) -> bool:
    return _job_folders(folder.parent)[0] == folder


def _job_folders(root: Path) -> list[Path]:
    """Return the folders of jobs, the latest first: ids begin with the time."""
    if not root.is_dir():
        return []
    folders = [path for path in root.iterdir() if ID.fullmatch(path.name)]
    return sorted((path for path in folders if (path / JOB).is_file()), reverse=True)


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a file of JSON, nothing where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _last_lines(path: Path) -> list[str]:
    """Return the last lines of a log, without paths of the server."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [hide_paths(line) for line in text.splitlines()[-LINES:]]
