"""A person's own page over HTTP: links, what is shown, what the person may change."""

import json
import logging

import pytest

pytest.importorskip("fastapi")

import sqlalchemy as sa
from service.served_shop import SHOP, Client, key, until

from tailor.service import admission
from tailor.service.limits import RateLimiter
from tailor.service.middleware import JsonLines
from tailor.store import users
from tailor.store.engine import connect, now_ms, reading, writing
from tailor.store.links import PREFIX, make_link
from tailor.store.migrating import migrate

USER = SHOP.users.ids[0]
HOUR_MS = 3_600_000


def link_of(client, user=USER, **body):
    return client.ask(f"/v1/users/{user}/links", **body)["link"]


def opened(client, link):
    """A client with a link in place of the key."""
    return Client(client.app, link)


@pytest.fixture
def me(client):
    return opened(client, link_of(client))


def get(me, path="", status=200):
    return me.ask(f"/v1/me{path}", status, method="GET")


def history(me):
    """All events, page by page."""
    events, cursor = [], ""
    while cursor is not None:
        page = get(me, f"/history?k=7{cursor and f'&before={cursor}'}")
        events += page["events"]
        cursor = page["next"]
    return events


def test_a_link_opens_the_own_page_and_nothing_else(client, me):
    page = get(me)
    assert page["user_id"] == USER and page["events"] == len(history(me)) > 7
    assert page["paused"] == {"memory": False, "history": False} and page["has_memory"]
    for path in (f"/v1/users/{USER}/data", "/v1/keys", "/v1/models"):
        me.ask(path, 401, method="GET")
    me.ask("/v1/recommendations", 401, user_id=USER)
    client.ask("/v1/me", 401, method="GET")


def test_the_history_is_paged_with_titles_the_latest_first(me):
    events = history(me)
    times = [event["time_ms"] for event in events]
    assert times == sorted(times, reverse=True)
    assert len({event["event_id"] for event in events}) == len(events)
    assert all(event["title"] for event in events)
    for path in ("/history?before=1", "/history?before=a-b", "/history?k=0", "/history?k=201"):
        get(me, path, 422)


def test_whatever_is_wrong_with_a_link_the_answer_and_the_statements_are_the_same(
    client, service, tmp_path
):
    good = link_of(client)
    with reading(service.engine) as connection:
        expired = make_link(connection, "shop", USER, now_ms() - 1)
    ended = good
    client.ask(f"/v1/users/{USER}/links", method="DELETE")
    other = connect(f"{tmp_path}/other.db")
    migrate(other)
    with writing(other) as connection:
        users.upsert_user(connection, "shop", USER, {})
        foreign = make_link(connection, "shop", USER, now_ms() + HOUR_MS)
    turned = good[:-9] + ("A" if good[-9] != "A" else "B") + good[-8:]
    wrong = [expired, ended, foreign, good[:-1], good[1:], turned, PREFIX, "x", f"{PREFIX}é", "a b"]
    details, counts = set(), set()
    for link in wrong:
        statements = []

        def note(_, __, statement, *___, kept=statements):
            if "links" in statement:  # others are of the service's own threads, at any time
                kept.append(statement)

        sa.event.listen(service.engine, "before_cursor_execute", note)
        bearer = {"authorization": f"Bearer {link}".encode()}
        answer = client.get("/v1/me", headers=bearer)
        sa.event.remove(service.engine, "before_cursor_execute", note)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        details.add(answer.json()["detail"])
        counts.add(tuple(statements))
        assert statements
    assert details == {admission.REFUSED_LINK} and len(counts) == 1
    assert client.get("/v1/me", headers={"authorization": ""}).json()["detail"] in details
    get(opened(client, link_of(client)))


def test_a_link_ends_by_erasure_by_order_and_by_time_and_a_new_one_works(client, service):
    first, second = link_of(client), link_of(client, hours=720)
    get(opened(client, first)), get(opened(client, second))
    client.ask(f"/v1/users/{USER}/links", method="DELETE")
    for link in (first, second):
        get(opened(client, link), status=401)
    third = link_of(client)
    assert get(opened(client, third))["ends_ms"] > now_ms() + 71 * HOUR_MS
    client.ask(f"/v1/users/{USER}/data", method="DELETE")
    get(opened(client, third), status=401)
    client.ask(f"/v1/users/{USER}/links", 404)
    client.ask(f"/v1/users/{USER}/links", 404, method="DELETE")
    client.ask(f"/v1/users/{USER}", method="PUT", more={"country": "Peru"})
    get(opened(client, third), status=401)
    assert get(opened(client, link_of(client)))["attributes"] == {"country": "Peru"}


def test_a_link_shows_its_own_tenant_s_person_alone(client, service):
    rival = Client(client.app, key(service, "admin", "rival"))
    rival.ask(f"/v1/users/{USER}/links", 404)
    rival.ask(f"/v1/users/{USER}", method="PUT", more={"country": "Peru"})
    page = get(opened(rival, link_of(rival)))
    assert page["events"] == 0 and page["attributes"] == {"country": "Peru"}
    assert get(opened(client, link_of(client)))["attributes"] != page["attributes"]


def test_bad_hours_and_small_roles_make_no_link(client, service):
    for hours in (0, 721, 1.5, "1", None):
        client.ask(f"/v1/users/{USER}/links", 422, hours=hours)
    Client(client.app, key(service, "write")).ask(f"/v1/users/{USER}/links", 403)


def test_a_link_shows_no_id_and_stands_in_no_log(client, caplog):
    logging.getLogger("tailor").propagate = True
    client.ask("/v1/users/ann@example.org", method="PUT", more={})
    with caplog.at_level(logging.INFO, logger="tailor"):
        link = link_of(client, "ann@example.org")
        get(opened(client, link))
        get(opened(client, link[:-1]), status=401)
    lines = "".join(JsonLines().format(record) for record in caplog.records)
    assert link[:-1] not in lines and "ann@" not in lines and "/v1/me" in lines
    assert "a person's own link" in lines and "ann@" not in link


def test_own_recommendations_name_reasons_and_nothing_is_logged(client, me, service):
    shown = get(me, "/recommendations?k=5")
    assert 0 < len(shown["items"]) <= 5 and all(item["title"] for item in shown["items"])
    reasons = [reason for item in shown["items"] for reason in item["reasons"]]
    assert reasons and all(reason["title"] for reason in reasons if reason["kind"] == "item")
    same = client.ask("/v1/recommendations", user_id=USER, k=5)
    service.list_log._write()
    data = get(me, "/data")["stores"]
    assert [row["request_id"] for row in data["requests"]] == [same["request_id"]]
    listed = [item["item_id"] for item in same["items"]]
    assert listed == [item["item_id"] for item in shown["items"]]


def test_a_deleted_event_leaves_all_places_and_is_not_taken_in_again(client, me, service):
    events = history(me)
    event = events[3]
    list_before = client.items(user_id=USER, k=40)
    assert event["item_id"] not in list_before
    receipt = me.ask(f"/v1/me/history/{event['event_id']}", method="DELETE")
    public = client.ask("/v1/receipts/key", method="GET")["public_key"]
    assert users.receipt_holds(receipt, public) and receipt["forgotten"] == {"events": 1}
    assert receipt["overwritten"] in (True, None)
    client.ask(f"/v1/receipts/{receipt['receipt_id']}", method="GET")
    assert [one for one in events if one is not event] == history(me)
    sent = {name: event[name] for name in ("event_id", "item_id", "time_ms", "action")}
    answer = client.post("/v1/events", json={"events": [{**sent, "user_id": USER}]}).json()
    assert answer["accepted"] == 0 and answer["rejected"]
    assert event["event_id"] not in json.dumps(get(me, "/data"))
    if all(one["item_id"] != event["item_id"] for one in history(me)):
        assert event["item_id"] in client.items(user_id=USER, k=40)
    me.ask(f"/v1/me/history/{event['event_id']}", 404, method="DELETE")
    other = SHOP.users.ids[1]
    theirs = history(opened(client, link_of(client, other)))[0]["event_id"]
    me.ask(f"/v1/me/history/{theirs}", 404, method="DELETE")


def test_a_paused_history_counts_for_nothing_until_it_goes_on(client, me):
    before = client.items(user_id=USER, k=8)
    stranger = client.items(user_id="nobody at all", k=8)
    assert before != stranger
    answer = me.ask("/v1/me/pause", method="PUT", history=True)
    assert answer == {"memory": False, "history": True} == get(me)["paused"]
    assert client.items(user_id=USER, k=8) == stranger
    assert [item["item_id"] for item in get(me, "/recommendations?k=8")["items"]] == stranger
    sent = {"event_id": "new", "user_id": USER, "item_id": before[0]}
    client.ask("/v1/events", events=[sent])
    assert client.items(user_id=USER, k=8) == stranger
    me.ask("/v1/me/pause", method="PUT", history=False)
    assert before[0] not in client.items(user_id=USER, k=8) != stranger
    me.ask("/v1/me/pause", 422, method="PUT", history="perhaps")


def test_the_own_memory_is_shown_with_evidence_corrected_and_paused(client, me):
    path = f"/v1/users/{USER}/memory"
    texts = ("I live in Oslo.", "I really like green tea.", "I was diagnosed with diabetes.")
    client.ask(f"{path}/observations", observations=[{"text": text} for text in texts])
    facts = {fact["text"]: fact["proposition_id"] for fact in get(me, "/memory")["propositions"]}
    city, tea = facts["lives in Oslo"], facts["likes green tea"]
    evidence = get(me, f"/memory/propositions/{city}")["evidence"]
    assert [part["text"] for part in evidence] == ["I live in Oslo."]
    place = "/v1/me/memory/propositions"
    assert me.ask(f"{place}/{tea}/confirm")["propositions"][0]["status"] == "confirmed"
    me.ask(f"{place}/{city}", method="PUT", value="Bergen")
    assert "lives in Bergen" in client.ask(path, method="GET")["text"]
    me.ask(f"{place}/{tea}/reject")
    receipt = me.ask(f"/v1/me/memory/entries/{tea}", method="DELETE")
    assert receipt["forgotten"]["observations"] >= 1
    me.ask(f"{place}/nothing/confirm", 404)
    me.ask("/v1/me/pause", method="PUT", memory=True)
    assert client.ask(f"{path}/settings", method="GET")["paused"] and get(me)["paused"]["memory"]


def test_an_erasure_needs_its_word_and_answers_with_a_receipt(client, me):
    for body in ({}, {"confirm": "yes"}, {"confirm": ""}):
        me.ask("/v1/me/erase", 422, **body)
    receipt = me.ask("/v1/me/erase", confirm="erase")
    assert receipt["rows"]["events"] > 0 and receipt["scanned"]["events"] == 0
    get(me, status=401)
    assert client.ask(f"/v1/users/{USER}/data", method="GET")["stores"]["events"] == []


def test_requests_by_a_link_are_limited(client, me):
    client.app.wrappers[1].keywords["admission"].people = RateLimiter(0.001, 3)
    assert [me.get("/v1/me").status_code for _ in range(5)] == [200] * 3 + [429] * 2
    assert client.get("/v1/keys").status_code == 200


def test_tries_with_wrong_links_are_limited_by_address(client, me):
    client.app.wrappers[1].keywords["admission"].wrong_links = RateLimiter(0.001, 3)
    wrong = opened(client, "tailorlink_forged")
    assert [wrong.get("/v1/me").status_code for _ in range(5)] == [401] * 3 + [429] * 2
    assert client.get("/v1/keys").status_code == 200


def test_acts_of_a_person_are_noted_as_the_person_s(client, me, service):
    me.ask(f"/v1/me/history/{history(me)[0]['event_id']}", method="DELETE")
    me.ask("/v1/me/pause", method="PUT", history=True)
    get(me, "/data")
    me.ask("/v1/me/erase", confirm="erase")
    until(lambda: len(looks(client)) >= 5)
    acts = [(look["key"], look["route"]) for look in looks(client)]
    own = [route for who, route in acts if who == "a person's own link"]
    assert own == ["erasure", "export", "pause history", "delete an event"]
    assert [route for who, route in acts if who != "a person's own link"] == ["link"]


def looks(client):
    return client.ask(f"/v1/audit?user_id={USER}", method="GET")["looks"]
