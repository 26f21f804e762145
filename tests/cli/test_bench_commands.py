"""The benchmark commands as a person runs them, in this process."""

import json

import pytest
from typer.testing import CliRunner

from tailor.bench import suites
from tailor.cli.main import app
from tailor.errors import MissingExtraError, ModelError
from tailor.testing.data import tiny_data

SUITE = """
about = "tiny"
seeds = [0]
baseline = "popular"
[data]
folder = "DATA"
[split]
by = "last"
[methods.popular]
class = "retrieval.popularity.Popularity"
[methods.visits]
class = "retrieval.covisitation.CoVisitation"
[waiting]
dreams = "not built"
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_data(users=40, items=20, events=6).save("DATA")
    (tmp_path / "tiny.toml").write_text(SUITE)

    def command(*words, code=0):
        done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
        assert done.exit_code == code, (done.output, done.exception)
        return done.output

    return command


def test_a_suite_from_run_to_table(run, tmp_path):
    out = run("bench", "run", "tiny.toml", "--out", "runs")
    assert (
        "Floors" in out
        and "not built: dreams (not built)" in out
        and out.index("Floors") < out.index(": done")
    )
    assert "the same, value by value" in run("bench", "verify", "runs")
    board = run("bench", "table", "runs", "--baseline", "popular", "--html", "page.html")
    assert "visits - popular" in board and (tmp_path / "page.html").read_text().startswith(
        "<!doctype html>"
    )
    assert {
        row["method"] for row in json.loads(run("bench", "table", "runs", "--json"))[0]["rows"]
    } == {"popular", "visits"}
    one, two = sorted(tmp_path.glob("runs/tiny/*"))
    assert "method.class" in run("bench", "diff", one, two)
    (one / "results.csv").write_text("better")
    assert "results.csv was changed after the run" in run("bench", "verify", "runs", code=1)


def test_a_board_of_many_metrics_fits_and_brackets_of_a_title_are_no_markup(run, tmp_path):
    (tmp_path / "wide.toml").write_text(
        SUITE + '[protocol]\nk = [5, 10]\nmetrics = ["HR", "NDCG"]\n'
    )
    run("bench", "run", "wide.toml", "--out", "runs", "--only", "visits")
    out = run("bench", "table", "runs")
    assert (
        "[intervals: --json; ± between random states]" in " ".join(out.split())
        and max(map(len, out.splitlines())) <= 100
    )


def test_suites_say_what_is_not_built(run, tmp_path):
    out = run("bench", "suites")
    assert "smoke" in out and "not built: InsertRank" in " ".join(out.split())
    (tmp_path / "later.toml").write_text('[waiting]\ndreams = "nobody has built them"\n')
    with pytest.raises(ModelError, match="nothing of the suite"):
        run("bench", "run", str(tmp_path / "later.toml"))


def test_a_suite_that_needs_an_extra_hides_no_other(run, monkeypatch):
    whole = suites.read_suite

    def without_nets(name):
        if name == "ctr":
            raise MissingExtraError("needs the package torch")
        return whole(name)

    monkeypatch.setattr(suites, "read_suite", without_nets)
    out = run("bench", "suites")
    assert "ctr: needs the package torch" in out and "smoke: " in out


def test_evaluate_takes_lists_candidates_and_writes_a_page(run, tmp_path):
    run(
        "data",
        "split",
        "DATA",
        "--by",
        "cold-start",
        "--known",
        2,
        "--valid",
        0.2,
        "--test",
        0.4,
        "--out",
        "SPLIT",
    )
    run("fit", "Popularity", "--split", "SPLIT", "--out", "MODEL")
    (tmp_path / "lists.csv").write_text(
        "user_id,item_id,score\n"
        + "".join(f"person-{at:03d},thing-{at % 20:03d},1\n" for at in range(40))
    )
    out = run(
        "evaluate",
        "MODEL",
        "lists.csv",
        "--split",
        "SPLIT",
        "--html",
        "page.html",
        "--metrics",
        "HR,NDCG,MAP,RBP",
    )
    assert (
        "lists.csv" in out
        and "unknown" in out
        and "RBP@10" in out
        and (tmp_path / "page.html").exists()
    )
    found = json.loads(
        run("evaluate", "MODEL", "--split", "SPLIT", "--candidates", "uniform:9", "--json")
    )
    assert found["ranked"] == "9 negatives drawn by uniform" and found["reachable"] == 1
    assert "those of full ranking" in " ".join(
        run("evaluate", "MODEL", "--split", "SPLIT", "--candidates", "uniform:9").split()
    )


def test_diagnose_is_a_command(run):
    assert json.loads(run("data", "diagnose", "DATA", "--json"))["facts"]["users"] == 40
    assert "what understands nothing reaches" in run("data", "diagnose", "DATA")
