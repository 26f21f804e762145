"""A refit beside the server: judged, registered, never answering by itself, and never half done."""

import json
import os
import signal
import time

import pytest

pytest.importorskip("fastapi")

from service.served_shop import Client, key, until
from store.databases import postgres, url  # noqa: F401

from tailor.data.splits import by_time
from tailor.retrieval.popularity import Popularity
from tailor.service.app import make_app
from tailor.service.batcher import saved_digest
from tailor.service.quality import read_quality
from tailor.service.state import Service, Settings
from tailor.store.engine import connect, writing
from tailor.store.loading import load_dataset
from tailor.store.migrating import migrate
from tailor.store.models import add_model, serve_model
from tailor.worlds.shop import shop

SHOP = shop(users=300, items=60, seed=3).data
CUT = by_time(SHOP, 0.05, 0.2)
GOOD = 'class = "CoVisitation"\nwindow = 2\n'
# a net that would train for minutes
SLOW = 'class = "SASRec"\nepochs = 5000\n'


@pytest.fixture
def service(tmp_path):
    """A shop whose best sellers answer, learned from what was there before CUT."""
    engine = connect(f"{tmp_path}/store.db")
    migrate(engine)
    load_dataset(engine, "shop", SHOP)
    folder = tmp_path / "models/shop/popular"
    Popularity().fit(CUT.train).save(folder)
    with writing(engine) as connection:
        made_ms = CUT.params["cuts_ms"][1] - 1
        row = (str(folder), saved_digest(folder))
        serve_model(connection, "shop", add_model(connection, "shop", *row, made_ms=made_ms))
    made = Service(engine, Settings(tmp_path / "models"))
    yield made
    made.refit_jobs.stop()
    engine.dispose()


@pytest.fixture
def client(service):
    with Client(make_app(service), key(service, "admin")) as made:
        yield made


def job(client, job_id):
    return client.ask(f"/v1/refits/{job_id}", method="GET")


def ended(client, job_id):
    """Return a job once it has ended."""
    until(lambda: job(client, job_id)["state"] != "running")
    return job(client, job_id)


def test_a_refit_is_judged_and_registered_and_answers_once_it_is_told_to(client, service):
    begun = client.ask("/v1/refits", toml=GOOD, note="wider")
    assert begun["state"] == "running" and begun["started_by"] == "admin of shop"
    done = ended(client, begun["id"])
    assert done["state"] == "done" and done["version"] == 2, done
    assert any("events count" in line for line in done["lines"])
    assert tuple(client.ask("/v1/refits", method="GET")["refits"][0]) == tuple(done)[:-2]
    models = client.ask("/v1/models", method="GET")["models"]
    answers = {row["version"]: (row["served_ms"] is not None, row["note"]) for row in models}
    assert answers[1][0] and not answers[2][0] and answers[2][1].endswith("events: wider")
    assert client.ask("/v1/recommendations", k=3)["model"] == "Popularity@1"
    quality = read_quality(service.settings.models / "shop" / models[1]["folder"])
    assert quality["against"] == 1 and "not seen the events" in quality["notes"][0]
    compared = {(row["metric"], row["seen"]): row for row in quality["comparisons"]}
    assert compared["NDCG@10", "removed"]["difference"] > 0
    people = quality["people"]
    assert people["better"] > people["worse"]
    assert sum(people["counts"]) == people["better"] + people["worse"]
    text = json.dumps(quality)
    assert not any(f'"{user_id}"' in text for user_id in SHOP.users.ids)
    client.ask("/v1/models/switch", version=2)
    assert client.ask("/v1/recommendations", k=3)["model"] == "CoVisitation@2"


def test_the_settings_of_a_version_are_learned_again(client):
    begun = client.ask("/v1/refits", version=1)
    assert 'class = "retrieval.popularity.Popularity"' in begun["toml"]
    assert ended(client, begun["id"])["version"] == 2
    client.ask("/v1/refits", 409, version=9)
    client.ask("/v1/refits", 409)
    client.ask("/v1/refits", 409, toml=GOOD, version=1)
    assert "line 1" in client.ask("/v1/refits", 409, toml='class = "EASY"')["detail"]


def test_one_runs_at_a_time_and_can_be_cancelled(client, service):
    pytest.importorskip("torch")
    begun = client.ask("/v1/refits", toml=SLOW)
    assert "a refit is running" in client.ask("/v1/refits", 409, toml=GOOD)["detail"]
    until(lambda: job(client, begun["id"])["step"] > 0)
    cancelled = client.ask(f"/v1/refits/{begun['id']}", method="DELETE")
    assert cancelled["state"] == "cancelled" and cancelled["version"] is None
    assert client.ask(f"/v1/refits/{begun['id']}", method="DELETE")["state"] == "cancelled"
    assert len(client.ask("/v1/models", method="GET")["models"]) == 1
    assert not list((service.settings.models / "shop").glob("*refit-*"))
    assert ended(client, client.ask("/v1/refits", toml=GOOD)["id"])["state"] == "done"


@pytest.mark.slow
def test_progress_says_how_far_it_is(client):
    pytest.importorskip("torch")
    begun = client.ask("/v1/refits", toml=SLOW)
    until(lambda: (job(client, begun["id"])["left_s"] or 0) > 0)
    shown = job(client, begun["id"])
    assert shown["stage"].startswith("judging") and (shown["step"], shown["steps"]) == (2, 4)
    client.ask(f"/v1/refits/{begun['id']}", method="DELETE")


@pytest.mark.slow
def test_a_refit_ends_with_its_server_and_leaves_nothing_registered(client, service):
    pytest.importorskip("torch")
    begun = client.ask("/v1/refits", toml=SLOW)
    process = service.refit_jobs._processes[begun["id"]]
    until(lambda: job(client, begun["id"])["step"] > 1)
    service.refit_jobs.stop()
    assert process.poll() is not None
    shown = job(client, begun["id"])
    assert shown["state"] == "failed" and "start it again" in shown["why"]
    assert len(client.ask("/v1/models", method="GET")["models"]) == 1


@pytest.mark.slow
def test_a_killed_refit_is_no_running_one_and_what_it_left_goes(client, service):
    pytest.importorskip("torch")
    begun = client.ask("/v1/refits", toml=SLOW)
    os.kill(service.refit_jobs._processes[begun["id"]].pid, signal.SIGKILL)
    assert ended(client, begun["id"])["state"] == "failed"
    left = service.settings.models / "shop" / f"refit-{begun['id']}"
    left.mkdir()
    assert ended(client, client.ask("/v1/refits", toml=GOOD)["id"])["state"] == "done"
    assert not left.exists()


def test_a_refit_that_cannot_be_learned_says_why(client):
    begun = client.ask(
        "/v1/refits",
        toml='class = "Filter"\nrules = ["colour = 1"]\ninner = {class = "Popularity"}\n',
    )
    failed = ended(client, begun["id"])
    assert failed["state"] == "failed" and "colour" in failed["why"]
    assert "/tmp" not in json.dumps(failed)


def test_tenants_never_see_each_other_and_roles_hold(client, service):
    begun = client.ask("/v1/refits", toml=GOOD)
    rival = Client(client.app, key(service, "admin", "rival"))
    assert rival.ask("/v1/refits", method="GET")["refits"] == []
    rival.ask(f"/v1/refits/{begun['id']}", 404, method="GET")
    rival.ask(f"/v1/refits/{begun['id']}", 404, method="DELETE")
    writer = Client(client.app, key(service, "write"))
    writer.ask("/v1/refits", 403, toml=GOOD)
    writer.ask("/v1/pipelines/check", 403, toml=GOOD)
    client.ask("/v1/refits/..%2F..%2Fx", 404, method="GET")
    ended(client, begun["id"])


def test_old_jobs_go_and_their_models_stay(client, service, monkeypatch):
    monkeypatch.setattr("tailor.service.refit_jobs.KEPT_JOBS", 2)
    for _ in range(3):
        ended(client, client.ask("/v1/refits", toml=GOOD)["id"])
        time.sleep(0.01)
    assert len(client.ask("/v1/refits", method="GET")["refits"]) == 2
    # the same settings on the same events are the same model
    assert len(client.ask("/v1/models", method="GET")["models"]) == 2


def test_a_pipeline_is_checked_with_lines(client):
    good = client.ask("/v1/pipelines/check", toml=GOOD)
    assert good["good"] and good["parts"]["name"] == "CoVisitation"
    assert "window 2" in good["parts"]["settings"] and good["parts"]["summary"]
    bad = client.ask("/v1/pipelines/check", toml="class = 'EASE'\nl3 = 1\n")
    assert not bad["good"] and bad["parts"] is None
    assert [problem["line"] for problem in bad["problems"]] == [2]
    people = client.ask("/v1/pipelines/check", toml='class = "PersonalizedPageRank"')
    assert not people["good"] and "people" in people["problems"][0]["problem"]
    predictor = client.ask("/v1/pipelines/check", toml='class = "LogisticRegression"')
    assert "does not recommend" in predictor["problems"][0]["problem"]
    client.ask("/v1/pipelines/check", 422, toml="#" * 1_000_000)
    client.ask("/v1/pipelines/check", 422, toml="a\0b")
    client.ask("/v1/refits", 422, toml="#" * 100_001)
