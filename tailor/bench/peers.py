"""Other projects' programs, raced beside ours: which there are, what they need, and what the last
race gave.
"""

import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from tailor.errors import ModelError, nearest


@dataclass(frozen=True)
class Peer:
    """A race between a program of benchmarks/ and what stands in an environment of its own."""

    name: str
    needs: tuple[str, ...]
    """Requirements of the environment."""
    program: str
    result: str
    """File of benchmarks/results."""
    option: str = "--peers"
    """Of the program: the environment's python."""
    settings: tuple[str, ...] = ()
    """Of the race."""


LINES = "sequence-peers.jsonl"  # a line a run, over all time
NETS = ("--cpu", "--minutes", "5.6")  # of the processor: what the SASRec here takes on Beauty

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

# in the name of a figure: how many times as long the other program takes
RATIOS = "over ours", "ours is faster"


def race(root: Path, environments: Path, names: list[str]) -> list[str]:
    """Run the races named (all where none is) whose environment is there, and say of the others how
    to make it.

    An environment of peer NAME is a virtual environment at `environments`/NAME. Raises ModelError
    for an unknown name or a program that fails.
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
                f"{peer.name}: no environment; make it: python3 -m venv {folder} &&"
                f" {folder}/bin/pip install {shlex.join(peer.needs)}"
            )
            continue
        done = subprocess.run(
            [
                sys.executable,
                root / "benchmarks" / peer.program,
                peer.option,
                python,
                *peer.settings,
            ],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ModelError(
                f"benchmarks/{peer.program} failed:"
                f" {(done.stderr.strip().splitlines() or ['without a word'])[-1]}"
            )
        lines.append(f"{peer.name}: raced, see benchmarks/results/{peer.result}")
    return lines


def race_table(root: Path) -> list[dict[str, Any]]:
    """What the last races gave: for every figure that names a ratio ("their seconds over ours",
    "ours is faster"), its value, date and machine; of nets the accuracy reached in equal time.
    """
    rows: list[dict[str, Any]] = []
    for peer in PEERS:
        path = root / "benchmarks" / "results" / peer.result
        found = []
        if path.exists():
            found = (
                _nets(peer.name, path)
                if peer.result == LINES
                else _record(json.loads(path.read_text(encoding="utf-8")))
            )
        rows += [
            {"peer": peer.name, "figure": figure, "value": value, "date": date, "machine": machine}
            for figure, value, date, machine in found
        ] or [
            {
                "peer": peer.name,
                "figure": "never raced here",
                "value": None,
                "date": "",
                "machine": "",
            }
        ]
    return rows


def _record(about: dict[str, Any]) -> list[tuple[str, float, str, str]]:
    return [
        (figure, value, about["date"], about["machine"]["processor"])
        for figure, value in _ratios(about["figures"])
    ]


def _nets(name: str, path: Path) -> list[tuple[str, float, str, str]]:
    """The last run on each data set that counted time of the processor, against the mean of our
    SASRec's seeds.
    """
    ours: dict[str, list[float]] = {}
    beside = path.with_name("sequences.json")
    for key, run in (
        json.loads(beside.read_text(encoding="utf-8"))["runs"] if beside.exists() else {}
    ).items():
        data, method, _ = key.split(" | ")
        if method == "SASRec":
            ours.setdefault(data, []).append(run["figures"]["HR@10, seen removed"]["mean"])
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    last = {
        line["data"]: line
        for line in lines
        if line["name"].startswith(f"{name}-") and line.get("minutes_of") == "processor"
    }
    return [
        (
            f"SASRec's HR@10 on {data}, ours over theirs after {line['minutes']:g} minutes",
            mean(ours[data]) / line["HR@10"],
            line["date"],
            line["machine"]["processor"],
        )
        for data, line in last.items()
        if data in ours and line["HR@10"]
    ]


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
