import numpy as np
import polars as pl
import pytest

from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.errors import DataError
from tailor.retrieval.ease import EASE
from tailor.testing.data import tiny_data

DATA = tiny_data(users=80, items=30, events=8)


def textbook(data: Dataset, l2: float) -> np.ndarray:
    """B of Steck (2019), algorithm 1, in double precision."""
    x = np.zeros((len(data.users), len(data.catalogue)))
    for user in range(len(x)):
        x[user, data.sequences.rows[user]] = 1
    p = np.linalg.inv(x.T @ x + l2 * np.eye(x.shape[1]))
    b = p / (-np.diag(p))
    b[np.diag_indices(len(b))] = 0
    return b


def regressed(data: Dataset, l2: float) -> np.ndarray:
    """The same by another road: one ridge regression an item, on all the other items."""
    x = np.zeros((len(data.users), len(data.catalogue)))
    for user in range(len(x)):
        x[user, data.sequences.rows[user]] = 1
    n = x.shape[1]
    b = np.zeros((n, n))
    for item in range(n):
        others = np.arange(n) != item
        a = x[:, others]
        b[others, item] = np.linalg.solve(a.T @ a + l2 * np.eye(n - 1), a.T @ x[:, item])
    return b


@pytest.mark.parametrize("l2", [0.5, 10.0, 250.0])
def test_the_weights_are_the_positive_part_of_the_textbook_formula(l2):
    method = EASE(l2=l2, history_decay=1.0, top_n=None).fit(DATA)
    np.testing.assert_allclose(
        method.weights_.toarray(), np.maximum(textbook(DATA, l2), 0), atol=2e-5
    )
    np.testing.assert_allclose(textbook(DATA, l2), regressed(DATA, l2), atol=1e-9)


def test_more_than_one_block_of_items_is_mirrored_rightly():
    rng = np.random.default_rng(0)
    items = 1100
    events = pl.DataFrame(
        {
            "user_id": [f"u{u}" for u in range(400) for _ in range(8)],
            "item_id": [f"i{i}" for i in rng.integers(items, size=3200)],
        }
    )
    data = Dataset({"events": events})
    method = EASE(l2=2.0, history_decay=1.0, top_n=None).fit(data)
    np.testing.assert_allclose(
        method.weights_.toarray(), np.maximum(textbook(data, 2.0), 0), atol=2e-5
    )


def test_lists_are_ordered_as_an_independent_implementation_orders_them():
    l2 = 5.0
    method = EASE(l2=l2, history_decay=1.0, top_n=None).fit(DATA)
    b = np.maximum(regressed(DATA, l2), 0)
    queries = DATA.queries().without_history()
    for i, ranking in enumerate(method.recommend(queries, 10)):
        history = DATA.sequences.rows[i]
        expected = b[history].sum(axis=0)  # an event that was repeated counts each time
        expected[history] = -1
        best = np.sort(expected)[::-1][: len(ranking)]
        np.testing.assert_allclose(ranking.scores, best, atol=1e-4)
        np.testing.assert_allclose(expected[method.items_.rows(ranking.ids)], best, atol=1e-4)


def test_beyond_max_items_the_most_popular_are_used_and_the_rest_is_counted():
    events = pl.DataFrame(
        [
            (f"u{u}", item)
            for item, users in (("a", 9), ("b", 7), ("c", 5), ("d", 2))
            for u in range(users)
        ],
        schema=["user_id", "item_id"],
        orient="row",
    )
    data = Dataset({"events": events, "items": pl.DataFrame({"item_id": ["a", "never chosen"]})})
    method = EASE(l2=1.0, max_items=2, history_decay=1.0, top_n=None).fit(data)
    ids = method.items_.ids
    rows, columns = method.weights_.nonzero()
    assert set(ids[rows]) | set(ids[columns]) == {"a", "b"}
    assert method.fit_report_ == {"items_used": 2, "items_with_events_left_out": 2}
    only = Dataset({"events": events.filter(pl.col("item_id").is_in(["a", "b"]))})
    expected = textbook(only, 1.0)[*only.catalogue.rows(["a", "b"])]
    assert method.weights_[*method.items_.rows(["a", "b"])] == pytest.approx(expected, rel=1e-4)


def test_repeating_an_event_in_training_changes_nothing():
    events = DATA.events
    twice = Dataset({"events": pl.concat([events, events]), "items": DATA.tables["items"]})
    a, b = (EASE(l2=3.0).fit(data).weights_.toarray() for data in (DATA, twice))
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_taking_the_evidence_out_lowers_the_score_by_its_share():
    method = EASE(l2=2.0, history_decay=1.0).fit(DATA)
    ids = [str(one) for one in DATA.catalogue.ids[:6]]
    query = Query(history=History.of(*ids))
    rankings = method.recommend([query], 5)
    for reason, score in zip(method.explain([query], rankings)[0], rankings[0].scores, strict=True):
        for one in reason.evidence:
            left = method.recommend(
                [Query(history=History.of(*(item for item in ids if item != one.id)))], 30
            )[0]
            assert score - dict(zip(left.ids, left.scores, strict=True)).get(
                reason.item_id, 0
            ) == pytest.approx(one.share * score, abs=1e-5)


@pytest.mark.parametrize(
    "settings", [{"l2": 0}, {"l2": -1}, {"l2": float("nan")}, {"max_items": 0}], ids=str
)
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(DataError, match=next(iter(settings))):
        EASE(**settings)
