"""Calibrations against scikit-learn, and what they must never do."""

import numpy as np
import pytest

from tailor.metrics.calibration import expected_calibration_error
from tailor.metrics.recalibration import isotonic, platt

RNG = np.random.default_rng(0)


def skewed(n, seed=0):
    """Labels, and probabilities that are too sure of themselves."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal(n) - 1
    return (rng.random(n) < 1 / (1 + np.exp(-z))).astype(float), 1 / (1 + np.exp(-3 * z - 1))


def test_isotonic_is_scikit_learns():
    sklearn = pytest.importorskip("sklearn.isotonic")
    for n in (1, 2, 10, 500):
        truth, p = skewed(n)
        p = np.round(p, 2)  # ties
        theirs = sklearn.IsotonicRegression(out_of_bounds="clip").fit(p, truth)
        asked = np.linspace(0, 1, 101)
        assert isotonic(truth, p)(asked) == pytest.approx(theirs.predict(asked), abs=1e-9)


def test_platt_is_the_largest_likelihood():
    linear = pytest.importorskip("sklearn.linear_model")
    truth, p = skewed(3_000)
    made = platt(truth, p)
    theirs = linear.LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        np.log(p / (1 - p))[:, None], truth
    )
    # labels are drawn in a little
    assert (made.slope, made.shift) == pytest.approx(
        (theirs.coef_[0, 0], theirs.intercept_[0]), abs=5e-3
    )
    assert made.slope == pytest.approx(1 / 3, abs=0.05)


@pytest.mark.parametrize("fit", [platt, isotonic])
def test_on_others_the_error_falls(fit):
    truth, p = skewed(4_000)
    other, q = skewed(4_000, seed=1)
    assert expected_calibration_error(other, fit(truth, p)(q)) < 0.3 * expected_calibration_error(
        other, q
    )


@pytest.mark.parametrize("fit", [platt, isotonic])
def test_order_is_kept_and_ends_stay_within_0_and_1(fit):
    truth, p = skewed(300)
    said = fit(truth, p)(np.r_[0.0, np.sort(p), 1.0])
    assert (np.diff(said) >= 0).all() and said[0] >= 0 and said[-1] <= 1


def test_labels_that_a_line_separates_do_not_become_certain():
    made = platt(np.array([0.0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9]))
    said = made(np.array([0.1, 0.9]))
    assert np.isfinite(said).all() and 0 < said[0] < 0.5 < said[1] < 1


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(ValueError, match="both must occur"):
        platt(np.ones(3), np.full(3, 0.5))
    with pytest.raises(ValueError, match="no labels"):
        isotonic(np.zeros(0), np.zeros(0))
    with pytest.raises(ValueError):
        isotonic(np.array([0.0, 1.0]), np.array([0.5, 1.5]))
