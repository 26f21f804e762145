"""People over HTTP: who there is, what each did, and which keys looked at whom."""

import time

import pytest
from service.served_shop import SHOP, Client, key, until

from tailor.service.app import make_app
from tailor.store import audit, people, retention, users
from tailor.store.engine import now_ms, reading, writing
from tailor.store.events import add_events
from tailor.store.keys import ROLES, Caller

USER = SHOP.users.ids[0]
ITEM = SHOP.catalogue.ids[0]
T = 1_760_000_000_000
LISTS = "/v1/recommendations"


def send(client, user, count, item=ITEM, **more):
    events = [
        {"event_id": f"{user} {i}", "user_id": user, "item_id": item, "time_ms": T + i, **more}
        for i in range(count)
    ]
    client.ask("/v1/events", events=events)


def get(client, path, status=200, **parameters):
    answer = client.get(path, params=parameters)
    assert answer.status_code == status, answer.text
    return answer.json()


def looks(client, **parameters):
    client.app_state.look_log._write()
    return get(client, "/v1/audit", **parameters)["looks"]


@pytest.fixture
def shop(client, service):
    client.app_state = service
    return client


@pytest.mark.parametrize("role", ROLES)
def test_every_key_may_ask_who_it_is(service, role):
    with Client(make_app(service), key(service, role)) as asking:
        assert get(asking, "/v1/caller") == {
            "tenant": "shop",
            "name": f"{role} of shop",
            "role": role,
        }


def test_a_person_is_found_by_a_part_of_the_id(shop):
    for user in ("Ann Lee/7", "joanna", "bob"):
        send(shop, user, 3)
    found = get(shop, "/v1/users", query="ann")
    assert {row["user_id"] for row in found["people"]} == {"Ann Lee/7", "joanna"}
    assert found["people"][0] | {"user_id": ""} == {"user_id": "", "events": 3, "last_ms": T + 2}
    assert found["next"] is None and found["searched"] == 1
    assert get(shop, "/v1/users", query="nobody at all")["people"] == []


def test_an_exact_id_comes_first_and_once(shop):
    for i in range(30):
        send(shop, f"ann{i}", 1)
    send(shop, "ann", 2)
    first = get(shop, "/v1/users", query="ann", k=1)
    assert [row["user_id"] for row in first["people"]] == ["ann"]
    named, after = [row["user_id"] for row in first["people"]], first["next"]
    while after is not None:
        page = get(shop, "/v1/users", query="ann", k=4, after=after)
        named += [row["user_id"] for row in page["people"]]
        after = page["next"]
    assert len(named) == len(set(named)) == 31


def test_a_search_reads_a_bounded_part_and_says_how_far_it_is(shop, service, monkeypatch):
    monkeypatch.setattr(people, "BATCH", 10)
    monkeypatch.setattr(people, "READ", 20)
    pages, after = [], None
    while True:
        parameters = {} if after is None else {"after": after}
        pages.append(get(shop, "/v1/users", query=USER, **parameters))
        after = pages[-1]["next"]
        if after is None:
            break
    assert [row["user_id"] for page in pages for row in page["people"]] == [USER]
    shares = [page["searched"] for page in pages]
    assert len(pages) >= 3 and shares == sorted(shares) and shares[-1] == 1
    assert 0 < shares[0] < 0.8


def test_without_words_the_people_of_the_latest_events_come_each_once(shop, monkeypatch):
    monkeypatch.setattr(people, "READ", 150)
    send(shop, "late", 2)
    send(shop, "later", 400)
    send(shop, "late", 3)  # its third event is the newest of all
    pages, after = [], None
    while True:
        page = get(shop, "/v1/users", k=7, **({} if after is None else {"after": after}))
        pages += [row["user_id"] for row in page["people"]]
        after = page["next"]
        if after is None:
            break
    assert pages[:2] == ["late", "later"]
    assert len(pages) == len(set(pages)) and set(pages) == {*SHOP.users.ids, "late", "later"}


def test_other_tenants_see_nobody(shop, service):
    send(shop, "ann", 1)
    rival = Client(make_app(service), key(service, "admin", "rival"))
    assert get(rival, "/v1/users")["people"] == []
    assert get(rival, "/v1/users", query="ann")["people"] == []
    assert get(rival, "/v1/users/ann/history")["events"] == []
    assert get(rival, "/v1/items")["items"] == []
    rows = get(rival, f"/v1/items/{ITEM}/exposure")["days"]
    assert sum(row["events"] + row["shown"] for row in rows) == 0
    get(shop, "/v1/users/ann/history")
    service.look_log._write()
    assert [look["key"] for look in get(rival, "/v1/audit")["looks"]] == ["admin of rival"]


def test_a_history_is_paged_newest_first_with_titles(shop):
    shop.ask("/v1/items", method="PUT", items=[{"item_id": "mug", "title": "<b>Mug</b>"}])
    send(shop, "ann/lee", 5, "mug", action="buy", value=2.5, request_id="r")
    first = get(shop, "/v1/users/ann%2Flee/history", k=3)
    assert [event["time_ms"] for event in first["events"]] == [T + 4, T + 3, T + 2]
    assert first["events"][0] == {
        "item_id": "mug",
        "title": "<b>Mug</b>",
        "time_ms": T + 4,
        "action": "buy",
        "value": 2.5,
        "request_id": "r",
    }
    rest = get(shop, "/v1/users/ann%2Flee/history", k=3, before=first["next"])
    assert [event["time_ms"] for event in rest["events"]] == [T + 1, T] and rest["next"] is None
    assert get(shop, "/v1/users/nobody/history") == {"events": [], "next": None}


def test_events_of_one_moment_are_paged_each_once(shop):
    events = [
        {"event_id": f"{i}", "user_id": "ann", "item_id": f"item {i}", "time_ms": T}
        for i in range(9)
    ]
    shop.ask("/v1/events", events=events)
    seen, before = [], None
    while len(seen) < 20:
        page = get(shop, "/v1/users/ann/history", k=2, **({"before": before} if before else {}))
        seen += [event["item_id"] for event in page["events"]]
        before = page["next"]
        if before is None:
            break
    assert seen == [f"item {i}" for i in reversed(range(9))]


def test_a_hundred_thousand_events_page_quickly(shop, service):
    rows = [
        {"event_id": f"e{i}", "user_id": "busy", "item_id": ITEM, "time_ms": T + i // 50}
        for i in range(100_000)
    ]
    with writing(service.engine) as connection:
        add_events(connection, "shop", rows, T)
    before, took_s, seen = f"{T + 1_000}-{10**9}", [], 0
    for _ in range(20):
        began_s = time.perf_counter()
        page = get(shop, "/v1/users/busy/history", k=200, before=before)
        took_s.append(time.perf_counter() - began_s)
        seen += len(page["events"])
        before = page["next"]
    assert seen == 4_000 and sorted(took_s)[10] < 0.05
    assert get(shop, "/v1/users", query="busy")["people"][0]["events"] == 100_000


def test_it_is_written_who_looked_at_whom(shop, service):
    send(shop, "ann", 2)
    reader = Client(make_app(service), key(service, "read"))
    get(reader, "/v1/users/ann/history")
    reader.ask(LISTS, user_id="ann", explain=True)
    reader.ask(LISTS, user_id="ann")
    reader.ask(LISTS, history=[ITEM], explain=True)
    get(reader, "/v1/users/ann/memory")
    get(reader, "/v1/users/nobody/memory/timeline")
    get(shop, "/v1/users/ann/data")
    rows = looks(shop)
    assert [(row["key"], row["route"], row["user_id"]) for row in rows[:5]] == [
        ("admin of shop", "export", "ann"),
        ("read of shop", "memory", None),
        ("read of shop", "memory", "ann"),
        ("read of shop", "recommendations", "ann"),
        ("read of shop", "history", "ann"),
    ]
    assert len(rows) == 5 and abs(rows[0]["time_ms"] - now_ms()) < 60_000
    assert {row["route"] for row in looks(shop, user_id="nobody")} == {"memory"}
    assert len({row["subject"] for row in looks(shop, user_id="ann")}) == 1


def test_the_audit_is_paged(shop):
    send(shop, "ann", 1)
    for _ in range(5):
        get(shop, "/v1/users/ann/history")
    assert len(looks(shop)) == 5
    first = get(shop, "/v1/audit", k=3)
    rest = get(shop, "/v1/audit", k=3, before=first["next"])
    assert len(first["looks"]) == 3 and len(rest["looks"]) == 2 and rest["next"] is None
    assert first["kept_days"] == 400


def test_a_look_is_part_of_the_export_and_names_nobody_once_erased(shop, service):
    send(shop, "ann", 1)
    send(shop, "bob", 1)
    get(shop, "/v1/users/ann/history")
    get(shop, "/v1/users/bob/history")
    service.look_log._write()
    exported = get(shop, "/v1/users/ann/data")["stores"]["audit"]
    assert [row["route"] for row in exported] == ["history"] and exported[0]["user_id"] == "ann"
    get(shop, "/v1/users/ann/history")  # waits to be written as the person goes
    receipt = shop.request("DELETE", "/v1/users/ann/data").json()
    assert receipt["rows"]["audit"] >= 1 and not any(receipt["scanned"].values())
    rows = looks(shop, user_id="ann")
    assert {row["user_id"] for row in rows} == {None}
    assert {row["subject"] for row in rows} == {receipt["subject"]}
    assert {row["route"] for row in rows} == {"erasure", "history", "export"} and len(rows) == 4
    assert get(shop, "/v1/users/ann/data")["stores"]["audit"] == []
    assert [row["user_id"] for row in looks(shop, user_id="bob")] == ["bob"]
    get(shop, f"/v1/receipts/{receipt['receipt_id']}")
    assert looks(shop, user_id="ann")[0]["route"] == "receipt"


def test_a_scan_finds_an_id_in_the_audit(service):
    who = Caller("shop", "read", "ann")
    with writing(service.engine) as connection:
        audit.write_looks(connection, [audit.Look("shop", None, "digest", T, who.name, "history")])
    places = {place.name: place for place in users.ERASABLES}
    with reading(service.engine) as connection:
        assert places["audit"].scan(connection, "shop", "ann") == 1
        assert places["audit"].scan(connection, "shop", "bob") == 0


def test_looks_are_kept_for_400_days(service):
    day_ms = 86_400_000
    ages = (1, 399, 401, 500)
    rows = [
        audit.Look("shop", None, "digest", 500 * day_ms - age * day_ms, "desk", "history")
        for age in ages
    ]
    with writing(service.engine) as connection:
        audit.write_looks(connection, rows)
    assert retention.prune_looks(service.engine, 500 * day_ms, dry_run=True) == 2
    assert retention.prune_looks(service.engine, 500 * day_ms) == 2
    with reading(service.engine) as connection:
        assert len(audit.read_looks(connection, "shop")) == 2


def test_a_person_of_whom_only_looks_are_left_goes(shop, service):
    send(shop, "ann", 1)
    get(shop, "/v1/users/ann/history")
    service.look_log._write()
    retention.prune(service.engine, now_ms(), 1, 1)
    assert retention.prune_users(service.engine) >= 1
    assert [row["user_id"] for row in looks(shop, user_id="ann")] == [None]


def test_looks_wait_while_the_database_is_away(service, monkeypatch):
    from tailor.store.writer import UnavailableError

    log = service.look_log
    log.most = 3
    with reading(service.engine) as connection:
        log.learn_key(connection)

    def away(job, timeout_s=30.0):
        raise UnavailableError("away")

    with monkeypatch.context() as patch:
        patch.setattr(service.writer, "do", away)
        for i in range(5):
            log.add(Caller("shop", "read", "desk"), USER, f"history {i}")
        log._write()
        assert log.count_of("shop", USER) == 3 and log.lost == 2
    until(lambda: log.count_of("shop", USER) == 0)
    with reading(service.engine) as connection:
        assert [row["route"] for row in audit.read_looks(connection, "shop", USER)] == [
            "history 4",
            "history 3",
            "history 2",
        ]


def test_the_second_editor_of_a_proposition_is_told(shop):
    memory = "/v1/users/ann/memory"
    shop.ask(f"{memory}/observations", observations=[{"text": "I live in Oslo."}])
    [fact] = get(shop, memory)["propositions"]
    place = f"{memory}/propositions/{fact['proposition_id']}"
    changed = shop.put(f"{place}?status={fact['status']}", json={"value": "Bergen"})
    assert changed.status_code == 200
    second = shop.put(f"{place}?status={fact['status']}", json={"value": "Tromsø"})
    assert second.status_code == 409 and "somebody else has changed it" in second.json()["detail"]
    assert shop.post(f"{place}/confirm?status=active").status_code == 409
    believed = {row["object"] for row in get(shop, memory)["propositions"]}
    assert "Bergen" in believed and "Tromsø" not in believed
