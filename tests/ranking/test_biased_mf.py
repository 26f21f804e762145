"""BiasedMF: ridge against least squares, planted factors, and users who are nowhere stored."""

import numpy as np
import polars as pl
import pytest

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.data.splits import by_ratio
from tailor.errors import DataError
from tailor.evaluation.predictions import evaluate_predictions
from tailor.ranking import biased_mf
from tailor.ranking.biased_mf import BiasedMF, _Grouped
from tailor.testing.data import tiny_data


def ratings_of(values, seed=0, shown=0.6):
    """Return a log of a share of a matrix of ratings (users, items), in random order of time."""
    rng = np.random.default_rng(seed)
    users, items = np.nonzero(rng.random(values.shape) < shown)
    order = rng.permutation(len(users))
    events = {
        "user_id": [f"u{user}" for user in users[order]],
        "item_id": [f"i{item}" for item in items[order]],
        "time_ms": 1_600_000_000_000 + 1000 * np.arange(len(users)),
        "value": values[users[order], items[order]],
    }
    return Dataset({"events": pl.DataFrame(events)}, "planted")


@pytest.mark.parametrize("at_once", [3, 100_000])
def test_ridge_is_least_squares_with_penalties_as_further_rows(monkeypatch, at_once):
    monkeypatch.setattr(biased_mf, "RATINGS_AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    groups = np.array([2, 0, 2, 2, 0, 4, 4])
    features, targets = rng.normal(size=(7, 3)), rng.normal(size=7)
    penalties = np.array([2.0, 3.0, 5.0])
    solved = _Grouped(groups, 6).ridge(features, targets, penalties)
    for group in (0, 2, 4):
        rows = np.r_[features[groups == group], np.diag(np.sqrt(penalties))]
        wanted = np.linalg.lstsq(rows, np.r_[targets[groups == group], np.zeros(3)])[0]
        assert np.allclose(solved[group], wanted)
    assert not solved[[1, 3, 5]].any()


def test_biases_are_those_of_one_ridge_regression_on_users_and_items():
    data = tiny_data()
    method = BiasedMF(width=0, bias_l2=2.0, rounds=300).fit(data)
    users = data.users.rows(data.events["user_id"].to_list())
    items = data.catalogue.rows(data.events["item_id"].to_list())
    ratings = data.events["value"].to_numpy()
    design = np.concatenate([np.eye(60)[users], np.eye(40)[items]], axis=1)
    rows = np.r_[design, np.sqrt(2.0) * np.eye(100)]
    solved = np.linalg.lstsq(rows, np.r_[ratings - ratings.mean(), np.zeros(100)])[0]
    assert np.allclose(method.item_factors_[:-1, 0], solved[60:], atol=1e-6)
    histories = data.queries(columns=["values"]).reindexed(method.items_)
    order = data.users.rows(histories.user_ids.tolist())
    assert np.allclose(method._user_factors(histories)[:, 0], solved[:60][order], atol=1e-6)


def test_vectors_find_what_biases_cannot():
    rng = np.random.default_rng(0)
    users, items = rng.normal(size=(80, 2)), rng.normal(size=(40, 2))
    split = by_ratio(ratings_of(3 + rng.normal(size=(80, 1)) * 0.3 + users @ items.T))
    methods = {
        "biases": BiasedMF(width=0).fit(split.train),
        "vectors": BiasedMF(width=2, l2=1.0).fit(split.train),
    }
    predictions = evaluate_predictions(methods, split)
    assert predictions.overall("vectors", "RMSE") < 0.4 * predictions.overall("biases", "RMSE")


def test_a_user_is_the_ratings_of_the_history_and_nothing_else():
    data = tiny_data()
    method = BiasedMF(width=2).fit(data)
    known = data.queries(["person-003"], columns=["values"])
    history = History(known[0].history.item_ids, values=known[0].history.values)
    stranger = Query("nobody knows", history)
    ids = [["thing-001", "thing-007"]]
    assert np.allclose(method.predict(known, ids)[0], method.predict([stranger], ids)[0])
    turned = History(history.item_ids, values=tuple(6 - value for value in history.values))
    assert not np.allclose(
        method.predict([Query(history=turned)], ids)[0], method.predict([stranger], ids)[0]
    )


def test_without_ratings_the_mean_and_the_bias_of_the_item_remain():
    method = BiasedMF(width=2).fit(tiny_data())
    row = method.items_.rows(["thing-001"])[0]
    wanted = method.mean_ + method.item_factors_[row, 0]
    for query in (Query(), Query(history=History.of("thing-005"))):
        known, unknown = method.predict([query], [["thing-001", "no such thing"]])[0]
        assert known == pytest.approx(wanted) and unknown == pytest.approx(method.mean_)


def test_predictions_stay_within_the_ratings():
    data = ratings_of(np.where(np.arange(30)[:, None] % 2, 5.0, 1.0) * np.ones((30, 12)))
    method = BiasedMF(width=1, l2=0.01, bias_l2=0.01).fit(data, Run(seed=1))
    values = np.concatenate(
        method.predict(data.queries(columns=["values"]), [data.catalogue.ids.tolist()] * 30)
    )
    assert values.min() >= 1 and values.max() <= 5


def test_settings_that_cannot_be_are_refused():
    for settings in ({"width": -1}, {"rounds": 0}, {"l2": 0.0}, {"bias_l2": -1.0}):
        with pytest.raises(DataError):
            BiasedMF(**settings)
    events = tiny_data().events.drop("value")
    with pytest.raises(DataError, match="value"):
        BiasedMF().fit(Dataset({"events": events}))
