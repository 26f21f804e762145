"""Boosted trees: equal to scikit-learn's, and blind to the label of their own row."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.examples import Outcome
from tailor.data.nouns import History, Query
from tailor.data.splits import by_time
from tailor.errors import DataError
from tailor.evaluation.predictions import evaluate_predictions
from tailor.ranking.boosted_trees import BoostedTrees
from tailor.ranking.features import Features
from tailor.ranking.pair_statistics import PairStatistics
from tailor.ranking.trees import Trees
from tailor.testing.data import tiny_data
from tailor.worlds.crossed import crossed

LIKED = {"source": "label", "label": "liked"}


@pytest.mark.parametrize("kind", [HistGradientBoostingClassifier, HistGradientBoostingRegressor])
def test_trees_are_those_of_scikit_learn(kind):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(800, 4))
    rows[rng.random(rows.shape) < 0.2] = np.nan
    labels = (np.nan_to_num(rows[:, 0]) + rng.normal(size=800) > 0).astype(float)
    model = kind(max_iter=12, min_samples_leaf=5, random_state=0).fit(rows, labels)
    trees = Trees.from_arrays(Trees.of(model).arrays())
    fresh = rng.normal(size=(300, 4))
    fresh[rng.random(fresh.shape) < 0.2] = np.nan
    mine = float(np.ravel(model._baseline_prediction)[0]) + trees.leaf_values(fresh).sum(axis=1)
    is_classifier = kind is HistGradientBoostingClassifier
    theirs = model.decision_function(fresh) if is_classifier else model.predict(fresh)
    assert np.allclose(mine, theirs)
    assert np.allclose(trees.first(5).leaf_values(fresh), trees.leaf_values(fresh)[:, :5])


def statistics_of(data, labels=None, history=8):
    examples = Outcome(**LIKED, length=history).learn(data, np.random.default_rng(0))
    if labels is not None:
        examples = replace(examples, labels=labels)
    features = Features.learned(data, examples, (), 0, False, 1, 10)
    rng = np.random.default_rng(0)
    statistics, moments = PairStatistics.learned(data, examples, features, history, 5.0, rng)
    return statistics, examples, statistics.numbers(examples.queries, examples.pairs(), moments)


@pytest.mark.parametrize("has_times", [True, False])
def test_no_row_sees_its_own_label_nor_a_later_one(has_times):
    data = crossed(400, 40, 10, 3, seed=1).data
    if not has_times:
        events = data.events.drop("time_ms").sort("user_id", maintain_order=True)
        data = Dataset({**data.tables, "events": events}, "untimed", {"liked": "value = 1"})
    _, examples, before = statistics_of(data)
    row = 200
    flipped = examples.labels.copy()
    flipped[row] = 1 - flipped[row]
    statistics, _, after = statistics_of(data, flipped)
    is_label = ["mean label" in name for name in statistics.names]
    assert np.array_equal(before[row], after[row], equal_nan=True)
    changed = np.flatnonzero((before != after)[:, is_label].any(axis=1))
    assert len(changed), "no later row learns from the label"
    if has_times:
        now_ms = examples.queries.now_ms
        assert (now_ms[changed] > now_ms[row]).all()


def test_labels_of_chance_are_not_learned():
    rng = np.random.default_rng(0)
    events = pl.DataFrame(
        {
            "user_id": [f"u{code}" for code in rng.integers(50, size=3_000)],
            "item_id": [f"i{code}" for code in rng.integers(300, size=3_000)],
            "time_ms": np.arange(3_000) * 1000,
            "value": rng.integers(2, size=3_000).astype(float),
        }
    )
    split = by_time(Dataset({"events": events}, "chance", {"liked": "value = 1"}))
    method = BoostedTrees(**LIKED, trees=40).fit(split.train, Run(workers=1), split)
    assert abs(evaluate_predictions(method, split).overall("BoostedTrees", "AUC") - 0.5) < 0.08


def test_numbers_of_a_pair_are_counted_by_hand():
    events = pl.DataFrame(
        {
            "user_id": ["a", "b", "a", "b", "a"],
            "item_id": ["x", "x", "y", "y", "z"],
            "time_ms": [0, 1, 2, 3, 3_600_003],
            "value": [1.0, 0.0, 1.0, 1.0, 0.0],
        }
    )
    items = pl.DataFrame({"item_id": ["x", "y", "z", "w"], "kind": ["k", "k", "m", "m"]})
    data = Dataset({"events": events, "items": items}, "five", {"liked": "value = 1"})
    statistics, examples, numbers = statistics_of(data)
    names = statistics.names
    ids = examples.queries.catalogue.named(examples.items)
    now_ms = examples.queries.now_ms.tolist()
    last_y = numbers[now_ms.index(3)]
    assert ids[now_ms.index(3)] == "y"
    assert last_y[names.index("item_id: rows")] == 1  # a's y
    assert last_y[names.index("item_id: mean label")] == pytest.approx((1 + 5 * 2 / 3) / 6)
    assert last_y[names.index("item:kind: in history")] == 1  # x
    assert last_y[names.index("item:kind: mean value in history")] == 0
    assert last_y[names.index("item: events")] == 1
    assert last_y[names.index("item: co-visits")] == 1  # a's x and y
    assert last_y[names.index("item: share of co-visits")] == pytest.approx(1 / 3)
    z = numbers[now_ms.index(3_600_003)]
    assert z[names.index("history: length")] == 2
    assert z[names.index("history: hours since")] == pytest.approx(1.0, abs=1e-3)
    assert np.isnan(z[names.index("item:kind: mean value in history")])


def test_values_are_predicted_as_numbers(tmp_path):
    data = tiny_data()
    method = BoostedTrees(source="value", trees=10, least_rows=5).fit(data, Run(workers=1))
    query = Query(history=History.of("thing-001", "thing-002"))
    numbers = method.predict([query], [["thing-005", "nowhere"]])[0]
    assert ((numbers > 1) & (numbers < 5)).all()
    again = BoostedTrees.load(method.save(tmp_path / "model"))
    assert np.array_equal(again.predict([query], [["thing-005", "nowhere"]])[0], numbers)


def test_equal_labels_grow_no_tree():
    data = tiny_data()
    method = BoostedTrees(source="label", label="value >= 0").fit(data, Run(workers=1))
    assert method.fit_report_["trees"] == 0
    assert method.predict([Query()], [["thing-001"]])[0][0] > 0.99


def test_settings_out_of_range_are_refused():
    with pytest.raises(DataError, match="leaves"):
        BoostedTrees(leaves=1)
    with pytest.raises(DataError, match="smoothing"):
        BoostedTrees(smoothing=0.0)
