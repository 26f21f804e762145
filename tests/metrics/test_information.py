from collections import Counter
from math import log2

import numpy as np
import pytest

from tailor.metrics.information import (
    conditional_entropy,
    entropy,
    information_above_noise,
    joined,
    mutual_information,
)


def test_entropies_of_small_tables():
    x = np.array([0, 0, 1, 1])
    assert entropy(x) == 1
    assert entropy(np.array([3, 3])) == 0
    assert entropy(np.zeros(0, dtype=int)) == 0
    y = np.array([0, 1, 1, 1])
    assert conditional_entropy(y, x) == pytest.approx(0.5)
    assert mutual_information(x, y) == pytest.approx(-0.75 * log2(0.75) + 0.25 * 2 - 0.5)
    assert mutual_information(x, x) == pytest.approx(1)


def test_pairs_have_codes_of_their_own_and_few_of_them():
    x, y = np.array([0, 1, 1, 0]), np.array([5, 5, 7, 5])
    codes = joined(x, y)
    assert codes[0] == codes[3] and len(set(codes.tolist())) == 3
    sparse = joined(np.array([10**6, 0]), np.array([0, 10**6]))
    assert sparse.max() < 2


def slow_score(x, y):
    """Return the score by loops: entropies of the outcomes and of those c rows before."""
    n = len(x)
    counts = Counter(x)

    def left(outcomes):
        total = 0.0
        for value, count in counts.items():
            shares = Counter(o for o, v in zip(outcomes, x, strict=True) if v == value)
            total -= sum(c / n * log2(c / count) for c in shares.values())
        return total

    shifted = [y[(i - counts[x[i]]) % n] for i in range(n)]
    return left(shifted) - left(y)


def test_scores_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    for values in (2, 7, 60):
        x, y = rng.integers(values, size=200), rng.integers(2, size=200)
        y = np.where(rng.random(200) < 0.5, x % 2, y)
        expected = slow_score(x.tolist(), y.tolist())
        assert information_above_noise(x, y) == pytest.approx(expected, abs=1e-9)


def test_noise_of_many_values_tells_nothing_though_its_plain_information_is_large():
    rng = np.random.default_rng(1)
    y = rng.integers(2, size=4000)
    noise = rng.integers(1500, size=4000)
    assert mutual_information(noise, y) > 0.2
    assert abs(information_above_noise(noise, y)) < 0.03
    unique = np.arange(4000)
    assert information_above_noise(unique, y) == pytest.approx(0)
    assert information_above_noise(y, y) > 0.99
