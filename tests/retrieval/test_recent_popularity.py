import numpy as np
import polars as pl
import pytest

from tailor.data.dataset import Dataset
from tailor.data.nouns import Query, same
from tailor.errors import DataError
from tailor.retrieval.popularity import Popularity
from tailor.retrieval.recent_popularity import DAY_MS, RecentPopularity
from tailor.testing.data import tiny_data


def shares(method: RecentPopularity, **context: object) -> dict[str, float]:
    ranking = method.recommend([Query(context=context)], 9)[0]
    return dict(zip(ranking.ids, ranking.scores.tolist(), strict=True))


def by_country(**settings: object) -> RecentPopularity:
    """Six Dutch buy a, two of them b too; five French buy b; one Dane buys c; one of unknown land
    buys c.
    """
    buys = [("n", "a", 6), ("n", "b", 2), ("f", "b", 5), ("d", "c", 1), ("x", "c", 1)]
    events = pl.DataFrame(
        [(f"{who}{i}", item) for who, item, n in buys for i in range(n)],
        schema=["user_id", "item_id"],
        orient="row",
    )
    lands = {"n": "NL", "f": "FR", "d": "DK"}
    users = pl.DataFrame(
        [(f"{who}{i}", land) for who, land in lands.items() for i in range(6)],
        schema=["user_id", "country"],
        orient="row",
    )
    return RecentPopularity(segment="country", **settings).fit(
        Dataset({"events": events, "users": users})
    )


def test_a_window_and_a_half_life_by_hand():
    times = [0, 5 * DAY_MS, 10 * DAY_MS]
    data = Dataset(
        {"events": pl.DataFrame({"user_id": list("uvw"), "item_id": list("abc"), "time_ms": times})}
    )
    assert shares(RecentPopularity(half_life_days=5.0).fit(data)) == pytest.approx(
        {"a": 1 / 7, "b": 2 / 7, "c": 4 / 7}
    )
    assert shares(RecentPopularity(window_days=5.5).fit(data)) == pytest.approx(
        {"a": 0, "b": 0.5, "c": 0.5}
    )
    # the edge is out
    assert shares(RecentPopularity(window_days=5.0).fit(data)) == pytest.approx(
        {"a": 0, "b": 0, "c": 1}
    )


def test_a_segment_is_pulled_towards_everybody_by_hand():
    method = by_country(shrink=7.0)
    assert shares(method, country="NL") == pytest.approx(
        {"a": (6 + 7 * 6 / 15) / 15, "b": (2 + 7 * 7 / 15) / 15, "c": (7 * 2 / 15) / 15}
    )
    assert shares(method, country="FR")["b"] == pytest.approx((5 + 7 * 7 / 15) / 12)


@pytest.mark.parametrize(
    "context", [{}, {"country": None}, {"country": "??"}, {"country": "DK"}, {"age": "NL"}], ids=str
)
def test_who_names_no_known_segment_gets_what_everybody_chooses(context):
    assert shares(by_country(), **context) == pytest.approx({"a": 6 / 15, "b": 7 / 15, "c": 2 / 15})


def test_a_segment_of_few_people_is_not_kept():
    """A model with a segment of one person would say what that person bought."""
    method = by_country()
    assert (
        method.segments_.ids.tolist() == ["FR", "NL"]
        and method.fit_report_["segments_too_small"] == 1
    )
    assert "DK" in by_country(least_users=1).segments_


def test_queries_of_a_data_set_bring_their_segment():
    users = pl.DataFrame(
        {
            "user_id": [f"person-{n:03d}" for n in range(60)],
            "land": [("NL", "FR")[n % 2] for n in range(60)],
        }
    )
    tiny = tiny_data()
    data = Dataset({**tiny.tables, "users": users})
    method = RecentPopularity(segment="land", shrink=1.0).fit(data)
    lists = method.recommend(data.queries(), 5)
    for at in (0, 1, 17):
        assert same(
            lists[at], method.recommend([Query(context={"land": ("NL", "FR")[at % 2]})], 5)[0]
        )
    assert lists[0].ids != lists[1].ids


def test_without_segment_and_age_it_is_popularity():
    data = tiny_data()
    ours, plain = (
        RecentPopularity().fit(data).recommend([Query()], 40)[0],
        Popularity().fit(data).recommend([Query()], 40)[0],
    )
    assert ours.ids == plain.ids
    np.testing.assert_allclose(ours.scores * plain.scores.sum(), plain.scores, rtol=1e-5)


def test_an_unknown_column_is_named_with_the_nearest():
    with pytest.raises(DataError, match="country"):
        RecentPopularity(segment="contry").fit(
            Dataset(
                {
                    "events": pl.DataFrame({"user_id": ["u"], "item_id": ["a"]}),
                    "users": pl.DataFrame({"user_id": ["u"], "country": ["NL"]}),
                }
            )
        )


def test_times_are_asked_for_where_they_are_needed():
    with pytest.raises(DataError, match="leave them out"):
        RecentPopularity(window_days=3.0).fit(
            Dataset({"events": pl.DataFrame({"user_id": ["u"], "item_id": ["a"]})})
        )


@pytest.mark.parametrize(
    "wrong",
    [{"window_days": 0}, {"half_life_days": float("nan")}, {"shrink": 0.0}, {"least_users": 0}],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(DataError, match=next(iter(wrong))):
        RecentPopularity(**wrong)
