"""Judge a new pipeline beside the serving one, on events that neither has learned from.

The result lies as JSON in the new model's folder. It names nobody: no erasure would reach it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.core.saving import SavedModel
from tailor.core.specs import build, clone
from tailor.data.dataset import Dataset
from tailor.data.folders import replaced_by
from tailor.data.splits import Split, by_time
from tailor.errors import DataError, ModelError, TailorError
from tailor.evaluation.diagnosis import diagnose
from tailor.evaluation.protocol import compare, evaluate
from tailor.evaluation.report import Report
from tailor.service.batcher import any_error_named
from tailor.service.refit import LEAST_USERS, METRIC, fresh_split

FILE = "quality.json"  # in the folder of a model
SERVING, NEW = "serving", "new"
HELD_BACK = 0.1  # share of the events that both are judged on, where nothing happened since
EDGES = (-1.0, -0.5, -0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2, 0.5, 1.0)  # of one user's difference
MOST_BYTES = 8 * 2**20  # of a quality file; a larger one is not read


@dataclass(frozen=True)
class Rival:
    """The serving model, as it is judged beside the new one."""

    version: int
    method: Recommender
    """Fitted, and without the events that it is judged on."""
    note: str
    """How it came to be so."""


def judge(
    method: Recommender, serving: Mapping[str, Any] | None, data: Dataset, run: Run
) -> dict[str, Any]:
    """Return what a method is worth beside the model of a row of the register, as plain values.

    Both are asked about the last events. Where too few happened since the serving model was made,
    its settings are fitted again on the events before them, as those of `method` are. Raises
    DataError where there are too few users to judge by.
    """
    split, is_fresh = _split_of(data, serving)
    rival = None
    notes: list[str] = []
    if serving is not None:
        try:
            rival = _rival(serving, split, is_fresh, run)
            notes.append(rival.note)
        except TailorError as error:
            notes.append(f"version {serving['version']} cannot be judged: {error}")
    new = clone(method).fit(split.train, run, split)
    methods = {SERVING: rival.method, NEW: new} if rival is not None else {NEW: new}
    report = evaluate(methods, split, run=run)
    content = {
        "against": None if rival is None else rival.version,
        "events": len(split.train.events),
        "report": report.to_dict(),
        "comparisons": [],
        "people": None,
        "findings": _findings(split, run),
        "notes": notes,
    }
    if rival is not None:
        compared = compare(report, SERVING, seen=report.treatments)
        content["comparisons"] = [row.to_dict() for row in compared]
        content["people"] = _people(report)
    return content


def _split_of(data: Dataset, serving: Mapping[str, Any] | None) -> tuple[Split, bool]:
    """Return the split to judge on, and whether its test part is what the serving one never saw.

    Raises DataError where too few users did anything in the last events.
    """
    fresh = None if serving is None else fresh_split(data, serving["made_ms"])
    if fresh is not None:
        return fresh, True
    split = by_time(data, valid=HELD_BACK, test=HELD_BACK)
    _, targets = split.queries("test")
    users = int((np.asarray(targets.lengths) > 0).sum())
    if users < LEAST_USERS:
        raise DataError(
            f"{users} people did anything in the last {HELD_BACK:.0%} of the events, fewer than"
            f" {LEAST_USERS}: nothing to judge by"
        )
    return split, False


def _rival(serving: Mapping[str, Any], split: Split, is_fresh: bool, run: Run) -> Rival:
    """Return the serving model as it is, or its settings fitted on the training part.

    Raises ModelError where its folder cannot be read.
    """
    version, folder = serving["version"], serving["folder"]
    with any_error_named(folder):
        saved = SavedModel.open(folder)
        if is_fresh:
            note = f"version {version} as it answers; it has not seen the events it is judged on"
            return Rival(version, cast(Recommender, saved.method), note)
        method = build(saved.description["spec"], Recommender)  # type: ignore[type-abstract]
    note = (
        f"the settings of version {version}, learned again from the older events: it has seen those"
        " that it is judged on"
    )
    return Rival(version, method.fit(split.train, run, split), note)


def _people(report: Report) -> dict[str, Any]:
    """Return how many people are better off by how much, without saying who."""
    treatment = report.treatments[0]
    values = {name: report.results[name, treatment].per_user[METRIC] for name in (SERVING, NEW)}
    differences = values[NEW] - values[SERVING]
    differences = differences[~np.isnan(differences)]
    changed = differences[differences != 0]
    counts, _ = np.histogram(changed, bins=np.array(EDGES))
    return {
        "metric": METRIC,
        "better": int((differences > 0).sum()),
        "same": int((differences == 0).sum()),
        "worse": int((differences < 0).sum()),
        "edges": list(EDGES),
        "counts": counts.tolist(),
    }


def _findings(split: Split, run: Run) -> list[dict[str, Any]]:
    """Return what the diagnosis of the events finds, in words."""
    try:
        diagnosis = diagnose(split, run=run)
    except DataError:
        return []
    return [
        {"wrong": finding.wrong, "says": finding.says, "remedy": finding.remedy}
        for finding in diagnosis.findings
    ]


def write_quality(folder: Path, content: Mapping[str, Any]) -> None:
    """Write what `judge` returned into the folder of a saved model."""
    with replaced_by(folder / FILE) as path:
        path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def read_quality(folder: Path) -> dict[str, Any] | None:
    """Return what was written into a folder, None where nothing was.

    Raises ModelError for a damaged file.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("too large")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise ModelError(f"{folder}/{FILE} is damaged: refit to judge again") from None
    if not isinstance(content, dict) or "report" not in content:
        raise ModelError(f"{folder}/{FILE} is damaged: refit to judge again")
    return content
