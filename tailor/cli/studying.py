"""`tailor study`: run a study over models."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tailor.cli.showing import WIDE, print_json, say, table
from tailor.core.methods import Method
from tailor.core.run import Run
from tailor.core.saving import load
from tailor.core.specs import build_part, build_study
from tailor.core.studies import StudyReport
from tailor.data.dataset import Dataset
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.ports.base import Port


def study_command(
    name: str,
    methods: Sequence[str],
    data_folder: Path | None,
    split_folder: Path | None,
    settings: Sequence[str],
    run: Run,
    json: bool,
) -> None:
    study = build_study(name, parse_settings(settings))
    if (data_folder is None) == (split_folder is None):
        raise DataError("name the data: --data FOLDER, or --split FOLDER for the data of a split")
    data = Dataset.open(data_folder) if data_folder else Split.open(_folder(split_folder)).data
    measured = dict(_labelled(text) for text in methods)
    if len(measured) < len(methods):
        raise DataError(f"two methods have one name in {', '.join(methods)}: write NAME=METHOD")
    report = study.run(data, measured, run)
    if json:
        print_json(report.to_dict())
    else:
        show_study(report)


def show_study(report: StudyReport) -> None:
    """Print the tables and notes of a report."""
    for part in report.tables():
        rows = [["-" if value is None else value for value in row] for row in part.rows]
        table(part.columns, rows, part.title, WIDE)
    say(*report.notes())


def _folder(folder: Path | None) -> Path:
    assert folder is not None  # one of the two was named
    return folder


def parse_settings(texts: Sequence[str]) -> dict[str, Any]:
    """Return the settings of options NAME=VALUE."""
    return dict(parse_setting(text) for text in texts)


def parse_setting(text: str) -> tuple[str, Any]:
    """Return name and value of NAME=VALUE; a value that reads as TOML is that, else a string."""
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise DataError(f'--set "{text}": write NAME=VALUE, as in k=5')
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()


def _labelled(text: str) -> tuple[str, Method | Port]:
    """Return the name and the method of NAME=METHOD or METHOD.

    A method is the folder of a fitted model, a pipeline file, or a class.
    """
    label, sign, source = text.partition("=")
    if not sign:
        source = text
        label = Path(text).stem if "/" in text or text.endswith(".toml") else text
    if (Path(source) / "spec.json").is_file():
        return label, load(Path(source))
    return label, build_part(source)
