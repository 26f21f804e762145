"""Ids, times and sizes: each has one rule, and every door holds it."""

import httpx
import pytest

pytest.importorskip("fastapi")

from service.served_shop import SHOP, Client, key

from tailor.client import Client as PythonClient
from tailor.data.dataset import Dataset
from tailor.errors import DataError, ServiceError
from tailor.service.app import make_app
from tailor.store import catalogue, users
from tailor.store.engine import writing
from tailor.store.events import add_events
from tailor.store.loading import load_dataset

USER = SHOP.users.ids[0]
ITEM = SHOP.catalogue.ids[0]
CONTROLS = ["\n", "\r", "\t", "\0", "\x1b", "\x7f", "\x85", "\u2028", "\u2029"]


def event(event_id, user=USER, item=ITEM, **more):
    return {"event_id": event_id, "user_id": user, "item_id": item, **more}


def put(client, *item_ids, status=200):
    items = [{"item_id": item_id, "title": "pot"} for item_id in item_ids]
    return client.ask("/v1/items", status, method="PUT", items=items)


@pytest.mark.parametrize("text", CONTROLS)
@pytest.mark.parametrize("place", ["pot{}", "{}pot", "p{}ot"])
def test_a_control_character_in_an_id_is_refused_by_every_body(client, text, place):
    bad = place.format(text)
    put(client, "pot")
    assert "item_id" in put(client, bad, status=422)["detail"]
    for field in ("event_id", "user_id", "item_id", "request_id"):
        problem = client.ask("/v1/events", 422, events=[{**event("e"), field: bad}])
        assert problem["errors"][0]["field"] == field
    for path, body in (
        ("/v1/recommendations", {"user_id": bad}),
        ("/v1/recommendations", {"history": [bad]}),
        ("/v1/recommendations", {"exclude": [bad]}),
        ("/v1/similar", {"item_id": bad}),
        ("/v1/predict", {"item_ids": [bad]}),
        ("/v1/experiments", {"name": bad, "arms": [{"version": 1}, {"version": 2}]}),
    ):
        client.ask(path, 422, **body)


@pytest.mark.parametrize("escape", ["%0A", "%0D", "%09", "%00", "%7F", "%C2%85", "%E2%80%A8"])
@pytest.mark.parametrize("place", ["pot{}", "{}pot", "p{}ot"])
def test_an_address_with_a_control_character_touches_no_other_id(client, escape, place):
    put(client, "pot")
    client.ask("/v1/events", events=[event("e", "pot")])
    path = place.format(escape)
    for method, address in (
        ("DELETE", f"/v1/items/{path}"),
        ("GET", f"/v1/items/{path}"),
        ("POST", f"/v1/items/{path}/takedown"),
        ("DELETE", f"/v1/items/{path}/takedown"),
        ("PUT", f"/v1/users/{path}"),
        ("GET", f"/v1/users/{path}/data"),
        ("DELETE", f"/v1/users/{path}/data"),
    ):
        body = None if method in ("GET", "DELETE") else {}
        answer = client.request(method, address, json=body)
        assert answer.status_code == 422, (method, address)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["trace_id"] == answer.headers["x-trace-id"]
    assert client.get("/v1/items/pot").json()["blocked"] is None
    assert client.get("/v1/users/pot/data").json()["stores"]["events"]


@pytest.mark.parametrize("escape", ["%FF", "%C3", "%ED%A0%80", "a%FEb"])
def test_an_address_that_is_no_utf_8_is_not_read_as_another_id(client, escape):
    put(client, "\ufffd", "a\ufffdb")
    assert client.request("DELETE", f"/v1/items/{escape}").status_code == 422
    assert client.get("/v1/items/%EF%BF%BD").json()["blocked"] is None
    assert client.get("/v1/items/a%EF%BF%BDb").json()["blocked"] is None


def test_blanks_around_an_id_make_no_second_one(client):
    put(client, "pot")
    for bad in (" pot", "pot ", "\u00a0pot", "   ", r"\N"):
        put(client, bad, status=422)
    assert client.request("DELETE", "/v1/items/pot%20").status_code == 422
    assert client.get("/v1/items/pot").json()["blocked"] is None


def test_ids_of_any_other_characters_are_shown_and_erased(client):
    for user in ("a/b", "ü ñ", "100%", "a?b#c", "ann/data", "o'neill", "日本", "a\\b", "null"):
        put(client, user)
        client.ask("/v1/events", events=[event(f"e {user}", user)])
        with PythonClient("http://test", "k", transport=passing(client)) as speaking:
            assert len(speaking.export(user)["stores"]["events"]) == 1
            assert speaking.erase(user)["rows"]["events"] == 1
            speaking.delete_item(user)


def passing(client):
    def answer(request):
        answered = client.request(
            request.method,
            str(request.url.raw_path, "ascii"),
            content=request.content,
            headers={"content-type": "application/json"},
        )
        return httpx.Response(answered.status_code, json=answered.json())

    return httpx.MockTransport(answer)


def test_the_client_refuses_what_the_service_refuses(client):
    put(client, "pot")
    with PythonClient("http://test", "k", transport=passing(client), patience_s=0) as speaking:
        for job in (
            lambda: speaking.delete_item("pot\n"),
            lambda: speaking.take_down("pot\n"),
            lambda: speaking.export("pot\n"),
            lambda: speaking.erase("pot\n"),
            lambda: speaking.delete_item(".."),
            lambda: speaking.erase(""),
            lambda: speaking.put_items([{"item_id": "pot\n"}]),
            lambda: speaking.recommend("pot\n"),
            lambda: speaking.recommend(USER, k=10**10),
        ):
            with pytest.raises(ServiceError):
                job()
        sent = speaking.send_events([event("a", time_ms=957_000_000), event("b\n"), event("c")])
    assert sent["accepted"] == 1
    assert [(row["index"], row["field"]) for row in sent["rejected"]] == [
        (0, "time_ms"),
        (1, "event_id"),
    ]
    assert client.get("/v1/items/pot").json()["blocked"] is None


@pytest.mark.parametrize("text", CONTROLS)
def test_the_store_refuses_them_whoever_writes(service, text):
    bad = f"pot{text}"
    jobs = [
        lambda connection: catalogue.upsert_items(connection, "shop", [{"item_id": bad}]),
        lambda connection: catalogue.add_items(connection, "shop", [{"item_id": bad}]),
        lambda connection: catalogue.block(connection, "shop", bad, catalogue.DELETED),
        lambda connection: users.upsert_user(connection, "shop", bad, {}),
    ]
    for field in ("event_id", "user_id", "item_id"):
        row = {**event("e", time_ms=1), field: bad}
        jobs.append(lambda connection, row=row: add_events(connection, "shop", [row], 0))
    for job in jobs:
        with pytest.raises(DataError, match="control character"), writing(service.engine) as opened:
            job(opened)
    columns = {"user_id": ["a"], "item_id": [bad], "time_ms": [10**12]}
    with pytest.raises(DataError, match="control character"):
        load_dataset(service.engine, "shop", Dataset.from_events(columns))


def test_a_user_with_such_an_id_from_before_can_still_be_erased(service):
    from tailor.store.subjects import subjects_for

    with writing(service.engine) as connection:
        subjects_for(connection, "shop", ["pot\n"])
        receipt = users.erase(connection, "shop", "pot\n")
    assert receipt["scanned"]["keys"] == 0


@pytest.mark.parametrize(
    "time_ms",
    [957_000_000, 0, -1, 1, 31_535_999_999, 638_501_454_000_000_000, 20_240_501_103_000_000],
)
def test_a_time_that_is_no_milliseconds_is_refused(client, time_ms):
    problem = client.ask("/v1/events", 422, events=[event("e", time_ms=time_ms)])
    assert problem["errors"][0]["field"] == "time_ms"
    assert "milliseconds" in problem["errors"][0]["problem"]
    assert client.ask("/v1/events", events=[event("e", time_ms=957_000_000_000)])["accepted"] == 1


@pytest.mark.parametrize("k", [201, 10**5, 10**10, 10**30])
def test_a_k_beyond_all_lists_is_refused_and_costs_nothing(client, k):
    for path, body in (
        ("recommendations", {"user_id": USER}),
        ("similar", {"item_id": ITEM}),
        ("search", {"text": "tea"}),
    ):
        problem = client.ask(f"/v1/{path}", 422, k=k, **body)
        assert problem["errors"][0]["field"] == "k" and "200" in problem["detail"]
    ranked = client.ask("/v2/rerank", query="tea", documents=["tea", "cup"], top_n=k)
    assert len(ranked["results"]) == 2
    assert len(client.items(user_id=USER, k=200, keep_seen=True)) <= len(SHOP.catalogue)


def test_every_get_route_answers_head_without_a_body(client, service):
    put(client, "pot")
    for path in (
        "/health",
        "/ready",
        "/metrics",
        "/openapi.json",
        "/v1/models",
        "/v1/keys",
        "/v1/experiments",
        "/v1/items/pot",
        f"/v1/users/{USER}/data",
    ):
        shown, asked = client.get(path), client.head(path)
        assert (asked.status_code, asked.content) == (200, b""), path
        assert asked.headers["content-type"] == shown.headers["content-type"]
        assert asked.headers["x-content-type-options"] == "nosniff"
    assert client.head("/nowhere").status_code == 404
    assert client.head("/v1/events").headers["allow"] == "POST"
    stranger = Client(client.app, "tailor_none")
    assert stranger.head("/v1/models").status_code == 401


def test_unknown_excluded_ids_are_named(client):
    known = str(SHOP.catalogue.ids[1])
    note = "exclude: not among the stored items: Salt, fine"
    for path, body in (
        ("recommendations", {"user_id": USER}),
        ("similar", {"item_id": ITEM}),
        ("search", {"text": "tea"}),
    ):
        answer = client.ask(f"/v1/{path}", exclude=[known, "Salt, fine"], **body)
        assert note in answer["notes"], path
        answer = client.ask(f"/v1/{path}", exclude=[known], **body)
        assert not [line for line in answer["notes"] if line.startswith("exclude")]
    many = [f"x{i}" for i in range(1_000)]
    notes = client.ask("/v1/recommendations", user_id=USER, exclude=many)["notes"]
    assert notes[0].endswith("and 995 more")


def test_a_store_without_items_has_no_unknown_ones(service):
    with Client(make_app(service), key(service, "admin", "empty")) as client:
        assert client.ask("/v1/search", text="tea", exclude=["x"])["notes"] == [
            "no item shares a word with the text"
        ]
