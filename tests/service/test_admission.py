"""Key and role before anything else; limits of strangers; pools of threads; what the log names."""

import json
import logging
import re
import threading

import pytest

pytest.importorskip("fastapi")

from service.served_shop import SHOP, Client, key, until

from tailor.errors import StoreError
from tailor.service import admission
from tailor.service.app import _add_routes, make_app
from tailor.service.bodies import BodyMemory
from tailor.service.limits import MOST_BUCKETS, RateLimiter, network_of
from tailor.service.middleware import JsonLines
from tailor.service.paths import hide_paths
from tailor.service.routing import POOLS, PUBLIC, WRITERS
from tailor.store import keys
from tailor.store.engine import writing

USER = SHOP.users.ids[0]
ITEM = SHOP.catalogue.ids[0]
EVENT = {"event_id": "e", "user_id": "u", "item_id": ITEM}


def every_call(app):
    """Every method of every route that asks for a key."""
    for route in app.routes:
        path = getattr(route, "path_format", "")
        if path and path not in PUBLIC:
            for method in sorted(route.methods):
                yield method, re.sub("{[^}]*}", "1", path)


def call(app, method, path, token=None, body=b"", host="192.0.2.1"):
    """Speak ASGI with the application; returns the status and how often the body was asked for."""
    sent, reads = [], []

    async def receive():
        reads.append(1)
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if token is not None:
        headers.append((b"authorization", b"Bearer " + token.encode()))
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "client": (host, 1),
    }
    return (lambda: app(scope, receive, send)), sent, reads


def asked(client, *arguments, **options):
    run, sent, reads = call(client.app, *arguments, **options)
    client.portal.call(run)
    return sent[0]["status"], len(reads), dict(sent[0]["headers"])


def limits_of(client):
    return client.app.wrappers[1].keywords["admission"]


def test_no_route_reads_a_byte_of_a_body_without_a_key(client):
    calls = [*every_call(client.app), ("POST", "/nowhere"), ("PUT", "/v1/users/42/data")]
    assert len(calls) > 25
    for number, (method, path) in enumerate(calls):
        host = f"192.0.2.{number}"  # wrong keys of one address are limited
        for token in (None, "tailor_wrong"):
            status, reads, headers = asked(client, method, path, token, b"x" * 150_000, host)
            assert (status, reads) == (401, 0), (method, path)
            assert headers[b"connection"] == b"close"


def test_no_route_reads_a_byte_of_a_body_without_its_role(service, client):
    token = key(service, "serve")
    allowed = {"/v1/recommendations", "/v1/similar", "/v1/search", "/v1/rerank", "/v2/rerank"}
    for method, path in every_call(client.app):
        status, reads, _ = asked(client, method, path, token, b"x" * 100)
        if path in allowed or path in ("/v1/receipts/key", "/v1/caller"):
            assert status != 403, path
        else:
            refused = 401 if path.startswith("/v1/me") else 403  # those take links alone
            assert (status, reads) == (refused, 0), (method, path)


def test_a_declared_length_that_is_too_large_is_refused_unread(service, client):
    token = key(service, "write")
    status, reads, headers = asked(client, "POST", "/v1/events", token, b"x" * 200_001)
    assert (status, reads, headers[b"connection"]) == (413, 0, b"close")


def test_a_small_refused_body_does_not_cost_the_connection(client):
    status, reads, headers = asked(client, "POST", "/v1/events", None, b"x" * 1_000)
    assert (status, reads) == (401, 0) and b"connection" not in headers


def test_a_route_without_a_role_is_no_part_of_the_application(service):
    from fastapi import APIRouter, FastAPI

    from tailor.service.routing import service_router

    for router in (APIRouter(), service_router("x")):
        router.get("/v1/secret")(lambda: "everything")
        with pytest.raises(RuntimeError, match="/v1/secret"):
            _add_routes(FastAPI(), router)
    service.stop()


def test_wrong_keys_of_an_address_are_limited_and_good_ones_go_on(service, client, caplog):
    good = Client(client.app, key(service, "read"))
    assert good.items(user_id=USER)
    limits_of(client).wrong_keys.rate = 0.001
    looked_up = []
    look_up = service.caller
    service.caller = lambda token: looked_up.append(token) or look_up(token)
    wrong = Client(client.app, "")
    statuses = []
    with caplog.at_level(logging.INFO, logger="tailor"):
        for i in range(200):
            wrong.headers["authorization"] = f"Bearer tailor_{i}"
            answer = wrong.post("/v1/search", json={"text": "tea"})
            statuses.append(answer.status_code)
    assert statuses[: admission.WRONG_KEYS] == [401] * admission.WRONG_KEYS
    assert statuses.count(429) > 100 and int(answer.headers["retry-after"]) >= 1
    assert len(looked_up) == statuses.count(401)
    lines = [record.getMessage() for record in caplog.records]
    assert lines.count("a limit begins to hold") == 1
    assert lines.count("request") == statuses.count(401)
    # a key that was good before is looked up again from the same address
    service._keys = {digest: (0.0, caller) for digest, (_, caller) in service._keys.items()}
    assert good.items(user_id=USER)


def test_requests_without_a_key_are_limited(client):
    limits_of(client).keyless.rate = 0.001
    nobody = Client(client.app, "")
    del nobody.headers["authorization"]
    statuses = [nobody.get("/v1/models").status_code for _ in range(admission.KEYLESS + 60)]
    assert statuses[: admission.KEYLESS] == [401] * admission.KEYLESS and 429 in statuses
    assert nobody.get("/openapi.json").status_code == 429
    assert nobody.get("/health").status_code == nobody.get("/ready").status_code == 200
    assert client.get("/v1/models").status_code == 200


def test_addresses_are_counted_by_network_and_forgotten():
    assert network_of("192.0.2.7") == "192.0.2.7"
    assert network_of("2001:db8:1:2::7") == network_of("2001:db8:1:2:ffff::1")
    assert network_of("2001:db8:1:2::7") != network_of("2001:db8:1:3::7")
    assert network_of("::ffff:192.0.2.7") == "192.0.2.7" and network_of("fe80::1%eth0")
    rates = RateLimiter(rate=0.001, burst=2)
    for i in range(2 * MOST_BUCKETS):
        rates.take(i)
    assert len(rates._buckets) <= MOST_BUCKETS
    last = 2 * MOST_BUCKETS - 1
    assert rates.wait_s(last) == 0 == rates.take(last) and rates.wait_s(last) > 0 < rates.take(last)


def test_bodies_in_memory_are_limited_in_all(client, monkeypatch):
    memory = BodyMemory(100)
    assert memory.take(60) and not memory.take(60)
    memory.give_back(60)
    assert memory.take(100)
    monkeypatch.setattr(BodyMemory, "take", lambda self, n_bytes: n_bytes < 1_000)
    events = [{**EVENT, "action": "x" * 900}] * 2
    refused = client.post("/v1/events", json={"events": events})
    assert refused.status_code == 503 and int(refused.headers["retry-after"]) > 0
    assert client.ask("/v1/events", events=[EVENT])["accepted"] == 1


def test_bodies_are_given_back_however_a_request_ends(client, monkeypatch):
    counts = []
    monkeypatch.setattr(
        BodyMemory, "give_back", lambda self, n: (counts.append(n), setattr(self, "bytes", 0))
    )
    client.ask("/v1/events", events=[EVENT])
    client.post("/v1/events", content=b"{")
    client.post("/v1/events", content=iter([b"[" * 50_000] * 3))
    client.get("/health")
    assert counts[0] > 50 and counts[1] == 1 and counts[2] >= 150_000 and counts[3] == 0


# pools


def test_a_writer_that_is_held_costs_writers_only(service, client):
    fresh = Client(client.app, key(service, "read"))  # no worker has seen this key
    goes_on = threading.Event()
    held = service.writer.later(lambda connection: goes_on.wait(60))
    senders = []
    for i in range(POOLS[WRITERS] + 20):
        body = {"events": [{**EVENT, "event_id": str(i)}]}
        senders.append(
            threading.Thread(target=client.post, args=("/v1/events",), kwargs={"json": body})
        )
        senders[-1].start()
    until(lambda: service.writer.waiting() >= POOLS[WRITERS] - 1)
    answers = []

    def ask():
        answers.extend([client.get(path).status_code for path in ("/ready", "/health", "/metrics")])
        answers.append(fresh.post("/v1/search", json={"text": "tea"}).status_code)
        answers.append(fresh.post("/v1/recommendations", json={"user_id": USER}).status_code)
        answers.append(fresh.post("/v1/similar", json={"item_id": ITEM}).status_code)
        answers.append(client.get(f"/v1/items/{ITEM}").status_code)

    asker = threading.Thread(target=ask)
    asker.start()
    asker.join(30)
    is_done = not asker.is_alive()
    goes_on.set()
    for thread in (asker, *senders):
        thread.join()
    assert is_done and answers == [200] * 7 and held.result(30)


def test_who_waits_for_a_thread_is_limited(client, service, monkeypatch):
    monkeypatch.setattr("tailor.service.routing.MOST_WAITING", 0)
    refused = client.post("/v1/events", json={"events": [EVENT]})
    assert refused.status_code == 503 and int(refused.headers["retry-after"]) > 0
    monkeypatch.setattr("tailor.service.routing.MOST_WAITING", 1)
    assert client.ask("/v1/events", events=[EVENT])["accepted"] == 1


# roles


def test_a_key_that_serves_gets_lists_and_no_history(service, client):
    server = Client(client.app, key(service, "serve"))
    assert server.items(user_id=USER)
    assert server.ask("/v1/similar", item_id=ITEM) and server.ask("/v1/search", text="tea")
    for field in ("explain", "keep_seen"):
        refused = server.ask("/v1/recommendations", 403, user_id=USER, **{field: True})
        assert field in refused["detail"] and "items" not in refused
        large = {"context": {"a": "x" * 70_000}, field: True}  # not by the short way
        server.ask("/v1/recommendations", 403, user_id=USER, **large)
    server.ask("/v1/predict", 403, item_ids=[ITEM])
    reader = Client(client.app, key(service, "read"))
    assert reader.ask("/v1/recommendations", user_id=USER, explain=True, keep_seen=True)["items"]


def test_roles_are_in_order():
    assert keys.ROLES == ("serve", "read", "write", "admin")
    for position, role in enumerate(keys.ROLES):
        caller = keys.Caller("shop", role, "name")
        assert [caller.may(other) for other in keys.ROLES] == [i <= position for i in range(4)]
    assert not keys.Caller("shop", "a role of later", "name").may("serve")


def test_the_key_of_receipts_needs_a_key_and_no_writer(service, client):
    user = "to be erased"
    client.ask("/v1/events", events=[{**EVENT, "user_id": user}])
    client.ask(f"/v1/users/{user}/data", method="DELETE")
    before = client.get("/v1/receipts/key").json()
    service.writer.close()
    assert client.get("/v1/receipts/key").json() == before
    del client.headers["authorization"]
    assert client.get("/v1/receipts/key").status_code == 401


# the log and errors


def test_a_request_in_the_log_names_tenant_key_and_route(service, client, caplog):
    with caplog.at_level(logging.INFO, logger="tailor"):
        client.ask("/v1/recommendations", user_id=USER)
        client.get(f"/v1/users/{USER}/data")
        client.head("/health")
        client.post("/v1/recommendations", json={}, headers={"authorization": "Bearer wrong"})
    lines = [
        json.loads(JsonLines().format(record))
        for record in caplog.records
        if record.getMessage() == "request"
    ]
    assert [line["route"] for line in lines] == [
        "/v1/recommendations",
        "/v1/users/{user_id}/data",
        "/health",
        "none",
    ]
    assert [line.get("tenant") for line in lines] == ["shop", "shop", None, None]
    assert [line.get("key") for line in lines] == ["admin of shop", "admin of shop", None, None]
    assert lines[2]["method"] == "HEAD" and USER not in str(lines) and "wrong" not in str(lines)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/srv/models/shop/two holds no saved model: fit one", "two holds no saved model: fit one"),
        ("/data holds no saved model", "data holds no saved model"),
        ("/my models/shop/two is damaged", "shop/two is damaged"),
        ("Permission denied: '/root/.cache/x.bin'", "Permission denied: 'x.bin'"),
        (
            "POST a folder to /v1/models, or /v2/rerank",
            "POST a folder to /v1/models, or /v2/rerank",
        ),
        ("look at /health and /openapi.json", "look at /health and /openapi.json"),
        ("and/or, 1/2, https://docs.example/a/b", "and/or, 1/2, https://docs.example/a/b"),
        ("price <= 5 / 2", "price <= 5 / 2"),
    ],
)
def test_an_error_names_no_folder_of_the_server(text, shown):
    assert hide_paths(text, ["/my models"]) == shown


def test_models_that_cannot_be_registered_name_no_folder(service, client):
    root = str(service.settings.models)
    for folder in ("nothing", "../rival/model", "/etc", ".", "a\nb", str(service.settings.models)):
        answer = client.post("/v1/models", json={"folder": folder})
        assert answer.status_code == 409 and root not in answer.text, answer.text


def test_a_broken_request_names_no_folder_in_the_log(service, client, caplog, monkeypatch):
    monkeypatch.setattr(service.model_registry, "loaded", lambda *_: 1 / 0)
    assert client.post("/v1/recommendations", json={}).status_code == 500
    record = next(record for record in caplog.records if record.getMessage() == "broken")
    assert record.at and not [place for place in record.at if place.startswith("/")]
    assert any(place.startswith("tailor/service/") for place in record.at)


@pytest.mark.parametrize("name", [".", "..", "", " ", "a\nb", "x" * 257])
def test_a_key_that_no_address_can_name_is_not_made(service, client, name):
    client.ask("/v1/keys", 422, role="read", name=name)
    with pytest.raises(StoreError), writing(service.engine) as connection:
        keys.make_key(connection, "shop", "read", name)


@pytest.mark.parametrize("name", [".", "..", "a/b", "/", "a%2Fb", "é", "a\nb", "x?y#z"])
def test_a_key_of_any_name_is_revoked(service, client, name):
    """Names as earlier versions made them."""
    with writing(service.engine) as connection:
        token = keys.make_key(connection, "shop", "read", "for now")
        connection.execute(
            keys.keys.update().where(keys.keys.c.name == "for now").values(name=name)
        )
    reader = Client(client.app, token)
    assert reader.ask("/v1/search", text="tea")
    answer = client.request("DELETE", "/v1/keys", params={"name": name})
    assert answer.json() == {"revoked": 1}
    service._keys.clear()
    reader.ask("/v1/search", 401, text="tea")


def test_the_application_starts_once_for_each_service(service):
    first = make_app(service)
    assert {route.path for route in first.routes} >= PUBLIC
    service.stop()
