"""Make benchmark cards: one folder per result, with everything needed to repeat it.

A card also notices changes: of its files, data, split, settings, code and environment.
"""

import hashlib
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from tailor.bench.card_files import ROOT, write_files
from tailor.bench.claims import environment
from tailor.bench.suites import Suite, split_of
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
from tailor.evaluation.report import Report, Result, read_per_user

SCHEMA = 1
COMMANDS = ("cli", "console")  # packages whose code changes no figure
KEYS = ("id", "inputs", "status", "files", "machine")  # entries of card.json
MEASURED_PROTOCOL = {"part": "test", "metrics": ["HR", "NDCG"], "seen": list(SEEN)}
JUDGED_PROTOCOL = {"part": "judged", "metrics": ["NDCG", "recall"]}


@dataclass(frozen=True)
class Card:
    """The content of a card's folder."""

    folder: Path
    id: str
    """Hash of the inputs."""
    inputs: dict[str, Any]
    """Everything that decides the result: data, split, settings and code, each with its hash; suite
    and label of the method; seed.
    """
    status: str
    """"done", or "failed: why"."""
    files: dict[str, str]
    """Hashes of the files when they were written."""
    machine: dict[str, Any]

    @property
    def label(self) -> str:
        return str(self.inputs["label"])


# ---- making


def run_suite(
    suite: Suite,
    out: Path,
    run: Run = Run(),
    only: Sequence[str] = (),
    tell: Callable[[Diagnosis], None] | None = None,
) -> list[Card]:
    """Make a card for every method and random state of a suite.

    Cards that exist are kept, so that a stopped run continues. `tell(diagnosis)` is called before
    anything is measured. Raises ModelError where no method of the suite is built yet.
    """
    if not suite.methods:
        missing = "; ".join(f"{name}: {why}" for name, why in suite.waiting.items())
        raise ModelError(f'nothing of the suite "{suite.name}" is built yet ({missing})')
    split = split_of(suite.data, suite.split)
    diagnosis = diagnosed(split, run)
    if tell is not None:
        tell(diagnosis)
    labels = [label for label in suite.methods if not only or label in only]
    jobs = [(label, seed) for label in labels for seed in suite.seeds]
    return [
        make_card(inputs_of(suite, label, seed, split), split, diagnosis, out, run)
        for label, seed in run.progress(jobs, "measuring", len(jobs))
    ]


def inputs_of(
    suite: Suite, label: str, seed: int, split: Split | JudgedCollection
) -> dict[str, Any]:
    """Return everything that decides a result."""
    is_judged = isinstance(split, JudgedCollection)
    defaults = JUDGED_PROTOCOL if is_judged else MEASURED_PROTOCOL
    return {
        "suite": suite.name,
        "label": label,
        "data": {**suite.data, "content_hash": split.data.content_hash},
        "split": {**suite.split, "hash": split.hash},
        "method": suite.methods[label],
        "protocol": {"k": [10], **defaults, **suite.protocol},
        "seed": seed,
        "code": code_hash(suite.methods[label]),
    }


def id_of(inputs: Mapping[str, Any]) -> str:
    """Return the hash of the inputs of a card."""
    return hashlib.blake2b(json.dumps(inputs, sort_keys=True).encode(), digest_size=8).hexdigest()


def code_hash(method: Mapping[str, Any]) -> str:
    """Return a hash of Tailor's source files and of the plug-ins that a method uses.

    Commands are left out, since they change no figure.
    """
    files = sorted({file for name in _class_names(method) for file in _plugin_files(name)})
    if not files:
        return _tailor_hash()
    hashes = [_tailor_hash(), *map(sha256_of, files)]
    return hashlib.blake2b("\n".join(hashes).encode(), digest_size=16).hexdigest()


def _class_names(value: Any) -> Iterator[str]:
    """Yield the class of a method and the classes of its settings."""
    if isinstance(value, Mapping):
        if "class" in value:
            yield str(value["class"])
        value = list(value.values())
    if isinstance(value, list | tuple):
        for entry in value:
            yield from _class_names(entry)


def _plugin_files(name: str) -> list[Path]:
    """Return the source files of the package, or the file, of a class outside Tailor."""
    with suppress(TailorError):  # for a class that cannot be imported now; measuring says so
        package = find_class(name).__module__.split(".")[0]
        source = sys.modules[package].__file__
        if package != "tailor" and source is not None:
            path = Path(source)
            return sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
    return []


@cache
def _tailor_hash() -> str:
    """Return a hash of Tailor's source files without the commands."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(ROOT.rglob("*.py")):
        relative = path.relative_to(ROOT)
        if relative.parts[0] not in COMMANDS:
            digest.update(f"{relative.as_posix()}\0{sha256_of(path)}\n".encode())
    return digest.hexdigest()


def make_card(
    inputs: dict[str, Any],
    split: Split | JudgedCollection,
    diagnosis: Diagnosis,
    out: Path,
    run: Run,
) -> Card:
    """Measure and write one card; the card of a method that fails says so.

    An intact card of the same inputs is returned as it is. A failure is tried again: a package may
    have been missing, or memory.
    """
    folder = out / inputs["suite"] / f"{inputs['label']}-{inputs['seed']}-{id_of(inputs)}"
    if folder.exists():
        card = read_card(folder)
        if card.status == "done" and not changed_files(card):
            return card
    started = time.perf_counter()
    log = [f"fit and evaluate {inputs['label']} with random state {inputs['seed']}"]
    report = None
    status = "done"
    try:
        report = measure(inputs, split, run)
        for (method, seen), result in report.results.items():
            log.append(f"{method}, seen {seen}: {result.seconds:.2f} s to recommend")
    except TailorError as error:
        status = f"failed: {error}"
    # errors of any package that a method uses; the other methods are measured all the same
    except Exception as error:
        status = f"failed: {type(error).__name__}: {error}"
        log += traceback.format_exc().splitlines()
    log.append(f"{status} after {time.perf_counter() - started:.1f} s")
    with written_aside(folder, overwrite=True, error=ModelError) as aside:
        write_files(aside, inputs, report, diagnosis, log)
        content = {
            "schema": SCHEMA,
            "id": id_of(inputs),
            "status": status,
            "inputs": inputs,
            "files": {path.name: sha256_of(path) for path in sorted(aside.iterdir())},
            **environment(ROOT.parent),
        }
        text = json.dumps(content, indent=1, allow_nan=False) + "\n"
        (aside / "card.json").write_text(text, encoding="utf-8")
    return read_card(folder)


def measure(inputs: Mapping[str, Any], split: Split | JudgedCollection, run: Run) -> Report:
    """Fit the method of a card and evaluate it by the protocol of its kind.

    It is fitted on the split's training part, or on the items of a judged collection.
    """
    card_run = Run(seed=inputs["seed"], device=run.device, workers=run.workers, dtype=run.dtype)
    method = build(inputs["method"])
    label = inputs["label"]
    protocol = inputs["protocol"]
    part = protocol["part"]
    k = protocol["k"]
    metrics = protocol["metrics"]
    if isinstance(split, JudgedCollection):
        searcher = cast(Recommender, method.fit(split.data, card_run))
        return evaluate_judged({label: searcher}, split, k, metrics, card_run)
    method.fit(split.train, card_run, split)
    if isinstance(method, Predictor):
        return evaluate_predictions({label: method}, split, part, run=card_run).report
    methods = {label: cast(Recommender, method)}
    return evaluate(methods, split, part, k, metrics, protocol["seen"], card_run)


def diagnosed(split: Split | JudgedCollection, run: Run) -> Diagnosis:
    """Return the diagnosis of a split, or the sizes of a judged collection."""
    if isinstance(split, JudgedCollection):
        return Diagnosis(split.data.name, "judged", split.facts(), [], [], 0.0)
    return diagnose(split, run=run)


# ---- reading


def read_card(folder: Path) -> Card:
    """Read a card; ModelError for no card, a damaged one, or one of another version."""
    path = folder / "card.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{folder} is no card: there is no card.json in it") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is damaged ({error}): run its suite again") from None
    version = content.get("schema") if isinstance(content, dict) else None
    if version != SCHEMA:
        raise ModelError(
            f"{folder} is a card of version {version!r}, this Tailor reads version {SCHEMA}: read"
            " it with the Tailor that wrote it"
        )
    missing = [name for name in KEYS if name not in content]
    if missing:
        raise ModelError(f"{path} lacks {missing[0]}: run its suite again")
    return Card(folder, **{name: content[name] for name in KEYS})


def cards_in(folder: Path) -> list[Card]:
    """Return all cards at or under a folder; ModelError where there are none."""
    folders = [path.parent for path in sorted(folder.rglob("card.json"))]
    cards = [read_card(path) for path in folders if not path.name.startswith(".")]
    if not cards:
        raise ModelError(
            f"there is no card in {folder}: make some with `tailor bench run SUITE --out {folder}`"
        )
    return cards


def changed_files(card: Card) -> list[str]:
    """Return one line per file that is not as it was written."""
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
    """Return the report of a card, with its values and no strata.

    Raises ModelError for the card of a failure or a damaged file.
    """
    if card.status != "done":
        raise ModelError(f"{card.folder} {card.status}")
    try:
        user_ids, values = read_per_user(card.folder / "per_user.npz")
    except (OSError, ValueError, EOFError) as error:
        raise ModelError(
            f"{card.folder}/per_user.npz cannot be read ({error}): run its suite again"
        ) from None
    return Report(
        split={"kind": card.inputs["split"]["by"], "hash": card.inputs["split"]["hash"]},
        part=card.inputs["protocol"]["part"],
        user_ids=user_ids,
        strata={},
        results={key: Result(by_metric, {}, 0.0, "train") for key, by_metric in values.items()},
        repeat_targets=0.0,
    )
