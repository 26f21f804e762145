"""Walks against exact power iteration, by hand, and against themselves in other blocks, threads and
batches.
"""

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from pagerank_oracle import exact_pagerank, precision

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.data.queries import Queries
from tailor.errors import DataError
from tailor.papers.retrieval import personalized_pagerank
from tailor.papers.retrieval.personalized_pagerank import PersonalizedPageRank
from tailor.testing.data import tiny_data


def power_law(users: int, items: int, seed: int = 0) -> Dataset:
    """Popular items and busy users as in real logs; some items are chosen several times by one
    user, so that weights differ.
    """
    rng = np.random.default_rng(seed)
    lengths = np.minimum(3 + rng.zipf(2.0, users), 40)
    user = np.repeat(np.arange(users), lengths)
    item = np.minimum((items ** rng.random(len(user))).astype(int), items - 1)
    return Dataset({"events": pl.DataFrame({"user_id": user, "item_id": item}).cast(pl.String)})


def starts_of(method: PersonalizedPageRank, queries: Queries) -> sp.csr_matrix:
    """(B, N) the weights with which the method starts at items, by a loop."""
    out = np.zeros((len(queries), len(method.items_)))
    for i in range(len(queries)):
        for age, item in enumerate(queries.histories[i][::-1][: method.history_length]):
            out[i, item] += method.history_decay**age
    return sp.csr_matrix(out)


def test_two_items_and_one_person_by_hand():
    """From a, a walk ends at b with half the chance of going on at all: beyond the first step both
    are alike.
    """
    data = Dataset({"events": pl.DataFrame({"user_id": ["u", "u"], "item_id": ["a", "b"]})})
    exact = (1 - 0.15) ** 2 / 2
    for read, noise in (("ends", 0.005), ("users", 0.003)):
        ranking = (
            PersonalizedPageRank(walks=100_000, read=read)
            .fit(data)
            .recommend([Query(history=History.of("a"))], 2)[0]
        )
        assert dict(zip(ranking.ids, ranking.scores, strict=True)) == pytest.approx(
            {"a": 1 - exact, "b": exact}, abs=noise
        )


@pytest.mark.parametrize("read", ["ends", "users"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"restart": 0.4, "edge_decay": 0.6, "history_decay": 0.8, "history_length": 3}],
    ids=str,
)
def test_walks_come_near_the_exact_solution_as_the_root_of_their_number(read, settings):
    data = power_law(400, 150)
    queries = data.queries()[:40]
    errors, counts = [], [100, 1_000, 10_000]
    for walks in counts:
        method = PersonalizedPageRank(walks=walks, read=read, **settings).fit(data)
        exact = exact_pagerank(method.items_of_, starts_of(method, queries), method.restart)
        found = method.near(queries).toarray()
        np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
        errors.append(np.abs(found - exact).sum(axis=1).mean())
    slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert -0.6 <= slope <= -0.4, (slope, errors)
    assert errors[-1] < 0.09


def test_the_top_20_are_the_exact_ones():
    """At 100,000 walks, read at their ends, and at 20,000 with the last step taken exactly."""
    data = power_law(300, 200, seed=1)
    queries = data.queries()[:30]
    for read, walks in (("ends", 100_000), ("users", 20_000)):
        method = PersonalizedPageRank(walks=walks, read=read).fit(data)
        exact = exact_pagerank(method.items_of_, starts_of(method, queries))
        assert precision(method.near(queries).toarray(), exact, 20).mean() >= 0.95


@pytest.mark.parametrize("read", ["ends", "users"])
def test_neither_threads_nor_blocks_nor_company_change_an_answer(read, monkeypatch):
    data = power_law(300, 100)
    method = PersonalizedPageRank(walks=300, read=read).fit(data)
    queries = data.queries()[:50]
    answer = method.near(queries, workers=1).toarray()
    for live in (1_000, 100):  # several histories a block; several rounds a history
        monkeypatch.setattr(personalized_pagerank, "LIVE_WALKS", live)
        for workers in (1, 2, 3):
            np.testing.assert_allclose(method.near(queries, workers).toarray(), answer, atol=1e-6)
    np.testing.assert_allclose(method.near(queries[7:8]).toarray()[0], answer[7], atol=1e-6)


def test_seeds_are_applied_and_walks_of_one_query_differ_from_anothers():
    data = power_law(300, 100)
    queries = data.queries()[:2].take(np.array([0, 0, 1]))
    one, other = (
        PersonalizedPageRank(walks=500).fit(data, Run(seed=seed)).near(queries).toarray()
        for seed in (1, 2)
    )
    assert (one[0] == one[1]).all() and (one[0] != one[2]).any() and (one[0] != other[0]).any()
    errors = one[[0, 2]] - np.mean([one[[0, 2]], other[[0, 2]]], axis=0)
    assert abs(np.corrcoef(errors)[0, 1]) < 0.5


def test_strangers_start_from_what_they_have_and_unknown_items_do_not_count():
    events = pl.DataFrame({"user_id": list("uuvv"), "item_id": list("abcd")})
    data = Dataset({"events": events, "items": pl.DataFrame({"item_id": list("abcdz")})})
    method = PersonalizedPageRank().fit(data)
    stranger = Query("never seen", History.of("nothing like it", "c", "z"), exclude=("c",))
    plain, mixed_up, lost = method.recommend(
        [Query(history=History.of("c")), stranger, Query(history=History.of("z"))], 3
    )
    assert set(plain.ids) == {"c", "d"} and mixed_up.ids == ("d",) and mixed_up.notes
    assert not len(lost) and lost.notes


def test_the_latest_of_a_history_counts_most():
    data = Dataset({"events": pl.DataFrame({"user_id": list("uuvv"), "item_id": list("abcd")})})
    ranking = (
        PersonalizedPageRank(history_decay=0.2, walks=20_000)
        .fit(data)
        .recommend([Query(history=History.of("a", "c"), exclude=("a", "c"))], 2)[0]
    )
    assert ranking.ids == ("d", "b")
    assert ranking.scores[0] / ranking.scores[1] == pytest.approx(5, rel=0.2)


def test_edges_of_several_events_weigh_more():
    data = Dataset({"events": pl.DataFrame({"user_id": ["u"] * 7, "item_id": list("abbbbbc")})})
    ranking = (
        PersonalizedPageRank(walks=20_000)
        .fit(data)
        .recommend([Query(history=History.of("a"), exclude=("a",))], 2)[0]
    )
    assert ranking.ids == ("b", "c") and ranking.scores[0] / ranking.scores[1] == pytest.approx(
        5, rel=0.15
    )


def test_a_history_longer_than_the_float_can_fade_over_and_nobody_at_all():
    data = tiny_data()
    method = PersonalizedPageRank(history_decay=1e-3, history_length=5_000).fit(data)
    many = Query(history=History(tuple(data.catalogue.ids.tolist()) * 50))
    assert len(method.recommend([many], 5)[0]) == 5
    assert method.near(data.queries()[:0]).shape == (0, 40)


def test_users_do_not_stand_in_the_order_of_their_ids():
    data = power_law(200, 50)
    ours = PersonalizedPageRank().fit(data).items_of_.toarray()
    theirs = data.sequences.rows.matrix(len(data.catalogue)).toarray()
    assert (ours != theirs).any()
    assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, theirs.tolist()))


@pytest.mark.parametrize(
    "wrong",
    [
        {"restart": 0.0},
        {"restart": 1.0},
        {"walks": 0},
        {"walks": 10**8},
        {"history_decay": 0.0},
        {"edge_decay": 1.5},
        {"read": "visits"},
        {"history_length": 0},
        {"restart": float("nan")},
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(DataError, match=next(iter(wrong))):
        PersonalizedPageRank(**wrong)
