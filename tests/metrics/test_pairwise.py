"""Strengths follow from comparisons; soft labels keep the sum of the judgements."""

import numpy as np
import pytest

from tailor.metrics.pairwise import bradley_terry, soft_labels
from tailor.metrics.recalibration import fit_logistic, logistic


def test_two_documents_have_the_log_odds_of_their_wins():
    votes = np.array([[1.0, 0.0]] * 3 + [[0.0, 1.0]])
    strengths = bradley_terry(votes)
    gap = strengths[0] - strengths[1]
    assert 0 < gap < np.log(3)  # drawn to 0 a little
    assert gap == pytest.approx(np.log(3), rel=0.35)
    assert bradley_terry(np.array([[1.0, 1.0]])) == pytest.approx([0, 0])
    assert bradley_terry(np.zeros((2, 1))).tolist() == [0]


def test_many_noisy_teachers_come_nearer_to_the_truth_than_one():
    rng = np.random.default_rng(0)
    truth = np.linspace(-2, 2, 10)
    errors = []
    for _ in range(20):
        votes = truth + 2 * rng.standard_normal((7, 10))
        fits = [
            np.corrcoef(truth, bradley_terry(of_teachers))[0, 1]
            for of_teachers in (votes, votes[:1])
        ]
        errors.append(fits)
    many, single = np.mean(errors, axis=0)
    assert many > single + 0.15


def test_soft_labels_sum_to_the_answers_and_keep_the_order():
    strengths = np.array([3.0, -1.0, 0.5, -4.0])
    labels = soft_labels(strengths, 1.0)
    assert labels.sum() == pytest.approx(1.0)
    assert np.argsort(-labels).tolist() == [0, 2, 1, 3]
    odds = np.log(labels / (1 - labels))
    assert odds - odds[0] == pytest.approx(strengths - strengths[0])
    assert soft_labels(strengths, 0.0).tolist() == [0] * 4
    assert soft_labels(strengths, 4.0).tolist() == [1] * 4


def test_soft_labels_are_fitted_as_well_as_hard_ones():
    rng = np.random.default_rng(1)
    inputs = np.c_[rng.standard_normal((400, 2)), np.ones(400)]
    weights = np.array([1.5, -0.5, 0.3])
    probabilities = 1 / (1 + np.exp(-(inputs @ weights)))
    assert fit_logistic(probabilities, inputs) == pytest.approx(weights, abs=1e-6)
    truth = (rng.random(400) < probabilities).astype(float)
    assert fit_logistic(truth, inputs) == pytest.approx(logistic(truth, inputs), abs=0.1)
    assert (
        np.abs(fit_logistic(truth, inputs, 50.0)).max() < np.abs(fit_logistic(truth, inputs)).max()
    )
