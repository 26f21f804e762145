"""Large bodies: parsed in steps, as the library parses them at once, and refused alike."""

import json
import threading

import pytest

pytest.importorskip("fastapi")

from hypothesis import given, settings
from hypothesis import strategies as st
from service.served_shop import SHOP

from tailor.service import routing
from tailor.service.bodies import QUICK_BYTES, parse_in_steps

ITEM = SHOP.catalogue.ids[0]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(values, st.sampled_from([None, 2]))
@settings(max_examples=200, deadline=None)
def test_a_body_parsed_in_steps_is_the_same(value, indent):
    for ascii_only in (True, False):
        body = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
        if ascii_only:
            assert parse_in_steps(body.encode()) == json.loads(body)
        else:
            body = body.encode("utf-8", "replace")
            assert parse_in_steps(body) == json.loads(body)


@given(st.text(alphabet='{}[]",:1a \n\\tru', max_size=30))
@settings(max_examples=500, deadline=None)
def test_what_is_no_json_is_refused_alike(text):
    assert outcome(parse_in_steps, text.encode()) == outcome(json.loads, text.encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"a": [1, ]}',
        b'{"a": [1 2]}',
        b'{"a": 1} x',
        b"{1: 2}",
        b'{"a" 1}',
        b'{"a": 1,}',
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": 1}'.encode("utf-16"),
        b'{"a": NaN, "a": Infinity}',
        b'{"\xff": 1}',
        b'{"a": ' + b"[" * 100_000,
    ],
)
def test_odd_bodies_are_read_alike(body):
    assert outcome(parse_in_steps, body) == outcome(json.loads, body)


def outcome(parse, body):
    try:
        return json.dumps(parse(body))
    except json.JSONDecodeError as error:
        return error.msg, error.pos
    except (ValueError, RecursionError) as error:
        return type(error).__name__


def large(**more):
    events = [
        {"event_id": str(i), "user_id": "u", "item_id": ITEM, "action": "x" * 900}
        for i in range(90)
    ]
    return {"events": events, **more}


def test_a_large_body_is_answered_as_a_small_one(client):
    assert len(json.dumps(large())) > QUICK_BYTES
    assert client.ask("/v1/events", **large())["accepted"] == 90
    context = {f"k{i}": "x" * 500 for i in range(190)}
    user = SHOP.users.ids[0]
    answer = client.ask("/v1/recommendations", user_id=user, context=context)
    assert [row["item_id"] for row in answer["items"]] == client.items(user_id=user)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (large(more=1), "more"),
        ({"events": "x" * 70_000}, "events"),
        ([1] * 70_000, "body"),
    ],
)
def test_a_large_bad_body_names_its_field(client, body, field):
    problem = client.post("/v1/events", json=body).json()
    assert problem["status"] == 422 and problem["errors"][0]["field"] in (field, "")


def test_a_large_body_that_is_no_json_is_told_where(client):
    for path in ("/v1/events", "/v1/recommendations"):
        body = b'{"k": ' + b" " * 70_000 + b"}"
        problem = client.post(
            path, content=body, headers={"content-type": "application/json"}
        ).json()
        assert problem["errors"] == [
            {
                "field": "body",
                "problem": f"is no JSON, at character {len(body) - 1}: Expecting value",
            }
        ]


@pytest.mark.parametrize("content", [b"\xff" * 70_000, b'{"a": ' + b"[" * 100_000])
def test_a_large_body_that_cannot_be_read_is_refused(client, content):
    answer = client.post(
        "/v1/events", content=content, headers={"content-type": "application/json"}
    )
    assert answer.status_code in (400, 422)


def test_an_answer_names_a_hundred_fields_at_most(client):
    body = {"events": [], **{f"odd{i}": 1 for i in range(10_000)}}
    assert len(client.post("/v1/events", json=body).json()["errors"]) == 100


def test_errors_without_number_are_counted_alone(client, monkeypatch):
    monkeypatch.setattr(routing, "MOST_ERRORS", 50)
    problem = client.post(
        "/v1/events", json={"events": [], **{f"odd{i}": 1 for i in range(10_000)}}
    ).json()
    assert problem["status"] == 422 and "10,000 fields" in problem["detail"]
    assert "errors" not in problem


def test_only_large_bodies_are_parsed_in_a_thread(client, monkeypatch):
    threads = []
    parse = routing._parse

    def noting(body, schema):
        threads.append(threading.current_thread())
        return parse(body, schema)

    monkeypatch.setattr(routing, "_parse", noting)
    client.ask("/v1/events", events=[])
    assert not threads
    client.ask("/v1/events", **large())
    loop_thread = client.portal.call(threading.current_thread)
    assert threads and threads[0] is not loop_thread


def test_a_request_is_answered_while_a_large_body_is_parsed(client, monkeypatch):
    goes_on = threading.Event()
    begun = threading.Event()

    def slowly(body):
        begun.set()
        goes_on.wait(60)
        return json.loads(body)

    monkeypatch.setattr(routing, "parse_in_steps", slowly)
    sender = threading.Thread(target=client.post, args=("/v1/events",), kwargs={"json": large()})
    sender.start()
    assert begun.wait(30)
    answered = client.items(user_id=SHOP.users.ids[0])
    goes_on.set()
    sender.join()
    assert answered


def test_a_large_optional_body_is_read(client):
    client.ask("/v1/items", method="PUT", items=[{"item_id": "pot"}])
    reason = "x" * 900
    answer = client.ask("/v1/items/pot/takedown", reason=reason)
    assert answer["blocked"]
    client.ask("/v1/items/pot/takedown", 422, reason="x" * 70_000)
