"""The client: against the real application, and against a server that fails."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from service.served_shop import SHOP, key, models, postgres, service, url  # noqa: E402, F401

from tailor.client import Client  # noqa: E402
from tailor.errors import ServiceError  # noqa: E402
from tailor.service.app import make_app  # noqa: E402


@pytest.fixture
def tailor(service):  # noqa: F811
    from fastapi.testclient import TestClient

    def answered(request: httpx.Request) -> httpx.Response:
        given = {
            name: request.headers[name]
            for name in ("authorization", "content-type")
            if name in request.headers
        }
        found = app.request(
            request.method,
            str(request.url.raw_path, "ascii"),
            content=request.content,
            headers=given,
        )
        return httpx.Response(found.status_code, headers=dict(found.headers), content=found.content)

    with TestClient(make_app(service)) as app:
        made = Client(
            "http://testserver",
            key(service, "admin"),
            transport=httpx.MockTransport(answered),
            patience_s=1,
        )
        yield made
        made.close()


def test_what_the_service_does_the_client_can_ask_for(tailor, models):  # noqa: F811
    user, item = SHOP.users.ids[0], SHOP.catalogue.ids[0]
    events = [{"event_id": f"c{i}", "user_id": "a/b c?", "item_id": item} for i in range(1_500)] + [
        {"event_id": "bad"}
    ]
    sent = tailor.send_events(events)
    assert sent["accepted"] == 1_500 and sent["rejected"][0]["index"] == 1_500
    assert len(tailor.send_events(events[:3])["duplicates"]) == 3
    assert tailor.send_events([{"event_id": "alone"}])["rejected"][0]["field"] == "user_id"
    assert tailor.put_items([{"item_id": "one/two", "title": "A zanzibar kettle"}]) == 1
    assert (
        tailor.search("zanzibar", filter="title is not missing")["items"][0]["item_id"] == "one/two"
    )
    tailor.take_down("one/two", "broken")
    assert not tailor.search("zanzibar")["items"]
    tailor.restore("one/two")
    tailor.delete_item("one/two")
    assert (
        tailor.recommend(user, k=3)["items"]
        and tailor.recommend(history=[item], k=3)["items"]
        and tailor.similar(item)["items"]
    )
    assert len(tailor.export("a/b c?")["stores"]["events"]) == 1_500
    assert tailor.erase("a/b c?")["rows"]["events"] == 1_500
    assert tailor.models()[0]["version"] == 1
    with pytest.raises(ServiceError, match="no other version"):
        tailor.roll_back()
    with pytest.raises(ServiceError, match="k: Input should be") as refused:
        tailor.recommend(user, k=0)
    assert refused.value.status == 422 and refused.value.errors[0]["field"] == "k"


def test_a_memory_is_reached_verb_by_verb(tailor):
    memory = tailor.memory("a/b c?")
    timed = {"text": "I like tea.", "time_ms": 1_700_000_000_000}
    answer = memory.observe("I live in Oslo.", observations=[timed])
    assert len(answer["new"]) == 2 and memory.recall("Oslo", k=3)["items"]
    facts = {fact["predicate"]: fact for fact in memory.profile(tokens=200)["propositions"]}
    assert set(facts) == {"lives in", "likes"}
    city, tea = (facts[name]["proposition_id"] for name in ("lives in", "likes"))
    assert memory.explain(city)["evidence"] and memory.confirm(city)["propositions"]
    memory.correct(city, "Bergen")
    memory.reject(tea)
    statuses = {fact["text"]: fact["status"] for fact in memory.timeline()["propositions"]}
    assert statuses["likes tea"] == "rejected" and statuses["lives in Bergen"] == "confirmed"
    assert memory.diff(1_600_000_000_000)["added"] and memory.profile()["text"]
    assert (
        memory.configure(retention_days=30_000)["retention_days"]
        == memory.settings()["retention_days"]
    )
    assert tailor.memory("other").import_(memory.export())["new"]
    assert memory.forget(query="tea")["residue"] == 0
    entry = memory.timeline()["propositions"][0]["proposition_id"]
    assert memory.forget(entry)["forgotten"]["observations"]
    assert memory.forget(everything=True)["signature"]
    with pytest.raises(ServiceError, match="one of"):
        memory.forget("x", query="y")
    with pytest.raises(ServiceError, match="no such entry"):
        memory.explain("unknown")


def test_what_cannot_be_taken_now_is_sent_again_and_given_up_in_the_end(monkeypatch):
    waits, answers = (
        [],
        [
            httpx.Response(503, headers={"retry-after": "2"}),
            httpx.ConnectError("refused"),
            httpx.Response(200, json={"accepted": 1, "duplicates": [], "rejected": []}),
        ],
    )
    monkeypatch.setattr("time.sleep", waits.append)

    def answer(_):
        one = answers.pop(0) if answers else httpx.Response(503)
        if isinstance(one, Exception):
            raise one
        return one

    with Client(
        "http://x", "secret-key", transport=httpx.MockTransport(answer), patience_s=5
    ) as client:
        assert client.send_events([{"event_id": "1"}])["accepted"] == 1 and waits == [2.0, 1.0]
        clock = iter(range(0, 1_000, 2))
        monkeypatch.setattr("time.monotonic", lambda: next(clock))
        with pytest.raises(ServiceError, match="503") as problem:
            client.models()
    assert "secret-key" not in str(problem.value)


def answering(monkeypatch, *answers, patience_s=60):
    """A client of a server that answers so, and what it waited."""
    waits, left = [], list(answers)

    def answered(_):
        one = left.pop(0)
        if isinstance(one, Exception):
            raise one
        return one

    monkeypatch.setattr("tailor.client.time.sleep", waits.append)
    return (
        Client(
            "http://nowhere", "k", transport=httpx.MockTransport(answered), patience_s=patience_s
        ),
        waits,
        left,
    )


def test_a_rollback_is_never_sent_twice(monkeypatch):
    """Its answer may be late, since a model is loaded first: sent again, it would bring back what
    was rolled back.
    """
    done = httpx.Response(200, json={"version": 1})
    for lost in (
        httpx.ReadTimeout("slow"),
        httpx.Response(503, json={"detail": "the answer took too long"}),
        httpx.Response(502),
    ):
        client, _, left = answering(monkeypatch, lost, done)
        with pytest.raises(ServiceError):
            client.roll_back()
        assert left == [done]
    client, _, _ = answering(monkeypatch, httpx.ConnectError("refused"), httpx.Response(429), done)
    assert client.roll_back() == {"version": 1}


@pytest.mark.parametrize(
    ("said", "low", "high"),
    [
        ("3", 3, 3),
        ("0.5", 0.5, 0.5),
        ("in 20 s", 15, 20),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("-4", 0, 0),
        ("soon", 0.5, 0.5),
        ("", 0.5, 0.5),
    ],
)
def test_retry_after_is_a_number_or_a_date(monkeypatch, said, low, high):
    said = (
        format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
        if said == "in 20 s"
        else said
    )
    client, waits, _ = answering(
        monkeypatch,
        httpx.Response(503, headers={"retry-after": said}),
        httpx.Response(200, json={"models": []}),
    )
    assert client.models() == [] and low <= waits[0] <= high
