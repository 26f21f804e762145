"""A process that checks and diagnoses a tenant's stored events, apart from the worker.

    python -m tailor.service.diagnosis_process

It reads {"url", "tenant"} as a line of standard input, and writes lines of JSON: steps, then the
result or the problem. It ends when its standard input does.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import polars as pl
import sqlalchemy as sa

from tailor.core.run import Run
from tailor.data.checks import Finding
from tailor.data.dataset import Dataset
from tailor.data.splits import last_out
from tailor.data.stats import stats
from tailor.errors import TailorError
from tailor.evaluation.diagnosis import diagnose
from tailor.evaluation.report import without_nan
from tailor.progress import Label
from tailor.store.datasets import training_dataset
from tailor.store.engine import UNUSABLE, connect, first_line

T = TypeVar("T")
Write = Callable[[dict[str, Any]], None]
NICE = 10  # added to the process's niceness: answers go first
WITHOUT_PEOPLE = ("items", "impressions", "judgements", "candidates")  # tables of examples kept
READING, SPLITTING = "reading the store", "leaving the last event of each person out"


def main() -> None:
    """Answer the request on standard input."""
    os.nice(NICE)
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        result = diagnose_stored(connect(request["url"]), request["tenant"], _write)
    except TailorError as error:
        _write({"problem": str(error)})
    except UNUSABLE as error:
        _write({"problem": f"the database cannot be read: {first_line(error)}"})
    else:
        _write({"result": result})


def _end_with_parent() -> None:
    """End this process once its standard input is closed."""
    sys.stdin.read()
    os._exit(1)


def _write(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def diagnose_stored(engine: sa.Engine, tenant: str, write: Write) -> dict[str, Any]:
    """Return what `tailor data check`, `stats` and `diagnose` say of what a refit would read.

    People are numbered in place of their ids, and rows of single people are no examples: the result
    is kept, and no erasure would reach it. Raises DataError where there is too little.
    """
    began_s = time.perf_counter()
    write({"step": READING, "done": 0, "total": 1})
    training = training_dataset(engine, tenant)
    data = _with_numbered_people(training.data)
    write({"step": SPLITTING, "done": 0, "total": 1})
    split = last_out(data)
    diagnosis = diagnose(split, run=Run(progress=_Steps(write)))
    content = {
        **diagnosis.to_dict(),
        "findings": [_without_people(finding) for finding in diagnosis.findings],
        "stats": stats(data),
        "left_out": training.left_out,
        "rule": training.rule.text,
        "notes": list(training.notes),
        "run_seconds": round(time.perf_counter() - began_s, 2),
    }
    return dict(without_nan(content))


def _with_numbered_people(data: Dataset) -> Dataset:
    """Return the data set with numbers in place of the ids of people."""
    numbers = {user_id: f"person {n}" for n, user_id in enumerate(data.users.ids.tolist(), 1)}
    tables = {}
    for name, frame in data.tables.items():
        if "user_id" in frame.columns:
            number = pl.col("user_id").replace_strict(numbers, default=None)
            frame = frame.with_columns(number.cast(pl.String).alias("user_id"))
            frame = frame.filter(pl.col("user_id").is_not_null())
        tables[name] = frame
    return Dataset(tables, data.name, data.labels)


def _without_people(finding: Finding) -> dict[str, Any]:
    """Return a finding without examples that show what a single person did."""
    fields = finding.to_dict()
    if finding.table not in WITHOUT_PEOPLE:
        fields["examples"] = []
    return fields


class _Steps:
    """Writes a line at each step of a loop; a `Progress`."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def __call__(self, steps: Iterable[T], label: Label, total: int | None = None) -> Iterator[T]:
        """Yield the steps."""
        for done, step in enumerate(steps):
            name = label if isinstance(label, str) else label()
            self._write({"step": name, "done": done, "total": total or 0})
            yield step


if __name__ == "__main__":
    main()
