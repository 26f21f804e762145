"""Results as JSON: what was measured, on which machine, at which commit, with which seed."""

import json
from pathlib import Path
from typing import Any

from tailor.bench.claims import environment

ROOT = Path(__file__).parents[1]


def write_result(name: str, seed: int, command: str, figures: Any) -> Path:
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    about = {"command": command, "seed": seed, **environment(ROOT), "figures": figures}
    path.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return path
