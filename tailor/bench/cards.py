"""Benchmark cards: one folder a result, with all that is needed to make it again, and to notice
that something is not as it was.
"""

import csv
import hashlib
import io
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, cast

import numpy as np

from tailor.bench.claims import environment
from tailor.bench.suites import JUDGEMENTS, Suite, split_of
from tailor.core.methods import Predictor, Recommender
from tailor.core.run import Run
from tailor.core.specs import build, find_class
from tailor.data.folders import sha256_of, written_aside
from tailor.data.splits import Split
from tailor.errors import ModelError, TailorError
from tailor.evaluation.diagnosis import Diagnosis, diagnose
from tailor.evaluation.predictions import evaluate_predictions
from tailor.evaluation.protocol import SEEN, evaluate
from tailor.evaluation.relevance import JudgedCollection, evaluate_judged
from tailor.evaluation.report import Report, Result, read_per_user, write_per_user

SCHEMA = 1
ROOT = Path(__file__).parents[1]
COMMANDS = ("cli", "console")  # rooms whose code changes no figure


@dataclass(frozen=True)
class Card:
    """What a folder holds. `inputs` decide the result and make its id; `files` are the hashes that
    the folder's files had when it was written.
    """

    folder: Path
    id: str
    inputs: dict[str, Any]
    """Data, split, config and code, each with its hash; suite and label of the method; seed."""
    status: str
    """"done", or "failed: why"."""
    files: dict[str, str]
    machine: dict[str, Any]

    @property
    def label(self) -> str:
        return str(self.inputs["label"])


def run_suite(
    suite: Suite, out: Path, run: Run = Run(), only: Sequence[str] = (), tell: Any = None
) -> list[Card]:
    """A card for every method and random state of the suite; those that are there already are kept,
    so that a stopped run goes on where it was.

    `tell(diagnosis)` is called before anything is measured. Raises ModelError where nothing of the
    suite is built yet.
    """
    if not suite.methods:
        missing = "; ".join(f"{name}: {why}" for name, why in suite.waiting.items())
        raise ModelError(f'nothing of the suite "{suite.name}" is built yet ({missing})')
    split = split_of(suite.data, suite.split)
    diagnosis = diagnosed(split, run)
    if tell is not None:
        tell(diagnosis)
    jobs = [
        (label, seed)
        for label in suite.methods
        if not only or label in only
        for seed in suite.seeds
    ]
    return [
        make_card(inputs_of(suite, label, seed, split), split, diagnosis, out, run)
        for label, seed in run.progress(jobs, "measuring", len(jobs))
    ]


def inputs_of(
    suite: Suite, label: str, seed: int, split: Split | JudgedCollection
) -> dict[str, Any]:
    """All that decides a result."""
    judged = isinstance(split, JudgedCollection)
    usual = (
        {"part": "judged", "metrics": ["NDCG", "recall"]}
        if judged
        else {"part": "test", "metrics": ["HR", "NDCG"], "seen": list(SEEN)}
    )
    protocol = {"k": [10], **usual, **suite.protocol}
    return {
        "suite": suite.name,
        "label": label,
        "data": {**suite.data, "content_hash": split.data.content_hash},
        "split": {**suite.split, "hash": split.hash},
        "method": suite.methods[label],
        "protocol": protocol,
        "seed": seed,
        "code": code_hash(suite.methods[label]),
    }


def id_of(inputs: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(inputs, sort_keys=True).encode(), digest_size=8).hexdigest()


def code_hash(method: Mapping[str, Any]) -> str:
    """Of all of Tailor's source files but those of commands, which change no figure, and of the
    files of plug-ins that a method is made of.
    """
    files = sorted({file for name in _classes(method) for file in _plugin_files(name)})
    if not files:
        return _own_hash()
    return hashlib.blake2b(
        "\n".join([_own_hash(), *map(sha256_of, files)]).encode(), digest_size=16
    ).hexdigest()


def _classes(value: Any) -> Iterator[str]:
    """The classes that a method's settings name, itself first."""
    if isinstance(value, Mapping):
        if "class" in value:
            yield str(value["class"])
        value = list(value.values())
    if isinstance(value, list | tuple):
        for one in value:
            yield from _classes(one)


def _plugin_files(name: str) -> list[Path]:
    """The source files of the package, or of the one file, that a class outside of Tailor stands
    in.
    """
    with suppress(TailorError):  # of a class that cannot be had now: measuring says so
        module = find_class(name).__module__
        top = module.split(".")[0]
        place = sys.modules[top].__file__
        if top != "tailor" and place is not None:
            return (
                sorted(Path(place).parent.rglob("*.py"))
                if Path(place).name == "__init__.py"
                else [Path(place)]
            )
    return []


@cache
def _own_hash() -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT)
        if place.parts[0] not in COMMANDS:
            digest.update(f"{place.as_posix()}\0{sha256_of(path)}\n".encode())
    return digest.hexdigest()


def make_card(
    inputs: dict[str, Any],
    split: Split | JudgedCollection,
    diagnosis: Diagnosis,
    out: Path,
    run: Run,
) -> Card:
    """Measure and write one card; a method that fails leaves a card that says so. An intact card of
    a result of the same inputs is returned as it is.

    What failed is tried again: a package may have been missing, or memory.
    """
    folder = out / inputs["suite"] / f"{inputs['label']}-{inputs['seed']}-{id_of(inputs)}"
    if folder.exists():
        card = read_card(folder)
        if card.status == "done" and not changed_files(card):
            return card
    started = time.perf_counter()
    lines = [f"fit and evaluate {inputs['label']} with random state {inputs['seed']}"]
    report, status = None, "done"
    try:
        report = measure(inputs, split, run)
        lines += [
            f"{method}, seen {seen}: {result.seconds:.2f} s to recommend"
            for (method, seen), result in report.results.items()
        ]
    except TailorError as error:
        status = f"failed: {error}"
    # of any package that a method uses; the other methods are measured all the same
    except Exception as error:
        status = f"failed: {type(error).__name__}: {error}"
        lines += traceback.format_exc().splitlines()
    lines.append(f"{status} after {time.perf_counter() - started:.1f} s")
    with written_aside(folder, overwrite=True, error=ModelError) as aside:
        _write(aside, inputs, report, diagnosis, lines)
        files = {path.name: sha256_of(path) for path in sorted(aside.iterdir())}
        about = {
            "schema": SCHEMA,
            "id": id_of(inputs),
            "status": status,
            "inputs": inputs,
            "files": files,
            **environment(ROOT.parent),
        }
        (aside / "card.json").write_text(
            json.dumps(about, indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )
    return read_card(folder)


def measure(inputs: Mapping[str, Any], split: Split | JudgedCollection, run: Run) -> Report:
    """Fit the method of a card on the split's training part (or on a judged collection's items) and
    measure it by the protocol of its kind.
    """
    own = Run(seed=inputs["seed"], device=run.device, workers=run.workers, dtype=run.dtype)
    method, how = build(inputs["method"]), inputs["protocol"]
    if isinstance(split, JudgedCollection):
        fitted = cast(Recommender, method.fit(split.data, own))
        return evaluate_judged({inputs["label"]: fitted}, split, how["k"], how["metrics"], own)
    method.fit(split.train, own, split)
    if isinstance(method, Predictor):
        return evaluate_predictions({inputs["label"]: method}, split, how["part"], run=own).report
    return evaluate(
        {inputs["label"]: cast(Recommender, method)},
        split,
        how["part"],
        how["k"],
        how["metrics"],
        how["seen"],
        own,
    )


def diagnosed(split: Split | JudgedCollection, run: Run) -> Diagnosis:
    """What can be measured here, before anything is."""
    if isinstance(split, JudgedCollection):
        return Diagnosis(split.data.name, "judged", split.facts(), [], [], 0.0)
    return diagnose(split, run=run)


def _write(
    folder: Path,
    inputs: Mapping[str, Any],
    report: Report | None,
    diagnosis: Diagnosis,
    lines: Sequence[str],
) -> None:
    def text(name: str, content: str) -> None:
        (folder / name).write_text(content.rstrip("\n") + "\n", encoding="utf-8")

    def plain(name: str, value: Any) -> None:
        text(name, json.dumps(value, indent=1, allow_nan=False))

    plain("data.json", {"data": inputs["data"], "split": inputs["split"]})
    plain("config.json", {"method": inputs["method"], "protocol": inputs["protocol"]})
    text("random_state", str(inputs["seed"]))
    text("environment.txt", "\n".join(installed()))
    plain(
        "machine.json",
        {
            **machine_of(),
            "threads": {
                name: os.environ.get(name, "not set")
                for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
            },
        },
    )
    plain("diagnosis.json", diagnosis.to_dict())
    text("run.log", "\n".join(lines))
    if report is not None:
        text("results.csv", results_csv(report))
        write_per_user(report, folder / "per_user.npz")
    text("README.md", _readme(inputs, report, lines[-1]))


def installed() -> list[str]:
    """Every package and its version, as in "numpy==2.4.0"."""
    return sorted({f"{one.name}=={one.version}" for one in distributions()})


def machine_of() -> dict[str, Any]:
    return {
        **environment(ROOT.parent)["machine"],
        "system": platform.system(),
        "numpy": np.__version__,
    }


def results_csv(report: Report) -> str:
    """One line a metric with its interval, exact to the last digit, and one a figure of the lists."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["method", "seen", "metric", "mean", "low", "high", "users"])
    for (method, seen), result in report.results.items():
        for metric, values in result.per_user.items():
            low, high = report.interval[method, seen][metric]
            writer.writerow(
                [
                    method,
                    seen,
                    metric,
                    repr(report.mean(method, metric, seen)),
                    repr(low),
                    repr(high),
                    int((~np.isnan(values)).sum()),
                ]
            )
        for name, value in result.lists.items():
            writer.writerow([method, seen, name, repr(value), "", "", len(report.user_ids)])
    return out.getvalue()


def _readme(inputs: Mapping[str, Any], report: Report | None, outcome: str) -> str:
    by = inputs["split"]["by"]
    fitted = (
        "Fitted on the items of a judged collection"
        if by == JUDGEMENTS
        else f"Fitted on the training part of a split by {by}"
    )
    lines = [
        (
            f"# {inputs['label']} on"
            f" {inputs['data'].get('name', inputs['data'].get('world', 'data'))}, suite"
            f" {inputs['suite']}"
        ),
        "",
        f"{fitted}, random state {inputs['seed']}: {outcome}.",
        "",
    ]
    if report is not None:
        lines += [
            f"{len(report.user_ids):,} users, {report.ranked} ranked. 95 % intervals over users.",
            "",
            "| seen items | metric | mean | interval |",
            "|---|---|---|---|",
        ]
        for (method, seen), found in report.interval.items():
            lines += [
                f"| {seen} | {metric} | {report.mean(method, metric, seen):.4f} | {low:.4f} to"
                f" {high:.4f} |"
                for metric, (low, high) in found.items()
            ]
    lines += [
        "",
        (
            f"Made by `tailor bench run {inputs['suite']}`; made again and compared by `tailor"
            " bench verify FOLDER`."
        ),
    ]
    return "\n".join(lines)


# ---- reading


def read_card(folder: Path) -> Card:
    """Raises ModelError where the folder is no card, a damaged one, or one of another version."""
    path = folder / "card.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{folder} is no card: there is no card.json in it") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is damaged ({error}): run its suite again") from None
    if not isinstance(about, dict) or about.get("schema") != SCHEMA:
        version = about.get("schema") if isinstance(about, dict) else None
        raise ModelError(
            f"{folder} is a card of version {version!r}, this Tailor reads version {SCHEMA}: read"
            " it with the Tailor that wrote it"
        )
    missing = [name for name in ("id", "inputs", "status", "files", "machine") if name not in about]
    if missing:
        raise ModelError(f"{path} lacks {missing[0]}: run its suite again")
    return Card(
        folder, about["id"], about["inputs"], about["status"], about["files"], about["machine"]
    )


def cards_in(folder: Path) -> list[Card]:
    """All cards at or under a folder. Raises ModelError where there are none."""
    found = [
        read_card(path.parent)
        for path in sorted(folder.rglob("card.json"))
        if not path.parent.name.startswith(".")
    ]
    if not found:
        raise ModelError(
            f"there is no card in {folder}: make some with `tailor bench run SUITE --out {folder}`"
        )
    return found


def changed_files(card: Card) -> list[str]:
    """One line for each file that is not as it was written."""
    lines = []
    for name, digest in card.files.items():
        path = card.folder / name
        if not path.is_file():
            lines.append(f"{name} is gone")
        elif sha256_of(path) != digest:
            lines.append(f"{name} was changed after the run")
    if card.id != id_of(card.inputs) or not card.folder.name.endswith(card.id):
        lines.append("the id does not follow from the inputs: card.json was changed after the run")
    return lines


def report_of(card: Card) -> Report:
    """The report a card holds, with its values and no strata. Raises ModelError for a card of a
    failure or a damaged file.
    """
    if card.status != "done":
        raise ModelError(f"{card.folder} {card.status}")
    try:
        users, values = read_per_user(card.folder / "per_user.npz")
    except (OSError, ValueError, EOFError) as error:
        raise ModelError(
            f"{card.folder}/per_user.npz cannot be read ({error}): run its suite again"
        ) from None
    results = {key: Result(found, {}, 0.0, "train") for key, found in values.items()}
    split = {"kind": card.inputs["split"]["by"], "hash": card.inputs["split"]["hash"]}
    return Report(split, card.inputs["protocol"]["part"], users, {}, results, 0.0)
