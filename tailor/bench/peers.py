"""Other projects' programs, raced beside ours: which there are, what they need, and what the last race gave."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailor.errors import ModelError, nearest


@dataclass(frozen=True)
class Peer:
    """A race between a program of benchmarks/ and what stands in an environment of its own."""

    name: str
    needs: tuple[str, ...]  # requirements of the environment
    program: str
    result: str  # benchmarks/results/NAME.json


PEERS = (
    Peer("ranx", ("ranx==0.3.21",), "metrics.py", "metrics"),
    Peer("implicit", ("implicit==0.7.3",), "item_knn.py", "item-knn"),
    Peer("pagerank", ("networkx==3.6.1", "scikit-network==0.33.5"), "pagerank.py", "pagerank"),
)

RATIOS = "over ours", "ours is faster"  # in the name of a figure: how many times as long the other program takes


def race(root: Path, environments: Path, names: list[str]) -> list[str]:
    """Run the races named (all where none is) whose environment is there, and say of the others how to make it.

    An environment of peer NAME is a virtual environment at `environments`/NAME. Raises ModelError for an unknown name or a program that fails.
    """
    known = {peer.name: peer for peer in PEERS}
    for name in names:
        if name not in known:
            raise ModelError(f'there is no peer "{name}".{nearest(name, known)}')
    lines = []
    for peer in [known[name] for name in names] or PEERS:
        python = environments / peer.name / "bin" / "python"
        if not python.exists():
            folder = environments / peer.name
            lines.append(
                f"{peer.name}: no environment; make it: python3 -m venv {folder} && {folder}/bin/pip install {' '.join(peer.needs)}"
            )
            continue
        done = subprocess.run(
            [sys.executable, root / "benchmarks" / peer.program, "--peers", python], cwd=root, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ModelError(f"benchmarks/{peer.program} failed: {(done.stderr.strip().splitlines() or ['without a word'])[-1]}")
        lines.append(f"{peer.name}: raced, see benchmarks/results/{peer.result}.json")
    return lines


def race_table(root: Path) -> list[dict[str, Any]]:
    """What the last races gave: for every figure that names a ratio ("their seconds over ours", "ours is faster"), its value, date and machine."""
    rows: list[dict[str, Any]] = []
    for peer in PEERS:
        path = root / "benchmarks" / "results" / f"{peer.result}.json"
        if not path.exists():
            rows.append({"peer": peer.name, "figure": "never raced here", "value": None, "date": "", "machine": ""})
            continue
        about = json.loads(path.read_text(encoding="utf-8"))
        for figure, value in _ratios(about["figures"]):
            rows.append(
                {"peer": peer.name, "figure": figure, "value": value, "date": about["date"], "machine": about["machine"]["processor"]}
            )
    return rows


def _ratios(figures: Any, where: str = "") -> list[tuple[str, float]]:
    if not isinstance(figures, dict):
        return []
    out: list[tuple[str, float]] = []
    for name, value in figures.items():
        path = f"{where}, {name}" if where else name
        if any(word in path for word in RATIOS) and isinstance(value, int | float):
            out.append((path, float(value)))
        else:
            out += _ratios(value, path)
    return out
