"""The page Overview: figures with trends, alerts, an empty shop, a key that may not see them."""

import time

import pytest

pytest.importorskip("nicegui")

from tailor.console.pages.overview import (
    age_of,
    day_lines,
    is_empty,
    minute_lines,
    percent,
    refit_row,
    week_trend,
)

DAY_MS = 86_400_000


def a_day(number, events, coverage):
    return {"start_ms": number * DAY_MS, "events": events, "coverage": coverage}


def test_a_trend_compares_two_weeks():
    half_a_day = [1] * 7 + [2] * 7 + [1]
    assert week_trend(half_a_day) == "1 today; 14 in the 7 days before, +100% on the 7 before"
    assert week_trend([0] * 7 + [3] * 7 + [0]) == "0 today; 21 in the 7 days before"
    assert week_trend([5]) == "5 today; 0 in the 7 days before"


def test_days_become_lines_with_gaps():
    answer = {"days": [a_day(1, 5, None), a_day(2, 7, 0.25)]}
    assert day_lines(answer, {"events": "Events"}) == {"Events": [(DAY_MS, 5), (2 * DAY_MS, 7)]}
    covered = day_lines(answer, {"coverage": "Coverage"}, factor=100)
    assert covered == {"Coverage": [(DAY_MS, None), (2 * DAY_MS, 25.0)]}


def test_minutes_without_a_request_are_filled():
    last_ms = int(time.time() * 1000) // 60_000 * 60_000
    minute = {"time_ms": last_ms - 60_000, "requests": 4, "median_ms": 3.5}
    answer = {"latency": {"minutes": [minute]}}
    points = minute_lines(answer, {"requests": "Requests"}, 0)["Requests"]
    assert len(points) == 61 and sum(value for _, value in points) == 4
    times = minute_lines(answer, {"median_ms": "Median"}, None)["Median"]
    assert [value for _, value in times if value is not None] == [3.5]


def test_ages_and_shares_are_words():
    assert age_of(None, 0) == "not known"
    assert age_of(0, 7_200_000) == "2 hours ago"
    assert age_of(10_000, 0) == "0 s ago"  # a clock that runs ahead
    assert [percent(share) for share in (None, 0.1234)] == ["–", "12.3%"]
    assert is_empty({"counts": {"events": 0}})


def test_a_version_is_a_row():
    row = {
        "version": 2,
        "kind": "recommends",
        "note": "<b>refit</b>",
        "made_ms": 0,
        "served_ms": None,
        "answers": True,
    }
    assert refit_row(row)["served"] == "never" and refit_row(row)["note"] == "<b>refit</b>"


@pytest.mark.slow
def test_it_shows_the_shop_and_counts_a_new_event_without_a_reload(visitor):
    page = visitor.open("/")
    with visitor.served.client() as client:
        before = client.overview()["counts"]["events"]
        page.get_by_text(f"{before:,}", exact=True).first.wait_for()
        client.send_events([{"event_id": "seen", "user_id": "eve", "item_id": "mug"}])
    page.get_by_text(f"{before + 1:,}", exact=True).first.wait_for(timeout=60_000)
    assert page.get_by_role("img", name="Events and lists a day").is_visible()
    assert page.get_by_text("Models and refits").is_visible()


@pytest.mark.slow
def test_a_key_of_the_role_read_is_told_of_its_pages(visitor):
    page = visitor.open("/", role="read")
    page.get_by_text("need the role “admin”").wait_for()
    assert page.get_by_role("link", name="Papers").count() >= 1
    assert page.get_by_role("link", name="Data").count() == 0
    visitor.go(page, "/data")
    page.get_by_text('This page needs a key with the role "admin"').wait_for()
