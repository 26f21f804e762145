"""Queries and rankings as arrays lose nothing that the nouns say, whatever catalogue they are put
over.
"""

import dataclasses

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import Fact, History, Profile, Query, Ranking, same
from tailor.data.queries import NO_TIME, Queries, Rankings
from tailor.data.splits import last_out
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError

ids = st.sampled_from([f"i{at}" for at in range(8)])


@st.composite
def queries(draw):
    items = draw(st.lists(ids, max_size=6))
    times = tuple(range(100, 100 + len(items)))
    return Query(
        draw(st.sampled_from(["u", "v", None])),
        History(items, times),
        exclude=draw(st.lists(ids, max_size=3)),
        time_ms=draw(st.integers(0, 9)),
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(queries(), max_size=5))
def test_nouns_to_arrays_and_back(given):
    made = Queries.of(given)
    assert len(made) == len(given)
    assert same(list(made), given)
    assert Queries.of(made) is made


@settings(max_examples=60, deadline=None)
@given(st.lists(queries(), max_size=5), st.lists(ids, unique=True))
def test_another_catalogue_drops_unknown_items_with_their_times(given, known):
    over = Queries.of(given).reindexed(Vocabulary.of_items(known))
    for got, was in zip(over, given, strict=True):
        kept = [
            (one, time)
            for one, time in zip(was.history.item_ids, was.history.times_ms or ())
            if one in known
        ]
        assert list(zip(got.history.item_ids, got.history.times_ms or ())) == kept
        assert set(got.exclude) == set(was.exclude) & set(known)


@settings(max_examples=40, deadline=None)
@given(st.lists(queries(), min_size=1, max_size=6), st.data())
def test_parts_and_picks_keep_everything_of_a_query_together(given, data):
    made = Queries.of(given).without(["i1", "new"])
    start = data.draw(st.integers(0, len(given)))
    picks = data.draw(st.lists(st.integers(0, len(given) - 1), max_size=6))
    every = list(made)
    assert same(list(made[start:]), every[start:])
    assert same(list(made[start : start + 2]), every[start : start + 2])
    assert same(list(made[3:1]), [])
    assert same(list(made.take(np.array(picks, dtype=int))), [every[at] for at in picks])
    assert same(made[-1], every[-1])


def test_a_step_and_a_row_too_far_are_refused():
    made = Queries.of([Query(), Query()])
    with pytest.raises(DataError, match="take"):
        made[::2]
    for far in (2, -3):
        with pytest.raises(IndexError):
            made[far]


def test_items_blocked_for_everybody_are_excluded_in_every_noun():
    made = (
        Queries.of([Query(history=History.of("a"), exclude=("b",)), Query()])
        .without(["x", "a"])
        .without(["b"])
    )
    assert [set(one.exclude) for one in made] == [{"a", "b", "x"}] * 2
    assert set(made.reindexed(Vocabulary.of_items(["a", "q"]))[1].exclude) >= {"a"}
    assert same(made[0].history, History.of("a"))


@pytest.mark.parametrize("exclude", [(), ("z",)])
def test_without_history_excludes_it_in_the_nouns_too(exclude):
    """A method that reads nouns must leave out what one that reads arrays does."""
    made = Queries.of(
        [
            Query(history=History.of("a", "b", "a"), exclude=exclude),
            Query(),
            Query(exclude=("a",)),
        ]
    ).without_history()
    assert [set(one.exclude) for one in made] == [{"a", "b", *exclude}, set(), {"a"}]
    assert [set(made.catalogue.named(row)) for row in made.exclude] == [
        {"a", "b", *exclude},
        set(),
        {"a"},
    ]
    moved = made.reindexed(Vocabulary.of_items("abz"))
    assert [set(one.exclude) for one in moved] == [set(one.exclude) for one in made]
    assert [one.history.item_ids for one in moved] == [one.history.item_ids for one in made]


def test_the_time_a_query_is_asked_reaches_the_arrays():
    made = Queries.of([Query(time_ms=5), Query(time_ms=2**41)])
    assert made.now_ms.tolist() == [5, 2**41]
    assert Queries.of([Query(time_ms=5), Query()]).now_ms.tolist() == [5, NO_TIME]
    assert Queries.of([Query(), Query()]).now_ms is None
    assert made.take(np.array([1])).now_ms.tolist() == [2**41]


def test_a_stranger_keeps_text_context_and_id():
    query = Query("u", text="red shoes", context={"page": 1}, request_id="r")
    made = Queries.of([query]).reindexed(Vocabulary.of_items(["a"])).without_history()
    assert same(made[0], query)
    assert made.text(0) == "red shoes"


FULL = Query(
    "u",
    History(("a", "b"), (1, 2), ("buy", "view"), (5.0, float("nan")), ("warm", "")),
    "red shoes",
    9,
    "r",
    ("c",),
    Profile("u", "likes red", (Fact("likes red"),)),
    (b"png", b"jpg"),
    {"page": 1, "tags": ["x", "y"]},
)


def test_every_field_of_a_query_survives_whatever_stands_beside_it():
    bare, paged = Query(history=History.of("b")), Query("v", context={"page": [3]})
    made = Queries.of([bare, FULL, paged])
    assert same(list(made[:2]), [bare, FULL])
    assert made[2].context == {"page": [3]} and not len(made[2].history)
    for part in (made[1:2], made.take(np.array([1])), made[1:].take(np.array([1, 0]))[1:]):
        assert same(list(part), [FULL])
    assert (made.text(1), made.request_id(1), made.request_id(0)) == ("red shoes", "r", None)
    assert same(made.profile(1), FULL.profile) and made.images_of(1) == (b"png", b"jpg")
    assert Queries.of([Query(request_id="")]).request_id(0) == ""
    assert made.images_of(0) == () and made.profile(0) is None and made.text(0) == ""


def test_values_and_texts_stay_with_their_items():
    made = Queries.of([FULL]).reindexed(Vocabulary.of_items("bc"))
    assert same(made[0].history, History(("b",), (2,), ("view",), None, ("",)))
    first = Queries.of([FULL, Query()]).keep_events(np.array([True, False]))
    assert same(first[0].history, History(("a",), (1,), ("buy",), (5.0,), ("warm",)))
    assert first[1].history.item_ids == () and first[1].history.texts == ()


def test_profiles_are_put_beside_queries_one_each():
    made = Queries.of([Query("u"), Query("v")]).with_profiles([None, Profile("v", "x")])
    assert made[0].profile is None and same(made[1].profile, Profile("v", "x"))
    with pytest.raises(DataError, match="1 profiles for 2 queries"):
        made.with_profiles([None])


def test_what_is_no_query_is_refused():
    with pytest.raises(DataError, match=r"write \[query\]"):
        Queries.of(Query())
    for wrong in ("u1", History.of("a"), None):
        with pytest.raises(DataError, match="Query"):
            Queries.of([wrong])


def test_changes_leave_the_queries_they_come_from_alone():
    made = Queries.of([Query(history=History.of("a", "b"), exclude=("c",))])
    before = list(made)
    made.without(["a", "n"])
    made.without_history()
    made.reindexed(Vocabulary.of_items(["b"]))
    assert same(list(made), before)
    assert made.blocked == ()


# --- rankings


def ranking(*items: str, note: str = "") -> Ranking:
    scores = np.arange(len(items), 0, -1).astype(np.float32)
    return Ranking(
        items, scores, "probability", {"first": scores / 2}, notes=(note,) if note else ()
    )


def test_rankings_to_arrays_and_back():
    given = [ranking("a", "b", "c", note="x"), ranking(), ranking("c", "a")]
    assert same(list(Rankings.of(given)), given)
    assert Rankings.of([]).rows.shape == (0, 0)


def test_a_stage_that_scored_only_some_lists_leaves_nan_in_the_others():
    given = [ranking("a", "b"), Ranking(("c",), np.ones(1, np.float32))]
    made = Rankings.of(given)
    assert made[0].columns["first"].tolist() == [1, 0.5]
    assert np.isnan(made[1].columns["first"]).all()
    assert made.score_kind == "score"  # there is no one kind


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(ids, max_size=5, unique=True), max_size=4), st.lists(ids, unique=True))
def test_another_catalogue_drops_unknown_items_and_moves_the_rest_up(lists, known):
    given = [ranking(*one, note=f"{at}") for at, one in enumerate(lists)]
    made = Rankings.of(given).reindexed(Vocabulary.of_items(known))
    assert same(list(made), list(Rankings.of(given, Vocabulary.of_items(known))))
    for got, was in zip(made, given, strict=True):
        kept = [at for at, one in enumerate(was.ids) if one in known]
        assert got.ids == tuple(was.ids[at] for at in kept)
        assert same(got.scores, was.scores[kept])
        assert same(got.columns["first"], was.columns["first"][kept])
        assert got.notes == was.notes
    assert (made.rows[made.scores == -np.inf] == -1).all()


def test_empty_lists_of_an_empty_catalogue_go_over_any_other():
    """What a filter that failed answers to strangers, whose queries name no item at all."""
    made = Rankings.empty(Vocabulary([]), 2, 3, "why").reindexed(Vocabulary.of_items(["a", "b"]))
    assert made.lengths.tolist() == [0, 0]
    assert made[1].notes == ("why",)


def test_notes_follow_their_query():
    one = Rankings.of([ranking("a"), ranking("b", note="second")], Vocabulary(["a", "b"]))
    both = Rankings.stack([one, one.take(np.array([1, 0])), one[:0]])
    assert [r.notes for r in both] == [(), ("second",), ("second",), ()]
    assert [r.ids for r in both] == [("a",), ("b",), ("b",), ("a",)]
    assert [r.notes for r in both[1:3]] == [("second",), ("second",)]
    assert [r.notes for r in both[::-1]] == [(), ("second",), ("second",), ()]
    assert both.first(0).lengths.tolist() == [0] * 4
    assert same(both[-1], both[3])


def test_lists_of_different_catalogues_are_not_stacked_silently():
    one, other = Rankings.of([ranking("a")]), Rankings.of([ranking("b")])
    with pytest.raises(ValueError, match="catalogue"):
        Rankings.stack([one, other])


DETAILED = Ranking(
    ("a", "b", "c"),
    np.array([3, 2, 1], np.float32),
    details={"a": {"status": "ranked"}, "c": {"reason": "warm", "evidence": ["x", "y"]}},
)


def test_details_stay_with_their_items():
    bare = Ranking(("b",), np.ones(1))
    made = Rankings.of([DETAILED, bare])
    assert same(list(made), [DETAILED, bare])
    assert same(made.first(2)[0].details, {"a": {"status": "ranked"}})
    assert same(made.take(np.array([1, 0]))[1], made[0])
    known = made.reindexed(Vocabulary.of_items("bc"))
    assert known[0].ids == ("b", "c") and same(known[0].details, {"c": DETAILED.details["c"]})
    mask = made.rows != made.catalogue.rows(["a"])[0]
    assert same(made.only(mask)[0].details, {"c": DETAILED.details["c"]})
    turned = made.reordered(np.array([[2, 0], [-1, -1]]))
    assert turned[0].ids == ("c", "a") and same(turned[0].details, DETAILED.details)
    assert turned[0].scores.tolist() == [1, 3] and not len(turned[1])


def test_details_of_one_part_leave_the_other_without():
    vocabulary = Vocabulary.of_items("abc")
    plain = Rankings.of([Ranking(("c", "b", "a"), np.ones(3, np.float32))], vocabulary)
    both = Rankings.stack([plain, Rankings.of([DETAILED], vocabulary)])
    assert both[0].details == {} and same(both[1], DETAILED)


def test_details_go_by_the_ids_of_their_ranking():
    with pytest.raises(DataError, match='"z", which is not among the ids'):
        Ranking(("a",), np.ones(1), details={"z": {"reason": "x"}})
    with pytest.raises(DataError, match="write a mapping"):
        Ranking(("a",), np.ones(1), details={"a": "warm"})


def test_stale_details_are_noticed():
    made = Rankings.of([DETAILED])
    with pytest.raises(ValueError, match="reordered"):
        dataclasses.replace(made, rows=made.rows[:, :1], scores=made.scores[:, :1])


def test_a_list_brings_texts_that_the_catalogue_lacks():
    documents = Ranking(
        ("a", "new", "b"), np.ones(3), details={"new": {"text": "a text"}, "b": {"text": ""}}
    )
    made = Rankings.of([documents, ranking("b")])
    fitted = Vocabulary(["b", "a"])
    assert made.texts(0, fitted, ["text of b", "text of a"]) == ["text of a", "a text", ""]
    assert made.texts(1, fitted, ["text of b", "text of a"]) == ["text of b"]
    assert Rankings.of([ranking("x")]).texts(0, fitted, ["", ""]) == [""]


def test_ragged_has_no_padding():
    made = Rankings.of([ranking("a", "b"), ranking(), ranking("b")], Vocabulary(["a", "b"]))
    assert same([row.tolist() for row in made.ragged()], [[0, 1], [], [1]])
    assert isinstance(made.ragged(), Ragged)


def test_one_query_without_times_takes_none_from_the_others():
    timed = Query(history=History(("i1", "i2"), (5, 7)), time_ms=9)
    both = Queries.of([Query(history=History.of("i3")), timed, Query()])
    assert both.columns["times_ms"].values.tolist() == [NO_TIME, 5, 7]
    assert both.now_ms is not None and both.now_ms.tolist() == [NO_TIME, 9, NO_TIME]
    assert both[0].history.times_ms is None and both[0].time_ms is None
    assert both[1].history.times_ms == (5, 7) and both[1].time_ms == 9
    assert "times_ms" not in Queries.of([Query(history=History.of("i3"))]).columns


def test_the_context_of_a_query_is_its_own_or_that_of_the_users_table():
    asked = [Query(context={"country": "NL"}), Query()]
    assert Queries.of(asked).context("country") == ["NL", None]
    users = pl.DataFrame({"user_id": ["v", "u"], "country": ["DE", "FR"], "tags": [["a"], ["b"]]})
    data = Dataset(
        {
            "events": pl.DataFrame({"user_id": list("uuuvw"), "item_id": list("ababa")}),
            "users": users,
        }
    )
    every = data.queries(["w", "u", "nobody", "v"])
    assert every.context("country") == [None, "FR", None, "DE"]
    assert every.context("age") == [None] * 4
    assert every[1].context == {"country": "FR"} and every[0].context == {}
    assert every[1:].take(np.array([2, 0])).context("country") == ["DE", "FR"]
    assert last_out(data).queries("test")[0].context("country") == ["FR"]
