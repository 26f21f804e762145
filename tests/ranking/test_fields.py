"""Logistic regression and factorization machines: against the formula, an independent program, and
a world whose truth is known.
"""

from itertools import combinations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression as Independent

from tailor.core.methods import Query
from tailor.core.run import Run
from tailor.data.examples import Outcome
from tailor.data.nouns import History
from tailor.data.splits import by_ratio, by_time
from tailor.errors import DataError, ModelError
from tailor.evaluation.predictions import evaluate_predictions
from tailor.metrics.prediction import auc
from tailor.nn.fields import CrossedFields, FieldBatch, FieldLayout
from tailor.ranking.factorization_machine import FactorizationMachine
from tailor.ranking.logistic_regression import LogisticRegression
from tailor.testing.data import tiny_data
from tailor.worlds.crossed import crossed

LIKED = {"source": "label", "label": "liked"}


def test_a_machine_is_the_sum_over_pairs_of_fields():
    torch.manual_seed(0)
    layout = FieldLayout(9, [0, 1, 1, 2], np.zeros((1, 0), np.int64), np.zeros((1, 0)), 0)
    net = CrossedFields(layout, 3, 1.0)
    torch.nn.init.normal_(net.linear.coefficients.table.weight)
    codes, weights = (
        torch.tensor([[0, 3, 4, 7], [1, 3, 3, 8]]),
        torch.tensor([[1.0, 0.5, 0.5, 1.0], [1.0, 1.0, 0.0, 1.0]]),
    )
    none = torch.zeros(0)
    logits, size = net(FieldBatch(codes, weights, none, none, none, none, none, none))
    numbers, vectors = net.linear.coefficients.table.weight[:, 0], net.vectors.table.weight
    for row in range(2):
        fields = [codes[row, [0]], codes[row, [1, 2]], codes[row, [3]]]
        shares = [weights[row, [0]], weights[row, [1, 2]], weights[row, [3]]]
        sums = [
            (vectors[of] * share[:, None]).sum(0) for of, share in zip(fields, shares, strict=True)
        ]
        wanted = sum(
            (numbers[of] * share).sum() for of, share in zip(fields, shares, strict=True)
        ) + sum(a @ b for a, b in combinations(sums, 2))
        assert logits[row].item() == pytest.approx(wanted.item(), abs=1e-5)
    assert size.item() > 0


def test_logistic_regression_is_that_of_an_independent_program():
    world = crossed(4_000, 300, 40, 4, seed=3)
    fields = ("item:maker", "item:material", "user:region", "user:trade")
    method = LogisticRegression(
        **LIKED, fields=fields, history=0, lr=0.05, l2=0.0, epochs=60, patience=60, calibrate="none"
    ).fit(world.data, Run(workers=1))
    examples = Outcome(**LIKED).learn(world.data, np.random.default_rng(0))
    features = method._ready_features()
    codes = method._encode_examples(examples).codes
    hot = np.zeros((len(codes), features.codes))
    np.put_along_axis(hot, codes, 1.0, axis=1)
    other = Independent(C=1e4, max_iter=500).fit(hot, examples.labels)
    mine = np.concatenate(
        method.predict(
            examples.queries, [[one] for one in examples.queries.catalogue.named(examples.items)]
        )
    )
    # mine has learned from nine people of ten, so it may differ by what the tenth says
    assert np.abs(mine - other.predict_proba(hot)[:, 1]).mean() < 0.02


def test_a_machine_finds_what_pairs_of_values_make_and_nothing_where_they_make_nothing():
    gains = {}
    for pairs in (1.0, 0.0):
        split = by_time(crossed(12_000, 400, 60, 5, pairs=pairs, seed=5).data)
        fitted = {
            "LR": LogisticRegression(**LIKED),
            "FM": FactorizationMachine(**LIKED, lr=1e-2, width=8),
        }
        judged = evaluate_predictions(
            {name: one.fit(split.train, Run(workers=1), split) for name, one in fitted.items()},
            split,
        )
        gains[pairs] = judged.auc_differences("LR")[0]
    assert gains[1.0].low > 0.0 and gains[1.0].difference > 0.03
    assert gains[0.0].difference < 0.01


def test_probabilities_are_those_of_the_world():
    world = crossed(20_000, 400, 60, 4, seed=7)
    split = by_time(world.data)
    method = FactorizationMachine(**LIKED, lr=1e-2, width=8).fit(split.train, Run(workers=1), split)
    examples = Outcome(**LIKED).judge(split, "test", np.random.default_rng(0))
    said = np.concatenate(
        method.predict(
            examples.queries, [[one] for one in examples.queries.catalogue.named(examples.items)]
        )
    )
    truth = world.probabilities[split.part == 2]
    order = np.argsort(examples.queries.now_ms)  # events stand in the order of time
    assert np.corrcoef(said[order], truth)[0, 1] > 0.85
    assert abs(said.mean() - truth.mean()) < 0.02


def test_labels_reach_no_feature():
    """Flipping what came of the judged events changes no prediction: a label that leaks into a
    feature would show.
    """
    data = crossed(2_000, 100, 30, 3, seed=1).data
    split = by_ratio(data, 0.2, 0.2)
    method = LogisticRegression(**LIKED).fit(split.train, Run(workers=1), split)
    examples = Outcome(**LIKED).judge(split, "test", np.random.default_rng(0))
    before = np.concatenate(
        method.predict(examples.queries, [[one] for one in data.catalogue.named(examples.items)])
    )
    assert 0.5 < auc(examples.labels, before) < 0.95
    shuffled = np.random.default_rng(0).permutation(len(examples))
    mixed = examples.take(shuffled)
    after = np.concatenate(
        method.predict(mixed.queries, [[one] for one in data.catalogue.named(mixed.items)])
    )
    assert np.allclose(after, before[shuffled], atol=1e-6), "company changes an answer"


def test_with_user_ids_the_model_holds_people_and_is_not_saved_without_saying_so(tmp_path):
    method = FactorizationMachine(user_ids=True, epochs=1).fit(tiny_data(), Run(workers=1))
    assert "user_id" in method.fit_report_["fields"]
    with pytest.raises(ModelError, match="--with-histories"):
        method.save(tmp_path / "model")


def test_a_few_labels_calibrate_nothing_and_many_do():
    assert (
        not LogisticRegression.tiny().fit(tiny_data(20), Run(workers=1)).fit_report_["calibrated"]
    )
    data = crossed(4_000, 300, 40, 4).data
    assert LogisticRegression(**LIKED, epochs=2).fit(data, Run(workers=1)).fit_report_["calibrated"]


def test_isotonic_calibration_survives_saving(tmp_path):
    data = crossed(4_000, 300, 40, 4).data
    method = LogisticRegression(**LIKED, epochs=2, calibrate="isotonic").fit(data, Run(workers=1))
    assert "at" in method.calibration_
    again = LogisticRegression.load(method.save(tmp_path / "model"))
    query, ids = Query(history=History.of(data.catalogue.ids[0])), [data.catalogue.ids[:5].tolist()]
    assert np.allclose(method.predict([query], ids)[0], again.predict([query], ids)[0])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"epochs": 0}, "epochs"),
        ({"lr": 0.0}, "lr"),
        ({"bins": 1}, "bins"),
        ({"source": "label"}, "label"),
        ({"history": -1}, "history"),
    ],
)
def test_settings_out_of_range_are_refused(settings, says):
    with pytest.raises((DataError, ModelError), match=says):
        LogisticRegression(**settings)
