"""The process of one refit: it learns a pipeline, judges it, and registers it; nothing answers yet.

It is started by `refit_jobs.py` with a line of JSON on its standard input, and ends when that input
does: with the server. It holds the lock of the tenant's jobs as long as it lives, so that nobody
takes a dead job for a running one.
"""

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.folders import replaced_by
from tailor.errors import DataError, ModelError, TailorError
from tailor.progress import Label
from tailor.service.batcher import check_model
from tailor.service.quality import judge, write_quality
from tailor.service.refit import NOTE, check_refit
from tailor.store.datasets import TrainingData, training_dataset
from tailor.store.engine import connect, now_ms, reading, writing
from tailor.store.models import add_model, current_model

T = TypeVar("T")
PROGRESS, OUTCOME, CANCEL = "progress.json", "outcome.json", "cancel"  # files of a job's folder
STEPS = ("reading events", "judging", "learning from all events", "saving")
WRITE_S = 0.5  # between two writes of the progress
LOOK_S = 0.3  # between two looks whether to end
ENDING_S = 5.0  # for cleaning up
NICENESS = 10  # answers go before refits


@dataclass(frozen=True)
class Task:
    """Everything that a job needs to know."""

    database: str
    tenant: str
    pipeline: dict[str, Any]
    note: str
    folder: str
    """Of the job."""
    target: str
    """Folder that the model is saved in."""


class JobProgress:
    """Writes how far the job is, for whoever asks; the outermost loop counts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._step = 0
        self._depth = 0
        self._step_began_s = time.monotonic()
        self._judging_s = 0.0
        self._written_s = 0.0

    def begin(self, step: int) -> None:
        """Begin a step of STEPS."""
        now_s = time.monotonic()
        if STEPS[self._step] == "judging":
            self._judging_s = now_s - self._step_began_s
        self._step, self._step_began_s = step, now_s
        self._write("", 0, 0, None)

    def __call__(self, steps: Iterable[T], label: Label, total: int | None = None) -> Iterator[T]:
        """Yield the steps and write how many are done."""
        self._depth += 1
        began_s = time.monotonic()
        try:
            for done, step in enumerate(steps):
                if self._depth == 1 and time.monotonic() - self._written_s > WRITE_S:
                    elapsed_s = time.monotonic() - began_s
                    left_s = elapsed_s / done * (total - done) if total and done else None
                    self._write(label if isinstance(label, str) else label(), done, total, left_s)
                yield step
        finally:
            self._depth -= 1

    def _write(self, label: str, done: int, total: int | None, loop_s: float | None) -> None:
        self._written_s = time.monotonic()
        content = {
            "step": self._step + 1,
            "steps": len(STEPS),
            "stage": STEPS[self._step] + (f": {label}" if label else ""),
            "done": done,
            "total": total or 0,
            "left_s": self._left_s(loop_s),
        }
        with replaced_by(self.folder / PROGRESS) as path:
            path.write_text(json.dumps(content), encoding="utf-8")

    def _left_s(self, loop_s: float | None) -> float | None:
        """Return about how many seconds are left; None: nothing to tell by yet.

        Learning from all events takes about as long as learning for the judgement did.
        """
        if STEPS[self._step] == "learning from all events":
            elapsed_s = time.monotonic() - self._step_began_s
            return round(max(self._judging_s - elapsed_s, loop_s or 0.0), 1)
        if STEPS[self._step] == "judging" and loop_s is not None:
            elapsed_s = time.monotonic() - self._step_began_s
            return round(2 * loop_s + elapsed_s, 1)
        return None if loop_s is None else round(loop_s, 1)


def main() -> None:
    """Do the task on the first line of the standard input."""
    task = Task(**json.loads(sys.stdin.readline()))
    folder = Path(task.folder)
    for job in (_end_with_input, _end_when_cancelled):
        threading.Thread(target=job, args=(folder,), daemon=True).start()
    os.nice(NICENESS)
    try:
        outcome = run_task(task)
    except TailorError as error:
        outcome = {"state": "failed", "why": str(error), "version": None}
    except Exception as error:  # its text may quote a user's words
        outcome = {"state": "failed", "why": f"it broke ({type(error).__name__})", "version": None}
    _say(outcome["why"])
    with replaced_by(folder / OUTCOME) as path:
        path.write_text(json.dumps({**outcome, "ended_ms": now_ms()}), encoding="utf-8")
    os._exit(0)  # the lock is free at once: no library is waited for


def run_task(task: Task) -> dict[str, Any]:
    """Learn, judge, save and register; return the outcome. Raises TailorError."""
    progress = JobProgress(Path(task.folder))
    engine = connect(task.database)
    try:
        return _refit_aside(engine, task, progress)
    finally:
        engine.dispose()


def _refit_aside(engine: sa.Engine, task: Task, progress: JobProgress) -> dict[str, Any]:
    started_ms = now_ms()
    run = Run(progress=progress)
    progress.begin(0)
    method, _ = check_refit(task.pipeline, task.tenant, None)
    training = training_dataset(engine, task.tenant, method.learns_from_impressions())
    _say(f"{len(training.data.events):,} events count, {training.left_out:,} do not")
    progress.begin(1)
    quality = _judged(engine, task, method, training, run)
    progress.begin(2)
    method.fit(training.data, run)
    progress.begin(3)
    version = _save_and_register(engine, task, method, training, quality, started_ms)
    return {"state": "done", "why": f"version {version} is registered", "version": version}


def _judged(
    engine: sa.Engine, task: Task, method: Recommender, training: TrainingData, run: Run
) -> dict[str, Any] | None:
    """Return the judgement beside the serving model, None where there is nothing to judge by."""
    with reading(engine) as connection:
        serving = current_model(connection, task.tenant)
    try:
        quality = judge(method, serving, training.data, run)
    except DataError as error:
        _say(f"not judged: {error}")
        return None
    for note in quality["notes"]:
        _say(note)
    for row in quality["comparisons"]:
        if (row["metric"], row["seen"]) == ("NDCG@10", "removed"):
            _say(f"{row['metric']} {row['difference']:+.4f} (p {row['p']:.3g})")
    return quality


def _save_and_register(
    engine: sa.Engine,
    task: Task,
    method: Recommender,
    training: TrainingData,
    quality: dict[str, Any] | None,
    started_ms: int,
) -> int:
    """Save, load, and register a model that does not answer yet; return its version.

    A model that cannot be loaded again is deleted, and never registered.
    """
    target = Path(task.target)
    data = training.data
    method.save(target, titles=data.item_table if "title" in data.item_table.columns else None)
    try:
        digest = check_model(target).digest
        if quality is not None:
            write_quality(target, quality)
    except ModelError:
        shutil.rmtree(target, ignore_errors=True)
        raise
    words = f": {task.note}" if task.note else ""
    note = f"{NOTE}{len(data.events)} events{words}"
    with writing(engine) as connection:
        return add_model(connection, task.tenant, str(target), digest, note, started_ms)


def _say(text: str) -> None:
    """Write a line for the log of the job."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _end_with_input(folder: Path) -> None:
    """End this process when its standard input ends: the server is gone."""
    sys.stdin.read()
    _end()


def _end_when_cancelled(folder: Path) -> None:
    while not (folder / CANCEL).exists():
        time.sleep(LOOK_S)
    _end()


def _end() -> None:
    """End this process: soon, or at once where it does not clean up within ENDING_S."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ENDING_S)
    os._exit(1)


if __name__ == "__main__":
    main()
