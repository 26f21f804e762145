"""The protocol for predictors: figures against independent programs, refusals, paired differences."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from tailor.core.run import Run
from tailor.data.examples import Outcome
from tailor.data.splits import by_ratio, by_time
from tailor.errors import DataError, ModelError
from tailor.evaluation.prediction_figures import LabelFigures
from tailor.evaluation.predictions import evaluate_predictions
from tailor.evaluation.protocol import compare
from tailor.evaluation.report import GIVEN
from tailor.ranking.factorization_machine import FactorizationMachine
from tailor.ranking.logistic_regression import LogisticRegression
from tailor.worlds.crossed import crossed

LIKED = {"source": "label", "label": "liked"}


@pytest.fixture(scope="module")
def split():
    return by_time(crossed(6_000, 200, 40, 4, seed=2).data)


@pytest.fixture(scope="module")
def fitted(split):
    methods = {
        "LR": LogisticRegression(**LIKED, epochs=5),
        "FM": FactorizationMachine(**LIKED, epochs=5, lr=1e-2),
    }
    return {name: one.fit(split.train, Run(workers=1), split) for name, one in methods.items()}


def test_figures_are_those_of_an_independent_program(split, fitted):
    judged = evaluate_predictions(fitted, split)
    assert len(judged.labels) == (split.part == 2).sum()
    for name, said in judged.probabilities.items():
        assert judged.overall(name, "AUC") == pytest.approx(
            roc_auc_score(judged.labels, said), abs=1e-12
        )
        assert judged.overall(name, "log_loss") == pytest.approx(
            log_loss(judged.labels, said), abs=1e-9
        )
        rows = judged.users == 3
        per_user = judged.report.results[name, GIVEN].per_user
        assert per_user["Brier"][3] == pytest.approx(
            brier_score_loss(judged.labels[rows], said[rows]), abs=1e-12
        )
        within = (
            roc_auc_score(judged.labels[rows], said[rows])
            if 0 < judged.labels[rows].mean() < 1
            else np.nan
        )
        assert per_user["user AUC"][3] == pytest.approx(within, nan_ok=True)


def test_drawn_aucs_are_those_of_the_rows_drawn():
    rng = np.random.default_rng(0)
    labels, users = rng.integers(0, 2, 60).astype(float), rng.integers(0, 12, 60)
    scores = [np.round(rng.random(60), 1), rng.random(60)]  # the first has ties
    from tailor.evaluation.significance import draw_counts

    drawn = LabelFigures().drawn(labels, users, scores, draws=40, seed=3)
    counts = np.concatenate(list(draw_counts(12, 40, 3, None)))
    for draw in range(40):
        times = counts[draw][users].astype(int)
        for at in range(2):
            assert drawn[draw, at] == pytest.approx(
                roc_auc_score(np.repeat(labels, times), np.repeat(scores[at], times)), abs=1e-12
            )


def test_a_method_is_no_better_than_itself_and_a_good_one_better_than_noise(split, fitted):
    judged = evaluate_predictions(
        {"LR": fitted["LR"], "same": fitted["LR"], "FM": fitted["FM"]}, split
    )
    same, better = judged.auc_differences("LR")
    assert (same.difference, same.low, same.high) == (0, 0, 0) and same.p == 1
    assert (
        better.difference
        == pytest.approx(judged.overall("FM", "AUC") - judged.overall("LR", "AUC"))
        and better.low <= better.difference <= better.high
    )
    found = {one.b: one for one in compare(judged.report, "LR", ["log loss"], seen=GIVEN)}
    assert found["same"].p == 1 and found["FM"].difference < 0
    low, high = judged.auc_interval("LR")
    assert low < judged.overall("LR", "AUC") < high


def test_false_alarms_are_as_many_as_stated():
    """Two scores that are equally good by construction: at 5 %, about one draw in twenty says
    otherwise.
    """
    alarms = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        labels, users = rng.integers(0, 2, 300).astype(float), rng.integers(0, 50, 300)
        drawn = LabelFigures().drawn(
            labels, users, [rng.normal(labels), rng.normal(labels)], draws=200, seed=seed
        )
        apart = drawn[:, 1] - drawn[:, 0]
        alarms += not np.quantile(apart, 0.025) <= 0 <= np.quantile(apart, 0.975)
    assert alarms <= 9  # 3 expected; more than 9 has a chance of .001


def test_methods_that_predict_different_things_are_not_compared(split, fitted):
    drawn = LogisticRegression(epochs=1).fit(split.train, Run(workers=1), split)
    with pytest.raises(DataError, match="predict different things"):
        evaluate_predictions({"LR": fitted["LR"], "drawn": drawn}, split)
    judged = evaluate_predictions(
        {"LR": fitted["LR"], "drawn": drawn}, split, outcome=Outcome(**LIKED)
    )
    assert set(judged.probabilities) == {"LR", "drawn"}


def test_a_method_that_saw_its_targets_is_refused(split):
    with pytest.raises(ModelError, match="may hold this split's targets"):
        evaluate_predictions(
            LogisticRegression(**LIKED, epochs=1).fit(split.data, Run(workers=1)), split
        )


def test_drawn_items_are_the_same_for_all_and_told(split):
    ratio = by_ratio(split.data, 0.2, 0.2)
    one, other = (
        LogisticRegression(epochs=1, lr=lr).fit(ratio.train, Run(workers=1), ratio)
        for lr in (1e-2, 1e-3)
    )
    judged = evaluate_predictions({"one": one, "other": other}, ratio)
    again = evaluate_predictions({"other": other}, ratio)
    assert (judged.labels == again.labels).all() and np.allclose(
        judged.probabilities["other"], again.probabilities["other"]
    )
    assert "never chosen" in judged.report.ranked
