"""Races: what is not there says how to make it, a program that fails is named, ratios are read from
the records.
"""

import json
import sys
from pathlib import Path

import pytest

from tailor.bench.peers import PEERS, race, race_table
from tailor.errors import ModelError

ROOT = Path(__file__).parents[2]


def test_every_race_has_its_program_and_its_recipe():
    readme = (ROOT / "benchmarks" / "peers" / "README.md").read_text()
    for peer in PEERS:
        assert (ROOT / "benchmarks" / peer.program).exists() and (
            ROOT / "benchmarks" / "results" / peer.result
        ).exists()
        assert all(need in readme for need in peer.needs), peer.name


def test_an_environment_that_is_not_there_comes_with_the_command_that_makes_it(tmp_path):
    (line,) = race(ROOT, tmp_path, ["ranx"])
    assert line.startswith("ranx: no environment; make it: python3 -m venv ") and line.endswith(
        "pip install ranx==0.3.21"
    )
    with pytest.raises(ModelError, match='Did you mean "ranx"'):
        race(ROOT, tmp_path, ["ranks"])


def test_a_race_runs_the_program_and_a_failure_is_named(tmp_path):
    python = tmp_path / "envs" / "ranx" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    (tmp_path / "benchmarks").mkdir()
    program = tmp_path / "benchmarks" / "metrics.py"
    program.write_text("import sys; assert sys.argv[1] == '--peers'")
    assert race(tmp_path, tmp_path / "envs", ["ranx"]) == [
        "ranx: raced, see benchmarks/results/metrics.json"
    ]
    program.write_text("raise SystemExit('ranx has no wings')")
    with pytest.raises(ModelError, match="ranx has no wings"):
        race(tmp_path, tmp_path / "envs", ["ranx"])


def test_ratios_are_found_wherever_they_stand(tmp_path):
    folder = tmp_path / "benchmarks" / "results"
    folder.mkdir(parents=True)
    about = {
        "date": "2026-11-20",
        "machine": {"processor": "p"},
        "figures": {
            "a": {"x": 1},
            "ranx's seconds over ours": 3.5,
            "fit: theirs over ours": {"b": 2},
        },
    }
    (folder / "metrics.json").write_text(json.dumps(about))
    rows = [(row["peer"], row["figure"], row["value"]) for row in race_table(tmp_path)]
    assert ("ranx", "ranx's seconds over ours", 3.5) in rows and (
        "ranx",
        "fit: theirs over ours, b",
        2.0,
    ) in rows
    assert ("implicit", "never raced here", None) in rows


def test_a_net_is_compared_with_ours_by_its_last_run_in_time_of_the_processor(tmp_path):
    folder = tmp_path / "benchmarks" / "results"
    folder.mkdir(parents=True)
    line = {
        "data": "beauty",
        "minutes": 5.0,
        "minutes_of": "processor",
        "name": "recbole-CE",
        "HR@10": 0.01,
        "date": "2026-11-21",
        "machine": {"processor": "p"},
    }
    lines = [
        line,
        line | {"HR@10": 0.02},
        line | {"minutes_of": "wall", "HR@10": 0.09},
        line | {"name": "rectools-BCE", "HR@10": 0.03},
        line | {"data": "sports"},
    ]
    (folder / "sequence-peers.jsonl").write_text("\n".join(map(json.dumps, lines)))
    runs = {
        f"beauty | {method} | {seed}": {"figures": {"HR@10, seen removed": {"mean": value}}}
        for method, seed, value in (("SASRec", 0, 0.05), ("SASRec", 1, 0.07), ("HSTU", 0, 9))
    }
    (folder / "sequences.json").write_text(json.dumps({"runs": runs}))
    rows = {row["peer"]: (row["figure"], row["value"]) for row in race_table(tmp_path)}
    assert rows["recbole"] == (
        "SASRec's HR@10 on beauty, ours over theirs after 5 minutes",
        pytest.approx(3.0),
    )
    assert rows["rectools"][1] == pytest.approx(2.0)


def test_every_race_that_was_run_stands_in_the_table():
    raced = {row["peer"] for row in race_table(ROOT) if row["value"] is not None}
    assert raced == {peer.name for peer in PEERS}
