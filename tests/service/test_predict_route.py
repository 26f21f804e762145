"""Predictions over HTTP: the model's own numbers, by person, with takedowns kept, and a word where
there is no model.
"""

import json
import shutil

import pytest

pytest.importorskip("torch")
pytest.importorskip("fastapi")

import httpx
import numpy as np
from service.served_shop import SHOP, Client, key, take_away
from typer.testing import CliRunner

from tailor.cli.main import app
from tailor.client import Client as Speaking
from tailor.core.saving import load
from tailor.data.nouns import History, Query
from tailor.errors import ModelError, ServiceError
from tailor.ranking.factorization_machine import FactorizationMachine
from tailor.service.app import make_app
from tailor.service.batcher import saved_digest, saved_kind
from tailor.service.refit import refit
from tailor.service.state import Service
from tailor.store.engine import writing
from tailor.store.models import PREDICTS, add_model, serve_model

USER, OTHER = SHOP.users.ids[:2].tolist()
ITEMS = SHOP.catalogue.ids[:6].tolist()
NOW = 1_800_000_000_000


@pytest.fixture(scope="session")
def predictors(models):
    folder = models["one"].parent
    return {
        name: FactorizationMachine(epochs=epochs, width=4, lr=1e-2).fit(SHOP).save(folder / name)
        for name, epochs in (("fm", 3), ("fm2", 1))
    }


@pytest.fixture
def predicting(client, predictors, monkeypatch):
    # the hour is a field of the model
    monkeypatch.setattr("tailor.service.predictions.now_ms", lambda: NOW)
    assert client.ask("/v1/models", folder="fm") == {
        "version": 2,
        "model": "FactorizationMachine@2",
    }
    return client


def values(client, status=200, **body):
    return [one["value"] for one in client.ask("/v1/predict", status, **body)["items"]]


def test_the_values_are_the_model_s_own_for_the_stored_history(predicting, predictors):
    answer = predicting.ask("/v1/predict", user_id=USER, item_ids=ITEMS)
    assert (
        answer["model"] == "FactorizationMachine@2"
        and [one["item_id"] for one in answer["items"]] == ITEMS
    )
    history = SHOP.queries([USER])[0].history
    said = load(predictors["fm"]).predict(
        [Query(USER, History(history.item_ids), time_ms=NOW)], [ITEMS]
    )[0]
    assert [one["value"] for one in answer["items"]] == pytest.approx(said.tolist(), abs=1e-5)
    assert all(0 < one["value"] < 1 and one["known"] for one in answer["items"])
    given = values(predicting, history=list(history.item_ids), item_ids=ITEMS)
    assert given == pytest.approx(values(predicting, user_id=USER, item_ids=ITEMS), abs=1e-5)
    assert given != values(predicting, user_id=OTHER, item_ids=ITEMS)
    assert values(predicting, user_id=USER, item_ids=ITEMS[::-1] + ITEMS[:1]) == pytest.approx(
        given[::-1] + given[:1], abs=1e-5
    )  # each by itself


def test_recommendations_go_on_by_the_model_that_recommends(predicting):
    assert predicting.ask("/v1/recommendations", user_id=USER)["model"] == "CoVisitation@1"
    kinds = {one["version"]: one["kind"] for one in predicting.get("/v1/models").json()["models"]}
    assert kinds == {1: "recommends", 2: "predicts"}


def test_a_new_event_counts_at_once(predicting):
    fresh = "a person of today"
    stranger = predicting.ask("/v1/predict", user_id=fresh, item_ids=ITEMS)
    assert stranger["notes"][0].startswith("nothing is known of this user yet")
    predicting.ask("/v1/events", events=[{"event_id": "n", "user_id": fresh, "item_id": ITEMS[0]}])
    after = values(predicting, user_id=fresh, item_ids=ITEMS)
    assert after == pytest.approx(values(predicting, history=ITEMS[:1], item_ids=ITEMS), abs=1e-5)
    assert after != [one["value"] for one in stranger["items"]]


def test_unknown_items_are_named_and_those_taken_down_have_no_value(
    predicting, service, monkeypatch
):
    predicting.ask(f"/v1/items/{ITEMS[1]}/takedown", reason="")
    answer = predicting.ask("/v1/predict", user_id=USER, item_ids=[*ITEMS[:2], "never heard of"])
    assert [one["known"] for one in answer["items"]] == [True, True, False]
    assert [one["value"] is None for one in answer["items"]] == [
        False,
        True,
        False,
    ] and "taken down" in answer["notes"][-1]
    model = service.model_registry.predictor("shop").model
    real = model.predict

    def slowly(queries, item_ids):
        predicting.ask(f"/v1/items/{ITEMS[0]}/takedown", reason="")
        return real(queries, item_ids)

    monkeypatch.setattr(model, "predict", slowly, raising=False)
    # blocked while the model answered
    assert values(predicting, user_id=USER, item_ids=ITEMS[:2]) == [None, None]


def test_where_nothing_predicts_it_says_what_to_do(client, service, predictors):
    problem = client.ask("/v1/predict", 409, user_id=USER, item_ids=ITEMS)
    assert "--predictor" in problem["detail"] and "/v1/models" in problem["detail"]
    client.ask("/v1/models", folder="fm")
    rival = Client(client.app, key(service, "admin", "rival"))
    rival.ask("/v1/predict", 409, item_ids=ITEMS)  # it is the shop's
    reader = Client(client.app, key(service, "read"))
    assert len(values(reader, item_ids=ITEMS)) == 6
    client.ask("/v1/experiments", 409, name="mixed", arms=[{"version": 1}, {"version": 2}])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"item_ids": []}, "item_ids"),
        ({"item_ids": [""]}, "item_ids"),
        ({}, "item_ids"),
        ({"item_ids": ["a"], "k": 3}, "k"),
        ({"item_ids": "abc"}, "item_ids"),
        ({"item_ids": ["a"] * 1001}, "item_ids"),
        ({"item_ids": ["a"], "user_id": "u", "history": []}, None),
    ],
)
def test_what_cannot_be_read_is_refused_and_the_field_named(predicting, body, field):
    problem = predicting.ask("/v1/predict", 422, **body)
    assert field is None or problem["errors"][0]["field"].split(".")[0] == field


def test_another_predictor_takes_the_place_and_gives_it_back(predicting, predictors):
    assert predicting.ask("/v1/models", folder="fm2")["version"] == 3
    assert predicting.ask("/v1/predict", item_ids=ITEMS)["model"] == "FactorizationMachine@3"
    assert predicting.ask("/v1/models/rollback?kind=predicts")["version"] == 2
    assert predicting.ask("/v1/predict", item_ids=ITEMS)["model"] == "FactorizationMachine@2"
    # of those that recommend
    assert "no other version" in predicting.ask("/v1/models/rollback", 409)["detail"]
    predicting.ask("/v1/models/rollback?kind=both", 422)


def test_a_restart_finds_it_and_a_broken_one_leaves_the_one_before(predicting, service, predictors):
    gone = shutil.copytree(
        predictors["fm2"], predictors["fm2"].with_name("fm-gone"), dirs_exist_ok=True
    )
    predicting.ask("/v1/models", folder="fm-gone")
    shutil.rmtree(gone)
    again = Service(service.engine, service.settings)
    with Client(make_app(again), predicting.headers["authorization"].split()[1]) as second:
        assert second.ask("/v1/predict", item_ids=ITEMS)["model"] == "FactorizationMachine@2"


def test_numbers_that_are_none_are_not_answered(predicting, service, monkeypatch):
    model = service.model_registry.predictor("shop").model
    monkeypatch.setattr(model, "predict", lambda *_: [np.array([np.nan])], raising=False)
    assert "no number" in predicting.ask("/v1/predict", 500, item_ids=ITEMS[:1])["detail"]


def test_a_value_of_several_numbers_stays_several(predicting, service, monkeypatch):
    model = service.model_registry.predictor("shop").model
    monkeypatch.setattr(model, "predict", lambda *_: [np.array([[0.25, 0.75]])], raising=False)
    assert values(predicting, item_ids=ITEMS[:1]) == [[0.25, 0.75]]


def test_while_the_database_is_away_it_answers_by_what_was_last_seen(
    predicting, service, monkeypatch
):
    before = values(predicting, user_id=USER, item_ids=ITEMS)
    take_away(service, monkeypatch)
    answer = predicting.ask("/v1/predict", user_id=USER, item_ids=ITEMS)
    assert "as last seen" in answer["notes"][0] and [
        one["value"] for one in answer["items"]
    ] == pytest.approx(before, abs=1e-5)


def test_the_commands_and_the_client_know_it(predicting, service, models, predictors, tmp_path):
    assert saved_kind(models["one"]) == "recommends" and saved_kind(predictors["fm"]) == "predicts"
    done = CliRunner().invoke(
        app, ["serve", "--model", str(predictors["fm"]), "--database", f"{tmp_path}/x.db"]
    )
    assert "--predictor" in (done.output + str(done.exception))
    with pytest.raises(ModelError, match="does not recommend"):
        refit(service.engine, "shop", {"class": "FactorizationMachine"}, tmp_path)
    speaking = Speaking(
        "http://test",
        "key",
        transport=httpx.MockTransport(lambda request: _passed(predicting, request)),
    )
    assert [one["item_id"] for one in speaking.predict(ITEMS, user_id=USER)["items"]] == ITEMS
    with pytest.raises(ServiceError, match="no other version"):
        speaking.roll_back("predicts")


def _passed(client, request):
    answer = client.request(
        request.method,
        str(request.url).removeprefix("http://test"),
        content=request.content,
        headers={"content-type": "application/json"},
    )
    return httpx.Response(answer.status_code, json=answer.json())


def test_a_predictor_alone_lets_lists_say_what_is_missing(service, predictors):
    with writing(service.engine) as connection:
        version = add_model(
            connection, "lone", str(predictors["fm"]), saved_digest(predictors["fm"]), kind=PREDICTS
        )
        serve_model(connection, "lone", version)
    with Client(make_app(service), key(service, "admin", "lone")) as client:
        assert len(values(client, item_ids=ITEMS)) == 6
        assert "no model answers yet" in client.ask("/v1/recommendations", 503)["detail"]


def test_values_of_a_history_reach_the_model(predicting, monkeypatch):
    histories = []
    predict = FactorizationMachine.predict

    def watched(self, queries, item_ids):
        histories.extend(query.history for query in queries)
        return predict(self, queries, item_ids)

    monkeypatch.setattr(FactorizationMachine, "predict", watched)
    body = {"history": ITEMS[:2], "item_ids": ITEMS[2:4]}
    predicting.ask("/v1/predict", **body, values=[4.5, 1])
    assert histories[-1].values == (4.5, 1.0)
    assert histories[-1].item_ids == tuple(ITEMS[:2])
    predicting.ask("/v1/predict", **body)
    assert histories[-1].values is None
    problem = predicting.ask("/v1/predict", 422, **body, values=[1])
    assert "one number for each item" in json.dumps(problem)
    predicting.ask("/v1/predict", 422, user_id=USER, item_ids=ITEMS, values=[1])
