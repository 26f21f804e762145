"""Verify a card: make its result again and name everything that differs."""

import json
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires
from typing import Any

import numpy as np

from tailor.bench.card_files import installed, machine_of
from tailor.bench.cards import Card, changed_files, code_hash, measure, report_of
from tailor.bench.suites import split_of
from tailor.core.run import Run
from tailor.errors import ModelError
from tailor.evaluation.report import Report

TOLERANCE = 1e-6  # of per-user values made on another machine
# packages of a source without an installation: those that need no extra
CORE_PACKAGES = ["numpy", "scipy", "polars", "pyarrow"]


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    """Return one line per value that differs between two plain structures, by its path."""
    if isinstance(a, dict) and isinstance(b, dict):
        lines = []
        for key in sorted({*a, *b}):
            lines += differences(a.get(key), b.get(key), f"{path}.{key}" if path else key)
        return lines
    if a == b:
        return []
    return [f"{path}: {a!r} and {b!r}" if path else f"{a!r} and {b!r}"]


def verify(card: Card, run: Run = Run()) -> list[str]:
    """Make the result again; return one line per difference from the card.

    Compared are: files (with the settings in them that differ), data, split, code, versions of
    Python and of the packages that Tailor uses, and per-user values: exactly on the same machine,
    to 1e-6 on another one. Raises DataError where the data are missing, ModelError for the card of
    a failure.
    """
    if card.status != "done":
        raise ModelError(f"{card.folder} {card.status}; there is no result to make again")
    lines = changed_files(card) + _changed_settings(card)
    inputs = card.inputs
    split = split_of(
        {name: value for name, value in inputs["data"].items() if name != "content_hash"},
        {name: value for name, value in inputs["split"].items() if name != "hash"},
    )
    content_hash = inputs["data"]["content_hash"]
    if split.data.content_hash != content_hash:
        lines.append(f"data: hash {split.data.content_hash}, the card was made with {content_hash}")
    elif split.hash != inputs["split"]["hash"]:
        lines.append(f"split: hash {split.hash}, the card was made with {inputs['split']['hash']}")
    code = code_hash(inputs["method"])
    if code != inputs["code"]:
        lines.append(
            f"code: Tailor's files, or those of a plug-in, have changed since (hash {code}, then"
            f" {inputs['code']})"
        )
    lines += _changed_environment(card)
    return lines + _changed_values(card, measure(inputs, split, run))


def _changed_settings(card: Card) -> list[str]:
    """Return differences of config.json, data.json and random_state from the inputs."""
    expected = {
        "config.json": {"method": card.inputs["method"], "protocol": card.inputs["protocol"]},
        "data.json": {"data": card.inputs["data"], "split": card.inputs["split"]},
        "random_state": card.inputs["seed"],
    }
    lines = []
    for name, value in expected.items():
        try:
            content = json.loads((card.folder / name).read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError, UnicodeDecodeError):
            continue  # reported by changed_files
        lines += [f"{name}: {line} when it was run" for line in differences(content, value)]
    return lines


def _changed_environment(card: Card) -> list[str]:
    """Return other versions of Python and of the packages that Tailor uses.

    Other installed packages change no figure.
    """
    try:
        text = (card.folder / "environment.txt").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []  # reported by changed_files
    old_versions = _versions(text.splitlines())
    new_versions = _versions(installed())
    versions = [("python", machine_of()["python"], card.machine.get("python"))]
    for name in sorted({*old_versions, *new_versions} & _used_packages()):
        new_version = new_versions.get(name, "not there")
        versions.append((name, new_version, old_versions.get(name, "not there")))
    return [f"environment: {name} {new}, then {old}" for name, new, old in versions if new != old]


def _versions(lines: Sequence[str]) -> dict[str, str]:
    """Return package -> version from lines such as "numpy==2.4.0"."""
    pairs = (line.partition("==") for line in lines)
    return {_canonical(name): version for name, _, version in pairs if version}


def _used_packages() -> set[str]:
    """Return the packages that Tailor requires, without those of tests and documentation."""
    try:
        requirements = requires("tailor-engine") or []
    except PackageNotFoundError:
        requirements = CORE_PACKAGES
    names = set()
    for line in requirements:
        name = re.match(r"[\w.-]+", line)
        if name and not re.search(r"extra == .(test|docs)\b", line):
            names.add(_canonical(name.group()))
    return names - {"tailor-engine"}


def _canonical(name: str) -> str:
    """Return a package name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _changed_values(card: Card, report: Report) -> list[str]:
    """Return differences of per-user values from those of the card."""
    old_report = report_of(card)
    if old_report.user_ids != report.user_ids:
        return [
            f"users: {len(report.user_ids):,} now, {len(old_report.user_ids):,} in the card, and"
            " not the same"
        ]
    is_same_machine = card.machine.get("processor") == machine_of()["processor"]
    tolerance = 0 if is_same_machine else TOLERANCE
    lines = []
    for key, result in report.results.items():
        old_result = old_report.results.get(key)
        for metric, values in result.per_user.items():
            old_values = None if old_result is None else old_result.per_user.get(metric)
            if old_values is None:
                lines.append(f"{metric}, seen {key[1]}: the card holds no values")
                continue
            gaps = np.abs(values - old_values)
            is_other = (gaps > tolerance) | (np.isnan(values) != np.isnan(old_values))
            if is_other.any():
                lines.append(
                    f"{metric}, seen {key[1]}: {int(is_other.sum()):,} of {len(values):,} users"
                    f" have other values, by up to {np.nanmax(gaps):.2g}"
                )
    return lines
