import numpy as np
import polars as pl
import pytest

from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query, same
from tailor.errors import DataError
from tailor.retrieval.popularity import Popularity
from tailor.retrieval.time_of_day import TimeOfDay
from tailor.testing.data import tiny_data

HOUR_MS = 3_600_000
MONDAY = 4 * 24 * HOUR_MS  # 5 January 1970


def at(day: int, hour: float) -> int:
    """A time on a day of the week of that Monday."""
    return MONDAY + int((24 * day + hour) * HOUR_MS)


def logged(*rows: tuple[str, int], **tables: pl.DataFrame) -> Dataset:
    events = [(f"u{n}", item, time) for n, (item, time) in enumerate(rows)]
    return Dataset(
        {
            "events": pl.DataFrame(events, schema=["user_id", "item_id", "time_ms"], orient="row"),
            **tables,
        }
    )


def scores(method: TimeOfDay, query: Query) -> dict[str, float]:
    ranking = method.recommend([query], 99)[0]
    return dict(zip(ranking.ids, ranking.scores.tolist(), strict=True))


def test_lifts_by_hand():
    """Three coffees at 8 o'clock and one beer at 20, all on Mondays; one event of everybody's for
    shrinkage.
    """
    method = TimeOfDay(shrink=1.0).fit(logged(*[("coffee", at(0, 8))] * 3, ("beer", at(0, 20))))
    morning = (3 + 1) / (4 + 6)  # share of the bucket 8-12, smoothed by one event a bucket
    group = (3 + morning) / (4 + 1)  # both items have no category: one group
    coffee = (3 + group) / (3 + 1)
    got = method.by_hour_[method.items_.rows(["coffee"])[0]]
    assert got[2] == pytest.approx(coffee / morning) and got[-1] == 1
    assert method.by_hour_.shape == (2, 7) and method.by_weekday_.shape == (2, 8)


def test_the_hour_and_the_weekday_change_what_leads():
    rows = [("coffee", at(day, 8)) for day in range(7)] * 5 + [
        ("beer", at(day, 20)) for day in range(7)
    ] * 5
    rows += [("film", at(5, 21))] * 20 + [("work", at(1, 9))] * 20
    method = TimeOfDay(shrink=2.0).fit(logged(*rows))
    first = {
        name: next(iter(scores(method, Query(time_ms=time))))
        for name, time in {
            "monday morning": at(7, 10),
            "monday evening": at(7, 22),
            "saturday evening": at(12, 20.5),
            "tuesday morning": at(8, 9),
        }.items()
    }
    assert first == {
        "monday morning": "coffee",
        "monday evening": "beer",
        "saturday evening": "film",
        "tuesday morning": "work",
    }


def test_an_offset_moves_the_buckets():
    late = logged(*[("a", at(0, 23))] * 9, *[("b", at(1, 3))] * 9)
    here, there = (TimeOfDay(shrink=0.1, utc_offset_hours=hours).fit(late) for hours in (0.0, 2.0))
    assert here.fit_report_["events_by_bucket"] == [9, 0, 0, 0, 0, 9] and here.fit_report_[
        "events_by_weekday"
    ][:2] == [9, 9]
    assert there.fit_report_["events_by_bucket"] == [9, 9, 0, 0, 0, 0] and there.fit_report_[
        "events_by_weekday"
    ][:2] == [0, 18]


def test_a_rare_item_takes_the_hours_of_its_category():
    items = pl.DataFrame(
        {
            "item_id": ["wine", "gin", "tea", "rare"],
            "categories": [["bar"], ["bar"], ["cafe"], ["bar"]],
        }
    )
    rows = [("wine", at(0, 21))] * 20 + [("gin", at(0, 21))] * 20 + [("tea", at(0, 9))] * 40
    method = TimeOfDay().fit(logged(*rows, ("rare", at(0, 9)), items=items))
    lift = method.by_hour_[method.items_.rows(["rare"])[0]]
    assert lift[5] > 1 > lift[2]


def test_own_events_by_hand():
    """Of two own events one is of the query's bucket and weekday, the other of its weekday only."""
    method = TimeOfDay(own_hour=2.0, own_weekday=0.5, prior=1.0).fit(
        logged(("a", at(0, 9)), ("b", at(0, 9)), ("c", at(2, 20)))
    )
    query = Query(history=History(("a", "b"), (at(7, 10), at(0, 20))), time_ms=at(14, 9))
    everybody = scores(method, Query(time_ms=at(14, 9)))
    own = scores(method, query)
    total = 3.5 + 1.5 + 1.0
    assert own["a"] == pytest.approx((3.5 + everybody["a"]) / total, rel=1e-5)
    assert own["b"] == pytest.approx((1.5 + everybody["b"]) / total, rel=1e-5)
    assert own["c"] == pytest.approx(everybody["c"] / total, rel=1e-5)


def test_without_a_time_it_is_popularity_under_the_own_counts():
    data = tiny_data()
    method = TimeOfDay().fit(data)
    assert same(
        method.recommend([Query()], 40)[0].ids,
        Popularity().fit(data).recommend([Query()], 40)[0].ids,
    )
    assert method.recommend([Query(history=History.of("thing-003"))], 1)[0].ids == ("thing-003",)


def test_queries_with_and_without_times_do_not_disturb_each_other():
    data = tiny_data()
    method = TimeOfDay().fit(data)
    timed = Query(history=data.queries()[0].history, time_ms=at(2, 9))
    asked = [
        timed,
        Query(history=History.of("thing-001")),
        Query(time_ms=at(3, 3)),
        Query(history=timed.history),
    ]
    for one, together in zip(asked, method.recommend(asked, 6), strict=True):
        alone = method.recommend([one], 6)[0]
        assert together.ids == alone.ids
        np.testing.assert_allclose(together.scores, alone.scores, rtol=1e-6)


def test_data_without_times_is_refused_with_the_remedy():
    with pytest.raises(DataError, match="use Popularity"):
        TimeOfDay().fit(Dataset({"events": pl.DataFrame({"user_id": ["u"], "item_id": ["a"]})}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"utc_offset_hours": 25.0},
        {"shrink": 0.0},
        {"own_hour": -1.0},
        {"own_weekday": float("nan")},
        {"prior": 0.0},
        {"history_length": -1},
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(DataError, match=next(iter(wrong))):
        TimeOfDay(**wrong)
