"""Measure what papers promise, and check whether records still fit their methods.

A record is valid while its method behaves as it did when it was measured (`bench/behaviour.py`).
A paper has up to two records of the same layout: SLUG.json, of the quick program `measure(run)`,
counts; SLUG.long.json, of `measure_long(run)`, stands in while there is no other.
"""

import fcntl
import importlib
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias, cast

import numpy as np

from tailor.bench.behaviour import Answers, answers_of, difference, figures_as_answers, tree_hash
from tailor.core.methods import Method, Paper
from tailor.core.run import Run
from tailor.core.specs import Found, discover, discover_studies
from tailor.data.folders import replaced_by, sha256_of
from tailor.errors import MissingExtraError, ModelError, nearest
from tailor.evaluation.report import without_nan

Form: TypeAlias = Literal["quick", "long"]
State: TypeAlias = Literal[
    "valid",
    "renewable",
    "unchecked",
    "too long",
    "older form",
    "stale",
    "contradictory",
    "damaged",
    "missing",
]
FORMS: tuple[Form, ...] = ("quick", "long")
ENTRIES: dict[Form, str] = {"quick": "measure", "long": "measure_long"}
VERDICTS = ("held", "not reproduced")
FIELDS = ("verdict", "checks", "figures", "seeds", "data")  # of a record; none may be empty
QUICK_S = 480.0  # processor seconds that a quick form may take
FATAL: tuple[State, ...] = ("missing", "damaged", "contradictory")
OUTDATED: tuple[State, ...] = ("stale", "older form")  # fatal for a release


@dataclass(frozen=True)
class Claim:
    """Result of a claim program; its verdict is "held" only if every check is true."""

    checks: dict[str, bool]  # promise in words -> whether it came out
    figures: dict[str, Any]  # the numbers behind the checks, with intervals
    seeds: list[int]
    data: list[str]  # data sets or worlds measured on


@dataclass(frozen=True)
class BuiltPaper:
    """A paper, the file that carries it, and the classes of that file."""

    paper: Paper
    file: Path
    classes: tuple[Found, ...]  # methods first, then studies

    @property
    def path(self) -> str:
        """Import path of the first class."""
        return self.classes[0].path


@dataclass(frozen=True)
class Status:
    """State of a record, and the reason where it is not valid."""

    slug: str
    form: Form
    state: State
    reason: str

    def __str__(self) -> str:
        return f"{self.state}: {self.slug} ({self.form}): {self.reason}"


# ---- papers, programs, records


def claims_folder(root: Path) -> Path:
    return root / "benchmarks" / "claims"


def program_path(root: Path, slug: str) -> Path:
    return claims_folder(root) / f"{slug}.py"


def record_path(root: Path, slug: str, form: Form = "quick") -> Path:
    return claims_folder(root) / (f"{slug}.json" if form == "quick" else f"{slug}.long.json")


def built_papers() -> dict[str, BuiltPaper]:
    """Return slug -> the file that carries the paper. Raises ModelError where two carry one."""
    built: dict[str, BuiltPaper] = {}
    for entry in [*discover(), *discover_studies()]:
        if entry.paper is None or entry.cls is None:
            continue
        slug = entry.paper.slug
        file = Path(str(importlib.import_module(entry.cls.__module__).__file__))
        other = built.get(slug, BuiltPaper(entry.paper, file, ()))
        if other.file != file:
            raise ModelError(
                f'{other.path} and {entry.path} both carry the paper "{slug}": '
                "one paper is one file"
            )
        built[slug] = BuiltPaper(entry.paper, file, (*other.classes, entry))
    return built


def read_record(path: Path) -> dict[str, Any] | None:
    """Return a record, {} where it is damaged, None where there is none."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return record if isinstance(record, dict) else {}


def main_form(root: Path, slug: str) -> Form:
    """Return which record counts: the long one only without a quick one."""
    has_quick = record_path(root, slug).exists()
    has_long = record_path(root, slug, "long").exists()
    return "long" if has_long and not has_quick else "quick"


def _load_program(path: Path) -> ModuleType:
    """Import a claim program. Raises ModelError where it is missing."""
    if not path.exists():
        raise ModelError(f"{path} is missing: a claim is a program with measure(run) -> Claim")
    for folder in (path.parent, path.parents[1]):  # modules that programs share
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    name = f"claim_{path.stem.replace('-', '_')}"
    module_spec = importlib.util.spec_from_file_location(name, path)
    assert module_spec is not None and module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return module


def _entry_of(path: Path, form: Form) -> Callable[[Run], Any]:
    """Return the function of a program that measures a form. Raises ModelError without it."""
    program = _load_program(path)
    if not hasattr(program, ENTRIES[form]):
        raise ModelError(f"{path} has no function {ENTRIES[form]}(run) -> Claim")
    return cast(Callable[[Run], Any], getattr(program, ENTRIES[form]))


def _program_tree(path: Path, form: Form) -> str:
    """Return the hash of what a form's function reaches, "" without such a function."""
    try:
        return tree_hash(path.read_text(encoding="utf-8"), ENTRIES[form])
    except (KeyError, SyntaxError):
        return ""


# ---- behaviour


def answers_of_paper(root: Path, built: BuiltPaper) -> dict[str, Answers]:
    """Return class name -> answers on tiny data, for all classes of the file.

    A study has nothing to fit: its program's `behave(run)` returns figures by name, which the
    study computes on tiny data. Raises ModelError where that function is missing.
    """
    answers = {}
    for entry in built.classes:
        cls = cast(type[Method], entry.cls)
        if issubclass(cls, Method):
            answers[cls.__name__] = answers_of(cls)
        else:
            answers[entry.path.rpartition(".")[2]] = _answers_of_study(root, built.paper.slug)
    return answers


def _answers_of_study(root: Path, slug: str) -> Answers:
    path = program_path(root, slug)
    program = _load_program(path)
    if not hasattr(program, "behave"):
        raise ModelError(f"{path} has no function behave(run) -> figures of the study on tiny data")
    return figures_as_answers(program.behave(Run(seed=0, workers=1, dtype="float32")))


def method_tree(built: BuiltPaper) -> str:
    return tree_hash(built.file.read_text(encoding="utf-8"))


# ---- measuring


def run_claim(slug: str, root: Path, run: Run, form: Form = "quick") -> dict[str, Any]:
    """Run a paper's program and write its record.

    Raises ModelError where the paper, its program or the form's function is missing.
    """
    papers = built_papers()
    if slug not in papers:
        raise ModelError(f'no method carries the paper "{slug}".{nearest(slug, papers)}')
    built = papers[slug]
    path = program_path(root, slug)
    measure = _entry_of(path, form)
    behaviour = {"tree": method_tree(built), "answers": answers_of_paper(root, built)}
    program_tree = _program_tree(path, form)
    started_s = time.perf_counter()
    started_processor_s = processor_seconds()
    claim = _checked(measure(run), path)
    processor_s = processor_seconds() - started_processor_s
    record = {
        "slug": slug,
        "form": form,
        "verdict": VERDICTS[not all(claim.checks.values())],
        **asdict(claim),
        "claim": built.paper.claim,
        "method": built.path,
        "program_tree": program_tree,
        "behaviour": behaviour,
        "seconds": round(time.perf_counter() - started_s, 1),
        "processor_seconds": round(processor_s, 1),
        **environment(root),
    }
    if form == "quick" and processor_s > QUICK_S:
        record["too_long"] = f"a quick form may take {QUICK_S:g} processor seconds"
    return write_record(record_path(root, slug, form), record)


def write_record(path: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Write a record whole or not at all, and return it read back."""
    plain = json.loads(json.dumps(record, default=_plain))
    text = json.dumps(without_nan(plain), indent=1, allow_nan=False) + "\n"
    with replaced_by(path) as aside:
        aside.write_text(text, encoding="utf-8")
    return cast(dict[str, Any], json.loads(text))


def processor_seconds() -> float:
    """Return the processor time of this process, its threads and its ended children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _checked(claim: Any, path: Path) -> Claim:
    """Raise ModelError unless it is a claim with checks, each true or false."""
    if not isinstance(claim, Claim):
        raise ModelError(f"{path}: it returned {claim!r}, not a Claim")
    checks = claim.checks
    is_table = isinstance(checks, dict) and len(checks) > 0
    if not is_table or not all(isinstance(value, bool | np.bool_) for value in checks.values()):
        raise ModelError(f"{path}: checks is {checks!r}: say True or False of at least one promise")
    return claim


def _plain(value: Any) -> Any:
    """Return a number or array of numpy as JSON has it."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{value!r} cannot stand in a record")


# ---- checking and renewing


def record_problems(root: Path) -> list[Status]:
    """Return every record that is missing, damaged or contradicts itself; fits nothing."""
    problems = []
    for slug in built_papers():
        for form in _forms_to_check(root, slug):
            status = _status_alone(root, slug, form)
            if status.state != "valid":
                problems.append(status)
    return problems


def statuses(root: Path) -> list[Status]:
    """Return the state of every record, after fitting each class on tiny data once."""
    states = []
    for slug, built in built_papers().items():
        forms = _forms_to_check(root, slug)
        alone = {form: _status_alone(root, slug, form) for form in forms}
        states += [status for status in alone.values() if status.state != "valid"]
        valid = [form for form in forms if alone[form].state == "valid"]
        if not valid:
            continue
        answers = _answers_or_reason(root, built)
        for form in valid:
            record = read_record(record_path(root, slug, form)) or {}
            states.append(_status_by_behaviour(root, built, form, record, answers))
            if record.get("too_long"):
                reason = f"took {record['processor_seconds']:g}; {record['too_long']}"
                states.append(Status(slug, form, "too long", reason))
    return states


def _forms_to_check(root: Path, slug: str) -> list[Form]:
    """Return the forms of a paper that have a record, "quick" where none has."""
    forms = [form for form in FORMS if record_path(root, slug, form).exists()]
    return forms or ["quick"]


def _status_alone(root: Path, slug: str, form: Form) -> Status:
    """Return whether a record is there, whole, and follows from its checks."""
    record = read_record(record_path(root, slug, form))
    again = f"run `{_command(slug, form)}`"
    if record is None:
        return Status(slug, form, "missing", f"no record; {again}")
    is_whole = record.get("slug") == slug and record.get("verdict") in VERDICTS
    if not is_whole or not all(record.get(name) for name in FIELDS) or not _is_table(record):
        return Status(slug, form, "damaged", f"its record is incomplete; {again}")
    if not program_path(root, slug).exists():
        reason = f"its claim program {slug}.py is gone: write it again, or remove the record"
        return Status(slug, form, "damaged", reason)
    if (record["verdict"] == "held") != all(record["checks"].values()):
        return Status(slug, form, "contradictory", "its verdict does not follow from its checks")
    return Status(slug, form, "valid", "")


def _is_table(record: Mapping[str, Any]) -> bool:
    """Say whether a record's checks are promises with true or false."""
    checks = record["checks"]
    return isinstance(checks, dict) and all(isinstance(value, bool) for value in checks.values())


def _command(slug: str, form: Form) -> str:
    return f"tailor bench claims {slug}{' --long' if form == 'long' else ''}"


def _answers_or_reason(root: Path, built: BuiltPaper) -> dict[str, Answers] | Status:
    """Return a paper's answers, or why there are none (a missing extra, a failure)."""
    slug = built.paper.slug
    try:
        return answers_of_paper(root, built)
    except MissingExtraError as error:
        return Status(slug, "quick", "unchecked", str(error))
    except Exception as error:  # whatever a method raises, it does not behave as measured
        return Status(slug, "quick", "stale", f"it fails on tiny data: {error!r}")


def _status_by_behaviour(
    root: Path,
    built: BuiltPaper,
    form: Form,
    record: Mapping[str, Any],
    answers: dict[str, Answers] | Status,
) -> Status:
    """Compare a sound record with the method and program as they are now."""
    slug = built.paper.slug
    again = f"run `{_command(slug, form)}`"
    behaviour = record.get("behaviour", {})
    if not behaviour.get("answers"):
        advice = "`tailor bench claims --renew` where its files are unchanged"
        return Status(slug, form, "older form", f"it holds no behaviour; {again}, or {advice}")
    if isinstance(answers, Status):
        return Status(slug, form, answers.state, f"{answers.reason}; {again}")
    if record.get("program_tree") != _program_tree(program_path(root, slug), form):
        return Status(slug, form, "stale", f"its claim program has changed; {again}")
    changed = difference(behaviour["answers"], answers)
    if changed:
        return Status(slug, form, "stale", f"the method answers differently: {changed}; {again}")
    if behaviour["tree"] != method_tree(built):
        reason = "another syntax tree, the same answers; run `tailor bench claims --renew`"
        return Status(slug, form, "renewable", reason)
    return Status(slug, form, "valid", "")


def renew(root: Path) -> list[Status]:
    """Write the present tree into records whose method answers as before; returns those written.

    The answers stay those of the measurement, so that small differences cannot add up. A record
    of the older form is given its behaviour where method and program are the same to the byte.
    """
    papers = built_papers()
    renewed = []
    for status in statuses(root):
        built = papers[status.slug]
        path = record_path(root, status.slug, status.form)
        record = read_record(path) or {}
        moved = status.state == "valid" and record.get("method") != built.path
        if status.state == "older form" and _is_unchanged(root, built, record):
            record = _with_behaviour(root, built, record, status.form)
        elif status.state == "renewable" or moved:
            record["behaviour"]["tree"] = method_tree(built)
        else:
            continue
        write_record(path, record | {"method": built.path})
        renewed.append(status)
    return renewed


def _is_unchanged(root: Path, built: BuiltPaper, record: Mapping[str, Any]) -> bool:
    """Say whether both files of an older record are the same to the byte."""
    program = program_path(root, built.paper.slug)
    hashes = (record.get("method_hash"), record.get("program_hash"))
    return hashes == (sha256_of(built.file), sha256_of(program))


def _with_behaviour(
    root: Path, built: BuiltPaper, record: Mapping[str, Any], form: Form
) -> dict[str, Any]:
    """Return an older record with its behaviour in place of hashes of bytes."""
    path = program_path(root, built.paper.slug)
    behaviour = {"tree": method_tree(built), "answers": answers_of_paper(root, built)}
    hashes = ("method_hash", "program_hash")
    unchanged = {name: value for name, value in record.items() if name not in hashes}
    return {"slug": record["slug"], "form": form, **unchanged} | {
        "program_tree": _program_tree(path, form),
        "behaviour": behaviour,
    }


# ---- a sweep over all papers


def slugs_to_measure(states: list[Status]) -> list[str]:
    """Return the papers whose record is missing, damaged, contradictory, stale or older."""
    slugs = [status.slug for status in states if status.state in (*FATAL, *OUTDATED)]
    return list(dict.fromkeys(slugs))


def sweep(root: Path, fresh: bool = False) -> tuple[list[str], list[str]]:
    """Return the papers that a sweep has still to measure, and those measured.

    benchmarks/claims/.sweep.json tells when it began, so that a stopped sweep goes on where it
    was, and goes when all are measured; `fresh` begins anew.
    """
    mark = claims_folder(root) / ".sweep.json"
    if fresh or not mark.exists():
        with replaced_by(mark) as aside:
            aside.write_text(json.dumps({"began": time.time()}) + "\n", encoding="utf-8")
    try:
        began_s = float(json.loads(mark.read_text(encoding="utf-8"))["began"])
    except (ValueError, KeyError, TypeError):
        raise ModelError(f"{mark} is damaged: begin again with --fresh") from None
    to_measure = slugs_to_measure(statuses(root))
    measured = []
    for slug in built_papers():
        path = record_path(root, slug)
        if slug not in to_measure and path.exists() and path.stat().st_mtime >= began_s:
            measured.append(slug)
    return [slug for slug in built_papers() if slug not in measured], measured


@contextmanager
def sweeping(root: Path) -> Iterator[None]:
    """Hold the lock of a sweep, which a killed one frees. Raises ModelError where one runs."""
    with (claims_folder(root) / ".sweep.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ModelError(
                "another sweep over all claims is under way here: wait for it, or end it first"
            ) from None
        yield


def end_sweep(root: Path) -> None:
    (claims_folder(root) / ".sweep.json").unlink(missing_ok=True)


def verdicts(root: Path) -> list[dict[str, Any]]:
    """Return a row a paper: verdict, form, promises that came out, seconds, date, commit."""
    rows = []
    for slug in sorted(built_papers()):
        form = main_form(root, slug)
        record = read_record(record_path(root, slug, form)) or {}
        checks = record.get("checks", {})
        rows.append(
            {
                "paper": slug,
                "verdict": record.get("verdict", "no record"),
                "form": form,
                "promises": f"{sum(checks.values())} of {len(checks)}",
                "seconds": record.get("processor_seconds", record.get("seconds")),
                "date": record.get("date", ""),
                "commit": str(record.get("commit", ""))[:8],
            }
        )
    return rows


# ---- the machine


def environment(root: Path) -> dict[str, Any]:
    """Return machine, commit (and whether the package differs from it) and date."""
    commit, has_changes = _commit(root)
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    machine = {
        "cores": os.cpu_count(),
        "memory_gb": round(memory_bytes / 2**30, 1),
        "processor": _processor(),
        "python": platform.python_version(),
    }
    return {
        "machine": machine,
        "commit": commit,
        "uncommitted_changes": has_changes,
        "date": datetime.now(UTC).date().isoformat(),
    }


def _commit(root: Path) -> tuple[str, bool]:
    """Return the root's commit and whether the package differs from it.

    A repository around the root, into which the package was installed, says nothing: "unknown".
    """

    def git(*words: str) -> str:
        command = ["git", *words]
        output = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
        return output.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return "unknown", True
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "tailor"))
    except (OSError, subprocess.CalledProcessError):
        return "unknown", True


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line for line in lines if line.startswith("model name"))
        return model.partition(":")[2].strip()
    except (OSError, StopIteration):
        return platform.processor()
