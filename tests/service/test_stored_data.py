"""The stored data: figures of the tables, and a diagnosis that runs apart and names nobody."""

import json
import time

import pytest

pytest.importorskip("fastapi")

from service.served_shop import SHOP, key, until

from tailor.data.checks import check
from tailor.service import diagnosing, remembered
from tailor.service.diagnosing import Diagnoses, RunState, read_state
from tailor.service.diagnosis_process import diagnose_stored
from tailor.store.datasets import REPEATS_A_DAY
from tailor.store.engine import now_ms, reading, writing

USER, OTHER = SHOP.users.ids[:2].tolist()
ITEM = SHOP.catalogue.ids[0]
DIAGNOSIS = "/v1/data/diagnosis"


@pytest.fixture(autouse=True)
def counted_at_every_look(monkeypatch):
    monkeypatch.setattr(remembered, "FRESH_S", 0.0)
    monkeypatch.setattr(remembered, "IDLE_PARTS", 0)


@pytest.fixture
def slow_process(monkeypatch):
    """Diagnoses take until they are ended."""
    command = ("sleep", "600")
    monkeypatch.setattr(diagnosing, "COMMAND", command)
    monkeypatch.setattr(diagnosing, "QUICK_S", 0.1)
    monkeypatch.setattr(diagnosing, "BEAT_S", 0.05)


def tables(client):
    return {table["name"]: table for table in client.ask("/v1/data", method="GET")["tables"]}


def test_tables_have_rows_times_missing_values_and_repeats(client, service):
    before = tables(client)
    assert before["events"]["rows"] == len(SHOP.events)
    assert before["events"]["first_ms"] == SHOP.events["time_ms"].min()
    assert before["items"]["rows"] == len(SHOP.catalogue)
    pairs = SHOP.events.select("user_id", "item_id").n_unique()
    assert before["events"]["repeats"] == pytest.approx(1 - pairs / len(SHOP.events))
    time_ms = now_ms()
    client.ask(
        "/v1/events",
        events=[{"event_id": "e", "user_id": USER, "item_id": ITEM, "time_ms": time_ms}],
    )
    client.ask("/v1/items", method="PUT", items=[{"item_id": "pot", "more": {"glaze": "red"}}])
    after = tables(client)
    assert after["events"]["last_ms"] == time_ms
    missing = {row["name"]: row["missing"] for row in after["items"]["columns"]}
    count = len(SHOP.catalogue) + 1
    assert missing["glaze"] == pytest.approx(1 - 1 / count)
    assert missing["title"] == pytest.approx(1 / count)
    actions = client.ask("/v1/data", method="GET")["actions"]
    assert sum(row["events"] for row in actions) == len(SHOP.events) + 1


def test_the_key_of_made_ids_is_the_tenant_s_own(client, service):
    own = client.ask("/v1/data", method="GET")["id_key"]
    assert own == client.ask("/v1/data", method="GET")["id_key"]
    bearer = {"authorization": f"Bearer {key(service, 'admin', 'rival')}"}
    rival = client.get("/v1/data", headers=bearer).json()
    assert rival["id_key"] != own and {table["rows"] for table in rival["tables"]} == {0}


def test_the_diagnosis_says_what_the_commands_say_and_names_nobody(service):
    steps = []
    result = diagnose_stored(service.engine, "shop", steps.append)
    text = json.dumps(result)
    assert not any(user_id in text for user_id in SHOP.users.ids)
    assert result["stats"]["events"] == len(SHOP.events) - result["left_out"]
    names = {finding["name"] for finding in result["findings"]}
    assert {finding.name for finding in check(SHOP) if finding.table == "items"} <= names
    assert {floor["name"] for floor in result["floors"]} >= {"most popular", "random"}
    assert [step["step"] for step in steps][:2] == [
        "reading the store",
        "leaving the last event of each person out",
    ]


def test_ids_of_people_stand_in_no_finding(service, client):
    count = 2 * REPEATS_A_DAY
    reloads = [
        {"event_id": f"r{n}", "user_id": "12.0", "item_id": ITEM, "time_ms": now_ms() - n}
        for n in range(count)
    ]
    client.ask("/v1/events", events=reloads)
    result = diagnose_stored(service.engine, "shop", lambda line: None)
    assert result["left_out"] == REPEATS_A_DAY
    assert '"12.0"' not in json.dumps(result)
    assert all(not row["examples"] for row in result["findings"] if row["table"] == "events")


def test_a_run_ends_with_a_result_that_stays(client):
    assert client.ask(DIAGNOSIS, method="GET")["state"] == "none"
    begun = client.ask(DIAGNOSIS)
    assert begun["state"] in ("running", "done")
    until(lambda: client.ask(DIAGNOSIS, method="GET")["state"] == "done")
    shown = client.ask(DIAGNOSIS, method="GET")
    assert shown["result"]["stats"]["items"] == len(SHOP.catalogue)
    assert shown["result_ms"] == begun["begun_ms"] and shown["problem"] is None


def test_a_run_is_cancelled_and_begins_once(client, service, slow_process):
    assert client.ask(DIAGNOSIS)["state"] == "running"
    first = client.ask(DIAGNOSIS, method="GET")["begun_ms"]
    assert client.ask(DIAGNOSIS)["begun_ms"] == first  # no second one
    assert client.ask(DIAGNOSIS, method="DELETE")["state"] in ("cancelling", "cancelled")
    until(lambda: client.ask(DIAGNOSIS, method="GET")["state"] == "cancelled")
    assert client.ask(DIAGNOSIS, method="DELETE")["state"] == "cancelled"  # nothing to cancel
    bearer = {"authorization": f"Bearer {key(service, 'admin', 'rival')}"}
    assert client.get(DIAGNOSIS, headers=bearer).json()["state"] == "none"


def test_another_worker_cancels_a_run(client, service, slow_process):
    client.ask(DIAGNOSIS)
    other = Diagnoses(service.engine, service.writer)
    assert other.show("shop")["state"] == "running"
    other.cancel("shop")
    until(lambda: client.ask(DIAGNOSIS, method="GET")["state"] == "cancelled")


def test_a_run_whose_server_was_killed_is_broken_off(client, service, slow_process):
    dead = RunState("running", "dead", begun_ms=1, beat_ms=int(time.time() * 1000) - 60_000)
    with writing(service.engine) as connection:
        diagnosing._write_state(connection, "shop", dead)
    assert client.ask(DIAGNOSIS, method="GET")["problem"].startswith("the run broke off")
    assert client.ask(DIAGNOSIS)["state"] == "running"  # another may begin
    with reading(service.engine) as connection:
        assert read_state(connection, "shop").name != "dead"


def test_an_empty_store_is_told_what_to_do(client, service):
    bearer = {"authorization": f"Bearer {key(service, 'admin', 'rival')}"}
    client.post(DIAGNOSIS, headers=bearer)
    until(lambda: client.get(DIAGNOSIS, headers=bearer).json()["state"] == "failed")
    assert "send some to /v1/events" in client.get(DIAGNOSIS, headers=bearer).json()["problem"]


def test_a_process_that_dies_fails_the_run(client, monkeypatch):
    monkeypatch.setattr(diagnosing, "COMMAND", ("false",))
    client.ask(DIAGNOSIS)
    until(lambda: client.ask(DIAGNOSIS, method="GET")["state"] == "failed")
    assert "too little memory" in client.ask(DIAGNOSIS, method="GET")["problem"]
