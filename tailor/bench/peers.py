"""Race other projects' programs beside ours, and list the results of the last races."""

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from tailor.errors import ModelError, nearest


@dataclass(frozen=True)
class Peer:
    """A race between a program of benchmarks/ and another project in its own environment."""

    name: str
    needs: tuple[str, ...]
    """Requirements of the environment."""
    program: str
    """File of benchmarks/."""
    result: str
    """File of benchmarks/results."""
    option: str = "--peers"
    """Option of the program for the environment's python."""
    settings: tuple[str, ...] = ()
    """Further options of the program."""


LINES = "sequence-peers.jsonl"  # one line per run, ever growing
NETS = ("--cpu", "--minutes", "5.6")  # processor minutes: those of our SASRec on Beauty

PEERS = (
    Peer("ranx", ("ranx==0.3.21",), "metrics.py", "metrics.json"),
    Peer("implicit", ("implicit==0.7.3",), "item_knn.py", "item-knn.json"),
    Peer("pagerank", ("networkx==3.6.1", "scikit-network==0.33.5"), "pagerank.py", "pagerank.json"),
    Peer(
        "rectools",
        ("torch==2.13.0", "rectools[torch]==0.19.0", "numpy<2"),
        "sequence_peers.py",
        LINES,
        "--rectools",
        (*NETS, "--loss", "BCE"),
    ),
    Peer(
        "recbole",
        ("torch==2.13.0", "recbole==1.2.1", "setuptools<80", "pandas<3"),
        "sequence_peers.py",
        LINES,
        "--recbole",
        NETS,
    ),
)

# names of figures that say how many times as long the other program takes
RATIOS = ("over ours", "ours is faster")


class _RaceFigure(NamedTuple):
    """A ratio of a race, with date and machine."""

    figure: str
    value: float | None
    date: str
    machine: str


NEVER_RACED = _RaceFigure("never raced here", None, "", "")


def race(root: Path, environments: Path, names: Sequence[str]) -> list[str]:
    """Run the named races, or all, whose environment exists; say how to make the others.

    The environment of peer NAME is a virtual environment at `environments`/NAME. Returns one line
    per race. Raises ModelError for an unknown name or a program that fails.
    """
    peers = {peer.name: peer for peer in PEERS}
    for name in names:
        if name not in peers:
            raise ModelError(f'there is no peer "{name}".{nearest(name, peers)}')
    lines = []
    for name in names or peers:
        peer = peers[name]
        folder = environments / name
        python = folder / "bin" / "python"
        if python.exists():
            _run_race(root, peer, python)
            lines.append(f"{name}: raced, see benchmarks/results/{peer.result}")
        else:
            lines.append(
                f"{name}: no environment; make it: python3 -m venv {folder} &&"
                f" {folder}/bin/pip install {shlex.join(peer.needs)}"
            )
    return lines


def _run_race(root: Path, peer: Peer, python: Path) -> None:
    """Run the program of a race; ModelError with its last line of errors where it fails."""
    program = root / "benchmarks" / peer.program
    command = [sys.executable, str(program), peer.option, str(python), *peer.settings]
    process = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if process.returncode:
        errors = process.stderr.strip().splitlines() or ["without a word"]
        raise ModelError(f"benchmarks/{peer.program} failed: {errors[-1]}")


def race_table(root: Path) -> list[dict[str, Any]]:
    """Return the ratios of the last races, with date and machine.

    Ratios are figures named "their seconds over ours" or "ours is faster"; for nets, the accuracy
    reached in equal time.
    """
    rows = []
    for peer in PEERS:
        path = root / "benchmarks" / "results" / peer.result
        figures: list[_RaceFigure] = []
        if path.exists():
            figures = _net_figures(peer.name, path) if peer.result == LINES else _record(path)
        rows += [{"peer": peer.name, **entry._asdict()} for entry in figures or [NEVER_RACED]]
    return rows


def _record(path: Path) -> list[_RaceFigure]:
    """Return the ratios of a record of one race."""
    record = json.loads(path.read_text(encoding="utf-8"))
    machine = record["machine"]["processor"]
    return [
        _RaceFigure(figure, value, record["date"], machine)
        for figure, value in _ratios(record["figures"])
    ]


def _net_figures(name: str, path: Path) -> list[_RaceFigure]:
    """Compare the last run on each data set that counted processor time with our SASRec."""
    ours = _sasrec_hit_rates(path.with_name("sequences.json"))
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    last_runs = {
        line["data"]: line
        for line in lines
        if line["name"].startswith(f"{name}-") and line.get("minutes_of") == "processor"
    }
    return [
        _RaceFigure(
            f"SASRec's HR@10 on {data}, ours over theirs after {line['minutes']:g} minutes",
            mean(ours[data]) / line["HR@10"],
            line["date"],
            line["machine"]["processor"],
        )
        for data, line in last_runs.items()
        if data in ours and line["HR@10"]
    ]


def _sasrec_hit_rates(path: Path) -> dict[str, list[float]]:
    """Return HR@10 of our SASRec's random states by data set."""
    hit_rates: dict[str, list[float]] = {}
    if path.exists():
        runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
        for key, run in runs.items():
            data, method, _ = key.split(" | ")
            if method == "SASRec":
                figure = run["figures"]["HR@10, seen removed"]["mean"]
                hit_rates.setdefault(data, []).append(figure)
    return hit_rates


def _ratios(figures: Any, prefix: str = "") -> list[tuple[str, float]]:
    """Return the figures of nested dictionaries whose path names a ratio."""
    if not isinstance(figures, dict):
        return []
    ratios: list[tuple[str, float]] = []
    for name, value in figures.items():
        path = f"{prefix}, {name}" if prefix else name
        is_ratio = any(words in path for words in RATIOS)
        if is_ratio and isinstance(value, int | float):
            ratios.append((path, float(value)))
        else:
            ratios += _ratios(value, path)
    return ratios
