"""A version in full, what it would have earned by the log, and folders that cannot be read."""

import json
import shutil

import pytest

pytest.importorskip("fastapi")

import sqlalchemy as sa
from service.served_shop import SHOP, Client, key

from tailor.service.estimates import MAY_KNOW, ShownEstimate
from tailor.service.model_details import ModelDetails, learning_curves
from tailor.service.quality import FILE
from tailor.store.engine import writing
from tailor.store.models import add_model
from tailor.store.schema import models as model_rows

USERS = SHOP.users.ids[:30].tolist()


def test_a_version_is_shown_in_full(client):
    shown = client.ask("/v1/models/1", method="GET")
    ModelDetails.model_validate(shown)
    assert shown["method"] == "CoVisitation" and shown["problem"] is None and shown["answers"]
    assert "window = 1" in shown["toml"] and "# CoVisitation" in shown["card"]
    assert shown["parts"]["parts"] == [] and shown["fit_report"] and shown["quality"] is None
    again = client.ask("/v1/pipelines/check", toml=shown["toml"])
    assert again["good"]


def spoil_spec(folder):
    (folder / "spec.json").write_text("[]")


def spoil_values(folder):
    (folder / "state/values.json").write_text("[1]")


def spoil_quality(folder):
    (folder / FILE).write_text('{"report": ' + "[" * 100_000)


@pytest.mark.parametrize(
    ("spoil", "is_read"),
    [(shutil.rmtree, False), (spoil_spec, False), (spoil_values, True), (spoil_quality, False)],
)
def test_a_folder_that_cannot_be_read_is_named_and_the_others_are_shown(
    client, service, models, tmp_path, spoil, is_read
):
    folder = service.settings.models / "shop" / f"spoilt {spoil.__name__}"
    shutil.copytree(models["two"], folder)
    spoil(folder)
    try:
        with writing(service.engine) as connection:
            version = add_model(connection, "shop", str(folder), "0" * 64)
        shown = client.ask(f"/v1/models/{version}", method="GET")
        ModelDetails.model_validate(shown)
        assert (shown["problem"] is None) == is_read
        assert str(service.settings.models) not in json.dumps(shown)
        assert client.ask("/v1/models/1", method="GET")["problem"] is None
        client.ask("/v1/models/switch", 409, version=version)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_versions_are_the_tenant_s_own_and_need_the_role(client, service):
    client.ask("/v1/models/9", 404, method="GET")
    Client(client.app, key(service, "admin", "rival")).ask("/v1/models/1", 404, method="GET")
    reader = Client(client.app, key(service, "read"))
    for path in ("/v1/models/1", "/v1/refits", "/v1/estimates?version=1"):
        reader.ask(path, 403, method="GET")


def test_learning_curves_are_found_in_the_reports_of_parts():
    report = {
        "parts": {"SASRec": {"loss": [3.0, 2.0], "validation": [[1, 0.1], [2, 0.2]], "steps": 7}},
        "loss": [1.0],
        "Fuse": {"EASE": {"loss": "none"}},
    }
    assert learning_curves(report) == [
        {"name": "SASRec: loss", "points": [[1.0, 3.0], [2.0, 2.0]]},
        {"name": "SASRec: validation", "points": [[1.0, 0.1], [2.0, 0.2]]},
    ]


def test_an_estimate_says_what_can_be_told_from_the_log(client, service):
    problem = client.ask("/v1/estimates?version=1", 409, method="GET")["detail"]
    assert "no list" in problem or "request" in problem
    for user in USERS:
        answer = client.ask("/v1/recommendations", user_id=user, k=3)
        event = {
            "event_id": user,
            "user_id": user,
            "item_id": answer["items"][0]["item_id"],
            "request_id": answer["request_id"],
        }
        client.ask("/v1/events", events=[event])
    service.list_log._write()
    shown = client.ask("/v1/estimates?version=1&most=20", method="GET")
    ShownEstimate.model_validate(shown)
    assert shown["requests"] == 20 and shown["logged"]["mean"] == 1.0
    assert any("nothing was left to chance" in note for note in shown["notes"])
    assert "the log cannot tell" in shown["verdict"]
    bought = client.ask("/v1/estimates?version=1&most=20&reward=action%20%3D%20'buy'", method="GET")
    assert bought["logged"]["mean"] == 0.0
    client.ask("/v1/estimates?version=1&reward=nonsense", 409, method="GET")
    assert MAY_KNOW not in shown["notes"]
    later = sa.update(model_rows).values(made_ms=2**50)
    service.writer.do(lambda connection: connection.execute(later))
    again = client.ask("/v1/estimates?version=1&most=19", method="GET")
    assert MAY_KNOW in again["notes"]


def test_an_estimate_that_takes_long_is_answered_when_asked_again(client, monkeypatch):
    monkeypatch.setattr("tailor.service.estimates.WAIT_S", 0.0)
    path = "/v1/estimates?version=1"
    answers = [client.get(path).status_code for _ in range(2)]
    assert set(answers) <= {503, 409}
    monkeypatch.setattr("tailor.service.estimates.WAIT_S", 20.0)
    client.ask(path, 409, method="GET")
