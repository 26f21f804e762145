"""Agreement of groupings, against scikit-learn and by hand."""

import numpy as np
import pytest

from tailor.metrics.agreement import adjusted_rand


def test_adjusted_rand_is_scikit_learns():
    from sklearn.metrics import adjusted_rand_score

    rng = np.random.default_rng(0)
    for _ in range(20):
        a = rng.integers(4, size=60)
        b = np.where(rng.random(60) < 0.7, a, rng.integers(5, size=60))
        assert adjusted_rand(a, b) == pytest.approx(adjusted_rand_score(a, b))


def test_names_of_groups_mean_nothing_and_equal_groupings_agree():
    a = np.array([0, 0, 1, 1])
    assert adjusted_rand(a, np.array([7, 7, 3, 3])) == 1
    assert adjusted_rand(a, np.array([0, 1, 0, 1])) == pytest.approx(-0.5)
    assert adjusted_rand(np.zeros(3), np.zeros(3)) == 1
