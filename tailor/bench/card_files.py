"""Write the files of a benchmark card."""

import csv
import io
import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np

from tailor.bench.claims import environment
from tailor.bench.suites import JUDGEMENTS
from tailor.evaluation.diagnosis import Diagnosis
from tailor.evaluation.report import Report, write_per_user

ROOT = Path(__file__).parents[1]
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def write_files(
    folder: Path,
    inputs: Mapping[str, Any],
    report: Report | None,
    diagnosis: Diagnosis,
    log: Sequence[str],
) -> None:
    """Write all files of a card but card.json; without results for a failed run."""
    machine = {
        **machine_of(),
        "threads": {name: os.environ.get(name, "not set") for name in THREAD_VARIABLES},
    }
    contents = {
        "data.json": _json({"data": inputs["data"], "split": inputs["split"]}),
        "config.json": _json({"method": inputs["method"], "protocol": inputs["protocol"]}),
        "random_state": str(inputs["seed"]),
        "environment.txt": "\n".join(installed()),
        "machine.json": _json(machine),
        "diagnosis.json": _json(diagnosis.to_dict()),
        "run.log": "\n".join(log),
        "README.md": _readme(inputs, report, log[-1]),
    }
    if report is not None:
        contents["results.csv"] = results_csv(report)
        write_per_user(report, folder / "per_user.npz")
    for name, content in contents.items():
        (folder / name).write_text(content.rstrip("\n") + "\n", encoding="utf-8")


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, allow_nan=False)


def installed() -> list[str]:
    """Return every package with its version, such as "numpy==2.4.0"."""
    return sorted({f"{package.name}=={package.version}" for package in distributions()})


def machine_of() -> dict[str, Any]:
    """Return processor, memory, system and versions of Python and numpy."""
    machine = environment(ROOT.parent)["machine"]
    return {**machine, "system": platform.system(), "numpy": np.__version__}


def results_csv(report: Report) -> str:
    """Return one line per metric with its interval, and one per figure of the lists.

    Numbers are exact to the last digit.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["method", "seen", "metric", "mean", "low", "high", "users"])
    for (method, seen), result in report.results.items():
        for metric, values in result.per_user.items():
            low, high = report.interval[method, seen][metric]
            numbers = [report.mean(method, metric, seen), low, high]
            users = int((~np.isnan(values)).sum())
            writer.writerow([method, seen, metric, *map(repr, numbers), users])
        for name, value in result.lists.items():
            writer.writerow([method, seen, name, repr(value), "", "", len(report.user_ids)])
    return buffer.getvalue()


def data_name(inputs: Mapping[str, Any]) -> str:
    """Return the name of a card's data set or world."""
    data = inputs["data"]
    return str(data.get("name", data.get("world", "data")))


def _readme(inputs: Mapping[str, Any], report: Report | None, outcome: str) -> str:
    """Return a summary of the card in Markdown."""
    by = inputs["split"]["by"]
    fitted_on = f"the training part of a split by {by}"
    if by == JUDGEMENTS:
        fitted_on = "the items of a judged collection"
    lines = [
        f"# {inputs['label']} on {data_name(inputs)}, suite {inputs['suite']}",
        "",
        f"Fitted on {fitted_on}, random state {inputs['seed']}: {outcome}.",
        "",
    ]
    if report is not None:
        lines += _results_table(report)
    lines += [
        "",
        f"Made by `tailor bench run {inputs['suite']}`; made again and compared by `tailor bench"
        " verify FOLDER`.",
    ]
    return "\n".join(lines)


def _results_table(report: Report) -> list[str]:
    """Return the lines of a Markdown table of means and intervals."""
    lines = [
        f"{len(report.user_ids):,} users, {report.ranked} ranked. 95 % intervals over users.",
        "",
        "| seen items | metric | mean | interval |",
        "|---|---|---|---|",
    ]
    for (method, seen), intervals in report.interval.items():
        for metric, (low, high) in intervals.items():
            mean = report.mean(method, metric, seen)
            lines.append(f"| {seen} | {metric} | {mean:.4f} | {low:.4f} to {high:.4f} |")
    return lines
