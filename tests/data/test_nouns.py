"""The nouns refuse what would silently mean something else, and compare by content."""

import dataclasses
import json

import numpy as np
import pytest

from tailor.data.nouns import (
    Evidence,
    Explanation,
    Fact,
    History,
    Output,
    Profile,
    Query,
    Ranking,
    Turn,
    plain,
    same,
)
from tailor.data.queries import Queries, Rankings
from tailor.errors import DataError


@pytest.mark.parametrize(
    ("make", "quoted"),
    [
        (lambda: History((1, 2)), "1"),
        (lambda: History(("a", None)), "None"),
        (lambda: History.of("a", 2.0), "2.0"),
        (lambda: History("abc"), '"abc"'),
        (lambda: Query(exclude=("a", 7)), "7"),
        (lambda: Query(exclude="abc"), '"abc"'),
        (lambda: Query(history="abc"), '"abc"'),
        (lambda: Ranking("ab", np.ones(2)), '"ab"'),
        (lambda: Ranking((1, 2), np.ones(2)), "1"),
    ],
)
def test_ids_are_strings(make, quoted):
    with pytest.raises(DataError) as error:
        make()
    assert quoted in str(error.value)


@pytest.mark.parametrize("name", ["times_ms", "actions", "values", "texts"])
def test_what_stands_beside_the_items_is_as_long(name):
    for wrong in ((), ("x",), ("x", "y", "z")):
        with pytest.raises(DataError, match=f"History.{name} has {len(wrong)} entries for 2 items"):
            History(("a", "b"), **{name: wrong})
    assert getattr(History(("a", "b"), **{name: [1, 2]}), name) == (1, 2)


def test_one_text_is_not_taken_apart_into_letters():
    with pytest.raises(DataError, match="texts"):
        History(("a", "b"), texts="ok")


def test_a_ranking_has_one_score_an_item():
    with pytest.raises(DataError, match=r"Ranking.scores has 1 .* 2"):
        Ranking(("a", "b"), np.ones(1))
    with pytest.raises(DataError, match="price"):
        Ranking(("a", "b"), np.ones(2), columns={"price": np.ones(3)})
    assert Ranking(["a", "b"], [2, 1]).scores.tolist() == [2, 1]


def test_a_query_takes_a_plain_sequence_as_its_history():
    assert same(Query(history=["a", "b"]).history, History.of("a", "b"))


def test_nouns_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        History.of("a").item_ids = ()


def test_same_compares_content():
    assert same(
        Query("u", History(("a",), (3,)), context={"x": [1]}),
        Query("u", History(("a",), [3]), context={"x": [1]}),
    )
    assert same(Ranking(("a",), np.array([np.nan])), Ranking(("a",), np.array([np.nan])))
    assert same(
        [Explanation("a", (Evidence("item", "b", 0.5),))],
        [Explanation("a", (Evidence("item", "b", 0.5),))],
    )
    assert same({"a": np.arange(3)}, {"a": np.arange(3)})


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (History.of("a", "b"), History.of("b", "a")),
        (History.of("a"), History(("a",), (1,))),
        (Query("u"), Query(None)),
        (Query(profile=Profile("u", "x")), Query(profile=Profile("u", "y"))),
        (Ranking(("a",), np.ones(1)), Ranking(("a",), np.zeros(1))),
        (Ranking(("a",), np.ones(1), notes=("x",)), Ranking(("a",), np.ones(1))),
        (Ranking(("a",), np.ones(1)), None),
        (np.arange(2), np.arange(3)),
        ({"a": 1}, {"b": 1}),
        (["a"], "a"),
        ("ab", ("a", "b")),
        ([History.of()], []),
    ],
)
def test_same_sees_every_difference(a, b):
    assert not same(a, b)
    assert not same(b, a)


def test_sequences_over_arrays_are_the_same_when_their_nouns_are():
    queries = [Query("u", History.of("a", "b"), exclude=("c",))]
    assert same(Queries.of(queries), Queries.of(queries))
    assert same(Queries.of(queries), queries)
    rankings = [
        Ranking(("a", "b"), np.array([2, 1], np.float32), notes=("n",)),
        Ranking((), np.zeros(0, np.float32)),
    ]
    assert same(Rankings.of(rankings), Rankings.of(rankings))
    assert same(Rankings.of(rankings), rankings)
    assert not same(Rankings.of(rankings), rankings[:1])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Profile("u", facts=("likes tents",)), r"write Fact\('likes tents'\)"),
        (lambda: Fact("likes tents", confidence=1.5), "from 0 to 1"),
        (lambda: Turn("user", "hello", "abc"), '"abc"'),
        (lambda: Turn("user", "hello", (1,)), "1"),
    ],
)
def test_profiles_and_turns_refuse_what_means_something_else(make, says):
    with pytest.raises(DataError, match=says):
        make()


def test_nouns_become_plain_values():
    fact = Fact("likes tents", (Evidence("item", "a", 0.5),), 0.75, {"lift": np.float32(2)})
    profile = Profile(None, "t", (fact,), {"price": (1.0, float("nan"))}, as_of_ms=0)
    assert json.loads(json.dumps(plain(profile))) == {
        "text": "t",
        "facts": [
            {
                "text": "likes tents",
                "evidence": [{"kind": "item", "id": "a", "share": 0.5}],
                "confidence": 0.75,
                "details": {"lift": 2.0},
            }
        ],
        "attributes": {"price": [1.0, None]},
        "as_of_ms": 0,
    }
    ranking = Ranking(("a",), np.ones(1))
    assert plain(Rankings.of([ranking])) == [plain(ranking)]
    assert plain(ranking) == {"ids": ["a"], "scores": [1.0], "score_kind": "score"}
    assert plain(Output(image=b"12345")) == {"image": "5 bytes"}
    assert Output().is_empty and not Output("x").is_empty


def test_rankings_in_arrays_are_as_plain_as_the_rankings_they_make():
    rankings = [Ranking(("a", "b"), np.array([2, 1], np.float32)), Ranking((), np.array([]))]
    arrays = Rankings.of(rankings)
    assert plain(arrays) == plain(list(arrays)) == plain(rankings)
    assert json.loads(json.dumps(plain(arrays)))[0]["ids"] == ["a", "b"]
    assert plain(Queries.of([Query("u")])) == [plain(Query("u"))]
