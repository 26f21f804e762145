"""Exploration: one request, one answer; propensities are the probabilities they say they are."""

from collections import Counter

import numpy as np
import polars as pl
import pytest

from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.errors import DataError, ModelError
from tailor.pipeline.explore import PROPENSITY, Explore, Thompson
from tailor.pipeline.filter import Filter
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.testing.data import tiny_data

DATA = tiny_data()
INNER = Popularity().fit(DATA)


def asked(n: int) -> list[Query]:
    return [Query(history=History.of("thing-001"), request_id=f"r{i}") for i in range(n)]


@pytest.mark.parametrize("kind", [Explore, Thompson])
def test_a_request_has_one_answer_and_without_an_id_there_is_no_chance(kind):
    model = kind(inner=Popularity(), depth=20).fit(DATA)
    first, again = (model.recommend(asked(30), 5) for _ in range(2))
    assert [one.ids for one in first] == [one.ids for one in again]
    assert len({one.ids for one in first}) > 3
    plain = model.recommend([Query(user_id="person-001")], 5)[0]
    assert (
        plain.ids == INNER.recommend([Query(user_id="person-001")], 5)[0].ids
        and plain.columns[PROPENSITY].tolist() == [1.0] * 5
    )
    assert [
        one.ids
        for one in kind(inner=Popularity(), depth=20, seed=1).fit(DATA).recommend(asked(30), 5)
    ] != [one.ids for one in first]


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [
        (Explore(inner=Popularity(), depth=12, epsilon=0.3), 0.03),
        (Thompson(inner=Popularity(), depth=12), 0.06),
    ],
)
def test_propensities_are_how_often_an_item_stands_at_a_place(kind, tolerance):
    model, n, k = kind.fit(DATA), 4_000, 3
    lists = model.recommend(asked(n), k)
    counted, said = Counter(), {}
    for one in lists:
        for place, (item, chance) in enumerate(zip(one.ids, one.columns[PROPENSITY], strict=True)):
            counted[place, item] += 1
            said.setdefault((place, item), []).append(float(chance))
    for key, times in counted.items():
        if times > 40:
            assert np.mean(said[key]) == pytest.approx(times / n, abs=tolerance), key
    assert all(len(set(one.ids)) == k for one in lists)


def test_the_inverse_of_propensities_adds_up_to_one_a_place():
    """What every estimate rests on: the mean of 1{item at place} / propensity is 1 for every item
    that can stand there.
    """
    model = Explore(inner=Popularity(), depth=8, epsilon=0.4).fit(DATA)
    lists = model.recommend(asked(6_000), 2)
    total = Counter()
    for one in lists:
        total[one.ids[1]] += 1 / float(one.columns[PROPENSITY][1]) / len(lists)
    # six of the rest and its own
    assert len(total) == 7 and all(value == pytest.approx(1, abs=0.12) for value in total.values())


def test_what_a_filter_blocks_is_not_explored_either():
    model = Filter(
        inner=Explore(inner=Popularity(), epsilon=0.9), blocked=["thing-003", "thing-004"]
    ).fit(DATA)
    found = {item for one in model.recommend(asked(200), 5) for item in one.ids}
    assert not found & {"thing-003", "thing-004"} and len(found) > 15
    lists = model.recommend([Query(request_id="x", exclude=tuple(found))], 5)
    assert not set(lists[0].ids) & found


def test_a_pool_too_small_is_not_explored_and_a_fitted_model_can_be_wrapped():
    few = Explore.around(CoVisitation().fit(DATA), epsilon=0.9)
    candidates = INNER.recommend([Query()], 6)
    found = few.recommend(asked(1), 5, candidates)[0]
    assert (found.columns[PROPENSITY] == 1).all()
    wrapped = Explore.around(INNER, epsilon=0.0)
    assert [one.ids for one in wrapped.recommend(asked(5), 4)] == [
        one.ids for one in INNER.recommend(asked(5), 4)
    ]
    assert wrapped.explains() and wrapped.trained_on_ is INNER.trained_on_


def test_thompson_learns_from_what_was_chosen():
    best = INNER.recommend([Query()], 10)[0].ids
    shown = pl.DataFrame(
        {
            "request_id": [f"q{i}" for i in range(400)],
            "position": 1,
            "item_id": [best[0]] * 200 + [best[5]] * 200,
            "propensity": 1.0,
        }
    )
    events = DATA.events.with_columns(request_id=pl.lit(None, pl.String))
    chosen = pl.DataFrame(
        {
            "user_id": "eve",
            "item_id": best[5],
            "time_ms": 1_700_000_000_000,
            "action": "buy",
            "value": 1.0,
            "request_id": [f"q{i}" for i in range(200, 300)],
        }
    )
    data = Dataset({"events": pl.concat([events, chosen], how="diagonal"), "impressions": shown})
    model = Thompson(inner=Popularity(), depth=20).fit(data)
    assert model.fit_report_["showings"] == 400 and model.fit_report_["successes"] == 100
    first = Counter(one.ids[0] for one in model.recommend(asked(200), 5))
    # shown 200 times each: one chosen 100 times, the other never
    assert first[best[5]] > 150 and first[best[0]] == 0


@pytest.mark.parametrize("wrong", [{"epsilon": 1.0}, {"epsilon": -0.1}, {"depth": 0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(DataError):
        Explore(inner=Popularity(), **wrong)
    with pytest.raises(ModelError):
        Explore(inner="Popularity")
    with pytest.raises(DataError):
        Thompson(inner=Popularity(), draws=1)
