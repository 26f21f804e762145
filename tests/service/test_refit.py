"""Learning anew: beside what answers, compared on what neither has learned from, and put in place
in one step.
"""

import re

import pytest

pytest.importorskip("fastapi")

from service.served_shop import postgres, url  # noqa: F401
from typer.testing import CliRunner

from tailor.cli.main import app
from tailor.data.splits import by_time
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.service.batcher import saved_digest
from tailor.service.refit import fresh_split, refit
from tailor.store import catalogue
from tailor.store.engine import connect, reading, writing
from tailor.store.loading import load_dataset
from tailor.store.migrating import migrate, newest
from tailor.store.models import add_model, current_model, list_models, serve_model
from tailor.worlds.shop import shop

SHOP = shop(users=400, items=80, seed=2).data
CUT = by_time(SHOP, 0.05, 0.2)
MADE_MS = CUT.params["cuts_ms"][1] - 1


@pytest.fixture
def engine(tmp_path):
    made = connect(f"{tmp_path}/store.db")
    migrate(made)
    load_dataset(made, "shop", SHOP)
    yield made
    made.dispose()


def running(engine, method, folder):
    """A model that learned from what was there before MADE_MS answers."""
    method.fit(CUT.train).save(folder)
    with writing(engine) as connection:
        serve_model(
            connection,
            "shop",
            add_model(connection, "shop", str(folder), saved_digest(folder), made_ms=MADE_MS),
        )


def answering(engine):
    with reading(engine) as connection:
        return current_model(connection, "shop")


def test_the_first_model_is_put_in_place_without_a_rival(engine, tmp_path):
    outcome = refit(engine, "shop", {"class": "CoVisitation"}, tmp_path / "models")
    assert (
        outcome.swapped
        and outcome.version == 1
        and outcome.why == "there was no model"
        and outcome.events + outcome.left_out == len(SHOP.events)
    )
    assert answering(engine)["digest"] == saved_digest(answering(engine)["folder"])


def test_a_better_model_takes_the_place_and_the_figures_say_so(engine, tmp_path):
    running(engine, Popularity(), tmp_path / "old")
    outcome = refit(engine, "shop", {"class": "CoVisitation"}, tmp_path / "models")
    assert (
        outcome.swapped
        and outcome.version == 2
        and outcome.comparison["difference"] > 0
        and outcome.comparison["users"] >= 50
    )
    assert answering(engine)["version"] == 2
    with reading(engine) as connection:
        assert [row["version"] for row in list_models(connection, "shop")] == [2, 1]


def test_a_model_that_is_worse_on_fresh_events_stays_out(engine, tmp_path):
    running(engine, CoVisitation(), tmp_path / "old")
    outcome = refit(engine, "shop", {"class": "Popularity"}, tmp_path / "models")
    assert (
        not outcome.swapped
        and outcome.comparison["high"] < 0
        and re.search(r"version 1 stays.*lower on fresh events", outcome.why)
    )
    assert answering(engine)["version"] == 1 and not (tmp_path / "models").exists()
    assert (
        refit(engine, "shop", {"class": "Popularity"}, tmp_path / "models", force=True).why
        == "forced"
    )


def test_without_fresh_events_nothing_changes(engine, tmp_path):
    refit(engine, "shop", {"class": "CoVisitation"}, tmp_path / "models")
    outcome = refit(engine, "shop", {"class": "CoVisitation", "window": 2}, tmp_path / "models")
    assert (
        not outcome.swapped
        and "nothing to compare by" in outcome.why
        and answering(engine)["version"] == 1
    )


def test_the_comparison_holds_back_what_happened_since(engine):
    split = fresh_split(SHOP, MADE_MS)
    assert split.train.events["time_ms"].max() <= MADE_MS
    assert fresh_split(SHOP, int(SHOP.events["time_ms"].max())) is None


def test_a_refit_answers_nothing_that_is_blocked(engine, tmp_path):
    item = SHOP.catalogue.ids[0]
    with writing(engine) as connection:
        catalogue.block(connection, "shop", item, catalogue.TAKEN_DOWN)
    refit(engine, "shop", {"class": "Popularity"}, tmp_path / "models")
    from tailor.core.saving import load
    from tailor.data.nouns import Query

    assert item not in load(answering(engine)["folder"]).recommend([Query()], 80)[0].ids


def test_the_commands_make_keys_load_and_refit(tmp_path, engine, monkeypatch):
    SHOP.save(tmp_path / "data")
    monkeypatch.chdir(tmp_path)

    def run(*words, code=0):
        done = CliRunner().invoke(app, list(words))
        assert done.exit_code == code, (done.output, done.exception)
        return done.output

    run("store", "load", "data", "--database", "other.db")
    key = run("keys", "make", "site", "--role", "write", "--database", "other.db").strip()
    assert key.startswith("tailor_") and key not in run("keys", "list", "--database", "other.db")
    assert "revoked: 1" in run("keys", "revoke", "site", "--database", "other.db")
    assert "version 1 answers: there was no model" in run(
        "refit", "CoVisitation", "--database", "other.db", "--out", "models"
    )
    assert "nothing changed" in run(
        "refit", "CoVisitation", "--database", "other.db", "--out", "models", "--after", "10000000"
    )
    assert '"events"' in run("store", "erase", SHOP.users.ids[0], "--database", "other.db")
    assert f"revision {newest()}" in run("store", "migrate", "--database", "other.db")
