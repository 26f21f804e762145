"""Intervals that cover, tests that are as often wrong as they say, corrections by hand."""

import numpy as np
import pytest
from scipy import stats

from tailor.errors import DataError
from tailor.evaluation.significance import (
    KINDS,
    benjamini_hochberg,
    bootstrap,
    bootstrap_over_seeds,
    detectable,
    holm,
    mean_interval,
    paired_test,
    paired_tests,
    split_test,
    welch_test,
    wilson,
)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """400 experiments at once: each is a column, the users of all are drawn alike."""
    rng = np.random.default_rng(0)
    covered = []
    for batch in range(4):
        # skewed, many zeros, as hit rates are
        values = (rng.random((250, 100)) < 0.3) * rng.random((250, 100))
        low, high = bootstrap(values, draws=600, seed=batch)
        covered.append((low <= 0.15) & (high >= 0.15))
    assert 0.93 <= np.mean(covered) <= 0.97


def test_a_wider_level_gives_a_wider_interval_and_the_same_seed_the_same_one():
    values = np.random.default_rng(0).random((100, 2))
    (a, b), (c, d) = bootstrap(values, level=0.95), bootstrap(values, level=0.5)
    assert (
        (a < c).all()
        and (d < b).all()
        and np.array_equal(bootstrap(values, seed=3), bootstrap(values, seed=3))
    )


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
    found = [
        paired_test(rng.normal(0.5, 1, 60), np.zeros(60), draws=300, seed=at) < 0.05
        for at in range(100)
    ]
    assert np.mean(found) > 0.9


def test_no_difference_is_p_one_and_the_smallest_p_is_never_zero():
    a = np.random.default_rng(0).random(50)
    assert (
        paired_test(a, a) == 1.0
        and paired_test(a, np.full(50, np.nan)) == 1.0
        and paired_test(a[:0], a[:0]) == 1.0
    )
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
    assert paired_test(b, a) == pytest.approx(p, abs=0.01) and paired_test(
        1e-6 * a, 1e-6 * b
    ) == pytest.approx(p, abs=1e-3)


def test_users_without_a_difference_or_undefined_change_nothing():
    rng = np.random.default_rng(4)
    a, b = rng.random(80), rng.random(80)
    padded = [np.concatenate([one, np.full(40, 0.5), np.full(9, np.nan)]) for one in (a, b)]
    assert paired_test(*padded) == paired_test(a, b)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert (
        holm([0.5, 0.9]).tolist() == [1.0, 1.0]
        and holm([0.2]).tolist() == [0.2]
        and holm([]).tolist() == []
    )
    assert holm([0.02, 0.02, 0.02]).tolist() == pytest.approx([0.06] * 3)


def test_benjamini_hochberg_is_scipy_s():
    p = np.random.default_rng(0).random(30) ** 2
    np.testing.assert_allclose(benjamini_hochberg(p), stats.false_discovery_control(p), atol=1e-12)
    assert benjamini_hochberg([]).tolist() == [] and benjamini_hochberg(
        [0.01, 0.02]
    ).tolist() == pytest.approx([0.02, 0.02])
    assert (benjamini_hochberg(p) <= holm(p) + 1e-12).all()


# ---- several columns share the draws


def test_each_column_gets_what_it_gets_alone():
    rng = np.random.default_rng(0)
    differences = rng.normal(0.1, 1, (120, 3))
    differences[rng.random(differences.shape) < 0.2] = np.nan
    differences[:, 2] = 0
    for kind in KINDS:
        together = paired_tests(differences, seed=1, kind=kind)
        alone = [paired_test(column, np.zeros(120), seed=1, kind=kind) for column in differences.T]
        assert together.tolist() == pytest.approx(alone, abs=0.012) and together[2] == 1
    lows, highs = bootstrap(differences, seed=1)
    for at, column in enumerate(differences.T):
        low, high = bootstrap(column[:, None], seed=1)
        assert (lows[at], highs[at]) == (pytest.approx(low[0]), pytest.approx(high[0]))


@pytest.mark.filterwarnings("error")
def test_a_column_without_any_value_is_undefined_and_spoils_no_other():
    values = np.stack([np.full(40, np.nan), np.random.default_rng(0).random(40)], axis=1)
    low, high = bootstrap(values)
    assert np.isnan([low[0], high[0]]).all() and 0.3 < low[1] < high[1] < 0.7


def test_the_kinds_of_test_agree_with_scipy_and_with_one_another():
    rng = np.random.default_rng(2)
    a, b = rng.normal(0.25, 1, 90), rng.normal(0, 1, 90)
    assert paired_test(a, b, kind="t") == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert paired_test(a, b, kind="wilcoxon") == pytest.approx(stats.wilcoxon(a, b).pvalue)
    exact = stats.permutation_test(
        (a - b,), np.sum, permutation_type="samples", n_resamples=20_000, rng=0
    ).pvalue
    assert paired_test(a, b) == pytest.approx(exact, abs=0.01) and paired_test(
        a, b, kind="bootstrap"
    ) == pytest.approx(exact, abs=0.015)


def test_a_mistake_in_a_test_is_quoted():
    with pytest.raises(DataError, match='"permutations"'):
        paired_test(np.ones(3), np.zeros(3), kind="permutations")
    with pytest.raises(DataError, match="3 users beside those of 4"):
        paired_test(np.ones(3), np.zeros(4))
    with pytest.raises(DataError, match="2 clusters for 3 rows"):
        bootstrap(np.ones((3, 1)), clusters=np.zeros(2))


# ---- clusters, strata, repeats


def test_rows_of_one_user_are_drawn_together():
    """Ten rows a user that say nearly the same: the interval must be as wide as that of the users'
    means, three times the naive one.
    """
    rng = np.random.default_rng(0)
    users = rng.random(100)
    rows = np.repeat(users, 10) + rng.normal(0, 0.01, 1000)
    (low,), (high,) = bootstrap(rows[:, None], clusters=np.repeat(np.arange(100), 10))
    (own_low,), (own_high,) = bootstrap(users[:, None])
    (naive_low,), (naive_high,) = bootstrap(rows[:, None])
    assert high - low == pytest.approx(own_high - own_low, rel=0.05) and high - low > 2.5 * (
        naive_high - naive_low
    )


def test_a_stratum_s_share_is_no_chance():
    """Two groups far apart, equal within: stratified, nothing is left to chance; else their numbers
    are.
    """
    values, strata = np.repeat([0.0, 1.0], 50)[:, None], np.repeat(["a", "b"], 50)
    assert np.array_equal(bootstrap(values, strata=strata), [[0.5], [0.5]])
    (low,), (high,) = bootstrap(values)
    assert high - low > 0.15
    both = bootstrap(values, strata=strata, clusters=np.repeat(np.arange(20), 5))
    assert np.array_equal(both, [[0.5], [0.5]])


def test_repeats_that_differ_widen_the_interval():
    users = np.random.default_rng(0).random(200)
    same, apart = np.tile(users, (5, 1)), users + np.linspace(-0.3, 0.3, 5)[:, None]
    (low, high), (wide_low, wide_high) = bootstrap_over_seeds(same), bootstrap_over_seeds(apart)
    (own_low,), (own_high,) = bootstrap(users[:, None])
    assert high - low == pytest.approx(own_high - own_low, rel=0.1) and wide_high - wide_low > 3 * (
        high - low
    )


# ---- rates, and what could have been found


def test_wilson_is_scipy_s():
    for successes, n in ((0, 10), (3, 10), (10, 10), (69, 10_000)):
        expected = stats.binomtest(successes, n).proportion_ci(0.95, "wilson")
        assert wilson(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert np.isnan(wilson(0, 0)).all()


def test_what_is_called_detectable_is_found_in_four_of_five_cases():
    rng = np.random.default_rng(0)
    effect = detectable(np.repeat([-1.0, 1.0], 50))  # a standard deviation of 1 among 100 users
    found = [
        paired_test(rng.normal(effect, 1, 100), np.zeros(100), draws=400, seed=at) < 0.05
        for at in range(500)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.06)
    assert np.isnan(detectable(np.array([1.0, np.nan])))


@pytest.mark.filterwarnings("error")
def test_what_is_defined_for_nobody_has_no_interval_and_no_warning():
    nothing, some = np.full((5, 1), np.nan), np.arange(5.0)[:, None]
    low, high = bootstrap(np.concatenate([nothing, some], axis=1))
    assert np.isnan(low[0]) and np.isnan(high[0]) and low[1] < 2 < high[1]
    assert (
        np.isnan(bootstrap_over_seeds(np.full((2, 3), np.nan))).all()
        and np.isnan(bootstrap_over_seeds(np.zeros((2, 0)))).all()
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", KINDS)
def test_one_user_or_none_shows_nothing(kind):
    assert paired_test(np.array([1.0]), np.array([0.0]), kind=kind) == 1
    assert paired_test(np.array([1.0, np.nan]), np.array([0.0, 1.0]), kind=kind) == 1
    assert paired_test(np.zeros(0), np.zeros(0), kind=kind) == 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_difference_for_everybody_is_no_chance(kind):
    assert paired_test(np.ones(50), np.zeros(50), kind=kind) < 0.001


def test_values_without_bound_are_refused():
    for values in (np.array([[np.inf], [1.0]]), np.array([[1.0], [-np.inf]])):
        with pytest.raises(DataError, match="infinite"):
            bootstrap(values)
        with pytest.raises(DataError, match="infinite"):
            paired_tests(values)
    with pytest.raises(DataError, match="6 of 5"):
        wilson(6, 5)


class TestExperiments:
    def test_welch_is_that_of_scipy(self):
        rng = np.random.default_rng(0)
        control = rng.normal(0, 1, 40)
        treatment = rng.normal(0.5, 2, 60)
        test = welch_test(control, treatment)
        expected = stats.ttest_ind(treatment, control, equal_var=False)
        assert test.p == pytest.approx(expected.pvalue)
        assert test.difference == pytest.approx(treatment.mean() - control.mean())
        assert test.low < test.difference < test.high

    def test_equal_values_are_no_significant_difference(self):
        # the means of 103 and of 97 thirds differ in their last digit
        test = welch_test(np.full(103, 1 / 3), np.full(97, 1 / 3))
        assert test == (0.0, 0.0, 0.0, 1.0)
        assert welch_test(np.full(40, 0.5), np.full(40, 0.25)) == (-0.25, -0.25, -0.25, 0.0)

    def test_the_interval_of_a_mean_is_that_of_the_textbook(self):
        low, high = mean_interval(np.array([1.0, 2.0, 3.0]))
        # t(.975, 2) = 4.3027, standard error 1 / sqrt(3)
        assert (low, high) == pytest.approx((2 - 2.4842, 2 + 2.4842), abs=1e-3)

    def test_a_broken_split_is_seen(self):
        assert split_test(np.array([50, 50]), np.array([1, 1])) == 1.0
        assert split_test(np.array([0, 0]), np.array([0.5, 0.5])) == 1.0
        assert split_test(np.array([600, 400]), np.array([0.5, 0.5])) < 0.001
        assert split_test(np.array([600, 400]), np.array([3, 2])) == 1.0
