"""The memory of errors, against sums by hand and what it must and must not change."""

import copy

import numpy as np
import pytest

from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.data.queries import Queries
from tailor.data.splits import by_ratio, by_time
from tailor.errors import DataError, ModelError
from tailor.metrics.prediction import log_loss
from tailor.papers.ranking import reloop2
from tailor.papers.ranking.reloop2 import Pairs, ReLoop2
from tailor.ranking.deepfm import DeepFM
from tailor.ranking.logistic_regression import LogisticRegression
from tailor.testing.data import tiny_data
from tailor.worlds.stream import stream

BASE = DeepFM(
    source="label", label="value > 0", width=4, layers=(16,), epochs=6, history=0, lr=1e-2
)
RUN = Run(workers=1)


@pytest.fixture(scope="module")
def fitted():
    return ReLoop2(DeepFM.tiny(), tables=3, bits=2, strength=2.0, weight=0.5).fit(tiny_data(), RUN)


@pytest.fixture(scope="module")
def split():
    return by_time(stream(people=50, items=20, rows=6_000).data, valid=0.15, test=0.35)


def test_errors_are_shrunk_means_averaged_by_likeness(fitted):
    method = fitted._with_state()
    method.counts_ = np.array([[3.0, 0, 0, 0], [1.0, 0, 0, 0], [0.0, 0, 0, 0]])
    method.label_sums_ = np.array([[2.0, 0, 0, 0], [1.0, 0, 0, 0], [0.0, 0, 0, 0]])
    method.prediction_sums_ = np.array([[0.9, 0, 0, 0], [0.4, 0, 0, 0], [0.0, 0, 0, 0]])
    p = 0.25
    labels = np.array([(2 + 2 * p) / 5, (1 + 2 * p) / 3, p])
    earlier = np.array([(0.9 + 2 * p) / 5, (0.4 + 2 * p) / 3, p])
    shares = np.exp(-np.abs(earlier - p) / method.tau)
    shares /= shares.sum()
    pairs = Pairs(np.array([p]), np.zeros((1, 3), np.int64))
    assert method._errors(pairs)[0] == pytest.approx((shares * (labels - p)).sum())
    method.blend = 0.3
    mixed = labels - (0.3 * p + 0.7 * earlier)
    assert method._errors(pairs)[0] == pytest.approx((shares * mixed).sum())


def test_outcomes_are_added_to_every_table_and_old_ones_fade(fitted):
    method = fitted._with_state()
    pairs = Pairs(np.array([0.2, 0.6]), np.array([[0, 1, 3], [0, 2, 3]]))
    method._write(pairs, np.array([1.0, 0.0]))
    assert method.counts_.tolist() == [[2, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 2]]
    assert method.label_sums_[:, [0, 1, 3]].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert method.prediction_sums_[0, 0] == pytest.approx(0.8)
    method.decay = 0.5
    method._write(pairs, np.array([1.0, 0.0]))
    assert method.counts_[0, 0] == pytest.approx(2 + 2 * 0.5 ** (2 / 100))


def test_an_empty_memory_predicts_what_the_base_does(fitted):
    queries = [Query(history=History.of("thing-001"))]
    ids = [["thing-003", "thing-010", "unknown"]]
    assert np.allclose(fitted.predict(queries, ids)[0], fitted.base_.predict(queries, ids)[0])


def test_like_pairs_learn_from_an_outcome_and_the_memory_keeps_its_size(fitted):
    method = copy.copy(fitted)
    query = Query(history=History.of("thing-001"))
    before = method.predict([query], [["thing-003"]])[0][0]
    sizes = [array.shape for array in (method.counts_, method.label_sums_)]
    for _ in range(20):
        method.update([query], [["thing-003"]], [[0.0]])
    after = method.predict([query], [["thing-003"]])[0][0]
    assert after < before - 0.1
    assert sizes == [array.shape for array in (method.counts_, method.label_sums_)]
    base = method.base_.predict([query], [["thing-003"]])[0][0]
    assert base == fitted.base_.predict([query], [["thing-003"]])[0][0], "the base was changed"


def test_hidden_layers_are_centred_before_they_are_hashed(fitted):
    data = tiny_data()
    queries = data.queries()
    items = Ragged.of_lengths(np.ones(len(queries), np.int64), np.arange(len(queries)) % 40)
    hidden = fitted.base_.hidden(queries, items) - fitted.centre_
    signs = np.einsum("md,gbd->mgb", hidden, fitted.directions_) > 0
    wanted = (signs * [1, 2]).sum(axis=2)
    assert (fitted._pairs_seen(queries, items).buckets == wanted).all()
    assert np.ptp(wanted, axis=0).min() > 0, "all pairs fell into one bucket"


def test_the_weight_is_the_best_of_the_validation_stream(split, monkeypatch):
    monkeypatch.setattr(reloop2, "WEIGHTS", (0.0, 0.3))  # without the one that is taken unseen
    method = ReLoop2(BASE, tables=8, bits=8).fit(split.train, RUN, split)
    losses = method.fit_report_["log loss by weight"]
    assert losses[0.3] < losses[0.0], "items that changed were not noticed"
    assert method.weight_ == 0.3
    assert method.counts_.sum() == 0, "the memory does not begin empty"
    valid = BASE.outcome().judge(split, "valid", RUN.rng("validation"))
    ids = [[item_id] for item_id in valid.queries.catalogue.named(valid.items)]
    frozen = np.concatenate(method.base_.predict(valid.queries, ids))
    assert losses[0.0] == pytest.approx(log_loss(valid.labels, frozen), abs=1e-5)


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ModelError, match="predictor over fields"):
        ReLoop2("DeepFM")
    with pytest.raises(DataError, match="weight is 2"):
        ReLoop2(weight=2)
    with pytest.raises(ModelError, match="no hidden layer"):
        ReLoop2(LogisticRegression(epochs=1)).fit(tiny_data(), RUN)


def test_queries_of_any_number_are_answered(fitted):
    none = Queries.of([]).reindexed(fitted.items_)
    assert len(fitted._predict(none, Ragged.of([]))) == 0


def test_without_times_the_weight_is_plain_and_nothing_fails():
    data = tiny_data(users=20)
    events = data.events.drop("time_ms")
    untimed = Dataset({**data.tables, "events": events}, "untimed")
    split = by_ratio(untimed)
    method = ReLoop2(DeepFM.tiny(), tables=2, bits=2).fit(split.train, RUN, split)
    assert method.weight_ == reloop2.PLAIN_WEIGHT


def test_a_base_that_predicts_no_probability_is_refused():
    class Numbers(DeepFM):
        _is_binary = False

    with pytest.raises(ModelError, match="predicts no probability"):
        ReLoop2(Numbers())
