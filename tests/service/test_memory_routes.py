"""Memories over HTTP: what each role may do, what stays in workers, what the log shows."""

import json
import logging
import threading
from dataclasses import replace

import pytest

pytest.importorskip("fastapi")

from service.served_shop import Client, key

from tailor.service.app import make_app
from tailor.service.middleware import JsonLines
from tailor.service.state import Service, Settings
from tailor.store import users
from tailor.store.engine import connect, now_ms

ANN = "/v1/users/ann/memory"
SECRET = "marmalade from the old harbour"


def observe(client, *texts, path=ANN, days=1, **more):
    time_ms = now_ms() - days * 86_400_000
    observations = [
        {"text": text, "time_ms": time_ms + number, **more} for number, text in enumerate(texts)
    ]
    return client.ask(f"{path}/observations", observations=observations)


def facts(client, path=ANN):
    return client.ask(path, method="GET")["propositions"]


def test_what_a_user_says_is_recalled_explained_corrected_and_forgotten(client):
    answer = observe(client, "I live in Oslo.", "I really like green tea.", "Hello there!")
    assert len(answer["new"]) == 3
    assert {each["text"] for each in answer["believed"]} == {"lives in Oslo", "likes green tea"}
    items = client.ask(f"{ANN}/recall", query="green tea")["items"]
    assert {each["text"] for each in items} >= {"likes green tea", "I really like green tea."}
    assert all(each["observation_ids"] for each in items)
    city = next(each for each in facts(client) if each["predicate"] == "lives in")
    place = f"{ANN}/propositions/{city['proposition_id']}"
    why = client.ask(place, method="GET")
    assert [each["text"] for each in why["evidence"]] == ["I live in Oslo."]
    assert client.ask(f"{place}/confirm")["propositions"][0]["status"] == "confirmed"
    client.ask(place, method="PUT", value="Bergen")
    answer = client.ask(ANN, method="GET")
    assert "lives in Bergen" in answer["text"] and "Oslo" not in answer["text"]
    receipt = client.ask(f"{ANN}/forget", query="green tea")
    assert receipt["forgotten"]["observations"] == 1 and receipt["residue"] == 0
    public = client.ask("/v1/receipts/key", method="GET")["public_key"]
    assert users.receipt_holds(receipt, public)
    assert "tea" not in json.dumps(client.ask(f"{ANN}/export", method="GET"))
    exported = client.ask(f"{ANN}/export", method="GET")["memory"]
    client.ask("/v1/users/bob/memory/import", memory=exported)
    copied = client.ask("/v1/users/bob/memory/export", method="GET")["memory"]
    assert copied["state_hash"] == exported["state_hash"]
    client.ask(ANN, method="DELETE")
    assert facts(client) == [] and facts(client, "/v1/users/bob/memory")


def test_sensitive_facts_are_shown_on_request_alone(client):
    observe(client, "I am diabetic.", "I like tea.")
    shown = client.ask(f"{ANN}?most_sensitivity=3", method="GET")["propositions"]
    least = client.ask(f"{ANN}?tokens=1", method="GET")
    assert {each["sensitivity"] for each in facts(client)} <= {0, 1}
    assert len(shown) >= len(facts(client)) >= 1 and least["propositions"] == []


def test_no_reading_shows_sensitive_words_unless_asked(client):
    observe(client, "I am diabetic.", "I live in Oslo and I am allergic to nuts.", "I like tea.")
    sensitive = client.ask(f"{ANN}/timeline?most_sensitivity=3", method="GET")["propositions"]
    diet = next(each for each in sensitive if each["sensitivity"] == 3)
    place = f"{ANN}/propositions/{diet['proposition_id']}"
    answers = [
        client.ask(f"{ANN}/recall", query="diabetic allergic nuts Oslo tea"),
        client.ask(f"{ANN}/timeline", method="GET"),
        client.ask(f"{ANN}/diff?since_ms=100000000000", method="GET"),
        client.ask(place, 404, method="GET"),
        *(
            client.ask(f"{ANN}/propositions/{each['proposition_id']}", method="GET")
            for each in facts(client)
        ),
    ]
    for answer in answers:
        assert "diabet" not in json.dumps(answer) and "allerg" not in json.dumps(answer)
    for path in (f"{ANN}/timeline?", f"{ANN}/diff?since_ms=100000000000&", f"{place}?"):
        assert diet["text"] in json.dumps(client.ask(f"{path}most_sensitivity=3", method="GET"))
    recalled = client.ask(f"{ANN}/recall", query="diabetic", most_sensitivity=3)
    assert "diabetic" in json.dumps(recalled)


def test_an_import_is_checked_as_deeply_as_a_request(client):
    observe(client, "I like tea.", "I live in Oslo.")
    client.ask(f"{ANN}/propositions/{facts(client)[0]['proposition_id']}/confirm")
    exported = client.ask(f"{ANN}/export", method="GET")["memory"]

    def changed(table, **values):
        rows = [dict(row) for row in exported[table]]
        rows[0].update(values)
        return {**exported, table: rows}

    bad = [
        changed("observations", text="half\ud800"),
        changed("observations", source="s" * 1_001),
        changed("observations", item_id="a\nb"),
        changed("observations", value=True),
        changed("observations", occurred_ms=True),
        changed("observations", kind="order"),
        changed("drafts", weight=5.0),
        changed("drafts", weight=True),
        changed("drafts", object="x" * 1_001),
        changed("drafts", object="zero\0byte"),
        changed("drafts", observation_id="somebody else's"),
        changed("drafts", act="insist"),
        changed("drafts", span=[0]),
        changed("drafts", sensitivity=0.5),
        changed("drafts", occurred_ms=-1),
        {**exported, "drafts": exported["drafts"][:1] * 251},
    ]
    for memory in bad:
        body = json.dumps({"memory": memory})
        headers = {"content-type": "application/json"}
        answer = client.post("/v1/users/bob/memory/import", content=body, headers=headers)
        assert answer.status_code == 409 and "the export" in answer.text, memory
    assert facts(client, "/v1/users/bob/memory") == []
    forged = [dict(row) for row in exported["drafts"]]
    edit = next(row for row in forged if row["act"] == "confirm")
    edit["object"] = "anything"
    client.ask("/v1/users/bob/memory/import", memory={**exported, "drafts": forged})
    copied = client.ask("/v1/users/bob/memory/export", method="GET")["memory"]
    assert copied["state_hash"] == exported["state_hash"]  # an edit says what it says


def test_a_receipt_of_forgetting_can_be_asked_for_again(client, service):
    observe(client, "I like tea.")
    receipt = client.ask(f"{ANN}/forget", query="tea")
    again = client.ask(f"/v1/receipts/{receipt['receipt_id']}", method="GET")
    assert {**again, "overwritten": None, "signature": ""} == {
        **receipt,
        "overwritten": None,
        "signature": "",
    }
    public = client.ask("/v1/receipts/key", method="GET")["public_key"]
    assert users.receipt_holds(again, public)
    rival = Client(client.app, key(service, "admin", "rival"))
    rival.ask(f"/v1/receipts/{receipt['receipt_id']}", 404, method="GET")


def test_memories_are_served_unless_the_server_is_told_not_to(service):
    assert Service(service.engine, Settings()).settings.memory
    with Client(
        make_app(Service(service.engine, replace(service.settings, memory=False))),
        key(service, "admin"),
    ) as client:
        client.ask(ANN, 404, method="GET")


def test_each_role_sees_writes_or_deletes_and_tenants_never_mix(client, service):
    observe(client, "I like tea.")
    roles = {role: Client(client.app, key(service, role)) for role in ("serve", "read", "write")}
    roles["serve"].ask(f"{ANN}/recall", 403, query="tea")
    assert roles["read"].ask(f"{ANN}/recall", query="tea")["items"]
    roles["read"].ask(f"{ANN}/observations", 403, observations=[{"text": "a"}])
    observe(roles["write"], "I like salt.")
    for method, path in (("DELETE", ANN), ("GET", f"{ANN}/export"), ("POST", f"{ANN}/forget")):
        answer = roles["write"].request(method, path, json={"query": "tea"})
        assert answer.status_code == 403
    other = Client(client.app, key(service, "admin", "rival"))
    assert facts(other) == [] and other.ask(f"{ANN}/recall", query="tea")["items"] == []
    other.ask(ANN, 404, method="DELETE")
    assert len(facts(client)) == 2


def test_a_paused_memory_and_one_with_a_retention_over_http(client):
    observe(client, "I like tea.", days=20)
    assert client.ask(f"{ANN}/settings", method="PUT", paused=True)["paused"]
    assert observe(client, "I like salt.")["paused"]
    settings = client.ask(f"{ANN}/settings", method="PUT", retention_days=10)
    assert settings["paused"] and settings["retention_days"] == 10 and facts(client) == []
    settings = client.ask(f"{ANN}/settings", method="PUT", paused=False)
    assert not settings["paused"] and settings["retention_days"] == 10
    settings = client.ask(f"{ANN}/settings", method="PUT", retention_days=None)
    assert settings["retention_days"] is None


def test_an_erasure_over_http_takes_the_memory_out_of_store_and_worker(client, service):
    observe(client, f"I like {SECRET}.")
    assert client.ask(f"{ANN}/recall", query="marmalade")["items"]
    assert service.opened_memories.count_of("shop", "ann") == 1
    stores = client.ask("/v1/users/ann/data", method="GET")["stores"]
    assert stores["observations"][0]["observation"]["text"] == f"I like {SECRET}."
    receipt = client.ask("/v1/users/ann/data", method="DELETE")
    assert receipt["rows"]["observations"] == 1 and receipt["rows"]["memory"] >= 2
    assert not any(receipt["scanned"].values()) and len(service.opened_memories) == 0
    assert client.ask(f"{ANN}/recall", query="marmalade")["items"] == []
    assert observe(client, f"I like {SECRET}.")["refused"] == 1


def test_another_worker_drops_what_was_forgotten_with_its_next_answer(client, service):
    observe(client, f"I like {SECRET}.")
    observe(client, "I like tea.", path="/v1/users/bob/memory")
    engine = connect(service.engine.url.render_as_string(hide_password=False))
    other_service = Service(engine, service.settings)
    with Client(make_app(other_service), key(service, "admin")) as other:
        assert other.ask(f"{ANN}/recall", query="marmalade")["items"]
        client.ask(ANN, method="DELETE")
        other.ask("/v1/users/bob/memory/recall", query="tea")
        assert other_service.opened_memories.count_of("shop", "ann") == 0
        assert other.ask(f"{ANN}/recall", query="marmalade")["items"] == []
    engine.dispose()


def test_no_word_of_a_user_is_logged_or_shown_in_an_error(client, caplog):
    caplog.set_level(logging.DEBUG, "tailor")
    observe(client, f"I like {SECRET}.")
    entry = client.ask(ANN, method="GET")["propositions"][0]["proposition_id"]
    client.ask(f"{ANN}/recall", query=SECRET)
    client.ask(f"{ANN}/recall", 422, query=SECRET, k=0)
    client.ask(f"{ANN}/import", 409, memory={"format": SECRET})
    client.ask(f"{ANN}/propositions/{entry}", method="PUT", value=f"{SECRET} again")
    client.ask(f"{ANN}/forget", query=SECRET)
    client.ask(f"{ANN}/entries/{entry}", 404, method="DELETE")
    wrong = client.post(f"{ANN}/observations", json={"observations": [{"text": [SECRET]}]})
    assert wrong.status_code == 422 and SECRET not in wrong.text
    lines = [JsonLines().format(record) for record in caplog.records]
    assert any("/memory/recall" in line for line in lines)
    assert not [line for line in lines if "marmalade" in line or entry in line]


def test_many_who_ask_and_write_at_once_are_all_answered(client):
    failures = []

    def work(number):
        try:
            for turn in range(5):
                observe(client, f"I like tea number {number} {turn}.", days=turn + 1)
                assert client.ask(f"{ANN}/recall", query="tea")["items"]
        except AssertionError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failures, failures
    exported = client.ask(f"{ANN}/export", method="GET")["memory"]
    assert len(exported["observations"]) == 20


def test_a_message_of_a_megabyte_is_refused_or_kept_whole(client, service):
    observe(client, "I like tea. " + "x" * 150_000)
    assert facts(client)[0]["text"] == "likes tea"
    answer = client.post(f"{ANN}/observations", json={"observations": [{"text": "x" * 10**6}]})
    assert answer.status_code == 413  # of this server's body_bytes


def test_no_answer_to_a_writer_shows_what_is_sensitive(client):
    answer = observe(client, "I am allergic to nuts.", "I like tea.")
    assert [each["text"] for each in answer["believed"]] == ["likes tea"]
    hidden = client.ask(f"{ANN}/timeline?most_sensitivity=3", method="GET")["propositions"]
    fact = next(each for each in hidden if each["sensitivity"] == 3)
    place = f"{ANN}/propositions/{fact['proposition_id']}"
    assert client.ask(f"{place}/confirm")["propositions"] == []
    assert client.ask(place, method="PUT", value="cancer")["propositions"] == []
    assert client.ask(f"{place}/reject")["propositions"] == []


def test_a_shorter_retention_takes_the_role_that_deletes(client, service):
    observe(client, "I like tea.")
    writer = Client(client.app, key(service, "write"))
    writer.ask(f"{ANN}/settings", 403, method="PUT", retention_days=30)
    client.ask(f"{ANN}/settings", method="PUT", retention_days=30)
    writer.ask(f"{ANN}/settings", 403, method="PUT", retention_days=29)
    answer = writer.ask(f"{ANN}/settings", method="PUT", retention_days=60, paused=True)
    assert answer["retention_days"] == 60 and answer["paused"]
