"""Erasures over HTTP: the receipt, its scan, SQLite's logs, and what workers remember."""

import sqlite3
import threading
from contextlib import closing

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("fastapi")

from service.served_shop import SHOP, Client, key, take_away, until
from store.databases import engine, postgres, url  # noqa: F401

from tailor.service import answers, erasing
from tailor.service.app import make_app
from tailor.service.history_cache import HistoryCache, HistoryReader
from tailor.store import users
from tailor.store.engine import (
    connect,
    is_overwriting_due,
    key_file,
    now_ms,
    reading,
    writing,
)
from tailor.store.erasing import Scan
from tailor.store.events import add_events

USER = SHOP.users.ids[0]
EVENTS_OF_USER = SHOP.events.filter(user_id=USER).select("user_id", "item_id", "time_ms").rows()


def erase(client, user=USER):
    return client.ask(f"/v1/users/{user}/data", method="DELETE")


def receipt_of(client, receipt):
    return client.ask(f"/v1/receipts/{receipt['receipt_id']}", method="GET")


def test_a_quick_scan_is_in_the_answer_and_the_receipt_can_be_asked_for(client):
    receipt = erase(client)
    assert receipt["scan"] == "done" and not any(receipt["scanned"].values())
    assert set(receipt["scanned"]) >= {"impressions", "requests", "events", "people", "memory"}
    again = receipt_of(client, receipt)
    public = client.ask("/v1/receipts/key", method="GET")["public_key"]
    assert users.receipt_holds(receipt, public) and users.receipt_holds(again, public)
    assert again["receipt_id"] == receipt["receipt_id"] and again["rows"] == receipt["rows"]
    client.ask("/v1/receipts/unknown", 404, method="GET")


def test_a_receipt_is_shown_to_administrators_of_its_tenant_alone(client, service):
    receipt = erase(client)
    for role, tenant, status in (("write", "shop", 403), ("admin", "else", 404)):
        other = Client(client.app, key(service, role, tenant))
        other.ask(f"/v1/receipts/{receipt['receipt_id']}", status, method="GET")


def test_a_long_scan_goes_on_while_writers_write(client, service, monkeypatch):
    monkeypatch.setattr(erasing, "QUICK_S", 0.05)
    gate, real = threading.Event(), Scan.run

    def slow(scan, *given):
        gate.wait(30)
        return real(scan, *given)

    monkeypatch.setattr(Scan, "run", slow)
    receipt = erase(client)
    assert receipt["scan"] == "running" and receipt["scanned"] == {"keys": 0}
    row = {"event_id": "e", "user_id": "somebody", "item_id": SHOP.catalogue.ids[0]}
    assert client.ask("/v1/events", events=[row])["accepted"] == 1
    second = erase(client, "another")
    assert second["scan"] == "running"
    gate.set()
    until(lambda: receipt_of(client, second)["scan"] == "done")
    done = receipt_of(client, receipt)
    assert done["scan"] == "done" and not any(done["scanned"].values())


def test_scans_that_wait_for_another_show_that_they_live(service):
    receipt_ids = [
        service.erasures.erase("shop", user)["receipt_id"] for user in ("somebody", USER)
    ]
    with reading(service.engine) as connection:
        before = users.read_receipt(connection, "shop", receipt_ids[0])
    for receipt_id in receipt_ids:
        service.erasures._scans[receipt_id] = Scan(
            service.engine, service.writer.do, "shop", receipt_id
        )
    service.erasures._signed_s -= 60

    class Later:
        def __call__(self):
            return now_ms() + 50_000

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(users, "now_ms", Later())
        service.erasures._sign_life()
        patch.setattr(users, "now_ms", lambda: now_ms() + 70_000)
        for receipt_id in receipt_ids:
            with reading(service.engine) as connection:
                assert users.read_receipt(connection, "shop", receipt_id)["scan"] == "running"
    assert before["scan"] == "running"


def test_a_scan_that_fails_ends_no_thread(client, service, monkeypatch):
    monkeypatch.setattr(erasing, "QUICK_S", 5.0)
    with monkeypatch.context() as patch:
        patch.setattr(Scan, "run", lambda *_: 1 / 0)
        assert erase(client)["scan"] == "running"
    assert erase(client)["scan"] == "done"


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_what_a_reader_keeps_in_the_logs_is_overwritten_once_it_has_ended(
    service, tmp_path, monkeypatch
):
    monkeypatch.setattr(erasing, "LONGEST_S", 0.1)
    with (
        Client(make_app(service), key(service, "admin")) as client,
        closing(sqlite3.connect(key_file(service.engine.url.database))) as reader,
    ):
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM subjects").fetchone()
        client.ask("/v1/users/carl", method="PUT", more={})
        receipt = erase(client)
        assert receipt["overwritten"] is False
        assert receipt_of(client, receipt)["overwritten"] is False
        reader.execute("COMMIT")
        until(lambda: receipt_of(client, receipt)["overwritten"])
        assert users.receipt_holds(receipt_of(client, receipt), receipt["public_key"])
    assert not is_overwriting_due(service.engine)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_what_a_killed_server_left_in_the_logs_is_overwritten_at_the_start(service):
    with writing(service.engine) as connection:
        users.erase(connection, "shop", USER)
    assert is_overwriting_due(service.engine)
    with Client(make_app(service), key(service, "admin")):
        until(lambda: not is_overwriting_due(service.engine))


def test_a_receipt_is_not_lost_where_the_database_goes_away_after_the_erasure(
    client, service, monkeypatch
):
    monkeypatch.setattr(erasing, "QUICK_S", 0.05)
    monkeypatch.setattr(
        "tailor.service.erasing.overwrite_deleted",
        lambda _: take_away(service, monkeypatch),
    )
    receipt = erase(client)
    assert receipt["rows"]["events"] and receipt["scan"] == "running"


def test_people_who_are_erased_twice_at_once_while_events_arrive_leave_nothing(client, service):
    monkey = [
        {"event_id": f"e{i}", "user_id": USER, "item_id": SHOP.catalogue.ids[0], "time_ms": 10**12}
        for i in range(200)
    ]
    failed = []

    def run(job):
        try:
            job()
        except AssertionError as error:
            failed.append(error)

    jobs = [lambda: erase(client)] * 2 + [
        lambda start=start: client.ask("/v1/events", events=monkey[start : start + 20])
        for start in range(0, 200, 20)
    ]
    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    erase(client)
    answer = client.ask("/v1/events", events=monkey[:1])
    assert answer["accepted"] == 0 and len(answer["rejected"]) == 1
    assert not any(client.get(f"/v1/users/{USER}/data").json()["stores"].values())


def test_a_waiting_list_counts_as_a_residue(client, service, monkeypatch):
    monkeypatch.setattr(service.list_log, "_write", lambda: None)
    client.ask("/v1/search", text=USER)
    assert erase(client)["scanned"]["memory"] == 1


@pytest.mark.parametrize(
    "url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True
)
def test_a_worker_forgets_who_was_erased_by_another_with_its_next_answer(engine, url):  # noqa: F811
    other, cache = connect(url), HistoryCache()
    reader = HistoryReader(engine, cache)
    rows = [
        {"event_id": user, "user_id": user, "item_id": "tea", "time_ms": 1}
        for user in ("ann", "bob")
    ]
    with writing(other) as connection:
        add_events(connection, "shop", rows, 5)
    reader.read("shop", "ann")
    assert cache.get("shop", "ann").events
    with writing(other) as connection:
        users.erase(connection, "shop", "ann")
    reader.read("shop", "bob")
    assert not cache.get("shop", "ann").events and cache.get("shop", "bob").events
    other.dispose()


def test_what_was_read_before_an_erasure_is_not_remembered_after_it(engine):  # noqa: F811
    from tailor.store.events import latest_events

    cache = HistoryCache()
    reader = HistoryReader(engine, cache)
    row = {"event_id": "1", "user_id": "ann", "item_id": "tea", "time_ms": 1}
    with writing(engine) as connection:
        add_events(connection, "shop", [row], 5)
    before, token, stored = latest_events(engine, "shop", "ann")
    with writing(engine) as connection:
        users.erase(connection, "shop", "ann")
    reader.read("shop", "bob")
    reader.keep("shop", {"ann": (token, stored)}, before)
    assert not cache.get("shop", "ann").events


# request ids


def shown(answer):
    return [(item["item_id"], item["position"], item["score"]) for item in answer["items"]]


PATHS = [
    ("/v1/recommendations", {"user_id": USER}),
    ("/v1/recommendations", {"history": [SHOP.catalogue.ids[3]]}),
    ("/v1/similar", {"item_id": SHOP.catalogue.ids[3]}),
    ("/v1/search", {"text": "i", "user_id": USER}),
    ("/v1/search", {"text": SHOP.catalogue.ids[3]}),
]


@pytest.mark.parametrize("is_written", [False, True])
@pytest.mark.parametrize(("path", "body"), PATHS)
def test_a_request_id_has_one_answer(client, service, path, body, is_written):
    first = client.ask(path, request_id="r", k=5, **body)
    if is_written:
        service.list_log._write()
    row = {"event_id": "e", "user_id": USER, "item_id": SHOP.catalogue.ids[7]}
    client.ask("/v1/events", events=[row])
    again = client.ask(path, request_id="r", k=9, **body)
    assert shown(again) == shown(first) and again["model"] == first["model"]
    assert "answered before" in again["notes"][-1]
    assert "answered before" not in "".join(first["notes"])
    service.list_log._write()
    assert shown(client.ask(path, request_id="r", **body)) == shown(first)
    other = client.ask(path, request_id="another", k=5, **body)
    assert "answered before" not in "".join(other["notes"])


@pytest.mark.parametrize("is_written", [False, True])
def test_a_request_id_of_another_question_is_refused(client, service, is_written):
    client.ask("/v1/recommendations", user_id=USER, request_id="r")
    client.ask("/v1/search", text="tea", request_id="s")
    client.ask("/v1/similar", item_id=SHOP.catalogue.ids[3], request_id="t")
    if is_written:
        service.list_log._write()
    other = SHOP.users.ids[1]
    for path, body, word in (
        ("/v1/recommendations", {"user_id": other, "request_id": "r"}, "user"),
        ("/v1/recommendations", {"user_id": "somebody new", "request_id": "r"}, "user"),
        ("/v1/recommendations", {"request_id": "r"}, "user"),
        ("/v1/search", {"text": "tea", "user_id": USER, "request_id": "r"}, "kind"),
        ("/v1/search", {"text": "cup", "request_id": "s"}, "text"),
        ("/v1/search", {"text": "tea", "user_id": USER, "request_id": "s"}, "user"),
        ("/v1/similar", {"item_id": SHOP.catalogue.ids[3], "request_id": "s"}, "kind"),
        ("/v1/similar", {"item_id": SHOP.catalogue.ids[4], "request_id": "t"}, "item"),
    ):
        problem = client.ask(path, 409, **body)
        assert word in problem["detail"] and USER not in problem["detail"]
    elsewhere = Client(client.app, key(service, "read", "else"))
    assert elsewhere.ask("/v1/search", text="cup", request_id="s")["items"] == []


@pytest.mark.parametrize("is_written", [False, True])
def test_a_list_with_seen_items_shows_no_history_to_a_key_that_serves(client, service, is_written):
    question = {"user_id": USER, "request_id": "r", "k": 40}
    reader = Client(client.app, key(service, "read"))
    server = Client(client.app, key(service, "serve"))
    full = reader.ask("/v1/recommendations", keep_seen=True, **question)
    seen = {item_id for _, item_id, _ in EVENTS_OF_USER}
    assert {item_id for item_id, *_ in shown(full)} & seen
    if is_written:
        service.list_log._write()
    shorter = server.ask("/v1/recommendations", **question)
    assert shorter["items"] and not {item_id for item_id, *_ in shown(shorter)} & seen
    assert shown(reader.ask("/v1/recommendations", **question)) == shown(full)
    # what the user did since is no reason to change the list
    row = {"event_id": "e", "user_id": USER, "item_id": shorter["items"][0]["item_id"]}
    client.ask("/v1/events", events=[row])
    assert shown(server.ask("/v1/recommendations", **question)) == shown(shorter)


def test_a_key_that_serves_gets_no_seen_items_of_a_list_that_was_made_meanwhile(
    client, service, monkeypatch
):
    question = {"user_id": USER, "request_id": "r", "k": 40}
    full = client.ask("/v1/recommendations", keep_seen=True, **question)
    server = Client(client.app, key(service, "serve"))
    monkeypatch.setattr(answers, "logged_answer", lambda *_: None)  # it came in between
    shorter = server.ask("/v1/recommendations", **question)
    seen = {item_id for _, item_id, _ in EVENTS_OF_USER}
    assert {item_id for item_id, *_ in shown(full)} & seen
    assert not {item_id for item_id, *_ in shown(shorter)} & seen


def test_a_blocked_item_is_not_answered_again(client, service):
    first = client.ask("/v1/recommendations", user_id=USER, request_id="r", explain=True)
    gone = first["items"][0]["item_id"]
    client.ask(f"/v1/items/{gone}/takedown", method="POST")
    again = client.ask("/v1/recommendations", user_id=USER, request_id="r", explain=True)
    assert shown(again) == [
        (item_id, position - 1, score) for item_id, position, score in shown(first)[1:]
    ]
    assert all("reasons" in item for item in again["items"])


def test_an_id_that_was_not_given_is_not_looked_up(client, monkeypatch):
    from tailor.service import answers, repeats

    asked = []
    monkeypatch.setattr(repeats, "stored_list", lambda *given: asked.append(given))
    monkeypatch.setattr(answers, "stored_list", lambda *given: asked.append(given))
    client.ask("/v1/recommendations", user_id=USER)
    client.ask("/v1/search", text="tea")
    client.ask("/v1/similar", item_id=SHOP.catalogue.ids[3])
    assert asked == []
    client.ask("/v1/search", text="tea", request_id="r")
    assert asked


def test_questions_of_one_id_at_once_get_one_answer(client, service):
    answers = []

    def ask(k):
        answers.append(client.ask("/v1/recommendations", user_id=USER, request_id="r", k=k))

    threads = [threading.Thread(target=ask, args=(k,)) for k in (3, 4, 5, 6, 7, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({tuple(shown(answer)) for answer in answers}) == 1 and len(answers) == 6
    until(lambda: service.list_log.find("shop", "r") is None)  # it is written
    rows = client.get(f"/v1/users/{USER}/data").json()["stores"]["impressions"]
    assert [row["item_id"] for row in rows] == [item_id for item_id, *_ in shown(answers[0])]


def test_a_list_that_was_written_while_another_was_made_is_the_answer(client, service, monkeypatch):
    """As where another worker answered the same id in between."""
    from tailor.service import answers

    first = client.ask("/v1/search", text="i", request_id="r", k=3)
    service.list_log._write()
    monkeypatch.setattr(answers, "logged_answer", lambda *_: None)
    assert shown(client.ask("/v1/search", text="i", request_id="r", k=9)) == shown(first)


def test_an_id_of_an_erased_person_is_free_again(client, service):
    client.ask("/v1/recommendations", user_id=USER, request_id="r", k=5)
    service.list_log._write()
    erase(client)
    again = client.ask("/v1/recommendations", user_id=USER, request_id="r", k=5)
    assert "answered before" not in "".join(again["notes"])


def test_while_the_store_is_away_an_id_is_answered_all_the_same(client, service, monkeypatch):
    client.ask("/v1/recommendations", user_id=USER)
    take_away(service, monkeypatch)
    assert client.ask("/v1/recommendations", user_id=USER, request_id="r")["items"]
