"""Figures of a data set small enough to count by hand."""

import json

import pytest

from tailor.data.dataset import Dataset
from tailor.data.stats import stats
from tailor.errors import DataError


def small(times: bool = True) -> Dataset:
    """u: a b b, the last two at one time and exact copies; v: a alone; item c has no events, b no
    words.
    """
    events = {"user_id": ["u", "v", "u", "u"], "item_id": ["a", "a", "b", "b"]}
    when = (
        {"time_ms": [86_400_000_000, 86_400_000_500, 86_400_001_000, 86_400_001_000]}
        if times
        else {}
    )
    items = {"item_id": ["a", "b", "c"], "title": ["A", " ", None], "text": [None, None, "words"]}
    return Dataset.from_events({**events, **when}, items)


def test_by_hand():
    got = stats(small())
    assert json.loads(json.dumps(got)) == got
    assert (got["users"], got["items"], got["events"]) == (2, 3, 4)
    assert got["density"] == pytest.approx(4 / 6)
    assert got["events_per_user"] == {
        "min": 1,
        "p10": 1.2,
        "p25": 1.5,
        "median": 2,
        "p75": 2.5,
        "p90": 2.8,
        "p99": 2.98,
        "max": 3,
    }
    assert got["events_per_item"]["max"] == got["events_per_item"]["min"] == 2
    assert got["time_range"] == ["1972-09-27T00:00:00Z", "1972-09-27T00:00:01Z"]
    assert got["repeats_share"] == 0.25
    assert got["exact_duplicates"] == 1
    assert got["tied_times_share"] == 0.5
    assert got["tied_last_share"] == 0.5
    assert got["items_without_events"] == 1
    assert got["items_without_words"] == 1
    assert got["top_items_share"] == 0.5


def test_without_times_and_items():
    events = small(times=False).events
    got = stats(Dataset.from_events(events))
    assert got["time_range"] is None
    assert got["tied_times_share"] is None
    assert got["tied_last_share"] is None
    assert got["items_without_words"] == got["items"] == 2


def test_nothing_and_no_events():
    assert stats(Dataset.from_events(small().events.clear()))["events"] == 0
    with pytest.raises(DataError, match="no events"):
        stats(
            Dataset(
                {
                    "judgements": (
                        __import__("polars").DataFrame(
                            {"query_id": ["q"], "item_id": ["a"], "grade": [1.0]}
                        )
                    )
                }
            )
        )


def test_a_tie_counts_only_within_one_user():
    got = stats(
        Dataset.from_events(
            {"user_id": ["u", "v"], "item_id": ["a", "a"], "time_ms": [10**12, 10**12]}
        )
    )
    assert got["tied_times_share"] == 0
    assert got["exact_duplicates"] == 0
