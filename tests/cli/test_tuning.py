"""`tailor tune` as a person runs it, kills it and goes on."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from cli.running import fails, ok

from tailor.testing.data import tiny_data

pytest.importorskip("optuna", reason="the search needs the extra torch")

PIPELINE = """
class = "CoVisitation"
[tune]
window = { low = 1, high = 8 }
reverse = { low = 0.0, high = 1.0 }
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    tiny_data().save(folder / "data")
    ok("data", "split", folder / "data", "--by", "last", "--out", folder / "split")
    (folder / "mine.toml").write_text(PIPELINE)
    return folder


def started(*arguments):
    command = [sys.executable, "-c", "from tailor.cli.main import run; run()", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def lines(folder):
    path = folder / "study.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def wait_for(folder, count):
    until = time.monotonic() + 600
    while len(lines(folder)) < count:
        assert time.monotonic() < until, lines(folder)
        time.sleep(0.02)


def untimed(all_lines):
    return [{**json.loads(line), "seconds": 0} for line in all_lines]


def test_the_best_pipeline_is_written_and_can_be_fitted(shop):
    out = ok(
        "tune",
        shop / "mine.toml",
        "--split",
        shop / "split",
        "--out",
        shop / "tuned",
        "--trials",
        "6",
    )
    assert "as written" in out and "test part" in out
    assert {path.name for path in (shop / "tuned").iterdir()} == {
        "best.toml",
        "study.html",
        "study.jsonl",
    }
    ok("fit", shop / "tuned" / "best.toml", "--split", shop / "split", "--out", shop / "model")


def test_json_holds_every_trial(shop):
    found = json.loads(
        ok(
            "tune",
            shop / "mine.toml",
            "--split",
            shop / "split",
            "--out",
            shop / "json",
            "--trials",
            "4",
            "--json",
        )
    )
    assert (
        [one["number"] for one in found["trials"]] == [0, 1, 2, 3]
        and found["best"] in found["trials"]
        and found["metric"] == "NDCG@10"
    )
    assert {"low", "high", "value", "seconds", "settings"} <= found["best"].keys() and found[
        "space"
    ]["window"] == {"low": 1, "high": 8}


def test_killed_in_the_middle_it_goes_on_and_ends_the_same(shop):
    common = ("tune", shop / "mine.toml", "--split", shop / "split")
    running = started(*common, "--out", shop / "killed", "--trials", "100000")
    wait_for(shop / "killed", 4)
    running.send_signal(signal.SIGKILL)
    running.wait()
    kept = len(lines(shop / "killed")) - 1
    ok(*common, "--out", shop / "killed", "--trials", kept + 3)
    ok(*common, "--out", shop / "whole", "--trials", kept + 3)
    assert len(lines(shop / "killed")) == kept + 4
    assert untimed(lines(shop / "killed")[1:]) == untimed(lines(shop / "whole")[1:])
    assert not [
        path
        for path in (shop / "killed").iterdir()
        if path.name not in ("best.toml", "study.html", "study.jsonl")
    ]


def test_ctrl_c_keeps_the_best_so_far(shop):
    running = started(
        "tune",
        shop / "mine.toml",
        "--split",
        shop / "split",
        "--out",
        shop / "stopped",
        "--trials",
        "100000",
    )
    wait_for(shop / "stopped", 4)
    os.kill(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=600)
    assert (
        running.returncode == 130
        and "best.toml holds the best of" in said
        and "Traceback" not in said
    )
    ok(
        "fit",
        shop / "stopped" / "best.toml",
        "--split",
        shop / "split",
        "--out",
        shop / "from-stopped",
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--trials N"),
        (["--trials", "0"], "at least 1"),
        (["--trials", "3", "--metric", "NDCG"], "NDCG@10"),
        (["--trials", "3", "--seen", "gone"], "gone"),
        (["--trials", "3", "--screen", "0.5"], "too few"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(shop, arguments, says):
    said = fails(
        "tune",
        shop / "mine.toml",
        "--split",
        shop / "split",
        "--out",
        shop / f"refused{len(arguments)}{says[:3]}",
        *arguments,
    )
    assert says in said and said.count("\n") == 1


def test_an_unknown_pipeline_and_a_class_without_ranges_are_named(shop):
    common = ("--split", shop / "split", "--out", shop / "never", "--trials", "3")
    assert 'Did you mean "default"' in fails("tune", "defualt", *common)
    assert "[tune]" in fails("tune", "Popularity", *common)
    assert not (shop / "never").exists()
