"""`tailor fit`, `evaluate` and `predict` with models that predict."""

import json

import numpy as np
import polars as pl
import pytest
from cli.running import fails, ok

import tailor
from tailor.data.dataset import Dataset
from tailor.papers.ranking.pedagogical_agent import PedagogicalAgent
from tailor.worlds.crossed import crossed
from tailor.worlds.students import classroom


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A folder with a data set, a split by time and two fitted predictors."""
    folder = tmp_path_factory.mktemp("log")
    data = crossed(3_000, 100, 30, 3).data
    data.save(folder / "data")
    ok("data", "split", folder / "data", "--by", "time", "--out", folder / "split")
    for name in ("LogisticRegression", "FactorizationMachine"):
        (folder / f"{name}.toml").write_text(
            f'class = "{name}"\nsource = "label"\nlabel = "liked"\nepochs = 4\n'
        )
        ok("fit", folder / f"{name}.toml", "--split", folder / "split", "--out", folder / name)
    ok("fit", "Popularity", "--split", folder / "split", "--out", folder / "popular")
    return folder


def test_evaluate_judges_predictors_by_their_probabilities(log):
    out = ok(
        "evaluate",
        log / "LogisticRegression",
        log / "FactorizationMachine",
        "--split",
        log / "split",
    )
    assert (
        "AUC" in out
        and "gAUC" in out
        and "FactorizationMachine - LogisticRegression" in out
        and '1 where "liked"' in out
    )
    found = json.loads(
        ok(
            "evaluate",
            log / "LogisticRegression",
            log / "FactorizationMachine",
            "--split",
            log / "split",
            "--json",
        )
    )
    assert found["pairs"] == 300 and {one["method"] for one in found["methods"]} == {
        "LogisticRegression",
        "FactorizationMachine",
    }
    assert (
        all(0 < one["AUC"] < 1 and 0 <= one["ECE"] < 0.5 for one in found["methods"])
        and len(found["AUC_differences"]) == 1
    )
    page = log / "page.html"
    ok("evaluate", log / "LogisticRegression", "--split", log / "split", "--html", page)
    assert "Reliability of LogisticRegression" in page.read_text(encoding="utf-8")
    assert "judge them by commands of their own" in fails(
        "evaluate", log / "LogisticRegression", log / "popular", "--split", log / "split"
    )
    assert "does not predict" not in fails("recommend", log / "LogisticRegression")


def test_predict_answers_for_people_strangers_and_unknown_items(log):
    data = json.loads(
        ok(
            "predict",
            log / "FactorizationMachine",
            "--items",
            "nope",
            "--context",
            "region=region 1",
            "--json",
        )
    )
    assert data["items"][0]["known"] is False and 0 < data["items"][0]["value"] < 1
    held = Dataset.open(log / "data")
    user, item = held.users.ids[0], held.catalogue.ids[0]
    by_user = json.loads(
        ok(
            "predict",
            log / "FactorizationMachine",
            "--items",
            item,
            "--user",
            user,
            "--data",
            log / "data",
            "--json",
        )
    )
    assert len(by_user["history"]) > 3 and by_user["items"][0]["known"]
    assert "Not known to the model" in ok(
        "predict", log / "FactorizationMachine", "--items", f"{item},nope"
    )
    assert "--items ID,ID" in fails("predict", log / "FactorizationMachine")
    assert "NAME=VALUE" in fails(
        "predict", log / "FactorizationMachine", "--items", item, "--context", "age"
    )
    assert "does not predict" in fails("predict", log / "popular", "--items", item)


def test_a_log_of_what_was_shown_is_learned_from_without_a_line_of_code(tmp_path):
    rng = np.random.default_rng(0)
    n = 2_000
    phone = rng.random(n) < 0.5
    rows = pl.DataFrame(
        {
            "user_id": [f"u{k}" for k in rng.integers(100, size=n)],
            "item_id": [f"i{k}" for k in rng.integers(20, size=n)],
            "time_ms": 1_600_000_000_000 + np.arange(n) * 60_000,
            "device": np.where(phone, "phone", "desk"),
            "clicked": (rng.random(n) < np.where(phone, 0.8, 0.2)).astype(int),
        }
    )
    rows.write_csv(tmp_path / "shown.csv")
    data, split, model = tmp_path / "data", tmp_path / "split", tmp_path / "model"
    told = ok("data", "import", tmp_path / "shown.csv", "--label", "clicked == 1", "--out", data)
    assert "taken as known when shown, so learned from: device" in told.replace("\n", " ")
    ok("data", "split", data, "--by", "time", "--out", split)
    options = ("--set", "source=shown", "--set", "lr=0.01", "--set", "batch=128")
    ok("fit", "LogisticRegression", "--split", split, *options, "--out", model)
    found = json.loads(ok("evaluate", model, "--split", split, "--json"))
    assert found["methods"][0]["AUC"] > 0.7
    refused = fails(
        "fit", "LogisticRegression", "--split", split, "--set", "sauce=1", "--out", data
    )
    assert 'Did you mean "source"?' in refused


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """A folder with answers of students, and a model fitted on them."""
    folder = tmp_path_factory.mktemp("answers")
    log = classroom(60, 3, 4).practise(15, np.random.default_rng(0))
    log.save(folder / "data")
    PedagogicalAgent(width=16, epochs=2).fit(log).save(folder / "agent")
    return folder


def test_values_of_a_history_reach_the_model(answers):
    data = Dataset.open(answers / "data")
    ids = data.catalogue.ids[:3].tolist()

    def predicted(*options):
        line = ["predict", answers / "agent", "--items", ids[2], *options, "--json"]
        return json.loads(ok(*line))["items"][0]["value"]

    history = ["--history", ",".join(ids[:2])]
    assert predicted(*history, "--values", "0,0") < predicted(*history, "--values", "1,1")
    user = data.users.ids[0]
    query = data.queries([user], columns=["values"])
    own = tailor.load(answers / "agent").predict(query, [[ids[2]]])[0][0]
    assert predicted("--user", user, "--data", answers / "data") == pytest.approx(own, abs=1e-6)


def test_values_without_items_and_words_for_values_are_refused(answers):
    line = ["predict", answers / "agent", "--items", "a"]
    assert "which items they belong to" in fails(*line, "--values", "1")
    assert "a number for each item" in fails(*line, "--history", "a", "--values", "yes")
    assert "2 entries for 1 items" in fails(*line, "--history", "a", "--values", "1,0")
