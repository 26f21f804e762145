"""The window sampler draws by its formula; its presets are what they are called."""

import itertools

import numpy as np
import pytest
from scipy.stats import chisquare

from tailor.data.arrays import Ragged
from tailor.data.sampling import (
    PRESETS,
    WindowSampler,
    popular_negatives,
    sample_ragged,
    uniform_negatives,
)
from tailor.errors import DataError

LENGTHS = np.array([5, 2, 1, 3, 0])


def expected(sampler):
    """{(row, target, shown): probability} by three nested loops."""
    out = {}
    before = LENGTHS - 1
    rows = {u: m**sampler.alpha for u, m in enumerate(before) if m > 0}
    for u, weight in rows.items():
        targets = power_law(before[u], sampler.beta)
        for t, p_target in targets.items():
            for w, p_shown in power_law(t, sampler.gamma).items():
                out[u, t, w] = weight / sum(rows.values()) * p_target * p_shown
    return out


def power_law(most, exponent):
    if exponent == np.inf:
        return {most: 1.0}
    total = sum(i**exponent for i in range(1, most + 1))
    return {i: i**exponent / total for i in range(1, most + 1)}


@pytest.mark.parametrize(
    "sampler", [*PRESETS.values(), WindowSampler(0.5, -1.0, 2.0), WindowSampler(1.0, 2.0, -0.5)]
)
def test_frequencies_match_the_formula(sampler):
    drawn = sampler.draw(LENGTHS, 40_000, np.random.default_rng(0))
    wanted = expected(sampler)
    found = dict.fromkeys(wanted, 0)
    for one in zip(*(part.tolist() for part in drawn), strict=True):
        found[one] += 1  # a KeyError here is a window that cannot be
    if len(wanted) > 1:
        assert chisquare(list(found.values()), [40_000 * p for p in wanted.values()]).pvalue > 1e-3


def test_last_shows_all_before_the_last_event():
    rows, targets, shown = PRESETS["last"].draw(LENGTHS, 100, np.random.default_rng(0))
    assert set(zip(rows.tolist(), targets.tolist(), shown.tolist(), strict=True)) == {
        (0, 4, 4),
        (1, 1, 1),
        (3, 2, 2),
    }


def test_prefix_takes_every_target_as_often():
    rows, targets, shown = PRESETS["prefix"].draw(LENGTHS, 70_000, np.random.default_rng(0))
    _, counts = np.unique(rows * 10 + targets, return_counts=True)
    assert len(counts) == 7
    assert np.allclose(counts, 10_000, rtol=0.05)
    assert (shown == targets).all()


def test_whole_numbers_are_exponents_like_any_others():
    lengths = np.array([2, 10_001])
    for alpha, owner in ((-1, 0), (5, 1)):  # 10,000 ** 5 is more than an integer holds
        rows, _, _ = WindowSampler(alpha, -1, -1).draw(lengths, 50, np.random.default_rng(0))
        assert (rows == owner).mean() > 0.9


def test_nothing_to_draw_from_is_an_error():
    with pytest.raises(DataError, match="no sequence has two events"):
        WindowSampler().draw(np.array([1, 0]), 3, np.random.default_rng(0))
    for bad in itertools.chain([(np.inf, 0, 0)], ((1, bad, 0) for bad in (np.nan, -np.inf))):
        with pytest.raises(DataError, match="must be a finite number"):
            WindowSampler(*bad)


def test_negatives_are_different_items_or_follow_popularity():
    rng = np.random.default_rng(0)
    one = uniform_negatives(50, 20, rng)
    assert len(set(one.tolist())) == 20
    assert (np.diff(one) > 0).all()
    assert uniform_negatives(5, 20, rng).tolist() == [0, 1, 2, 3, 4]
    counts = np.array([0, 1, 16])
    drawn = np.bincount(popular_negatives(counts, 9000, rng), minlength=3)
    assert drawn[0] == 0
    assert abs(drawn[2] / drawn[1] - 8) < 0.8


def test_values_of_ragged_rows_are_drawn_evenly_and_from_their_own_row():
    rows = Ragged.of([[3, 5], [], [7, 8, 9, 9]])
    drawn = sample_ragged(rows, 6_000, np.random.default_rng(0))
    assert drawn.shape == (3, 6_000)
    assert (drawn[1] == -1).all()
    assert set(drawn[0].tolist()) == {3, 5}
    counts = [int((drawn[2] == item).sum()) for item in (7, 8, 9)]
    assert sum(counts) == 6_000
    assert chisquare(counts, [1_500, 1_500, 3_000]).pvalue > 1e-3
