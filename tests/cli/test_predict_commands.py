"""`tailor fit`, `evaluate` and `predict` with models that predict."""

import json

import pytest
from cli.running import fails, ok

from tailor.data.dataset import Dataset
from tailor.worlds.crossed import crossed


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
