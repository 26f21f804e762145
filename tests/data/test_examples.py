"""Pairs of a query and an item: what was known, what is asked, what came of it; golden cases by
hand.
"""

import numpy as np
import polars as pl
import pytest

from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset, Lists
from tailor.data.examples import Outcome, unchosen_impressions
from tailor.data.nouns import Ranking
from tailor.data.queries import Rankings
from tailor.data.splits import by_ratio, by_time, last_out
from tailor.errors import DataError

RNG = np.random.default_rng


def told(examples):
    """(user, history, item, label) of every pair."""
    return [
        (query.user_id, query.history.item_ids, examples.queries.catalogue.ids[item], float(label))
        for query, item, label in zip(
            examples.queries, examples.items, examples.labels, strict=True
        )
    ]


@pytest.fixture
def log():
    rows = [
        ("ann", "a", 1, 5.0),
        ("ann", "b", 2, 1.0),
        ("ann", "c", 2, None),
        ("ann", "d", 3, 4.0),
        ("bob", "b", 1, 2.0),
        ("bob", "a", 9, 4.0),
    ]
    return Dataset(
        {
            "events": pl.DataFrame(
                rows, schema=["user_id", "item_id", "time_ms", "value"], orient="row"
            )
        },
        "log",
        {"liked": "value >= 4"},
    )


def test_a_label_is_read_of_every_event_and_undecided_ones_are_left_out(log):
    found = told(Outcome("label", "liked").learn(log, RNG(0)))
    assert sorted(found) == [
        ("ann", (), "a", 1.0),
        ("ann", ("a",), "b", 0.0),
        ("ann", ("a", "b", "c"), "d", 1.0),
        ("bob", (), "b", 0.0),
        ("bob", ("b",), "a", 1.0),
    ]


def test_what_happened_at_the_same_time_is_not_known(log):
    pairs = {
        item: history
        for user, history, item, _ in told(Outcome("drawn").learn(log, RNG(0)))
        if user == "ann"
    }
    assert pairs["b"] == ("a",)
    assert pairs["c"] == ("a",), "b happened at the same millisecond as c"


def test_histories_are_as_long_as_asked_and_the_time_is_told(log):
    examples = Outcome("label", "liked", length=2).learn(log, RNG(0))
    assert next(history for user, history, item, _ in told(examples) if item == "d") == ("b", "c")
    assert {query.time_ms for query in examples.queries} == {1, 2, 3, 9}
    assert all(max(query.history.times_ms, default=0) < query.time_ms for query in examples.queries)


def test_drawn_items_were_never_the_persons_own(log):
    examples = Outcome("drawn", negatives=3).learn(log, RNG(1))
    own = {"ann": {"a", "b", "c", "d"}, "bob": {"a", "b"}}
    drawn = [(user, item) for user, _, item, label in told(examples) if not label]
    assert drawn and all(item not in own[user] for user, item in drawn)
    assert {user for user, _ in drawn} == {"bob"}, (
        "ann has everything, so that nothing is left to draw for her"
    )
    assert sum(label for *_, label in told(examples)) == 6


def test_popular_items_are_drawn_more_often():
    events = (
        [(f"u{i}", "hit", i) for i in range(60)]
        + [(f"v{i}", "miss", i) for i in range(20)]
        + [("w", "own", t) for t in range(400)]
    )
    data = Dataset(
        {"events": pl.DataFrame(events, schema=["user_id", "item_id", "time_ms"], orient="row")}
    )
    share = {}
    for by in ("popularity", "uniform"):
        items = [
            item
            for user, _, item, label in told(Outcome("drawn", drawn_by=by).learn(data, RNG(0)))
            if user == "w" and not label
        ]
        share[by] = items.count("hit") / len(items)
    assert 0.68 < share["popularity"] < 0.82, "60 of the 80 events that are not w's"
    assert 0.42 < share["uniform"] < 0.58


def test_a_part_is_asked_with_what_was_known_before_it(log):
    split = by_ratio(log, 0.25, 0.25)
    test = told(Outcome("label", "liked").judge(split, "test", RNG(0)))
    assert test == [("ann", ("a", "b", "c"), "d", 1.0)]
    # the one of the validation part has no value
    with pytest.raises(DataError, match="no event to go by"):
        Outcome("label", "liked").judge(split, "valid", RNG(0))


def test_later_events_of_the_test_part_do_not_know_earlier_ones():
    events = [("ann", f"i{t}", t) for t in range(20)]
    data = Dataset(
        {"events": pl.DataFrame(events, schema=["user_id", "item_id", "time_ms"], orient="row")}
    )
    split = by_ratio(data, 0.2, 0.2)
    pairs = [
        history
        for _, history, _, label in told(Outcome("drawn", length=30).judge(split, "test", RNG(0)))
        if label
    ]
    assert len(pairs) == 4 and all(
        history == tuple(f"i{t}" for t in range(16)) for history in pairs
    )


@pytest.fixture
def shown():
    events = pl.DataFrame(
        {
            "user_id": ["ann", "ann", "bob"],
            "item_id": ["a", "b", "a"],
            "time_ms": [5, 25, 31],
            "request_id": [None, "r2", "r3"],
            "action": ["view", "buy", "view"],
        }
    )
    requests = pl.DataFrame(
        {"request_id": ["r1", "r2", "r3"], "user_id": ["ann", "ann", "bob"], "time_ms": [5, 20, 30]}
    )
    lists = pl.DataFrame(
        {
            "request_id": ["r1", "r1", "r2", "r2", "r3"],
            "position": [1, 2, 1, 2, 1],
            "item_id": ["a", "b", "b", "c", "a"],
            "shown": [True, False, True, True, True],
        }
    )
    return Dataset({"events": events, "requests": requests, "impressions": lists}, "shown")


def test_what_was_shown_is_a_one_where_it_was_chosen(shown):
    found = told(Outcome("shown").learn(shown, RNG(0)))
    assert sorted(found) == [
        ("ann", (), "a", 0.0),
        ("ann", ("a",), "b", 1.0),
        ("ann", ("a",), "c", 0.0),
        ("bob", (), "a", 1.0),
    ]
    bought = told(Outcome("shown", "action = 'buy'").learn(shown, RNG(0)))
    assert [label for user, _, item, label in sorted(bought)] == [0.0, 1.0, 0.0, 0.0]


def test_strangers_are_not_one_person(shown):
    requests = shown.tables["requests"].with_columns(
        user_id=pl.when(pl.col("user_id") == "bob").then(pl.col("user_id"))
    )
    examples = Outcome("shown").learn(
        Dataset({**dict(shown.tables), "requests": requests}, "shown"), RNG(0)
    )
    ids, places = examples.people()
    assert len(ids) == 4 and "bob" in ids and sorted(np.bincount(places)) == [1, 1, 1, 1]
    assert all(not query.history.item_ids for query in examples.queries if query.user_id is None)


def test_what_was_shown_is_judged_after_the_cut_only(shown):
    split = by_time(shown, 0.3, 0.3)
    assert split.params["cuts_ms"] == [25, 31]
    assert told(Outcome("shown").judge(split, "valid", RNG(0))) == [("bob", (), "a", 1.0)]
    with pytest.raises(DataError, match="nothing was shown"):
        Outcome("shown").judge(split, "test", RNG(0))
    with pytest.raises(DataError, match="split by time"):
        Outcome("shown").judge(
            last_out(
                Dataset(
                    {
                        "events": pl.DataFrame(
                            {"user_id": ["a"] * 3, "item_id": list("xyz"), "time_ms": [1, 2, 3]}
                        )
                    }
                )
            ),
            "test",
            RNG(0),
        )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"source": "clicks"}, "source"),
        ({"source": "label"}, "label"),
        ({"negatives": 0}, "negatives"),
        ({"length": -1}, "length"),
        ({"label": "value > 1"}, 'source = "label"'),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, says):
    with pytest.raises(DataError, match=says):
        Outcome(**settings)


def test_data_that_lack_what_is_asked_say_so(log):
    with pytest.raises(DataError, match="needs the table impressions"):
        Outcome("shown").learn(log, RNG(0))
    with pytest.raises(DataError, match='no column "stars"'):
        Outcome("label", "stars > 3").learn(log, RNG(0))
    with pytest.raises(DataError, match="no event to go by"):
        Outcome("label", "value >= 4").learn(log.cut(np.array([False] * 6)), RNG(0))


def test_unchosen_impressions_are_those_shown_and_never_chosen():
    events = pl.DataFrame({"user_id": ["ann", "ann", "bob"], "item_id": ["a", "d", "b"]})
    requests = pl.DataFrame(
        {"request_id": ["r1", "r2", "r3"], "user_id": ["ann", "bob", "stranger"]}
    )
    impressions = pl.DataFrame(
        {
            "request_id": ["r1", "r1", "r1", "r2", "r2", "r3"],
            "item_id": ["a", "b", "d", "a", "a", "b"],
            "position": [1, 2, 3, 1, 2, 1],
        }
    )
    tables = {"events": events, "requests": requests, "impressions": impressions}
    data = Dataset(tables)
    rows = unchosen_impressions(data)
    pairs = [
        (data.users.ids[user], data.catalogue.ids[item])
        for user, item in zip(rows.row_ids, rows.values, strict=True)
    ]
    assert sorted(pairs) == [("ann", "b"), ("bob", "a")]
    assert len(rows) == len(data.users)


def test_without_impressions_none_are_unchosen(log):
    rows = unchosen_impressions(Dataset({"events": log.events}))
    assert len(rows) == len(log.users) and not len(rows.values)


def test_values_are_labels_and_stand_in_histories(log):
    examples = Outcome("value").learn(log, RNG(0))
    assert sorted((user, item, label) for user, _, item, label in told(examples)) == [
        ("ann", "a", 5.0),
        ("ann", "b", 1.0),
        ("ann", "d", 4.0),
        ("bob", "a", 4.0),
        ("bob", "b", 2.0),
    ]
    last = next(query for query in examples.queries if query.time_ms == 3)
    assert last.history.values[:2] == (5.0, 1.0) and np.isnan(last.history.values[2])
    without = Dataset({"events": log.events.drop("value")}, "log")
    with pytest.raises(DataError, match="needs the column value"):
        Outcome("value").learn(without, RNG(0))


def lists_of(log, rows, targets):
    queries = log.queries()
    rankings = [Ranking(tuple(ids), np.arange(len(ids), 0, -1, dtype=np.float32)) for ids in rows]
    target_rows = [log.catalogue.rows(ids) for ids in targets]
    catalogue = log.catalogue
    return Lists(queries, Rankings.of(rankings).reindexed(catalogue), Ragged.of(target_rows))


def test_items_of_a_list_are_examples_and_the_next_one_is_a_1(log):
    lists = lists_of(log, [["a", "b", "c"], ["d", "c"]], [["b"], ["a"]])
    outcome = Outcome("listed", negatives=2, length=1)
    examples = outcome.learn(log.with_lists(lists), RNG(0))
    assert examples.labels.tolist() == [1.0, 0.0, 0.0], "bob's next item is in no list"
    names = examples.queries.catalogue.ids[examples.items].tolist()
    assert names[0] == "b" and set(names[1:]) <= {"a", "c"}
    assert {query.user_id for query in examples.queries} == {"ann"}
    assert all(len(query.history.item_ids) == 1 for query in examples.queries)


def test_lists_without_a_next_item_teach_nothing_and_say_what_to_do(log):
    lists = lists_of(log, [["a"], ["d"]], [["b"], ["a"]])
    with pytest.raises(DataError, match="make the lists longer"):
        Outcome("listed").learn(log.with_lists(lists), RNG(0))
