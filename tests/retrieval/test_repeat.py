"""Buy-again rates against a loop over spells, values worked out by hand, and the cycles planted in
the shop.
"""

import numpy as np
import polars as pl
import pytest

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query, same
from tailor.data.splits import split_by
from tailor.errors import DataError
from tailor.evaluation.protocol import evaluate
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.repeat import DAY_MS, Repeat, _edges
from tailor.worlds.shop import shop


def logged(rows: list[tuple[str, str, int]], **tables: pl.DataFrame) -> Dataset:
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "time_ms"], orient="row")
    return Dataset({"events": events.with_columns(pl.col("time_ms") * DAY_MS), **tables})


def naive_rates(data: Dataset, method: Repeat, edges: np.ndarray, end: int) -> np.ndarray:
    """Returns and exposure of every item and span, spell by spell, then the three levels of
    shrinkage.
    """
    n, spans = len(data.catalogue), len(edges) - 1
    returns, exposure = np.zeros((n, spans)), np.zeros((n, spans))
    for user in range(len(data.users)):
        row, times = data.sequences.rows[user], data.sequences.times_ms[user] / DAY_MS
        for at, item in enumerate(row):
            later = [times[other] for other in range(at + 1, len(row)) if row[other] == item]
            length = (later[0] if later else end) - times[at]
            for span in range(spans):
                exposure[item, span] += np.clip(
                    length - edges[span], 0, edges[span + 1] - edges[span]
                )
                returns[item, span] += bool(later) and edges[span] <= length < edges[span + 1]
    mean = returns.sum() / exposure.sum()
    every = (returns.sum(axis=0) + 1) / (exposure.sum(axis=0) + 1 / mean)
    rates = np.zeros_like(returns)
    categories = [str(one[-1]) for one in data.item_table["categories"].to_list()]
    for item in range(n):
        mine = [other for other in range(n) if categories[other] == categories[item]]
        group = (returns[mine].sum(axis=0) + method.shrink) / (
            exposure[mine].sum(axis=0) + method.shrink / every
        )
        rates[item] = (returns[item] + method.shrink) / (exposure[item] + method.shrink / group)
    return rates


def test_rates_are_those_of_a_loop_over_spells():
    rng = np.random.default_rng(0)
    rows = [
        (f"u{rng.integers(12)}", f"i{rng.integers(6)}", int(day))
        for day in np.sort(rng.integers(0, 120, 300))
    ]
    items = pl.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(6)],
            "categories": [["all", f"c{n % 2}"] for n in range(6)],
        }
    )
    data = logged(rows, items=items)
    method = Repeat(shrink=2.0, growth=1.6).fit(data)
    edges = _edges(0.25, 3650.0, 1.6)
    np.testing.assert_allclose(
        method.rates_, naive_rates(data, method, edges, max(day for *_, day in rows)), rtol=1e-5
    )


def test_what_is_due_leads_by_hand():
    """Coffee comes back after 30 days, shampoo after 60; had 30 days ago both, coffee is due; had
    60 days ago both, shampoo is.
    """
    rows = [
        (f"u{n}", item, day)
        for n in range(20)
        for item, cycle in (("coffee", 30), ("shampoo", 60))
        for day in range(n, n + 190, cycle)
    ]
    rows += [(f"u{n}", "tent", n) for n in range(20)]
    method = Repeat().fit(logged(sorted(rows, key=lambda row: row[2])))

    def scores(days_ago: int) -> dict[str, float]:
        history = History(("shampoo", "tent", "coffee"), (0, 0, 0))
        ranking = method.recommend([Query(history=history, time_ms=days_ago * DAY_MS)], 3)[0]
        return dict(zip(ranking.ids, ranking.scores.tolist(), strict=True))

    for days, due in ((30, "coffee"), (60, "shampoo")):
        rates = scores(days)
        assert next(iter(rates)) == due
        assert rates["tent"] < rates[due] / 3


def test_only_items_of_the_history_are_answered_once_each():
    rows = [(f"u{n}", item, day) for n in range(5) for day, item in enumerate("abcabdab")]
    method = Repeat().fit(logged(rows))
    ranking = method.recommend(
        [Query(history=History(("a", "d", "a", "new"), (1, 2, 3, 4)), time_ms=9 * DAY_MS)], 9
    )[0]
    assert set(ranking.ids) == {"a", "d"} and ranking.notes
    reasons = method.explain([Query(history=History.of("a"))], [ranking])[0]
    assert [bool(one.evidence) for one in reasons] == [one == "a" for one in ranking.ids]


def test_without_times_places_count():
    """Of abcabc... it is the item of three places ago that comes back."""
    events = pl.DataFrame(
        [(f"u{n}", item) for n in range(10) for item in "abcabcabcabc"],
        schema=["user_id", "item_id"],
        orient="row",
    )
    method = Repeat().fit(Dataset({"events": events}))
    assert method.recommend([Query(history=History.of("a", "b", "c"))], 3)[0].ids[0] == "a"
    assert (
        method.recommend([Query(history=History(("b", "c", "a"), (1, 2, 3)), time_ms=4)], 3)[0].ids[
            0
        ]
        == "b"
    )


def test_a_query_without_times_is_answered_by_places_beside_others_with_times():
    rows = [(f"u{n}", item, day) for n in range(9) for day, item in enumerate("abcabcabc")]
    method = Repeat().fit(logged(rows))
    timed = Query(history=History(("a", "b"), (0, 5 * DAY_MS)), time_ms=8 * DAY_MS)
    asked = [timed, Query(history=History.of("a", "b", "c")), Query(history=timed.history), Query()]
    for one, together in zip(asked, method.recommend(asked, 3), strict=True):
        assert same(together, method.recommend([one], 3)[0])
    assert method.recommend(asked, 3)[1].ids[0] == "a"


def test_where_nothing_comes_back_nothing_is_answered():
    method = Repeat().fit(logged([("u", "a", 0), ("u", "b", 1), ("v", "b", 2)]))
    ranking = method.recommend([Query(history=History.of("a", "b"))], 2)[0]
    assert not len(ranking) and ranking.notes


def test_a_persons_own_pace_by_hand():
    """Had on days 0, 10 and 20, asked on day 25: two returns, against what the rates let expect in
    10 + 10 + 5 days.
    """
    rng = np.random.default_rng(0)
    rows = [(f"u{n}", f"i{n % 3}", int(day)) for n in range(60) for day in rng.integers(0, 100, 4)]
    method = Repeat(own=2.0).fit(logged(sorted(rows, key=lambda row: row[2])))
    history = History(("i1", "i1", "i1"), (0, 10 * DAY_MS, 20 * DAY_MS))
    score = method.recommend([Query(history=history, time_ms=25 * DAY_MS)], 1)[0].scores[0]
    edges, rates = (
        _edges(0.25, 3650.0, 1.25),
        method.rates_[method.items_.rows(["i1"])[0]].astype(float),
    )
    due = sum(
        rate * np.clip(length - low, 0, high - low)
        for length in (10, 10, 5)
        for rate, low, high in zip(rates, edges, edges[1:])
    )
    now = rates[np.searchsorted(edges, 5, side="right") - 1]
    assert score == pytest.approx(now * (2 + 2) / (due + 2), rel=1e-5)


def test_who_comes_back_often_gets_it_rather():
    rows = [
        (f"u{n}", item, day)
        for n in range(40)
        for item in "ab"
        for day in (range(0, 90, 9) if (n % 2) == (item == "a") else [0, 60])
    ]
    method = Repeat().fit(logged(sorted(rows, key=lambda row: row[2])))
    often, seldom = (
        History(("a",) * 6, tuple(day * DAY_MS for day in (0, 9, 18, 27, 36, 45))),
        History(("a",), (45 * DAY_MS,)),
    )
    scores = [
        method.recommend([Query(history=one, time_ms=50 * DAY_MS)], 1)[0].scores[0]
        for one in (often, seldom)
    ]
    assert scores[0] > scores[1]


def test_repeat_buys_of_the_shop_are_found_before_co_visitation_finds_them():
    split = split_by(shop(1000, 300, 300, seed=3, repeat=0.8).data, "last", only="action = 'buy'")
    queries, targets = split.queries("test")
    again = np.array([targets[i][0] in queries.histories[i] for i in range(len(queries))])
    report = evaluate(
        {"repeat": Repeat().fit(split.train, Run()), "rival": CoVisitation().fit(split.train)},
        split,
        seen=("kept",),
    )
    ours, rival = (
        report.results[name, "kept"].per_user["NDCG@10"][again] for name in ("repeat", "rival")
    )
    assert again.sum() > 100
    assert ours.mean() > rival.mean() + 0.05


@pytest.mark.parametrize(
    "wrong",
    [
        {"shrink": 0.0},
        {"own": 0.0},
        {"growth": 1.0},
        {"growth": float("nan")},
        {"history_length": 0},
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(DataError, match=next(iter(wrong))):
        Repeat(**wrong)
