"""What must never be recommended never is."""

from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
import pytest

from tailor.core.methods import Recommender, ScoringRecommender
from tailor.core.specs import build
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query, Ranking
from tailor.data.queries import Queries, Rankings
from tailor.errors import DataError, ModelError
from tailor.pipeline.cascade import Cascade
from tailor.pipeline.fallback import Fallback
from tailor.pipeline.filter import Filter
from tailor.pipeline.fuse import Fuse
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.retrieval.text_match import TextMatch

ITEMS = pl.DataFrame(
    {
        "item_id": ["a", "b", "c", "d", "e", "f"],
        "title": ["tent", "tent", "lamp", None, "lamp", "kettle"],
        "categories": [["camp", "red"], ["camp"], ["home"], None, [], ["home", None]],
        "price": [10.0, 20.0, None, float("nan"), 5.0, 30.0],
        "stock": [1, 0, 3, None, 5, 2],
        "adult": [True, False, None, False, False, True],
    }
)
EVERYONE = [
    Query(history=History.of(*ids), text="tent lamp kettle") for ids in ("", "a", "abc", "fedcba")
]


def data() -> Dataset:
    events = [(f"u{u}", item) for u in range(4) for item in "abcdef" * 2]
    return Dataset(
        {
            "events": pl.DataFrame(events, schema=["user_id", "item_id"], orient="row"),
            "items": ITEMS,
        }
    )


def answered(method: Recommender, k: int = 10, queries=EVERYONE, candidates=None) -> set[str]:
    return {one for ranking in method.recommend(queries, k, candidates) for one in ranking.ids}


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        ({"blocked": ["a", "f", "unknown"]}, "bcde"),
        ({"only": {"title": ["tent"]}}, "ab"),
        ({"only": {"categories": ["home", "red"]}}, "acf"),
        ({"only": {"categories": []}}, ""),
        ({"only": {"stock": [1, 2]}}, "af"),
        ({"only": {"adult": [False]}}, "bde"),
        ({"never": {"categories": ["camp"]}}, "cdef"),
        ({"never": {"title": ["tent", "lamp"]}}, "df"),
        ({"never": {"adult": [True]}}, "bcde"),
        ({"never": {"stock": []}}, "abcdef"),
        ({"at_most": {"price": 20}}, "abe"),
        ({"at_most": {"price": 4.99}}, ""),
        ({"at_most": {"stock": 2}}, "abf"),
        ({"rules": ["price <= 20"]}, "abe"),
        ({"rules": ["price <= 20", "not (categories has 'red')"]}, "be"),
        ({"rules": ["title != 'tent'"]}, "cef"),
        ({"rules": ["not (categories has 'camp') or adult"]}, "acef"),
        ({"rules": ["title contains 'TEN' or stock = 5"]}, "abe"),
        ({"rules": ["price is missing"]}, "cd"),
        ({"rules": ["item_id in ('a', 'zz')"]}, "a"),
        ({"rules": ["stock > 100"]}, ""),
        ({"rules": ["price <= 20"], "never": {"title": ["lamp"]}, "blocked": ["a"]}, "b"),
        (
            {
                "only": {"title": ["tent"]},
                "never": {"categories": ["red"]},
                "at_most": {"price": 20},
                "blocked": ["c"],
            },
            "b",
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "inner",
    [Popularity(), CoVisitation(), Fallback([TextMatch(), Popularity()])],
    ids=lambda one: one.name,
)
def test_only_what_the_rule_leaves_is_ever_answered(rule, left, inner):
    method = Filter(inner, **rule).fit(data())
    assert answered(method) == set(left)
    assert answered(method, 1) <= set(left)
    everything = [Ranking(tuple("fedcba"), np.arange(6, 0, -1).astype(np.float32))] * len(EVERYONE)
    assert answered(method, candidates=everything) == set(left)


def test_an_item_whose_value_is_missing_fails_what_asks_for_a_value():
    assert "d" not in answered(
        Filter(Popularity(), only={"title": ["tent", "lamp", "kettle"]}).fit(data())
    )
    bound = answered(Filter(Popularity(), at_most={"price": 1e9}).fit(data()))
    assert not {"c", "d"} & bound, "no price, or NaN, is no price below the bound"


def test_an_item_that_only_the_events_know_fails_too():
    whole = data()
    more = Dataset(
        {
            "events": pl.concat(
                [whole.events, pl.DataFrame({"user_id": ["u0"], "item_id": ["z"]})]
            ),
            "items": ITEMS,
        }
    )
    assert "z" in answered(Filter(Popularity()).fit(more))
    assert "z" not in answered(Filter(Popularity(), only={"adult": [True, False]}).fit(more))


@pytest.mark.parametrize(
    "rule",
    [
        {"only": {"categoris": ["x"]}},
        {"never": {"categoris": ["x"]}},
        {"at_most": {"prise": 3}},
        {"rules": ["not prise > 3"]},
    ],
    ids=str,
)
def test_a_typo_in_a_column_is_quoted_and_nothing_is_fitted(rule):
    method = Filter(Popularity(), **rule)
    with pytest.raises(DataError, match="Did you mean"):
        method.fit(data())
    assert not method.is_fitted


@pytest.mark.parametrize(
    "rule",
    [
        {"blocked": "a"},
        {"never": {"categories": "camp"}},
        {"only": {"title": "tent"}},
        {"at_most": {"price": "20"}},
        {"at_most": {"price": float("nan")}},
        {"never": ["camp"]},
        {"blocked": [3]},
        {"rules": "price < 3"},
        {"rules": [3]},
    ],
    ids=str,
)
def test_a_rule_that_is_no_rule_is_refused_and_never_read_letter_by_letter(rule):
    with pytest.raises(ModelError, match=f"Filter.{next(iter(rule))}"):
        Filter(Popularity(), **rule)
    with pytest.raises(ModelError):
        build({"class": "Filter", "inner": {"class": "Popularity"}, **rule})


@pytest.mark.parametrize(
    "rule",
    [
        {"never": {"price": ["10"]}},
        {"never": {"title": [3]}},
        {"at_most": {"title": 3}},
        {"only": {"stock": ["1"]}},
        {"at_most": {"categories": 3}},
        {"never": {"categories": [1]}},
    ],
    ids=str,
)
def test_a_value_of_another_type_than_the_column_is_refused_and_blocks_not_nothing(rule):
    with pytest.raises(DataError, match="Filter"):
        Filter(Popularity(), **rule).fit(data())


def test_a_value_that_no_item_has_is_reported():
    report = (
        Filter(Popularity(), never={"categories": ["capm", "home"]}, blocked=["a", "zz"])
        .fit(data())
        .fit_report_
    )
    idle = (
        Filter(Popularity(), rules=["title != 'tnet' or title is missing", "price > 10"])
        .fit(data())
        .fit_report_["rules_that_match_no_item"]
    )
    assert idle == {"rules": ["title != 'tnet' or title is missing"]}
    assert "capm" in str(report) and "zz" in str(report) and "home" not in str(report)


def test_a_rule_that_cannot_be_read_is_refused_before_anything_is_fitted():
    with pytest.raises(DataError, match=r'the rule "price <=" cannot be used, at its end'):
        Filter(Popularity(), rules=["price <="])
    with pytest.raises(DataError, match=r"price is a number, '3' is a text"):
        Filter(Popularity(), rules=["price < '3'"]).fit(data())
    with pytest.raises(DataError, match="cannot be used"):
        build({"class": "Filter", "inner": {"class": "Popularity"}, "rules": ["exec('1')"]})


# --- an inner method that does not keep its side
# -------------------------------------------------------------------------------


@dataclass(eq=False)
class Greedy(Recommender):
    """Answers everything it knows, whatever was asked for."""

    def _fit(self, data, run, valid):
        self.items_ = data.catalogue

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        n = len(self.items_)
        rows = np.tile(np.arange(n, dtype=np.int32), (len(queries), 1))
        scores = np.tile(np.arange(n, 0, -1).astype(np.float32), (len(queries), 1))
        return Rankings(self.items_, rows, scores, columns={"own": scores * 2})


@pytest.mark.parametrize(
    "wrap",
    [
        lambda one: one,
        lambda one: Fallback([one, Greedy()]),
        lambda one: Fallback([Greedy(), one]),
        lambda one: Cascade(Greedy(), one),
        lambda one: Cascade(one, Greedy()),
        lambda one: Fuse([Greedy(), one], weights=(1, 1)),
        lambda one: Filter(one, blocked=["f"]),
    ],
)
def test_a_method_that_answers_more_than_was_asked_opens_no_filter(wrap):
    method = wrap(Filter(Greedy(), blocked=["a", "b"], never={"categories": ["home"]})).fit(data())
    for k in (1, 3, 10):
        for ranking in method.recommend(EVERYONE, k):
            assert not set(ranking.ids) & set("abcf") and len(ranking) <= k
            assert all(len(column) == len(ranking) for column in ranking.columns.values())


def test_columns_and_notes_go_with_what_is_taken_out():
    ranking = Filter(Greedy(), blocked=["c"]).fit(data()).recommend([Query()], 10)[0]
    assert len(ranking) == 5 and np.array_equal(ranking.columns["own"], ranking.scores * 2)
    assert any("forbids" in note for note in ranking.notes)


# --- a rule that cannot be applied
# ---------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Failing(Filter):
    """A rule that is read from somewhere, and cannot be."""

    def restrict(self, queries: Queries) -> Queries:
        raise OSError("the rule service does not answer")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda one: one,
        lambda one: Fallback([one, Popularity()]),
        lambda one: Fallback([Popularity(), one]),
        lambda one: Cascade(one, Popularity()),
        lambda one: Cascade(Popularity(), one),
        lambda one: Fuse([one, Popularity()], weights=(1, 1)),
        Filter,
        lambda one: Fallback(
            [Popularity(), Cascade(Popularity(), Fuse([Popularity(), one], weights=(1, 1)))]
        ),
    ],
)
def test_where_a_rule_fails_nothing_is_recommended_and_the_note_says_so(wrap):
    method = wrap(Failing(Popularity(), blocked=["a"])).fit(data())
    for ranking in method.recommend(EVERYONE, 5):
        assert not len(ranking) and "the rule service does not answer" in ranking.notes[0]


def test_a_rule_that_works_again_lets_through_again():
    method = Filter(Popularity(), blocked=["a"]).fit(data())
    works, method.restrict = method.restrict, lambda queries: 1 / 0
    assert not answered(method)
    method.restrict = works
    assert answered(method) == set("bcdef")


def test_the_callers_own_exclusions_stay_beside_the_rule():
    method = Filter(Popularity(), blocked=["a"]).fit(data())
    ranking = method.recommend([Query(exclude=("b",))], 10)[0]
    assert set(ranking.ids) == set("cdef")
    queries = replace(Queries.of([Query(history=History.of("c"))]).without(["d"]))
    assert answered(method, queries=queries.without_history()) == set("bef")


def test_explanations_pass_through_and_name_nothing_that_is_blocked():
    method = Filter(CoVisitation(), blocked=["a"]).fit(data())
    query = [Query(history=History.of("b", "c"))]
    ranking = method.recommend(query, 3)
    assert [one.item_id for one in method.explain(query, ranking)[0]] == list(ranking[0].ids)


@dataclass(eq=False)
class Once(ScoringRecommender):
    """Notes the queries that it was handed."""

    seen: list = field(default_factory=list)

    def _fit(self, data, run, valid):
        self.items_ = data.catalogue

    def _scores(self, queries):
        self.seen.append(queries)
        return np.ones((len(queries), len(self.items_)), np.float32)


def test_the_inner_method_itself_is_told_what_is_blocked():
    method = Filter(Once(), blocked=["a", "b"]).fit(data())
    method.recommend([Query()], 3)
    (queries,) = method.inner_.seen
    assert set(queries[0].exclude) == {"a", "b"}
