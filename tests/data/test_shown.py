"""Shown lists, against a log written by hand."""

import numpy as np
import polars as pl
import pytest

from tailor.data.dataset import Dataset
from tailor.data.shown import ShownLists
from tailor.testing.data import tiny_data


@pytest.fixture
def data():
    events = pl.DataFrame(
        {
            "user_id": ["ann", "ann", "bob", "ann"],
            "item_id": ["a", "b", "a", "c"],
            "time_ms": [10, 21, 22, 41],
            "request_id": [None, "r1", None, "r3"],
        }
    )
    requests = pl.DataFrame(
        {
            "request_id": ["r3", "r1", "r2", "r4"],
            "user_id": ["ann", "ann", "cid", "bob"],
            "time_ms": [40, 20, 30, 50],
        }
    )
    impressions = pl.DataFrame(
        {
            "request_id": ["r3", "r3", "r1", "r1", "r1", "r2"],
            "item_id": ["d", "c", "c", "b", "e", "a"],
            "position": [2, 1, 1, 3, 2, 1],
            "propensity": [0.2, 0.1, 0.3, 0.5, 0.4, None],
            "shown": [True, True, True, True, False, None],
        }
    )
    return Dataset({"events": events, "requests": requests, "impressions": impressions}, "hand")


def test_lists_stand_by_time_and_places_by_position(data):
    shown = ShownLists.of(data, 10)
    assert [query.request_id for query in shown.queries] == [None] * 3
    assert [query.user_id for query in shown.queries] == ["ann", "cid", "ann"]
    assert shown.queries.now_ms.tolist() == [20, 30, 40]
    named = [data.catalogue.named(rows[rows >= 0]) for rows in shown.rows]
    assert named == [["c", "b"], ["a"], ["c", "d"]]
    assert shown.is_chosen.tolist() == [[False, True], [False, False], [True, False]]
    assert np.allclose(
        shown.propensities, [[0.3, 0.5], [np.nan, np.nan], [0.1, 0.2]], equal_nan=True
    )


def test_histories_hold_what_was_before_the_request(data):
    histories = [query.history.item_ids for query in ShownLists.of(data, 10).queries]
    assert histories == [("a",), (), ("a", "b")]
    assert ShownLists.of(data, 1).queries[2].history.item_ids == ("b",)


def test_lists_are_taken_by_number(data):
    shown = ShownLists.of(data, 10).take(np.array([2, 0]))
    assert len(shown) == 2 and shown.queries.now_ms.tolist() == [40, 20]
    assert shown.is_chosen.tolist() == [[True, False], [False, True]]


def test_data_without_impressions_have_no_lists():
    assert len(ShownLists.of(tiny_data(), 10)) == 0
