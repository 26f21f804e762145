"""Results as JSON: what was measured, on which machine, at which commit, with which seed."""

import json
from pathlib import Path
from typing import Any

from tailor.bench.claims import environment

ROOT = Path(__file__).parents[1]


def write_result(name: str, seed: int, command: str, figures: Any) -> Path:
    path = path_of(name)
    about = {"command": command, "seed": seed, **environment(ROOT), "figures": figures}
    path.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return path


def write_sections(name: str, seed: int, command: str, figures: dict[str, Any]) -> Path:
    """Write the data sets that were measured, and keep those of the file that were not."""
    path = path_of(name)
    before = json.loads(path.read_text(encoding="utf-8"))["figures"] if path.exists() else {}
    return write_result(name, seed, command, {**before, **figures})


def path_of(name: str) -> Path:
    """Return the file of results of a benchmark."""
    return ROOT / "benchmarks" / "results" / f"{name}.json"
