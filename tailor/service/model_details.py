"""The route that shows a version: settings, fit report, card, curves, judgement."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w
from fastapi import APIRouter, Depends
from pydantic import Field

from tailor.core.pipeline_check import part_tree
from tailor.core.saving import SavedModel
from tailor.core.specs import build
from tailor.errors import ModelError
from tailor.service import responses
from tailor.service.admin import shown_model
from tailor.service.batcher import any_error_named
from tailor.service.paths import without_paths
from tailor.service.pipelines import PipelinePart, shown_part
from tailor.service.problems import ProblemError
from tailor.service.quality import read_quality
from tailor.service.routing import service_router
from tailor.service.schemas import VersionNumber
from tailor.service.state import Service
from tailor.store.keys import Caller
from tailor.store.models import list_models

MOST_BYTES = 4 * 2**20  # of a file that is shown; of a larger one nothing is
MOST_POINTS = 1_000  # of a learning curve
CURVES = ("loss", "validation")  # lists of a fit report that are learning curves


class Curve(responses.Answer):
    """A learning curve of a part."""

    name: str = Field(description="The part and what was measured, such as SASRec: validation.")
    points: list[list[float]] = Field(description="Pairs of epoch and value.")


class ModelDetails(responses.ModelVersion):
    """A registered model in full."""

    method: str = Field(description="Name of its class; empty where its folder cannot be read.")
    toml: str = Field(description="Its settings as a pipeline file.")
    parts: PipelinePart | None = Field(description="Its parts as a tree; null: not known.")
    trained_on: dict[str, Any] = Field(description="Where its data came from.")
    fit_report: dict[str, Any] = Field(description="What fitting found out.")
    curves: list[Curve] = Field(description="Learning curves of its nets.")
    card: str = Field(description="Its model card, in Markdown; empty without one.")
    quality: dict[str, Any] | None = Field(
        description="The judgement of the refit that made it; null: it was not judged."
    )
    problem: str | None = Field(description="Why its folder cannot be read; null: it can.")


def routes(service: Service, admin: Any) -> APIRouter:
    """Return the route; `admin` is a dependency that gives the caller."""
    api = service_router("running it")

    @api.get("/v1/models/{version:int}", responses=responses.answers(ModelDetails, 404))
    def show(version: VersionNumber, who: Caller = Depends(admin)) -> dict[str, Any]:
        """Return a version in full. A folder that cannot be read is named as the problem."""
        rows = service.read(lambda connection: list_models(connection, who.tenant))
        row = next((row for row in rows if row["version"] == version), None)
        if row is None:
            raise ProblemError(404, f"there is no model version {version}")
        return {**shown_model(service, who.tenant, row), **_details(service, row)}

    return api


def _details(service: Service, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the folder of a version holds."""
    content: dict[str, Any] = {
        "method": "",
        "toml": "",
        "parts": None,
        "trained_on": {},
        "fit_report": {},
        "curves": [],
        "card": "",
        "quality": None,
        "problem": None,
    }
    folder = Path(row["folder"])
    try:
        with any_error_named(folder, "cannot be read"):
            content |= _read_folder(folder)
    except ModelError as error:
        content["problem"] = without_paths(str(error), folder, service.settings.models)
    return content


def _read_folder(folder: Path) -> dict[str, Any]:
    """Return what is shown of a saved model. Raises ModelError, or what its files raise."""
    description = SavedModel.open(folder).description
    method = build(description["spec"])
    report = _fit_report(folder)
    return {
        "method": method.name,
        "toml": tomli_w.dumps(description["spec"]),
        "parts": shown_part(part_tree(method)),
        "trained_on": description.get("trained_on", {}),
        "fit_report": report,
        "curves": learning_curves(report),
        "card": _text(folder / "card.md"),
        "quality": read_quality(folder),
    }


def _fit_report(folder: Path) -> dict[str, Any]:
    """Return the fit report of a saved model, empty where it is not there."""
    text = _text(folder / "state" / "values.json")
    values = json.loads(text) if text else {}
    report = values.get("fit_report_", {}) if isinstance(values, dict) else {}
    return report if isinstance(report, dict) else {}


def _text(path: Path) -> str:
    """Return the text of a file, empty for one that is missing or too large."""
    if not path.is_file() or path.stat().st_size > MOST_BYTES:
        return ""
    return path.read_text(encoding="utf-8")


def learning_curves(report: Mapping[str, Any], owner: str = "") -> list[dict[str, Any]]:
    """Return the learning curves in a fit report and in those of its parts."""
    curves = []
    for name, value in report.items():
        if name in CURVES and isinstance(value, list):
            points = _points(value)
            if len(points) > 1:
                label = f"{owner}: {name}" if owner else name
                curves.append({"name": label, "points": points[-MOST_POINTS:]})
        elif isinstance(value, Mapping):
            inner = owner if name == "parts" else name
            curves += learning_curves(value, inner)
    return curves


def _points(values: list[Any]) -> list[list[float]]:
    """Return pairs of epoch and value: of pairs, or of values of the epochs from 1."""
    points = []
    for number, value in enumerate(values, 1):
        pair = value if isinstance(value, list) else [number, value]
        if len(pair) == 2 and all(isinstance(entry, int | float) for entry in pair):
            points.append([float(entry) for entry in pair])
    return points
