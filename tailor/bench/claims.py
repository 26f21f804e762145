"""Claims: every built paper's promise is a program, and what it measured is a record that goes
stale with the method's file.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np

from tailor.core.run import Run
from tailor.core.specs import Found, discover, discover_studies
from tailor.data.folders import replaced_by, sha256_of
from tailor.errors import ModelError, nearest

VERDICTS = ("held", "not reproduced")
# of a record; none may be empty
FIELDS = ("verdict", "checks", "figures", "seeds", "data", "method_hash", "program_hash")


@dataclass(frozen=True)
class Claim:
    """What a claim program measured; its verdict is "held" only if every line of `checks` is true."""

    checks: dict[str, bool]
    """What was promised -> whether it came out."""
    figures: dict[str, Any]
    """The numbers behind the checks, with intervals."""
    seeds: list[int]
    data: list[str]
    """Data sets or worlds measured on."""


def claims_folder(root: Path) -> Path:
    return root / "benchmarks" / "claims"


def method_file(found: Found) -> Path:
    module = importlib.import_module(
        found.path.rpartition(".")[0] if found.cls is None else found.cls.__module__
    )
    return Path(str(module.__file__))


def built_papers() -> dict[str, Found]:
    """Slug -> the method or study that carries its PAPER. Raises ModelError where two files carry
    the same one.
    """
    built: dict[str, Found] = {}
    for found in [*discover(), *discover_studies()]:
        if found.paper:
            other = built.setdefault(found.paper.slug, found)
            if method_file(other) != method_file(found):
                raise ModelError(
                    f'{other.path} and {found.path} both carry the paper "{found.paper.slug}": one'
                    " paper is one file"
                )
    return built


def run_claim(slug: str, root: Path, run: Run) -> dict[str, Any]:
    """Run benchmarks/claims/SLUG.py and write its record. Raises ModelError where the paper or its
    program is missing.
    """
    built = built_papers()
    if slug not in built:
        raise ModelError(f'no method carries the paper "{slug}".{nearest(slug, built)}')
    program = claims_folder(root) / f"{slug}.py"
    if not program.exists():
        raise ModelError(
            f"{program} is missing: a claim is a program with a function measure(run) -> Claim"
        )
    started = time.perf_counter()
    claim = _checked(_measure_of(program)(run), program)
    path = method_file(built[slug])
    record = {
        "slug": slug,
        "verdict": VERDICTS[not all(claim.checks.values())],
        **asdict(claim),
        "claim": built[slug].paper.claim,  # type: ignore[union-attr]
        "method": built[slug].path,
        "method_hash": sha256_of(path),
        "program_hash": sha256_of(program),
        "seconds": round(time.perf_counter() - started, 1),
        **environment(root),
    }
    text = json.dumps(record, indent=1, default=_plain, allow_nan=False) + "\n"
    with replaced_by(claims_folder(root) / f"{slug}.json") as aside:
        aside.write_text(text, encoding="utf-8")
    return cast(dict[str, Any], json.loads(text))


def _checked(claim: Any, program: Path) -> Claim:
    """Raises ModelError unless it is a claim with checks, each of which came out or did not."""
    if not isinstance(claim, Claim):
        raise ModelError(f"{program}: measure(run) returned {claim!r}, not a Claim")
    if (
        not isinstance(claim.checks, dict)
        or not claim.checks
        or not all(isinstance(one, bool | np.bool_) for one in claim.checks.values())
    ):
        raise ModelError(
            f"{program}: checks is {claim.checks!r}: it must say True or False of at least one"
            " promise"
        )
    return claim


def _plain(value: Any) -> Any:
    """What numpy calls a number, as JSON calls it."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{value!r} cannot stand in a record")


def _measure_of(program: Path) -> Callable[[Run], Claim]:
    # what programs share: benchmarks/shared_data.py
    for folder in (program.parent, program.parents[1]):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    about = importlib.util.spec_from_file_location(
        f"claim_{program.stem.replace('-', '_')}", program
    )
    assert about is not None and about.loader is not None
    module = importlib.util.module_from_spec(about)
    about.loader.exec_module(module)
    if not hasattr(module, "measure"):
        raise ModelError(f"{program} has no function measure(run) -> Claim")
    return cast(Callable[[Run], Claim], module.measure)


def read_record(root: Path, slug: str) -> dict[str, Any] | None:
    """The record of a paper, {} where it is damaged, None where there is none."""
    path = claims_folder(root) / f"{slug}.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return record if isinstance(record, dict) else {}


def stale_records(root: Path) -> list[str]:
    """One line for every built paper without a valid record of its present file; empty when all is
    well.
    """
    problems = []
    for slug, found in built_papers().items():
        record, program = read_record(root, slug), claims_folder(root) / f"{slug}.py"
        if record is None:
            problems.append(f"{slug}: no record; run `tailor bench claims {slug}`")
        elif (
            record.get("slug") != slug
            or record.get("verdict") not in VERDICTS
            or not all(record.get(name) for name in FIELDS)
        ):
            problems.append(f"{slug}: its record is incomplete; run `tailor bench claims {slug}`")
        elif record["method_hash"] != sha256_of(method_file(found)):
            problems.append(
                f"{slug}: {found.path} has changed since its claim was measured; run `tailor bench"
                f" claims {slug}`"
            )
        elif not program.exists():
            problems.append(
                f"{slug}: its claim program {program.name} is gone: write it again, or remove the"
                " record"
            )
        elif record["program_hash"] != sha256_of(program):
            problems.append(
                f"{slug}: its claim program has changed since; run `tailor bench claims {slug}`"
            )
        elif (record["verdict"] == "held") != all(record["checks"].values()):
            problems.append(f"{slug}: its verdict does not follow from its checks")
    return problems


def sweep(root: Path, fresh: bool = False) -> tuple[list[str], list[str]]:
    """The papers that a sweep over all still has to measure, and those it has measured: a stopped
    sweep of hours goes on where it was.

    benchmarks/claims/.sweep.json tells when it began, and goes when all are measured; `fresh`
    begins anew.
    """
    mark = claims_folder(root) / ".sweep.json"
    if fresh or not mark.exists():
        with replaced_by(mark) as aside:
            aside.write_text(json.dumps({"began": time.time()}) + "\n", encoding="utf-8")
    try:
        began = float(json.loads(mark.read_text(encoding="utf-8"))["began"])
    except (ValueError, KeyError, TypeError):
        raise ModelError(f"{mark} is damaged: begin again with --fresh") from None
    stale = {line.partition(":")[0] for line in stale_records(root)}
    done = [
        slug
        for slug in built_papers()
        if slug not in stale
        and (path := claims_folder(root) / f"{slug}.json").exists()
        and path.stat().st_mtime >= began
    ]
    return [slug for slug in built_papers() if slug not in done], done


@contextmanager
def sweeping(root: Path) -> Iterator[None]:
    """Held by one sweep at a time: two would measure everything twice. A killed one frees it.
    Raises ModelError where one is under way.
    """
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
    """One line a built paper: verdict, how many of its promises came out, seconds, date, commit."""
    rows = []
    for slug in sorted(built_papers()):
        record = read_record(root, slug) or {}
        checks = record.get("checks", {})
        rows.append(
            {
                "paper": slug,
                "verdict": record.get("verdict", "no record"),
                "promises": f"{sum(checks.values())} of {len(checks)}",
                "seconds": record.get("seconds"),
                "date": record.get("date", ""),
                "commit": str(record.get("commit", ""))[:8],
            }
        )
    return rows


def environment(root: Path) -> dict[str, Any]:
    """Machine, commit (and whether the package differs from it) and date of a measurement."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        commit, changed = git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "tailor"))
        if (
            Path(git("rev-parse", "--show-toplevel")).resolve() != root.resolve()
        ):  # installed into somebody else's project: their commit says nothing
            commit, changed = "unknown", True
    except (OSError, subprocess.CalledProcessError):
        commit, changed = "unknown", True
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    machine = {
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 2**30, 1),
        "processor": _processor(),
        "python": platform.python_version(),
    }
    return {
        "machine": machine,
        "commit": commit,
        "uncommitted_changes": changed,
        "date": datetime.now(UTC).date().isoformat(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(
            line.partition(":")[2].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor()
