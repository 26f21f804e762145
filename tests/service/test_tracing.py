"""A trace says how a list was made; a version of choice answers a preview; neither is logged."""

import pytest

pytest.importorskip("fastapi")

import shutil

import sqlalchemy as sa
from service.served_shop import SHOP, Client, key

from tailor.data.splits import last_out
from tailor.pipeline.default import counting_pipeline
from tailor.store.engine import reading, writing
from tailor.store.models import add_model
from tailor.store.schema import requests

USER = SHOP.users.ids[0]
LISTS = "/v1/recommendations"


@pytest.fixture
def pipeline(client, service):
    """The counting pipeline answers as version 2."""
    folder = service.settings.models / "shop" / "counting"
    counting_pipeline().fit(last_out(SHOP).train).save(folder, overwrite=True)
    client.ask("/v1/models", folder="counting")
    yield client
    shutil.rmtree(folder)


def flat(stages):
    """Return all stages, each before its parts."""
    return [stage for outer in stages for stage in (outer, *flat(outer["parts"]))]


def logged(service):
    """Return how many lists are in the log."""
    service.list_log._write()
    with reading(service.engine) as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(requests)).scalar_one()


def test_a_trace_has_the_stages_of_the_service_and_of_the_pipeline(pipeline):
    pipeline.ask(f"/v1/items/{SHOP.catalogue.ids[0]}/takedown")
    plain = pipeline.ask(LISTS, user_id=USER, k=5)
    answer = pipeline.ask(LISTS, user_id=USER, k=5, trace=True, filter="price <= 1000")
    assert [item["item_id"] for item in answer["items"]] == [
        item["item_id"] for item in plain["items"]
    ]
    stages = answer["trace"]["stages"]
    assert [stage["name"] for stage in stages] == [
        "Blocked items",
        "Filter",
        "History and exclusions",
        "Filter",
        "Last look at blocked items",
    ]
    assert stages[0]["items_in"] == 40 and stages[0]["items_out"] == 39
    assert stages[1]["settings"] == "price <= 1000"
    names = [stage["name"] for stage in flat(stages)]
    assert "Fallback" in names and "Fuse" in names
    fuse = next(stage for stage in flat(stages) if stage["name"] == "Fuse")
    assert "depth 200" in fuse["settings"] and fuse["parts"]
    assert stages[-1]["items_out"] == 5
    model_ms = stages[3]["ms"]
    assert 0 < sum(part["ms"] for part in stages[3]["parts"]) <= model_ms
    assert model_ms <= answer["trace"]["total_ms"]
    assert "trace" not in plain


def test_a_single_model_has_one_stage_and_reasons_add_none(client):
    answer = client.ask(LISTS, user_id=USER, k=3, trace=True, explain=True)
    stages = answer["trace"]["stages"]
    assert [stage["name"] for stage in stages][2:-1] == ["CoVisitation"]
    assert stages[2]["parts"] == [] and answer["items"][0]["reasons"]
    diverse = client.ask(LISTS, user_id=USER, k=3, trace=True, diversity=0.5)
    assert diverse["trace"]["stages"][-1]["name"] == "Diversity"


def test_traces_and_previews_are_not_logged(client, service):
    client.ask("/v1/models", folder="two")
    client.ask(LISTS, user_id=USER, k=3, trace=True)
    client.ask(LISTS, user_id=USER, k=3, version=1)
    assert logged(service) == 0
    client.ask(LISTS, user_id=USER, k=3)
    assert logged(service) == 1
    client.ask(LISTS, 409, user_id=USER, trace=True, request_id="a")
    client.ask(LISTS, 409, user_id=USER, version=1, request_id="a")


def test_a_version_of_choice_answers_and_changes_nothing(pipeline, service):
    first = pipeline.ask(LISTS, user_id=USER, k=5, version=1)
    assert first["model"] == "CoVisitation@1"
    assert pipeline.ask(LISTS, user_id=USER, k=5)["model"] == "Filter@2"
    again = pipeline.ask(LISTS, user_id=USER, k=5, version=1)
    assert again["items"] == first["items"]
    assert len(service.previews._loaded) == 1
    answers = [pipeline.ask(LISTS, user_id=USER, version=2)["items"] for _ in range(2)]
    assert answers[0] == answers[1]
    assert pipeline.ask(LISTS, 409, user_id=USER, version=9)["detail"].startswith("version:")


def test_a_trace_needs_the_role_read_and_a_version_admin(client, service):
    serving = Client(client.app, key(service, "serve"))
    reading_key = Client(client.app, key(service, "read"))
    serving.ask(LISTS, 403, user_id=USER, trace=True)
    reading_key.ask(LISTS, user_id=USER, trace=True)
    reading_key.ask(LISTS, 403, user_id=USER, version=1)
    rival = Client(client.app, key(service, "admin", "rival"))
    rival.ask(LISTS, 409, version=1)


def test_a_preview_of_a_folder_that_is_gone_says_so(client, service):
    with writing(service.engine) as connection:
        add_model(connection, "shop", str(service.settings.models / "shop/gone"), "0" * 64)
    problem = client.ask(LISTS, 409, user_id=USER, version=2)["detail"]
    assert "shop/gone holds no saved model" in problem
    assert client.ask(LISTS, user_id=USER)["model"] == "CoVisitation@1"
