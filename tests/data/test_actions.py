"""Which events speak against an item."""

import pytest

from tailor.data.actions import actions_against, events_against, speaks_against
from tailor.data.dataset import Dataset


@pytest.mark.parametrize(
    "action",
    ["dislike", "Thumbs-Down", "refund", "RETURNED", "remove_from_cart", "not interested", "hide"],
)
def test_actions_that_speak_against_an_item(action):
    assert speaks_against(action)
    assert speaks_against(action, 5.0)


@pytest.mark.parametrize(
    "action", ["like", "view", "buy", "add_to_cart", "rate", "click", "", None, "download"]
)
def test_actions_that_do_not(action):
    assert not speaks_against(action)
    assert not speaks_against(action, 0.0)
    assert speaks_against(action, -1.0)


def events(**columns) -> Dataset:
    n = len(next(iter(columns.values())))
    return Dataset.from_events({"user_id": ["u"] * n, "item_id": list("abcdef")[:n], **columns})


def test_by_name_and_by_sign():
    data = events(
        action=["like", "dislike", "buy", "Refund", None], value=[None, None, -19.9, 19.9, 1.0]
    )
    assert events_against(data).tolist() == [False, True, True, True, False]
    assert actions_against(data.events) == ["Refund", "dislike"]


def test_where_nothing_is_positive_the_sign_says_nothing():
    assert events_against(events(value=[-3.0, -1.5, 0.0])).tolist() == [False] * 3
    assert events_against(events(value=[-3.0, 1.5, None])).tolist() == [True, False, False]


def test_a_label_of_the_data_set_decides_instead():
    data = events(action=["like", "dislike", "skip"])
    data.labels["against"] = "action = 'skip'"
    assert events_against(data).tolist() == [False, False, True]


def test_a_log_without_actions_and_values():
    data = Dataset.from_events({"user_id": ["u"], "item_id": ["a"]})
    assert events_against(data).tolist() == [False]
    assert actions_against(data.events) == []
