"""What an event means reaches the model: dislikes, refunds, conditions, attributes, all of a history."""

import pytest

pytest.importorskip("fastapi")

import sqlalchemy as sa
from service.served_shop import SHOP, Client, key, until
from typer.testing import CliRunner

from tailor.cli.main import app
from tailor.core.saving import load
from tailor.data.dataset import Dataset
from tailor.data.nouns import Query
from tailor.errors import DataError, StoreError
from tailor.service.app import make_app
from tailor.service.refit import refit
from tailor.store import experiments as stored_experiments
from tailor.store.datasets import REPEATS_A_DAY, stored_dataset, training_dataset
from tailor.store.engine import reading, writing
from tailor.store.events import add_events
from tailor.store.feedback import CountingRule, read_rule
from tailor.store.loading import load_dataset
from tailor.store.models import current_model
from tailor.store.schema import user_attributes
from tailor.store.users import upsert_user

DAY_MS = 86_400_000
START_MS = 1_700_000_000_000
BAD = "i-bad"


def opinions(against):
    """80 users like 6 of 32 items each, and all of them say `against` of one more."""
    rows = []
    for user in range(80):
        for turn in range(6):
            item = f"i{(user * 5 + turn * 7) % 32}"
            rows.append((f"u{user}", item, START_MS + turn * DAY_MS, "like", 1.0))
        rows.append((f"u{user}", BAD, START_MS + 7 * DAY_MS, *against))
    names = ("user_id", "item_id", "time_ms", "action", "value")
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def learn(engine, tmp_path, columns, only=None, labels=None, tenant="opinions"):
    data = Dataset.from_events(columns)
    data.labels.update(labels or {})
    load_dataset(engine, tenant, data)
    outcome = refit(engine, tenant, {"class": "Popularity"}, tmp_path, force=True, only=only)
    with reading(engine) as connection:
        folder = current_model(connection, tenant)["folder"]
    return outcome, load(folder).recommend([Query()], 40)[0].ids


@pytest.mark.parametrize(
    "against",
    [("dislike", 1.0), ("Thumbs_Down", None), ("refund", 20.0), ("rate", -1.0), (None, -0.5)],
)
def test_what_speaks_against_an_item_never_counts_for_it(service, tmp_path, against):
    outcome, best = learn(service.engine, tmp_path, opinions(against))
    assert BAD not in best[:5] and outcome.left_out == 80 and outcome.events == 480
    _, best = learn(service.engine, tmp_path, opinions(("like", 1.0)), tenant="fans")
    assert best[0] == BAD


def test_only_events_that_meet_the_condition_count_then_and_later(service, tmp_path):
    columns = opinions(("look", 1.0))
    outcome, best = learn(service.engine, tmp_path, columns, only="action = 'like'")
    assert BAD not in best[:5] and outcome.left_out == 80
    with reading(service.engine) as connection:
        assert read_rule(connection, "opinions").text == "only action = 'like'"
    again = refit(service.engine, "opinions", {"class": "Popularity"}, tmp_path, force=True)
    assert again.left_out == 80
    spec = {"class": "Popularity"}
    assert refit(service.engine, "opinions", spec, tmp_path, force=True, only="").left_out == 0
    with pytest.raises(DataError, match="none of the 560 events"):
        refit(service.engine, "opinions", {"class": "Popularity"}, tmp_path, only="value > 9")
    with pytest.raises(DataError, match="colour"):
        refit(service.engine, "opinions", {"class": "Popularity"}, tmp_path, only="colour = 'x'")


def test_a_label_of_the_data_set_says_what_does_not_count(service, tmp_path):
    labels = {"against": "value < 3"}
    columns = opinions(("rate", 2.0))
    columns["value"] = [5.0 if value == 1.0 else value for value in columns["value"]]
    outcome, best = learn(service.engine, tmp_path, columns, labels=labels)
    assert BAD not in best[:5] and outcome.left_out == 80
    assert stored_dataset(service.engine, "opinions").labels == labels
    with pytest.raises(DataError, match="cannot be kept in the store"):
        learn(service.engine, tmp_path, columns, labels={"against": "channel = 'x'"})


def test_where_no_value_is_positive_the_sign_says_nothing(service, tmp_path):
    columns = opinions(("view", -3.0))
    columns["value"] = [-1.0] * len(columns["value"])
    outcome, best = learn(service.engine, tmp_path, columns)
    assert outcome.left_out == 0 and best[0] == BAD
    with Client(make_app(service), key(service, "admin", "opinions")) as client:
        notes = client.ask("/v1/recommendations", user_id="u0")["notes"]
        assert not any("stranger" in note for note in notes)


def model_of(service):
    return service.model_registry.model("shop").model


@pytest.fixture
def asked(client, service, monkeypatch):
    """The queries that the model is asked, in order."""
    queries = []
    answer = model_of(service).recommend

    def recommend(questions, k):
        queries.extend(questions)
        return answer(questions, k)

    monkeypatch.setattr(model_of(service), "recommend", recommend, raising=False)
    return queries


def test_the_history_that_the_model_is_handed_has_no_dislikes_and_they_stay_away(client, asked):
    good, bad, late = map(str, SHOP.catalogue.ids[:3])
    client.ask(
        "/v1/events",
        events=[
            {"event_id": "1", "user_id": "eve", "item_id": good, "action": "view"},
            {"event_id": "2", "user_id": "eve", "item_id": bad, "action": "dislike"},
        ],
    )
    answer = client.ask("/v1/recommendations", user_id="eve", k=200)
    assert asked[-1].history.item_ids == (good,)
    assert not {good, bad} & {item["item_id"] for item in answer["items"]}
    # what comes after the history was read counts likewise
    client.ask(
        "/v1/events",
        events=[{"event_id": "3", "user_id": "eve", "item_id": late, "value": -1.0}],
    )
    answer = client.ask("/v1/recommendations", user_id="eve", k=200)
    assert asked[-1].history.item_ids == (good,)
    assert late not in {item["item_id"] for item in answer["items"]}
    # erased, nothing of it is left in memory
    assert client.ask("/v1/users/eve/data", method="DELETE")["rows"]["memory"] >= 3


def test_a_user_of_dislikes_alone_is_known_and_has_no_history(client, asked):
    item = str(SHOP.catalogue.ids[0])
    client.ask(
        "/v1/events",
        events=[{"event_id": "1", "user_id": "eve", "item_id": item, "action": "dislike"}],
    )
    for _ in range(2):
        answer = client.ask("/v1/recommendations", user_id="eve", k=200)
        assert not any("nothing is known" in note for note in answer["notes"])
        assert asked[-1].history.item_ids == ()
        assert item in asked[-1].exclude


def test_the_histories_follow_a_rule_that_changes(client, service, asked, tmp_path):
    first, second = map(str, SHOP.catalogue.ids[:2])
    client.ask(
        "/v1/events",
        events=[
            {"event_id": "1", "user_id": "eve", "item_id": first, "action": "view"},
            {"event_id": "2", "user_id": "eve", "item_id": second, "action": "buy"},
        ],
    )
    client.ask("/v1/recommendations", user_id="eve")
    assert asked[-1].history.item_ids == (first, second)
    spec = {"class": "CoVisitation"}
    refit(service.engine, "shop", spec, tmp_path, force=True, only="action = 'buy'")
    client.ask("/v1/recommendations", user_id="eve")
    assert asked[-1].history.item_ids == (second,)
    client.ask(
        "/v1/events",
        events=[{"event_id": "3", "user_id": "eve", "item_id": first, "action": "view"}],
    )
    client.ask("/v1/recommendations", user_id="eve")
    assert asked[-1].history.item_ids == (second,)


def test_all_of_a_long_history_counts_as_seen(client, service):
    ids = SHOP.catalogue.ids.tolist()
    events = [
        {
            "event_id": f"e{i}",
            "user_id": "eve",
            "item_id": ids[0] if i == 0 else ids[1 + i % 3],
            "time_ms": START_MS + i,
        }
        for i in range(900)
    ]
    client.ask("/v1/events", events=events)
    for _ in range(2):
        shown = client.items(user_id="eve", k=200)
        assert shown and not set(shown) & set(ids[:4])


def test_a_user_s_attributes_are_the_context_and_the_request_s_own_go_before(client, asked):
    client.ask("/v1/users/eve", method="PUT", more={"country": "NO", "age": 7})
    client.ask("/v1/recommendations", user_id="eve", context={"age": 8, "page": "home"})
    assert asked[-1].context == {"country": "NO", "age": 8, "page": "home"}
    assert asked[-1].user_id == "eve" and asked[-1].time_ms is not None
    client.ask("/v1/recommendations", user_id="bob")
    assert asked[-1].context == {}
    client.ask("/v1/recommendations", history=[])
    assert asked[-1].context == {}
    client.ask("/v1/users/eve/data", method="DELETE")
    client.ask("/v1/recommendations", user_id="eve")
    assert asked[-1].context == {}


def test_attributes_that_are_damaged_cost_no_answer(client, service, asked, caplog):
    client.ask("/v1/users/eve", method="PUT", more={"country": "NO"})
    with writing(service.engine) as connection:
        connection.execute(sa.update(user_attributes).values(sealed=bytes(40)))
    client.ask("/v1/recommendations", user_id="eve")
    assert asked[-1].context == {} and "cannot be read" in caplog.text


def test_attributes_that_another_process_wrote_arrive_too(client, service, asked):
    client.ask("/v1/recommendations", user_id="eve")
    with writing(service.engine) as connection:
        upsert_user(connection, "shop", "eve", {"country": "NO"})

    def arrived():
        client.ask("/v1/recommendations", user_id="eve")
        return asked[-1].context == {"country": "NO"}

    until(arrived)


def test_a_refit_learns_from_attributes_as_a_fit_on_a_data_set_does(service):
    with writing(service.engine) as connection:
        upsert_user(connection, "shop", SHOP.users.ids[0], {"country": "NO", "age": 7})
        upsert_user(connection, "shop", SHOP.users.ids[1], {"country": "SE", "age": "old"})
    users = training_dataset(service.engine, "shop").data.tables["users"]
    rows = {row["user_id"]: row for row in users.to_dicts()}
    assert rows[SHOP.users.ids[0]]["country"] == "NO" and rows[SHOP.users.ids[0]]["age"] == 7
    assert rows[SHOP.users.ids[1]]["age"] is None


# one value, and everybody's answers


def test_a_page_reloaded_all_day_does_not_become_everybodys_favourite(service):
    item = str(SHOP.catalogue.ids[-1])
    rows = [
        {
            "event_id": f"r{i}",
            "user_id": "reloader",
            "item_id": item,
            "time_ms": START_MS + 1_000 * i,
            "action": "view",
        }
        for i in range(3_000)
    ]
    with writing(service.engine) as connection:
        add_events(connection, "shop", rows, START_MS + DAY_MS)
    events = training_dataset(service.engine, "shop").data.events
    assert len(events.filter(user_id="reloader")) == REPEATS_A_DAY
    assert len(stored_dataset(service.engine, "shop").events.filter(user_id="reloader")) == 3_000


def test_a_list_asked_for_a_thousand_times_is_not_a_thousand_showings(client, service):
    for i in range(70):
        client.items(user_id="reloader", k=3, request_id=f"r{i}")
    client.items(user_id=SHOP.users.ids[0], k=3, request_id="other")
    service.list_log._write()
    tables = training_dataset(service.engine, "shop", with_lists=True).data.tables
    assert len(tables["requests"].filter(user_id="reloader")) == 50
    assert len(tables["requests"].filter(request_id="other")) == 1
    assert set(tables["impressions"]["request_id"]) <= set(tables["requests"]["request_id"])


def test_an_event_from_the_future_moves_no_clock(service):
    future = {"event_id": "f", "user_id": "eve", "item_id": "x", "time_ms": 4_000_000_000_000}
    with writing(service.engine) as connection:
        add_events(connection, "shop", [future], START_MS)
    times = training_dataset(service.engine, "shop").data.events["time_ms"]
    assert times.max() == SHOP.events["time_ms"].max()


def test_a_log_that_lies_in_the_future_as_a_whole_is_one_of_a_simulation(service):
    columns = {"user_id": ["a", "b"], "item_id": ["x", "y"], "time_ms": [4 * 10**12, 4 * 10**12]}
    load_dataset(service.engine, "later", Dataset.from_events(columns))
    assert len(training_dataset(service.engine, "later").data.events) == 2


@pytest.mark.parametrize("odd", ["many", True, [1], {"a": 1}, None])
def test_one_item_of_an_odd_type_changes_no_filter(client, odd):
    items = [{"item_id": f"w{i}", "title": f"wok {i}", "more": {"age": i}} for i in range(5)]
    client.ask("/v1/items", method="PUT", items=items)
    kept = {"filter": "age <= 2 and title contains 'wok'"}

    def woks():
        found = client.ask("/v1/search", text="wok", k=50, **kept)["items"]
        return {item["item_id"] for item in found}

    assert woks() == {"w0", "w1", "w2"}
    strange = {"item_id": "w9", "title": "wok 9", "more": {"age": odd}}
    client.ask("/v1/items", method="PUT", items=[strange])
    assert woks() == {"w0", "w1", "w2"}
    client.ask("/v1/items", method="PUT", items=[{**strange, "more": {"age": "1"}}])
    assert woks() == {"w0", "w1", "w2", "w9"}


def test_a_dislike_of_a_list_is_no_success_of_an_experiment(client, service, models):
    client.ask("/v1/models", folder="two")
    client.ask("/v1/experiments", name="x", arms=[{"version": 1}, {"version": 2}])
    actions = {"eve": "dislike", "bob": "view", "cat": None}
    for user, action in actions.items():
        answer = client.ask("/v1/recommendations", user_id=user, history=None, k=3)
        event = {
            "event_id": user,
            "user_id": user,
            "item_id": str(SHOP.catalogue.ids[0]),
            "action": action,
            "request_id": answer["request_id"],
        }
        client.ask("/v1/events", events=[event])
    service.list_log._write()
    with reading(service.engine) as connection:
        experiment = stored_experiments.list_experiments(connection, "shop")[0]
        outcomes = stored_experiments.outcomes(connection, "shop", experiment)
    assert {user: chosen for user, _, chosen in outcomes} == {"eve": 0, "bob": 1, "cat": 1}


# commands


def run(*words, code=0):
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


def test_the_store_is_exported_as_a_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = Dataset.from_events(opinions(("dislike", 1.0)))
    data.labels["against"] = "action = 'dislike'"
    data.save("data")
    run("store", "load", "data", "--database", "s.db")
    assert "560 events of 80 users" in run("store", "export", "out", "--database", "s.db")
    out = Dataset.open("out")
    assert out.labels == data.labels
    columns = ["user_id", "item_id", "time_ms", "action", "value"]
    assert (
        out.events.select(columns).sort(columns).equals(data.events.select(columns).sort(columns))
    )
    again = CliRunner().invoke(app, ["store", "export", "out", "--database", "s.db"])
    assert isinstance(again.exception, DataError | StoreError)
    run("store", "export", "out", "--overwrite", "--lists", "--database", "s.db")
    # what was exported and loaded again is nothing new
    assert "0 of them new" in run("store", "load", "out", "--database", "s.db")


def test_refit_says_how_many_events_do_not_count(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Dataset.from_events(opinions(("dislike", 1.0))).save("data")
    run("store", "load", "data", "--database", "s.db")
    said = run("refit", "Popularity", "--database", "s.db", "--out", "models")
    assert "480 events count, 80 do not" in said
    words = ["refit", "Popularity", "--database", "s.db", "--out", "models", "--force"]
    said = run(*words, "--only", "action = 'dislike'")
    assert "80 events count, 480 do not" in said


def test_a_rule_that_is_none_is_refused():
    for text in ("nonsense", "only ", "only colour = 'x'", "against action ="):
        with pytest.raises(DataError):
            CountingRule(text)
