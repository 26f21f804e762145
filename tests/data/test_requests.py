"""Requests of a log: what each led to, and what was known before it."""

import polars as pl
import pytest

from tailor.data.dataset import Dataset
from tailor.data.requests import Requests

ACTIONS = ("click", "order")
EVENTS = [
    ("ann", "a", 1, "view", None),
    ("ann", "b", 5, "click", "r1"),
    ("ann", "c", 6, "click", "r1"),
    ("ann", "c", 7, "order", "r1"),
    ("bob", "d", 8, "click", "r2"),
    ("ann", "d", 9, "click", "r3"),
    ("bob", "a", 10, "view", "r4"),
]
REQUESTS = [
    ("r3", "ann", 8, "hat"),
    ("r1", "ann", 4, "coat"),
    ("r2", "bob", 7, None),
    ("r4", "bob", 9, "shoe"),
    ("r5", "bob", 20, "nothing came of it"),
]


def log(events=EVENTS, columns=5, requests=True):
    schema = ["user_id", "item_id", "time_ms", "action", "request_id"][:columns]
    tables = {
        "events": pl.DataFrame([row[:columns] for row in events], schema=schema, orient="row")
    }
    if requests:
        schema = ["request_id", "user_id", "time_ms", "text"]
        tables["requests"] = pl.DataFrame(REQUESTS, schema=schema, orient="row")
    return Dataset(tables)


def described(requests):
    """Return (user, history, text, targets by action) of every request."""
    named = requests.queries.catalogue.named
    return [
        (
            query.user_id,
            query.history.item_ids,
            query.text,
            [named(items[i]) for items in requests.targets],
        )
        for i, query in enumerate(requests.queries)
    ]


def test_requests_know_what_came_before_and_what_they_led_to():
    assert described(Requests.of(log(), ACTIONS, 10)) == [
        ("ann", ("a",), "coat", [["b", "c"], ["c"]]),
        ("bob", (), "", [["d"], []]),
        ("ann", ("a", "b", "c", "c"), "hat", [["d"], []]),
    ]


def test_histories_hold_the_latest_events_only():
    requests = Requests.of(log(), ACTIONS, 2)
    assert requests.queries[2].history.item_ids == ("c", "c")


def test_the_items_that_a_request_reached_by_all_actions():
    requests = Requests.of(log(), ACTIONS, 10)
    named = requests.queries.catalogue.named
    assert [named(row) for row in map(requests.reached().__getitem__, range(3))] == [
        ["b", "c", "c"],
        ["d"],
        ["d"],
    ]


@pytest.mark.parametrize("requests", [True, False])
def test_without_request_ids_every_event_is_a_request(requests):
    found = described(Requests.of(log(columns=4, requests=requests), ACTIONS, 10))
    assert found[1] == ("ann", ("a", "b"), "", [["c"], []])
    assert [row[3] for row in found] == [
        [["b"], []],
        [["c"], []],
        [[], ["c"]],
        [["d"], []],
        [["d"], []],
    ]


def test_where_no_event_has_an_action_each_counts_as_all():
    found = described(Requests.of(log(columns=3, requests=False), ACTIONS, 10))
    assert len(found) == len(EVENTS)
    assert found[0] == ("ann", (), "", [["a"], ["a"]])


def test_events_without_times_are_in_their_order():
    found = described(Requests.of(log(columns=2, requests=False), ACTIONS, 10))
    assert [row for row in found if row[0] == "bob"] == [
        ("bob", (), "", [["d"], ["d"]]),
        ("bob", ("d",), "", [["a"], ["a"]]),
    ]


def test_events_of_one_moment_do_not_know_each_other():
    tied = [("ann", "a", 1), ("ann", "b", 2), ("ann", "c", 2)]
    found = described(Requests.of(log(tied, columns=3, requests=False), ACTIONS, 10))
    assert [row[1] for row in found] == [(), ("a",), ("a",)]


def test_requests_bring_their_further_columns_as_context():
    data = log()
    places = [f"place {number}" for number in range(len(REQUESTS))]
    asked = data.tables["requests"].with_columns(place=pl.Series(places))
    tables = {"events": data.events, "requests": asked}
    requests = Requests.of(Dataset(tables), ACTIONS, 10)
    assert requests.queries.context("place") == ["place 1", "place 2", "place 0"]
