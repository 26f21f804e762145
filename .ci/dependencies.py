"""What the product stands on, looked at without a network: pins, conflicts, licences, pins that
nothing needs. Then the known weaknesses, where an advisory service answers.

    python .ci/dependencies.py

Exit code 1 where something is wrong. That no service answered is no failure, and is never told as
if somebody had looked.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
TOOLS = {"pip", "setuptools", "wheel", "tailor-engine"}  # come with the environment, or are us
ALLOWED = re.compile(
    r"\b(MIT|Apache|BSD|0BSD|ISC|MPL|Mozilla Public|PSF|Python Software"
    r" Foundation|LGPL-3\.0|Zlib|CC0|CNRI|BSL-1\.0|Public Domain)",
    re.IGNORECASE,
)
REFUSED = re.compile(
    r"\b(A?GPL|GNU (Affero )?General|SSPL|Commons Clause|Non-?Commercial|CC-BY-NC|Proprietary)",
    re.IGNORECASE,
)
LOOKED_AT = {
    "docutils": (
        "GPL is said of one Emacs file in its sources, which no wheel holds; the rest is public"
        " domain and BSD"
    ),
    "axe-playwright-python": "MIT by its file of the licence; it ships axe-core, MPL-2.0, for tests",
}


def name_of(found: Distribution) -> str:
    return str(canonicalize_name(found.metadata["Name"]))


def pins() -> dict[str, str]:
    lines = (
        line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()
    )
    return {
        str(canonicalize_name(name)): version
        for name, _, version in (line.partition("==") for line in lines if line)
    }


def wrong_versions(
    installed: dict[str, Distribution], pinned: dict[str, str], needed: set[str]
) -> Iterator[str]:
    for name, found in sorted(installed.items()):
        version = found.version.split("+")[0]  # "+cpu" is a build of the same version
        if name in pinned and version != pinned[name]:
            yield f"{name} {version} is installed, {pinned[name]} is pinned"
        if name in needed and name not in pinned and name not in TOOLS:
            yield f"{name} {version} is needed and not pinned: add it to constraints.txt"


def licence_of(found: Distribution) -> str:
    said = found.metadata
    kinds = [
        one.split("::")[-1].strip()
        for one in said.get_all("Classifier") or []
        if one.startswith("License ::")
    ]
    return said.get("License-Expression") or "; ".join(
        [(said.get("License") or "").split("\n")[0], *kinds]
    )


def bad_licences(installed: dict[str, Distribution]) -> Iterator[str]:
    for name, found in sorted(installed.items()):
        licence = licence_of(found)
        if name not in LOOKED_AT and (REFUSED.search(licence) or not ALLOWED.search(licence)):
            yield (
                f'{name}: licence "{licence}" is not one of those allowed: read it, then add the'
                " package to LOOKED_AT or take it out"
            )


def needed_by(
    project: dict[str, object], installed: dict[str, Distribution]
) -> tuple[set[str], set[str]]:
    """All that the project and its extras need, as far as what is installed says; and what of it is
    not installed, whose needs nobody knows.
    """
    extras: dict[str, list[str]] = project["optional-dependencies"]  # type: ignore[assignment]
    ours = [*project["dependencies"], *(one for some in extras.values() for one in some)]  # type: ignore[misc]
    todo, seen, missing = (
        [(Requirement(one), "") for one in ours],
        set[tuple[str, str]](),
        set[str](),
    )
    while todo:
        wanted, extra = todo.pop()
        name = str(canonicalize_name(wanted.name))
        if (
            wanted.marker is not None and not wanted.marker.evaluate({"extra": extra})
        ) or name == "tailor-engine":
            continue
        if name not in installed:
            missing.add(name)
            continue
        for asked in {"", *wanted.extras} - {one for of, one in seen if of == name}:
            seen.add((name, asked))
            todo += [(Requirement(one), asked) for one in installed[name].requires or []]
    return {name for name, _ in seen}, missing


def unused(
    pinned: dict[str, str], needed: set[str], missing: set[str], installed: dict[str, Distribution]
) -> Iterator[str]:
    for name in sorted(set(pinned) - needed - missing):
        if name in installed or not missing:  # what is not there may be needed by what is not there
            yield f"{name} is pinned and nothing needs it: take it out of constraints.txt"


def weaknesses() -> tuple[list[str], str]:
    """Known weaknesses of what is pinned, and why nobody has looked where nobody has."""
    try:
        import pip_audit  # noqa: F401
    except ImportError:
        return [], "pip-audit is not installed (pip install pip-audit)"
    found = asked((ROOT / "constraints.txt").read_text().splitlines()[:1])
    if found is None:
        return [], "the advisory service does not answer"
    found = asked((ROOT / "constraints.txt").read_text().splitlines())
    if found is None:
        return [], "the advisory service does not answer for every package"
    return [
        f"{one['name']} {one['version']}: {bad['id']}, mended in"
        f" {', '.join(bad['fix_versions']) or 'no version yet'}"
        for one in found
        for bad in one.get("vulns", [])
    ], ""


def asked(lines: list[str]) -> list[dict[str, object]] | None:
    """What pip-audit says of pins; None where it could not look at each. Its own exit code says "no
    known weaknesses" for what it skipped.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(lines))
        file.flush()
        words = [
            sys.executable,
            "-m",
            "pip_audit",
            "-r",
            file.name,
            "--no-deps",
            "--disable-pip",
            "--format",
            "json",
            "--progress-spinner",
            "off",
        ]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    try:
        found: list[dict[str, object]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return None
    return None if any("skip_reason" in one for one in found) else found


def main() -> int:
    installed, pinned = {name_of(one): one for one in distributions()}, pins()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed, missing = needed_by(project, installed)
    conflicts = subprocess.run(
        [sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False
    )
    problems = [
        *wrong_versions(installed, pinned, needed),
        *bad_licences(installed),
        *unused(pinned, needed, missing, installed),
        *(conflicts.stdout.splitlines() if conflicts.returncode else []),
    ]
    print(
        f"{len(installed)} packages looked at: pins, licences, conflicts, use"
        + (f"; not installed: {', '.join(sorted(missing))}" if missing else "")
    )
    found, why_not = weaknesses()
    if why_not:
        print(f"!!! NOT AUDITED for known weaknesses: {why_not}. Nobody has looked.")
    else:
        print(f"audited for known weaknesses: {len(found)} found")
    for one in [*problems, *found]:
        print(f"WRONG  {one}")
    return 1 if problems or found else 0


if __name__ == "__main__":
    sys.exit(main())
