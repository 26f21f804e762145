"""Filling up: in order, without repeats, never past a filter."""

from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pytest
from says import Says

from tailor.core.methods import Recommender
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query, Ranking
from tailor.data.queries import Queries, Rankings
from tailor.errors import ModelError
from tailor.pipeline.cascade import Cascade
from tailor.pipeline.fallback import Fallback
from tailor.pipeline.filter import Filter
from tailor.pipeline.fuse import Fuse
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.testing.data import tiny_data

DATA = Dataset({"events": pl.DataFrame({"user_id": list("uuuvvv"), "item_id": list("abcabd")})})


@dataclass(eq=False)
class Narrow(Recommender):
    """Answers with arrays as wide as its longest list, not as k."""

    order: list[str] = field(default_factory=list)

    def _fit(self, data, run, valid): ...

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        lists = [
            tuple(one for one in self.order if one not in query.exclude)[:k] for query in queries
        ]
        return Rankings.of(
            [Ranking(one, np.arange(len(one), 0, -1).astype(np.float32)) for one in lists]
        )


def ids(method: Recommender, k: int, *queries: Query) -> list[str]:
    return ["".join(one.ids) for one in method.fit(DATA).recommend(list(queries) or [Query()], k)]


def test_the_first_comes_first_and_nothing_stands_twice():
    assert ids(Fallback([Says("ab"), Says("bcad"), Says("xyz")]), 5) == ["abcdx"]
    assert ids(Fallback([Says("ab"), Says("bcad"), Says("xyz")]), 2) == ["ab"]
    assert ids(Fallback([Says(), Says("xyz")]), 9) == ["xyz"]


def test_each_query_is_filled_on_its_own_and_keeps_its_place():
    method = Fallback([Says("abc", to="u"), Says("cd", to="v"), Says("efghi")])
    queries = [Query("v"), Query("u"), Query("w"), Query("u"), Query("v", exclude=("e", "d"))]
    assert ids(method, 3, *queries) == ["cde", "abc", "efg", "abc", "cfg"]
    assert [ids(method, 3, query)[0] for query in queries] == ["cde", "abc", "efg", "abc", "cfg"]


@pytest.mark.parametrize(
    "parts",
    [
        [Narrow(["a"]), Says("abcdef")],
        [Narrow([]), Says("abcdef")],
        [Says("a", to="u"), Narrow(["b", "c"])],
        [Narrow(["a"]), Narrow(["b"]), Says("cdef")],
    ],
)
def test_arrays_of_any_width_are_joined(parts):
    queries = [Query("u"), Query("v"), Query("u", exclude=("a",))]
    whole = ids(Fallback(parts), 4, *queries)
    assert whole == [ids(Fallback(parts), 4, query)[0] for query in queries]
    assert all(len(set(one)) == len(one) for one in whole)


def test_candidates_hold_for_every_part():
    ranking = (
        Fallback([Says("ab"), Popularity()])
        .fit(DATA)
        .recommend([Query()], 5, [Ranking(("d", "b"), np.ones(2, np.float32))])[0]
    )
    assert ranking.ids == ("b", "d")


def test_the_stage_says_who_filled():
    ranking = Fallback([Says("ab"), Says("cd")]).fit(DATA).recommend([Query()], 4)[0]
    assert ranking.columns["stage"].tolist() == [0, 0, 1, 1]


def test_a_list_that_stays_short_says_why():
    ranking = Fallback([CoVisitation(), Says("a")]).fit(DATA).recommend([Query()], 5)[0]
    assert ranking.ids == ("a",) and len(ranking.notes) == 2


HIDDEN = Filter(Says("abcd"), blocked=["b", "c"])


@pytest.mark.parametrize(
    "part",
    [
        HIDDEN,
        Filter(HIDDEN),
        Fallback([Says("a"), HIDDEN]),
        Cascade(HIDDEN, Popularity()),
        Cascade(Popularity(), HIDDEN),
        Fuse([Popularity(), HIDDEN], weights=(1, 1)),
        Fuse([Popularity(), Cascade(Popularity(), Fallback([Says("a"), HIDDEN]))], weights=(1, 0)),
    ],
)
@pytest.mark.parametrize(
    "others",
    [
        lambda part: [part, Popularity()],
        lambda part: [Popularity(), part],
        lambda part: [Says("bcx"), part, Says("cbda")],
    ],
)
def test_no_part_fills_in_what_another_parts_filter_forbids_however_deep(part, others):
    method = Fallback(others(part)).fit(DATA)
    for ranking in method.recommend([Query(), Query(history=History.of("a"), exclude=("x",))], 6):
        assert len(ranking) and not set(ranking.ids) & {"b", "c"}


def test_explanations_come_from_the_part_that_has_evidence():
    data = tiny_data()
    method = Fallback([CoVisitation(top_n=2), Popularity()]).fit(data)
    query = [Query(history=History.of("thing-004"))]
    ranking = method.recommend(query, 8)
    kinds = [reason.evidence[0].kind for reason in method.explain(query, ranking)[0]]
    assert kinds == [
        "item" if stage == 0 else "popularity" for stage in ranking[0].columns["stage"]
    ]


def test_explaining_an_item_that_nobody_knows_leaves_the_others_explained():
    method = Fallback([CoVisitation(), Popularity()]).fit(tiny_data())
    reasons = method.explain(
        [Query()], [Ranking(("thing-001", "unknown"), np.ones(2, np.float32))]
    )[0]
    assert [one.item_id for one in reasons] == ["thing-001", "unknown"]


@pytest.mark.parametrize("parts", [[], ["EASE"], [Popularity], None])
def test_parts_that_are_no_recommenders_are_refused(parts):
    with pytest.raises(ModelError, match=r"Fallback\.parts"):
        Fallback(parts)


def test_nobody_can_explain_is_an_error():
    with pytest.raises(ModelError, match="explain"):
        Fallback([Says("a")]).fit(DATA).explain([Query()], [Ranking(("a",), np.ones(1))])
