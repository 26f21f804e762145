"""Similarities and distances: scipy pair by pair, and what is undefined."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import distance

from tailor.metrics import similarity as s

SCIPY = {
    s.cosine: lambda a, b: 1 - distance.cosine(a, b),
    s.pearson: lambda a, b: stats.pearsonr(a, b).statistic,
    s.spearman: lambda a, b: stats.spearmanr(a, b).statistic,
    s.kendall: lambda a, b: stats.kendalltau(a, b).statistic,
    s.euclidean: distance.euclidean,
    s.manhattan: distance.cityblock,
    s.chebyshev: distance.chebyshev,
    s.hamming: distance.hamming,
}


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("ours", SCIPY, ids=lambda one: one.__name__)
def test_every_pair_is_scipy_s_over_the_shared_entries(ours, holes):
    rng = np.random.default_rng(0)
    x, y = rng.integers(1, 6, (40, 12)).astype(float), rng.integers(1, 6, (40, 12)).astype(float)
    if holes:
        x[rng.random(x.shape) < 0.3] = np.nan
    seen = [~np.isnan(a) for a in x]
    expected = [SCIPY[ours](a[keep], b[keep]) for a, b, keep in zip(x, y, seen, strict=True)]
    np.testing.assert_allclose(ours(x, y), expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(ours(y, x), ours(x, y), rtol=0, atol=1e-12)


def test_sets_by_hand():
    x, y = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 0]]), np.array([[0, 1, 1], [0, 0, 0], [1, 0, 0]])
    assert s.jaccard(x, y)[[0, 2]].tolist() == [1 / 3, 1] and np.isnan(s.jaccard(x, y)[1])
    assert s.weighted_jaccard(np.array([[2.0, 1]]), np.array([[1.0, 3]])).tolist() == [2 / 5]
    with pytest.raises(ValueError, match="one is -1"):
        s.weighted_jaccard(np.array([[-1.0]]), np.array([[1.0]]))


def test_adjusted_cosine_takes_each_user_s_mean_off():
    ratings = np.array([[5.0, 4, 1], [3, 3, 3]])
    means = np.array([4.0, 3.5, 2.0])
    assert s.adjusted_cosine(ratings[:1], ratings[1:], means)[0] == pytest.approx(
        1 - distance.cosine(ratings[0] - means, ratings[1] - means)
    )


def test_little_evidence_counts_less():
    assert s.shrunk(np.array([0.8, 0.8]), np.array([10, 1000]), 10).tolist() == pytest.approx(
        [0.4, 0.8 * 1000 / 1010]
    )
    assert s.shrunk(np.array([0.8]), np.array([10]), 0).tolist() == [0.8]
    assert s.from_distance(np.array([0.0, 1, 3])).tolist() == [1, 0.5, 0.25]


@pytest.mark.parametrize(
    ("function", "x", "y"),
    [
        (s.cosine, [0.0, 0.0], [1.0, 2.0]),
        (s.pearson, [2.0, 2.0, 2.0], [1.0, 2, 3]),
        (s.pearson, [1.0, np.nan, np.nan], [1.0, 2, 3]),
        (s.spearman, [1.0, 1.0], [1.0, 2.0]),
        (s.kendall, [1.0, np.nan], [1.0, 2.0]),
        (s.kendall, [1.0, 1.0], [1.0, 2.0]),
        (s.euclidean, [np.nan, 1], [1, np.nan]),
        (s.hamming, [np.nan], [1.0]),
        (s.pearson, [0.1] * 7, [1.0, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_undefined_is_nan_and_never_0(function, x, y):
    assert np.isnan(function(np.array([x]), np.array([y]))).all()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="both must be"):
        s.cosine(np.zeros((1, 2)), np.zeros((1, 3)))
