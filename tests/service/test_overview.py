"""The overview: counts as stored, days, coverage, latency of this worker, alerts with remedies."""

import time

import pytest

pytest.importorskip("fastapi")

import httpx
import sqlalchemy as sa
from service.served_shop import SHOP, key, until

from tailor.client import Client as Speaking
from tailor.service import day_figures, remembered
from tailor.service.latency import BOUNDS_S, MINUTES, LatencyRings
from tailor.service.problems import ProblemError
from tailor.service.remembered import Remembered
from tailor.store import experiments
from tailor.store.days import DAY_MS
from tailor.store.engine import now_ms, writing
from tailor.store.schema import events

USER, OTHER = SHOP.users.ids[:2].tolist()
ITEM = SHOP.catalogue.ids[0]
START_S = 1_800_000_000.0


@pytest.fixture(autouse=True)
def counted_at_every_look(monkeypatch):
    monkeypatch.setattr(remembered, "FRESH_S", 0.0)
    monkeypatch.setattr(remembered, "IDLE_PARTS", 0)


def send(client, name="e", **more):
    event = {"event_id": name, "user_id": USER, "item_id": ITEM, "time_ms": now_ms(), **more}
    return client.ask("/v1/events", events=[event])


def logged_lists(client, service, count):
    ids = [client.ask("/v1/recommendations", user_id=USER, k=5)["request_id"] for _ in range(count)]
    until(lambda: not service.list_log._by_id)
    return ids


def bearer(service, role, tenant="shop"):
    return {"authorization": f"Bearer {key(service, role, tenant)}"}


def alerts(client):
    return {alert["name"]: alert for alert in client.ask("/v1/overview", method="GET")["alerts"]}


def test_counts_are_those_of_the_store(client):
    before = client.ask("/v1/overview", method="GET")
    assert before["counts"]["events"] == len(SHOP.events)
    assert before["counts"]["people"] == len(SHOP.users)
    assert (before["counts"]["items"], before["counts"]["blocked"]) == (len(SHOP.catalogue), 0)
    send(client, user_id="a new person")
    client.ask(f"/v1/items/{ITEM}/takedown", reason="")
    after = client.ask("/v1/overview", method="GET")
    assert after["counts"]["events"] == before["counts"]["events"] + 1
    assert after["counts"]["people"] == before["counts"]["people"] + 1
    assert (after["counts"]["items"], after["counts"]["blocked"]) == (len(SHOP.catalogue) - 1, 1)
    assert now_ms() - after["freshness"]["last_event_ms"] < 60_000
    assert now_ms() - after["freshness"]["last_item_change_ms"] < 60_000


def test_a_day_has_its_events_lists_choices_people_and_coverage(client, service):
    first, second = logged_lists(client, service, 2)
    shown = client.ask("/v1/recommendations", user_id=USER, request_id=first)["items"]
    send(client, "chosen", request_id=first, item_id=shown[0]["item_id"])
    send(client, "chosen again", request_id=first, item_id=shown[1]["item_id"])
    send(client, "refused", request_id=second, action="dislike", user_id=OTHER)
    send(client, "of a list that is not there", request_id="nothing")
    answer = client.ask("/v1/overview?days=3", method="GET")
    today = answer["days"][-1]
    assert [day["start_ms"] for day in answer["days"]] == [
        now_ms() // DAY_MS * DAY_MS - age * DAY_MS for age in (2, 1, 0)
    ]
    counts = {name: today[name] for name in ("events", "lists", "chosen", "people")}
    assert counts == {"events": 4, "lists": 2, "chosen": 1, "people": 2}
    assert today["coverage"] == pytest.approx(5 / len(SHOP.catalogue))
    assert answer["coverage"] == today["coverage"]
    client.ask(f"/v1/items/{shown[0]['item_id']}/takedown", reason="")
    covered = client.ask("/v1/overview", method="GET")["coverage"]
    assert covered == pytest.approx(4 / (len(SHOP.catalogue) - 1))


def test_older_days_are_counted_again_after_a_while_only(client, service, monkeypatch):
    client.ask("/v1/overview", method="GET")
    old_ms = now_ms() - 5 * DAY_MS
    send(client, "late", time_ms=old_ms)

    def counted():
        days = client.ask("/v1/overview", method="GET")["days"]
        return sum(day["events"] for day in days if day["start_ms"] <= old_ms)

    assert counted() == 0
    monkeypatch.setattr(day_figures, "RECOUNT_MS", -1)
    assert counted() == 1


def test_models_and_the_events_since_then(client):
    client.ask("/v1/models", folder="two")
    send(client)
    answer = client.ask("/v1/overview", method="GET")
    assert [(row["version"], row["answers"]) for row in answer["refits"]] == [(2, True), (1, False)]
    assert answer["freshness"]["model_made_ms"] == answer["refits"][0]["made_ms"]
    assert answer["freshness"]["events_since_model"] == 1


def test_latency_is_of_this_tenant_s_requests_without_the_overview_s_own(client, service):
    for _ in range(3):
        client.ask("/v1/recommendations", user_id=USER)
    client.ask("/v1/recommendations", 422, user_id=USER, k=0)
    minutes = client.ask("/v1/overview", method="GET")["latency"]["minutes"]
    assert sum(minute["requests"] for minute in minutes) == 4
    assert sum(minute["refused"] for minute in minutes) == 1
    assert all(0 < minute["median_ms"] <= minute["p99_ms"] for minute in minutes)
    answer = client.get("/v1/overview", headers=bearer(service, "admin", "rival")).json()
    assert answer["latency"]["minutes"] == [] and answer["counts"]["events"] == 0
    assert answer["coverage"] is None


def test_a_ring_forgets_minutes_and_finds_quantiles():
    rings = LatencyRings()
    for number in range(100):
        rings.note("shop", 0.004 if number < 98 else 0.3, 200 if number else 503, START_S)
    rings.note("shop", 100.0, 404, START_S + 60)
    first, second = rings.minutes("shop", START_S + 70)
    assert (first["requests"], first["errors"], second["refused"]) == (100, 1, 1)
    assert first["median_ms"] == pytest.approx(4, rel=0.1)
    assert first["p99_ms"] == pytest.approx(300, rel=0.1)
    assert second["p99_ms"] == pytest.approx(BOUNDS_S[-1] * 1000, abs=0.01)
    assert rings.minutes("shop", START_S + 60 * (MINUTES + 5)) == []
    rings.note("shop", 0.004, 200, START_S + 60 * MINUTES)  # takes the first minute's place
    assert [minute["requests"] for minute in rings.minutes("shop", START_S + 60 * MINUTES)] == [
        1,
        1,
    ]


def test_alerts_say_what_to_do(client, service, monkeypatch):
    quiet = alerts(client)
    assert quiet["no_events"]["level"] == "warning" and "hours old" in quiet["no_events"]["text"]
    send(client)
    assert alerts(client) == {}
    service.list_log.lost = 7
    monkeypatch.setattr(service.writer, "behind_s", 60.0)
    monkeypatch.setattr(
        service.model_registry,
        "failures",
        lambda: [
            {"tenant": "shop", "what": "version 3", "failure": "its folder is empty"},
            {"tenant": "rival", "what": "version 9", "failure": "secret"},
        ],
    )
    loud = alerts(client)
    assert list(loud) == ["model_failed", "writer_behind", "lists_lost"]
    assert "its folder is empty" in loud["model_failed"]["text"]
    assert all(alert["remedy"] for alert in loud.values())
    with writing(service.engine) as connection:
        connection.execute(sa.delete(events))
    assert alerts(client)["no_data"]["level"] == "hint"


def test_an_uneven_split_is_an_alert(client, service, monkeypatch):
    send(client)
    client.ask("/v1/models", folder="two")
    arms = [{"version": 1, "share": 0.5}, {"version": 2, "share": 0.5}]
    with writing(service.engine) as connection:
        experiments.start(connection, "shop", "wider", arms, None)
    counts = {"1": 300, "2": 310}
    monkeypatch.setattr("tailor.service.overview.count_answered", lambda *_: counts)
    assert "uneven_split" not in alerts(client)
    counts["2"] = 100
    assert "300 and 100" in alerts(client)["uneven_split"]["text"]


def test_it_needs_an_admin_and_the_client_asks_it(client, service):
    for role in ("serve", "read", "write"):
        for path in ("/v1/overview", "/v1/data", "/v1/data/diagnosis"):
            assert client.get(path, headers=bearer(service, role)).status_code == 403
    transport = httpx.MockTransport(lambda request: passed_on(client, request))
    with Speaking("http://shop", "key", transport=transport) as speaking:
        assert len(speaking.overview(days=2)["days"]) == 2
        assert speaking.stored_data()["tables"]
        assert speaking.diagnosis()["state"] == "none"
        assert speaking.cancel_diagnosis()["state"] == "none"


def passed_on(client, request):
    answer = client.request(request.method, request.url.raw_path.decode())
    return httpx.Response(answer.status_code, content=answer.content)


def test_figures_are_remembered_and_a_slow_count_answers_with_older_ones(monkeypatch):
    monkeypatch.setattr(remembered, "WAIT_S", 0.05)
    counted = []

    def count(tenant):
        time.sleep(0.3 if len(counted) == 1 else 0.0)
        counted.append(tenant)
        return len(counted)

    figures = Remembered(count)
    assert figures.get("shop").value == 1
    assert figures.get("shop").value == 1  # the second count takes too long
    until(lambda: len(counted) == 2)
    assert figures.get("shop").value in (2, 3)
    monkeypatch.setattr(remembered, "FRESH_S", 60.0)
    last = figures.get("rival").value
    assert figures.get("rival").value == last and counted.count("rival") == 1
    figures.close()


def test_a_first_count_that_takes_too_long_says_so(monkeypatch):
    monkeypatch.setattr(remembered, "FIRST_WAIT_S", 0.01)
    figures = Remembered(lambda tenant: time.sleep(0.2))
    with pytest.raises(ProblemError, match="are being counted") as refusal:
        figures.get("shop")
    assert (refusal.value.status, refusal.value.retry_s) == (503, 2)
    figures.close()
