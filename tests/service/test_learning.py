"""What the service learns from what it shows: chance with known probabilities, experiments,
estimates from the log.
"""

import json
import shutil
import socket
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

pytest.importorskip("fastapi")

import sqlalchemy as sa
from service.served_shop import SHOP, Client, key
from typer.testing import CliRunner

from tailor.cli.main import app
from tailor.retrieval.popularity import Popularity
from tailor.service import model_registry
from tailor.service.app import make_app
from tailor.service.experiments import judge
from tailor.service.refit import refit
from tailor.service.state import Service
from tailor.store.datasets import stored_dataset
from tailor.store.engine import connect, reading, writing
from tailor.store.experiments import arm_of

PEOPLE = SHOP.users.ids.tolist()


@pytest.fixture
def exploring(service):
    """The same worker, which gives three places of ten away to chance."""
    bold = Service(service.engine, replace(service.settings, explore=0.3))
    with Client(make_app(bold), key(service, "admin")) as made:
        made.service = bold
        yield made


def logged(service):
    service.list_log._write()
    return stored_dataset(service.engine, "shop", with_lists=True)


def test_chance_has_its_probability_written_down_and_a_request_one_answer(exploring):
    lists = [exploring.items(user_id=PEOPLE[i % 50], k=5, request_id=f"r{i}") for i in range(60)]
    assert exploring.items(user_id=PEOPLE[0], k=5, request_id="r0") == lists[0]
    shown = logged(exploring.service).tables["impressions"].sort("request_id", "position")
    chances = shown["propensity"].to_numpy()
    at_its_place = abs(chances - 0.7) < 1e-6
    assert (
        0.55 < at_its_place.mean() < 0.85
        and ((chances > 0.005) & (chances < 0.05))[~at_its_place].all()
    )
    assert shown.filter(shown["request_id"] == "r0")["item_id"].to_list() == lists[0]


def test_what_is_blocked_is_not_explored_and_similar_items_are_not_left_to_chance(exploring):
    gone = exploring.items(user_id=PEOPLE[0], k=20)[:5]
    for item in gone:
        exploring.ask(f"/v1/items/{item}/takedown", reason="")
    assert not any(
        set(exploring.items(user_id=PEOPLE[0], k=5, request_id=str(i))) & set(gone)
        for i in range(50)
    )
    assert (
        len(
            {
                tuple(
                    one["item_id"]
                    for one in exploring.ask("/v1/similar", item_id=SHOP.catalogue.ids[3])["items"]
                )
                for _ in range(5)
            }
        )
        == 1
    )


def test_an_experiment_splits_people_for_ever_and_says_what_came_of_it(client, service, models):
    assert client.ask("/v1/models", folder="two")["version"] == 2
    client.ask("/v1/models/switch", version=1)
    client.ask("/v1/experiments", name="wider", arms=[{"version": 1}, {"version": 2}], action="buy")
    arms = {user: arm_of("shop", "wider", user, (1, 1)) for user in PEOPLE}
    assert 15 < sum(arms.values()) < 45
    for turn in range(2):
        for user in PEOPLE:
            answer = client.ask("/v1/recommendations", user_id=user, k=3)
            assert answer["model"] == f"CoVisitation@{arms[user] + 1}"
            if arms[user] and turn:  # people of the second arm buy, once
                event = {
                    "event_id": f"b-{user}",
                    "user_id": user,
                    "item_id": answer["items"][0]["item_id"],
                    "action": "buy",
                    "request_id": answer["request_id"],
                }
                client.ask(
                    "/v1/events",
                    events=[event, {**event, "event_id": f"v-{user}", "action": "view"}],
                )
    # somebody without an id
    assert client.ask("/v1/recommendations", k=3)["model"] == "CoVisitation@1"
    service.list_log._write()
    found = client.ask("/v1/experiments/wider", method="GET")
    first, second = found["results"]
    assert (first["people"], first["lists"], first["chosen"], first["rate"]) == (
        60 - sum(arms.values()),
        2 * first["people"],
        0,
        0.0,
    )
    assert (second["people"], second["chosen"], second["rate"]) == (
        sum(arms.values()),
        second["people"],
        0.5,
    )
    assert client.ask("/v1/experiments/wider", method="DELETE") == {"ended": "wider"}
    assert {
        client.ask("/v1/recommendations", user_id=user, k=1)["model"] for user in PEOPLE[:20]
    } == {"CoVisitation@1"}
    service.list_log._write()
    # what came later does not count
    assert client.ask("/v1/experiments/wider", method="GET")["results"] == found["results"]
    assert client.ask("/v1/experiments", method="GET")["experiments"][0]["ended_ms"] is not None


def test_only_lists_of_the_arm_s_own_version_count(client, service, models):
    """A worker that cannot load an arm, or has not yet, answers by the version in place."""
    client.ask("/v1/models", folder="two")
    client.ask("/v1/experiments", name="x", arms=[{"version": 1}, {"version": 2}])
    before = Service(service.engine, service.settings)  # it does not know of the experiment
    before.model_registry._refresh_experiment = lambda *_: None
    arms = {user: arm_of("shop", "x", user, (1, 1)) for user in PEOPLE[:20]}
    first = next(user for user in PEOPLE if arms[user] == 0)
    second = next(user for user in PEOPLE if arms[user] == 1)
    with Client(make_app(before), key(service, "admin")) as late:
        for asking, times in ((client, 2), (late, 3)):
            for user in (first, second):
                for _ in range(times):
                    answer = asking.ask("/v1/recommendations", user_id=user, k=3)
        event = {
            "event_id": "e",
            "user_id": second,
            "item_id": answer["items"][0]["item_id"],
            "request_id": answer["request_id"],
        }
        client.ask("/v1/events", events=[event])
    service.list_log.close()
    found = client.ask("/v1/experiments/x", method="GET")
    # version 2 was in place: what the late worker answered is that of the second arm
    assert [(arm["lists"], arm["chosen"]) for arm in found["results"]] == [(2, 0), (5, 1)]
    assert any(note.endswith("arm: 3") for note in found["notes"])
    with writing(service.engine) as connection:  # version 12 is not version 2
        connection.exec_driver_sql(
            "UPDATE requests SET model = 'CoVisitation@12' WHERE model = 'CoVisitation@2'"
        )
    found = client.ask("/v1/experiments/x", method="GET")
    assert [arm["lists"] for arm in found["results"]] == [2, 0]
    assert any(note.endswith("arm: 8") for note in found["notes"])


def test_a_switch_while_an_experiment_runs_changes_no_arm(client, service, models):
    client.ask("/v1/models", folder="two")
    client.ask("/v1/experiments", name="x", arms=[{"version": 1}, {"version": 2}])
    Popularity().fit(SHOP).save(models["one"].with_name("third"), overwrite=True)
    client.ask("/v1/models", folder="third")
    service.model_registry.refresh("shop")
    for user in PEOPLE[:10]:
        client.ask("/v1/recommendations", user_id=user, k=3)
    service.list_log.close()
    found = client.ask("/v1/experiments/x", method="GET")
    assert sum(arm["lists"] for arm in found["results"]) == 10
    assert not [note for note in found["notes"] if "left out" in note]


def test_a_worker_takes_up_an_experiment_that_another_began_and_drops_it_when_it_has_ended(
    client, service, models
):
    client.ask("/v1/models", folder="two")
    other = Service(service.engine, service.settings)
    with Client(make_app(other), key(service, "admin")) as second:
        user = next(user for user in PEOPLE if arm_of("shop", "x", user, (1, 3)) == 0)
        client.ask(
            "/v1/experiments",
            name="x",
            arms=[{"version": 1, "share": 1}, {"version": 2, "share": 3}],
        )
        other.model_registry.refresh("shop")
        assert second.ask("/v1/recommendations", user_id=user)["model"] == "CoVisitation@1"
        client.ask("/v1/experiments/x", method="DELETE")
        other.model_registry.refresh("shop")
        assert second.ask("/v1/recommendations", user_id=user)["model"] == "CoVisitation@2"


def test_an_experiment_whose_model_is_gone_leaves_the_answers_as_they_were_and_is_told_once(
    client, service, models, tmp_path, caplog
):
    gone = Popularity().fit(SHOP).save(models["one"].parent / "gone")
    client.ask("/v1/models", folder="gone")
    client.ask("/v1/models/switch", version=1)
    client.ask("/v1/experiments", name="x", arms=[{"version": 1}, {"version": 2}])
    shutil.rmtree(gone)
    other = Service(service.engine, service.settings)
    with Client(make_app(other), key(service, "admin")) as second:
        for _ in range(3):
            other.model_registry.refresh("shop")
        assert {
            second.ask("/v1/recommendations", user_id=user)["model"] for user in PEOPLE[:10]
        } == {"CoVisitation@1"}
    assert sum("experiment not in place" in one.message for one in caplog.records) == 1


def test_a_model_whose_folder_was_away_answers_once_it_is_back(
    service, models, monkeypatch, caplog
):
    """A network drive that is mounted a minute after the server starts must not leave it without a
    model until somebody restarts it.
    """

    folder, aside = models["one"], models["one"].with_name("aside")
    folder.rename(aside)
    with Client(make_app(service), key(service, "admin")) as client:
        for _ in range(3):
            assert (
                "version 1" in client.ask("/v1/recommendations", 503, user_id=PEOPLE[0])["detail"]
            )
        assert sum("model not in place" in one.message for one in caplog.records) == 1
        aside.rename(folder)
        client.ask("/v1/recommendations", 503, user_id=PEOPLE[0])  # not tried again so soon
        monkeypatch.setattr(model_registry, "AGAIN_S", 0.0)
        assert client.ask("/v1/recommendations", user_id=PEOPLE[0])["model"] == "CoVisitation@1"


def test_what_cannot_be_begun_is_refused_and_changes_nothing(client, models):
    client.ask("/v1/models", folder="two")
    arms = [{"version": 1}, {"version": 2}]
    assert (
        "no model version 9"
        in client.ask("/v1/experiments", 409, name="a", arms=[{"version": 1}, {"version": 9}])[
            "detail"
        ]
    )
    client.ask("/v1/experiments", 409, name="a", arms=[{"version": 1}, {"version": 1}])
    client.ask("/v1/experiments", 422, name="a", arms=arms[:1])
    client.ask("/v1/experiments", 422, name="a", arms=[{"version": 1, "share": 0}, {"version": 2}])
    assert client.ask("/v1/experiments", method="GET") == {"experiments": []}
    client.ask("/v1/experiments", name="a", arms=arms)
    assert "end it first" in client.ask("/v1/experiments", 409, name="b", arms=arms)["detail"]
    client.ask("/v1/experiments/a", method="DELETE")
    assert "another name" in client.ask("/v1/experiments", 409, name="a", arms=arms)["detail"]
    client.ask("/v1/experiments/nothing", 404, method="GET")
    client.ask("/v1/experiments/a", 404, method="DELETE")


def test_rates_by_hand_intervals_and_an_uneven_split():
    users = [f"u{i}" for i in range(4_000)]
    experiment = {"name": "e", "arms": [{"version": 1, "share": 1.0}, {"version": 2, "share": 1.0}]}
    arms = {user: arm_of("t", "e", user, (1, 1)) for user in users}
    outcomes = [
        (user, 4, (i % 10 == 0) + 2 * (arms[user] and i % 5 == 0)) for i, user in enumerate(users)
    ]
    found = judge("t", experiment, outcomes)
    first, second = found["results"]
    assert (
        first["rate"] == pytest.approx(0.025, abs=0.004)
        and second["rate"] == pytest.approx(0.125, abs=0.01)
        and not found["notes"]
    )
    against = second["against_first"]
    assert (
        against["interval"][0] < second["rate"] - first["rate"] < against["interval"][1]
        and against["p"] < 1e-6
        and first["against_first"] is None
    )
    # half of an arm's people are not counted
    lost = [one for one in outcomes if arms[one[0]] == 0 or hash(one[0]) % 2]
    assert "unevenly" in judge("t", experiment, lost)["notes"][0]
    few = judge("t", experiment, outcomes[:20])
    assert few["results"][0]["interval"] is None and "fewer than" in few["notes"][0]
    nobody = judge("t", experiment, [])
    assert nobody["results"][0]["rate"] is None


def test_arms_have_the_shares_they_were_given():
    counted = [0, 0, 0]
    for i in range(6_000):
        counted[arm_of("t", "e", f"person {i}", (1, 2, 3))] += 1
    assert counted[0] == pytest.approx(1_000, abs=120) and counted[1] == pytest.approx(
        2_000, abs=150
    )


def test_a_model_is_judged_by_the_log_before_it_answers(exploring, models, url):
    for i in range(120):
        answer = exploring.ask(
            "/v1/recommendations", user_id=PEOPLE[i % 60], k=4, request_id=f"q{i}"
        )
        if i % 3 == 0:
            exploring.ask(
                "/v1/events",
                events=[
                    {
                        "event_id": f"e{i}",
                        "user_id": PEOPLE[i % 60],
                        "item_id": answer["items"][0]["item_id"],
                        "request_id": f"q{i}",
                    }
                ],
            )
    exploring.service.list_log._write()
    done = CliRunner().invoke(
        app,
        [
            "estimate",
            str(models["one"]),
            str(models["two"]),
            "--database",
            url,
            "--tenant",
            "shop",
            "--json",
        ],
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)[str(models["one"])]
    assert (
        found["requests"] == 120
        and found["logged"]["mean"] == pytest.approx(1 / 3)
        and found["agreement"] > 0.4
    )
    table = CliRunner().invoke(
        app, ["estimate", str(models["two"]), "--database", url, "--tenant", "shop"]
    )
    assert "120 lists" in table.output and "would earn" in table.output


def test_a_refit_of_what_learns_from_showings_reads_them(exploring, tmp_path):
    for i in range(20):
        exploring.items(user_id=PEOPLE[i], k=4)
    exploring.service.list_log._write()
    pipeline = {"class": "Thompson", "inner": {"class": "CoVisitation"}}
    outcome = refit(exploring.service.engine, "shop", pipeline, tmp_path, force=True)
    assert outcome.swapped
    with reading(exploring.service.engine):
        exploring.service.model_registry.refresh("shop")
    assert exploring.ask("/v1/recommendations", user_id=PEOPLE[0])["model"].startswith("Thompson@")
    assert exploring.service.model_registry.model("shop").model.inner_.fit_report_["showings"] == 80


@pytest.mark.slow
def test_the_served_demo_ends_with_what_came_of_the_trial(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    words = [
        "demo",
        "--serve",
        "--out",
        str(tmp_path),
        "--users",
        "300",
        "--items",
        "120",
        "--port",
        port,
        "--visits",
        "200",
        "--pause",
        "0",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tailor", *words],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "200 visits" in done.stdout
        and "best sellers" in done.stdout
        and "tailor estimate" in done.stdout
    )
    engine = connect(str(tmp_path / "demo.db"))
    with reading(engine) as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM requests")).scalar_one() == 200
        assert (
            connection.execute(
                sa.text("SELECT count(*) FROM events WHERE request_id IS NOT NULL")
            ).scalar_one()
            > 10
        )
    engine.dispose()


def test_a_write_of_lists_waits_for_the_one_that_is_under_way(service, monkeypatch):
    begun, goes_on, finished = threading.Event(), threading.Event(), threading.Event()

    def held(lists):
        begun.set()
        assert goes_on.wait(30)
        finished.set()

    log = service.list_log
    monkeypatch.setattr(log, "_put", held)
    with log._lock:
        log._waiting.append(None)
    other = threading.Thread(target=log._write)
    other.start()
    assert begun.wait(30)
    threading.Timer(0.05, goes_on.set).start()
    log._write()
    assert finished.is_set()
    other.join()
