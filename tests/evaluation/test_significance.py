"""Intervals that cover, tests that are as often wrong as they say, corrections by hand."""

import numpy as np
import pytest

from tailor.evaluation.significance import bootstrap, holm, paired_test


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """400 experiments at once: each is a column, the users of all are drawn alike."""
    rng = np.random.default_rng(0)
    covered = []
    for batch in range(4):
        values = (rng.random((250, 100)) < 0.3) * rng.random((250, 100))  # skewed, many zeros, as hit rates are
        low, high = bootstrap(values, draws=600, seed=batch)
        covered.append((low <= 0.15) & (high >= 0.15))
    assert 0.93 <= np.mean(covered) <= 0.97


def test_a_wider_level_gives_a_wider_interval_and_the_same_seed_the_same_one():
    values = np.random.default_rng(0).random((100, 2))
    (a, b), (c, d) = bootstrap(values, level=0.95), bootstrap(values, level=0.5)
    assert (a < c).all() and (d < b).all() and np.array_equal(bootstrap(values, seed=3), bootstrap(values, seed=3))


def test_the_interval_has_the_width_of_the_textbook_formula():
    values = np.random.default_rng(1).normal(5, 2, (2000, 1))
    low, high = bootstrap(values)
    assert high[0] - low[0] == pytest.approx(2 * 1.96 * values.std() / np.sqrt(2000), rel=0.06)
    assert low[0] < values.mean() < high[0]


def test_undefined_values_are_left_out_and_never_zero():
    values = np.random.default_rng(2).random((300, 1)) + 5
    half = np.where(np.arange(300)[:, None] % 2, values, np.nan)
    low, high = bootstrap(np.concatenate([half, values], axis=1))
    assert 5 < low[0] < high[0] < 6 and high[0] - low[0] > high[1] - low[1]
    assert np.isnan(bootstrap(np.zeros((0, 2)))).all()


def test_one_user_or_equal_users_give_an_interval_without_width():
    assert np.array_equal(bootstrap(np.full((1, 1), 0.3)), [[0.3], [0.3]])
    low, high = bootstrap(np.full((50, 1), 0.3))
    assert low[0] == pytest.approx(0.3) == high[0]


def test_without_an_effect_one_in_twenty_is_called_significant():
    rng = np.random.default_rng(0)
    p = [paired_test(rng.random(60), rng.random(60), draws=400, seed=at) for at in range(600)]
    assert 0.03 <= np.mean(np.array(p) < 0.05) <= 0.07
    assert np.mean(np.array(p) < 0.5) == pytest.approx(0.5, abs=0.07)


def test_an_effect_of_half_a_deviation_is_found_nine_times_in_ten():
    rng = np.random.default_rng(1)
    found = [paired_test(rng.normal(0.5, 1, 60), np.zeros(60), draws=300, seed=at) < 0.05 for at in range(100)]
    assert np.mean(found) > 0.9


def test_no_difference_is_p_one_and_the_smallest_p_is_never_zero():
    a = np.random.default_rng(0).random(50)
    assert paired_test(a, a) == 1.0 and paired_test(a, np.full(50, np.nan)) == 1.0 and paired_test(a[:0], a[:0]) == 1.0
    assert paired_test(a + 1, a, draws=999) == 1 / 1000


def test_the_p_value_is_that_of_all_sign_patterns():
    """Eight users have 256 patterns: the share of those as extreme is known exactly."""
    difference = np.array([0.5, 0.25, -0.1, 0.3, 0.05, 0.2, -0.4, 0.15])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 8)).reshape(8, -1)
    exact = np.mean(np.abs(difference @ signs) >= abs(difference.sum()) - 1e-12)
    assert paired_test(difference, np.zeros(8), draws=40_000) == pytest.approx(exact, abs=0.01)


def test_it_does_not_matter_who_comes_first_or_what_scale_is_used():
    rng = np.random.default_rng(3)
    a, b = rng.random(200), rng.random(200) + 0.03
    p = paired_test(a, b)
    assert paired_test(b, a) == pytest.approx(p, abs=0.01) and paired_test(1e-6 * a, 1e-6 * b) == pytest.approx(p, abs=1e-3)


def test_users_without_a_difference_or_undefined_change_nothing():
    rng = np.random.default_rng(4)
    a, b = rng.random(80), rng.random(80)
    padded = [np.concatenate([one, np.full(40, 0.5), np.full(9, np.nan)]) for one in (a, b)]
    assert paired_test(*padded) == paired_test(a, b)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]).tolist() == [1.0, 1.0] and holm([0.2]).tolist() == [0.2] and holm([]).tolist() == []
    assert holm([0.02, 0.02, 0.02]).tolist() == pytest.approx([0.06] * 3)
