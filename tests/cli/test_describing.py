"""`tailor methods NAME`, and `tailor fit` with its options of output and threads."""

import json

import pytest
from cli.running import fails, ok

from tailor.cli.describing import settings_of
from tailor.core.specs import discover
from tailor.retrieval.ease import EASE
from tailor.testing.data import tiny_data


def test_a_method_is_described_with_its_settings():
    found = json.loads(ok("methods", "CoVisitation", "--json"))
    assert found["class"] == "retrieval.covisitation.CoVisitation"
    assert found["verbs"] == ["recommend"] and found["doc"] and found["paper"] is None
    window = next(one for one in found["settings"] if one["name"] == "window")
    assert window["type"] == "int" and window["default"] == 5 and not window["needed"]
    assert window["description"] and {"low", "high"} <= window["tuned"].keys()
    out = ok("methods", "retrieval.covisitation.CoVisitation")
    assert "window" in out and window["description"][:20] in " ".join(out.split())


def test_settings_without_a_default_and_of_other_types_are_told():
    settings = {one["name"]: one for one in json.loads(ok("methods", "Fuse", "--json"))["settings"]}
    assert settings["kind"]["type"] == "'score' | 'rank'"
    assert settings["weights"]["type"] == "tuple[float, ...] | None"
    assert json.loads(ok("methods", "Cascade", "--json"))["settings"][0]["needed"]
    assert "needed" in ok("methods", "Cascade")
    assert "used by `tailor recommend`" in ok("methods", "Cascade")


def test_studies_are_listed_and_described():
    assert "used by `tailor study`" in ok("methods", "EvaluationSurvey")
    assert json.loads(ok("methods", "EvaluationSurvey", "--json"))["verbs"] == ["study"]


@pytest.mark.parametrize(
    "entry", [entry for entry in discover() if entry.cls], ids=lambda entry: entry.path
)
def test_every_method_can_be_described(entry):
    for setting in settings_of(entry.cls):
        assert setting["type"] and not setting["type"].startswith("typing")
        json.dumps(setting, default=str)


def test_a_paper_is_named_and_an_unknown_method_gets_the_nearest():
    found = json.loads(ok("methods", "GraphHeuristic", "--json"))
    assert found["paper"]["slug"] and found["paper"]["url"].startswith("http")
    assert 'Did you mean "EASE"?' in fails("methods", "EASY")
    assert "no method that can be fitted" in fails("methods", "HashingEncoder")
    assert "EASE" in {one["class"].rsplit(".", 1)[1] for one in json.loads(ok("methods", "--json"))}
    assert EASE.__name__ in ok("methods")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    tiny_data().save(folder / "data")
    ok("data", "split", folder / "data", "--out", folder / "split")
    return folder


def test_a_fit_prints_json(shop):
    command = ("fit", "counting", "--split", shop / "split", "--out", shop / "model", "--json")
    found = json.loads(ok(*command))
    assert found["method"] == "Filter" and found["trained_on"] == "train"
    assert found["model"] == str(shop / "model") and found["events"] == 360
    assert found["fit_report"]["items_blocked"] == 0 and not found["with_histories"]


def test_threads_can_be_chosen(shop, monkeypatch):
    runs = []
    fit = EASE._fit
    monkeypatch.setattr(
        EASE, "_fit", lambda self, data, run, valid: (runs.append(run), fit(self, data, run, valid))
    )
    command = ("fit", "EASE", "--split", shop / "split", "--out", shop / "ease", "--overwrite")
    ok(*command, "--workers", 3)
    ok(*command)
    assert runs[0].workers == 3 and runs[1].workers >= 1
    assert "--workers 0: at least 1" in fails(*command, "--workers", 0)
