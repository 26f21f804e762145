"""Verifying a card: the result is made again, and everything that is not as the card says is named."""

import json
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires
from typing import Any

import numpy as np

from tailor.bench.cards import (
    Card,
    changed_files,
    code_hash,
    installed,
    machine_of,
    measure,
    report_of,
)
from tailor.bench.suites import split_of
from tailor.core.run import Run
from tailor.errors import ModelError
from tailor.evaluation.report import Report


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    """One line for each value that differs between two plain structures, by its path."""
    if isinstance(a, dict) and isinstance(b, dict):
        return [
            line
            for key in sorted({*a, *b})
            for line in differences(a.get(key), b.get(key), f"{where}.{key}" if where else key)
        ]
    return [] if a == b else [f"{where}: {a!r} and {b!r}" if where else f"{a!r} and {b!r}"]


def verify(card: Card, run: Run = Run()) -> list[str]:
    """Make the result again and compare; one line for everything that is not as the card says, none
    where all is.

    Named are: files changed after the run (with the settings in them that differ), other data,
    another split, other code, other versions of Python and of the packages that Tailor uses, and
    per-user values that differ: at all on the same machine, by more than 1e-6 on another one.
    Raises DataError where the data are not there, ModelError for a card of a failure.
    """
    if card.status != "done":
        raise ModelError(f"{card.folder} {card.status}; there is no result to make again")
    lines = changed_files(card) + _changed_settings(card)
    inputs = card.inputs
    asked = {name: value for name, value in inputs["data"].items() if name != "content_hash"}
    split = split_of(
        asked, {name: value for name, value in inputs["split"].items() if name != "hash"}
    )
    if split.data.content_hash != inputs["data"]["content_hash"]:
        lines.append(
            f"data: hash {split.data.content_hash}, the card was made with"
            f" {inputs['data']['content_hash']}"
        )
    elif split.hash != inputs["split"]["hash"]:
        lines.append(f"split: hash {split.hash}, the card was made with {inputs['split']['hash']}")
    if (code := code_hash(inputs["method"])) != inputs["code"]:
        lines.append(
            f"code: Tailor's files, or those of a plug-in, have changed since (hash {code}, then"
            f" {inputs['code']})"
        )
    return (
        lines + _changed_environment(card) + _values_that_differ(card, measure(inputs, split, run))
    )


def _changed_settings(card: Card) -> list[str]:
    """What config.json, data.json and random_state say otherwise than the inputs."""
    told = {
        "config.json": {"method": card.inputs["method"], "protocol": card.inputs["protocol"]},
        "data.json": {"data": card.inputs["data"], "split": card.inputs["split"]},
        "random_state": card.inputs["seed"],
    }
    lines = []
    for name, then in told.items():
        try:
            now = json.loads((card.folder / name).read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError, UnicodeDecodeError):
            continue  # told by changed_files
        lines += [f"{name}: {line} when it was run" for line in differences(now, then)]
    return lines


def _changed_environment(card: Card) -> list[str]:
    """Python and the packages that Tailor uses where their versions are others now; what else is
    installed decides no figure.
    """
    try:
        told = (card.folder / "environment.txt").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []  # told by changed_files
    then, now = _versions(told), _versions(installed())
    used = sorted({*then, *now} & _used())
    python = machine_of()["python"], card.machine.get("python")
    pairs = [
        ("python", *python),
        *((name, now.get(name, "not there"), then.get(name, "not there")) for name in used),
    ]
    return [
        f"environment: {name} {present}, then {past}"
        for name, present, past in pairs
        if present != past
    ]


def _versions(lines: Sequence[str]) -> dict[str, str]:
    return {
        _canonical(name): version
        for name, _, version in (line.partition("==") for line in lines)
        if version
    }


def _used() -> set[str]:
    """Packages that some room of Tailor uses, as its own description says; tests and documentation
    change no figure.
    """
    try:
        told = requires("tailor-engine") or []
    # the source alone, without an installation: what does not need an extra
    except PackageNotFoundError:
        told = ["numpy", "scipy", "polars", "pyarrow"]
    lines = [line for line in told if not re.search(r"extra == .(test|docs)\b", line)]
    return {
        _canonical(found.group()) for line in lines if (found := re.match(r"[\w.-]+", line))
    } - {"tailor-engine"}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _values_that_differ(card: Card, again: Report) -> list[str]:
    then = report_of(card)
    if then.user_ids != again.user_ids:
        return [
            f"users: {len(again.user_ids):,} now, {len(then.user_ids):,} in the card, and not the"
            " same"
        ]
    same_machine = card.machine.get("processor") == machine_of()["processor"]
    lines = []
    for key, result in again.results.items():
        for metric, values in result.per_user.items():
            held = then.results[key].per_user.get(metric) if key in then.results else None
            if held is None:
                lines.append(f"{metric}, seen {key[1]}: the card holds no values")
                continue
            apart = np.abs(values - held)
            bad = int(
                (apart > (0 if same_machine else 1e-6)).sum()
                + (np.isnan(values) != np.isnan(held)).sum()
            )
            if bad:
                lines.append(
                    f"{metric}, seen {key[1]}: {bad:,} of {len(values):,} users have other values,"
                    f" by up to {np.nanmax(apart):.2g}"
                )
    return lines
