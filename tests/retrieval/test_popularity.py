import numpy as np
import polars as pl
import pytest

from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query, same
from tailor.data.queries import Queries
from tailor.errors import DataError
from tailor.retrieval.popularity import DAY_MS, Popularity
from tailor.testing.data import tiny_data


def test_counts_and_order_by_hand():
    data = Dataset(
        {
            "events": pl.DataFrame({"user_id": list("uuvvw"), "item_id": list("abaca")}),
            "items": pl.DataFrame({"item_id": ["d", "a"]}),
        }
    )
    ranking = Popularity().fit(data).recommend([Query()], 9)[0]
    assert ranking.ids[0] == "a" and set(ranking.ids[1:3]) == {"b", "c"} and ranking.ids[3] == "d"
    assert ranking.scores.tolist() == [3, 1, 1, 0]


def test_an_event_half_a_life_older_counts_half():
    times = [0, 5 * DAY_MS, 10 * DAY_MS]
    data = Dataset(
        {"events": pl.DataFrame({"user_id": list("uvw"), "item_id": list("abc"), "time_ms": times})}
    )
    counts = Popularity(half_life_days=5.0).fit(data)
    assert dict(zip(counts.items_.ids, counts.counts_, strict=True)) == {
        "a": 0.25,
        "b": 0.5,
        "c": 1.0,
    }


def test_half_life_without_times_is_refused_with_the_remedy():
    data = Dataset({"events": pl.DataFrame({"user_id": ["u"], "item_id": ["a"]})})
    with pytest.raises(DataError, match="leave it out"):
        Popularity(half_life_days=3.0).fit(data)


@pytest.mark.parametrize("days", [0, -1, float("nan")])
def test_a_half_life_that_means_nothing_is_refused(days):
    with pytest.raises(DataError, match="half_life_days"):
        Popularity(half_life_days=days)


def test_the_short_way_equals_the_general_one():
    """Without candidates one order serves everybody; with the whole catalogue as candidates the
    common way is taken.
    """
    data = tiny_data()
    method = Popularity().fit(data)
    every = method.recommend([Query()] * 60, 40)
    for queries in (
        data.queries(),
        data.queries().without_history(),
        data.queries().without(["thing-000", "unknown"]),
        Queries.of(
            [Query(exclude=("thing-001", "thing-001"), history=History.of("thing-003"))] * 60
        ),
    ):
        short, long = method.recommend(queries, 12), method.recommend(queries, 12, every)
        for a, b in zip(short, long, strict=True):
            assert a.ids == b.ids and np.array_equal(a.scores, b.scores)


def test_one_query_leaves_no_trace_on_the_next():
    method = Popularity().fit(tiny_data())
    plain = method.recommend([Query()], 5)[0]
    excluded = Query(exclude=plain.ids[:3])
    lists = method.recommend([excluded, Query(), excluded, Query()], 5)
    assert (
        same(lists[1], plain)
        and same(lists[3], plain)
        and not set(lists[0].ids) & set(plain.ids[:3])
        and same(lists[0], lists[2])
    )
