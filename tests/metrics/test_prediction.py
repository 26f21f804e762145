"""Predictions and calibration: scikit-learn, loops, and values by hand."""

import math

import numpy as np
import pytest
import sklearn.metrics as sk
from sklearn.calibration import calibration_curve

from tailor.metrics import prediction as p
from tailor.metrics.calibration import (
    brier_parts,
    clicks_over_predicted,
    expected_calibration_error,
    list_miscalibration,
    maximum_calibration_error,
    reliability,
)

NUMBERS = {
    p.mean_absolute_error: sk.mean_absolute_error,
    p.mean_squared_error: sk.mean_squared_error,
    p.root_mean_squared_error: sk.root_mean_squared_error,
    p.r_squared: sk.r2_score,
    p.explained_variance: sk.explained_variance_score,
    p.max_error: sk.max_error,
}
LABELS = {
    p.auc: sk.roc_auc_score,
    p.average_precision_of_scores: sk.average_precision_score,
    p.brier: sk.brier_score_loss,
}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("ours", NUMBERS, ids=lambda one: one.__name__)
def test_numbers_are_scikit_learn_s(ours, seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(1, 6, 50) * 1.0
    predicted = truth + rng.normal(size=50)
    assert ours(truth, predicted) == pytest.approx(NUMBERS[ours](truth, predicted), abs=1e-9)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("ours", LABELS, ids=lambda one: one.__name__)
def test_labels_are_scikit_learn_s(ours, ties, seed):
    rng = np.random.default_rng(seed)
    truth, scores = (rng.random(200) < 0.2).astype(int), rng.random(200)
    scores = np.round(scores, 1) if ties else scores
    assert ours(truth, scores) == pytest.approx(LABELS[ours](truth, scores), abs=1e-9)
    clipped = np.clip(scores, 1e-7, 1 - 1e-7)
    assert p.log_loss(truth, scores) == pytest.approx(sk.log_loss(truth, clipped), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_classes_are_scikit_learn_s(seed):
    rng = np.random.default_rng(seed)
    truth, predicted = rng.choice(["a", "b", "c"], 60), rng.choice(["a", "b", "d"], 60)
    assert p.accuracy(truth, predicted) == pytest.approx(
        sk.accuracy_score(truth, predicted), abs=1e-12
    )
    assert p.macro_f1(truth, predicted) == pytest.approx(
        sk.f1_score(truth, predicted, average="macro", zero_division=0), abs=1e-12
    )
    classes, table = p.confusion(truth, predicted)
    assert np.array_equal(table, sk.confusion_matrix(truth, predicted, labels=classes))


def test_a_percentage_of_nothing_is_left_out_and_counted():
    found = p.mean_absolute_percentage_error(np.array([0.0, 2, -4]), np.array([1.0, 3, -3]))
    assert found == (pytest.approx((0.5 + 0.25) / 2), 2, 1)
    assert p.mean_absolute_percentage_error(
        np.array([2.0, 4]), np.array([1.0, 5])
    ).value == pytest.approx(sk.mean_absolute_percentage_error([2, 4], [1, 5]))


@pytest.mark.parametrize("seed", range(5))
def test_grouped_auc_is_the_weighted_mean_of_each_group_s(seed):
    rng = np.random.default_rng(seed)
    groups, truth, scores = (
        rng.integers(0, 12, 300),
        (rng.random(300) < 0.1).astype(int),
        np.round(rng.random(300), 1),
    )
    pairs = [
        (sk.roc_auc_score(truth[groups == g], scores[groups == g]), (groups == g).sum())
        for g in np.unique(groups)
        if 0 < truth[groups == g].mean() < 1
    ]
    found = p.grouped_auc(truth, scores, groups * 7 - 3)
    assert found.value == pytest.approx(
        sum(a * n for a, n in pairs) / sum(n for _, n in pairs), abs=1e-9
    )
    assert (found.included, found.left_out) == (len(pairs), len(np.unique(groups)) - len(pairs))


def test_normalised_entropy_of_the_share_is_1():
    truth = np.array([1, 0, 0, 0])
    assert p.normalised_entropy(truth, np.full(4, 0.25)) == pytest.approx(1)
    assert p.normalised_entropy(truth, np.array([0.9, 0.1, 0.1, 0.1])) < 1


def test_sure_and_wrong_costs_what_the_clip_says():
    assert p.log_loss(np.array([1]), np.array([0.0])) == pytest.approx(-math.log(1e-7))


EMPTY = np.zeros(0)


def test_undefined_is_nan_and_never_0():
    ones, half = np.ones(3), np.full(3, 0.5)
    for figure in (
        p.auc(ones, half),
        p.average_precision_of_scores(ones * 0, half),
        p.normalised_entropy(ones, half),
        p.r_squared(half, ones),
        p.explained_variance(half, ones),
        p.grouped_auc(ones, half, ones).value,
        clicks_over_predicted(ones, ones * 0),
        p.mean_absolute_error(EMPTY, EMPTY),
        p.accuracy(EMPTY, EMPTY),
        p.macro_f1(EMPTY, EMPTY),
        p.auc(EMPTY, EMPTY),
        p.max_error(EMPTY, EMPTY),
        p.average_precision_of_scores(EMPTY, EMPTY),
        expected_calibration_error(EMPTY, EMPTY),
        maximum_calibration_error(EMPTY, EMPTY),
        p.grouped_auc(EMPTY, EMPTY, EMPTY).value,
        *brier_parts(EMPTY, EMPTY),
    ):
        assert math.isnan(figure)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "function",
    [
        p.mean_squared_error,
        p.auc,
        p.log_loss,
        p.brier,
        p.average_precision_of_scores,
        expected_calibration_error,
    ],
)
def test_a_prediction_that_is_no_number_is_refused(function, bad):
    with pytest.raises(ValueError, match=f"a prediction is {bad}"):
        function(np.array([1.0, 0]), np.array([0.5, bad]))


def test_what_is_no_label_or_no_probability_is_refused():
    with pytest.raises(ValueError, match="one is 2"):
        p.auc(np.array([0, 2]), np.array([0.1, 0.2]))
    with pytest.raises(ValueError, match=r"from 0\.1 to 1\.5"):
        p.log_loss(np.array([0, 1]), np.array([0.1, 1.5]))
    with pytest.raises(ValueError, match="both must be"):
        p.mean_absolute_error(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="both must be"):
        p.confusion(np.zeros(2), np.zeros(3))


# ---- calibration


def test_bins_are_scikit_learn_s_quantiles():
    rng = np.random.default_rng(0)
    probabilities = rng.random(300)
    truth = (rng.random(300) < probabilities).astype(int)
    happened, predicted = calibration_curve(truth, probabilities, n_bins=15, strategy="quantile")
    table = reliability(truth, probabilities)
    np.testing.assert_allclose(table.happened, happened, atol=1e-12)
    np.testing.assert_allclose(table.predicted, predicted, atol=1e-12)
    gaps = np.abs(happened - predicted)
    assert (
        expected_calibration_error(truth, probabilities) == pytest.approx(gaps.mean())
        and (table.rows == 20).all()
    )
    assert maximum_calibration_error(truth, probabilities) == pytest.approx(gaps.max())


def test_calibration_by_hand():
    truth, probabilities = np.array([0, 1, 1, 1]), np.array([0.2, 0.2, 0.9, 0.9])
    assert expected_calibration_error(truth, probabilities, bins=2) == pytest.approx(
        (0.3 + 0.1) / 2
    )
    assert clicks_over_predicted(truth, probabilities) == pytest.approx(3 / 2.2)
    assert brier_parts(truth, probabilities, bins=2)[:3] == pytest.approx(
        ((0.09 + 0.01) / 2, 0.0625, 0.1875)
    )


def test_equal_probabilities_share_a_bin_so_that_order_does_not_matter():
    truth, probabilities = np.array([0, 1] * 50), np.full(100, 0.5)
    assert (
        expected_calibration_error(truth, probabilities)
        == 0
        == expected_calibration_error(np.sort(truth), probabilities)
    )
    assert len(reliability(truth, probabilities).rows) == 1


@pytest.mark.parametrize("bins", [1, 4, 1000])
def test_the_parts_add_up_to_the_brier_score(bins):
    rng = np.random.default_rng(1)
    probabilities = np.round(rng.random(200), 2)
    truth = (rng.random(200) < probabilities**2).astype(int)
    parts = brier_parts(truth, probabilities, bins)
    assert parts.reliability - parts.resolution + parts.uncertainty + parts.within == pytest.approx(
        p.brier(truth, probabilities)
    )
    assert bins < 1000 or parts.within == pytest.approx(0, abs=1e-12)


def test_a_list_is_calibrated_when_its_categories_are_the_history_s():
    history, shown = (
        np.array([[3.0, 1], [2, 2], [1, 0], [0, 0], [1, 1]]),
        np.array([[6.0, 2], [4, 0], [0, 5], [1, 1], [0, 0]]),
    )
    values = list_miscalibration(history, shown)
    assert values[0] == pytest.approx(0)
    assert values[1] == pytest.approx(
        0.5 * math.log(0.5 / (0.99 + 0.005)) + 0.5 * math.log(0.5 / 0.005)
    )
    assert values[2] == pytest.approx(-math.log(0.01)) and np.isnan(values[3:]).all()


@pytest.mark.parametrize("constant", [0.1, 1 / 3, 1e9 + 0.1])
def test_a_constant_truth_that_rounds_has_no_share_explained(constant):
    truth, said = np.full(7, constant), np.arange(7.0)
    assert np.isnan(p.r_squared(truth, said)) and np.isnan(p.explained_variance(truth, said))
