"""Uncertainty of measurements: bootstrap intervals, paired tests and corrections for many tests.

Values are (U,) or (U, M): one row a user, one column a metric of a method. NaN means that a value
is undefined for that user; it is left out. All columns of one call share their random draws, which
is quicker and makes them comparable. Users must be independent draws from one population; where
rows belong together, name `clusters`.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from tailor.errors import DataError, nearest

CELLS = 2**21  # numbers drawn in one block: 16 MB
KINDS = ("permutation", "bootstrap", "t", "wilcoxon")


# ---- intervals


def bootstrap(
    values: np.ndarray,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    clusters: np.ndarray | None = None,
    strata: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return percentile intervals of column means: values (U, M) -> low (M,), high (M,).

    Users are drawn with replacement (Efron 1979). `clusters` (U,): rows with the same cluster (one
    user, one session) are drawn together. `strata` (U,): each stratum keeps its number of rows.
    With both, clusters are drawn within the stratum of their first row. Columns without a defined
    value get NaN. Raises DataError for arrays of different lengths and for infinite values.
    """
    if not len(values):
        return np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    means = _resampled_means(values, draws, seed, clusters, strata)
    is_defined = ~np.isnan(means).all(axis=0)
    bounds = np.full((2, values.shape[1]), np.nan)
    tails = [(1 - level) / 2, (1 + level) / 2]
    bounds[:, is_defined] = np.nanquantile(means[:, is_defined], tails, axis=0)
    return bounds[0], bounds[1]


def _resampled_means(
    values: np.ndarray,
    draws: int,
    seed: int,
    clusters: np.ndarray | None = None,
    strata: np.ndarray | None = None,
) -> np.ndarray:
    """Return (draws, M) column means over rows drawn with replacement."""
    _refuse_infinite(values)
    for label, labels in (("clusters", clusters), ("strata", strata)):
        if labels is not None and len(labels) != len(values):
            raise DataError(f"{len(labels)} {label} for {len(values)} rows: give one each")
    is_defined = ~np.isnan(values)
    sums = np.where(is_defined, values, 0.0)
    counts = is_defined.astype(np.float64)
    if clusters is not None:
        _, first_rows, codes = np.unique(clusters, return_index=True, return_inverse=True)
        sums = _sum_by_code(sums, codes, len(first_rows))
        counts = _sum_by_code(counts, codes, len(first_rows))
        strata = None if strata is None else np.asarray(strata)[first_rows]
    if (counts == counts[:, :1]).all():
        counts = counts[:, :1]  # all columns are defined for the same rows: one divisor for all
    means = []
    for multiplicities in draw_counts(len(sums), draws, seed, strata):
        totals = multiplicities @ counts
        means.append((multiplicities @ sums) / np.where(totals > 0, totals, np.nan))
    return np.concatenate(means)


def _refuse_infinite(values: np.ndarray) -> None:
    if np.isinf(values).any():
        raise DataError("a value is infinite, so its mean says nothing: mend or drop it")


def _sum_by_code(values: np.ndarray, codes: np.ndarray, n: int) -> np.ndarray:
    """Return (n, M) sums of the rows of values (U, M) by their code (U,)."""
    return np.stack([np.bincount(codes, column, n) for column in values.T], axis=1)


def draw_counts(
    n: int, draws: int, seed: int, strata: np.ndarray | None, max_block: int | None = None
) -> Iterator[np.ndarray]:
    """Yield blocks (b, n) of how often each row is drawn, `draws` rows of them in all.

    b is at most `max_block`.
    """
    rng = np.random.default_rng(seed)
    if strata is None:
        groups = [np.arange(n)]
    else:
        groups = [np.flatnonzero(strata == name) for name in np.unique(strata)]
    block_size = max(1, min(CELLS // n, max_block or draws))
    for start in range(0, draws, block_size):
        block = min(block_size, draws - start)
        shift = np.arange(block)[:, None] * n
        keys = [group[rng.integers(0, len(group), (block, len(group)))] + shift for group in groups]
        counts = np.bincount(np.concatenate(keys, axis=1).ravel(), minlength=block * n)
        yield counts.reshape(block, n).astype(np.float64)


def bootstrap_over_seeds(
    values: np.ndarray, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Return the interval of the mean of values (S, U) over S random states and U users.

    Repeats are drawn first, then users. With fewer than about 5 repeats their spread is hardly
    known; the table of seeds lists each.
    """
    if np.isnan(values).all():
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    repeats, users = values.shape
    means = np.empty(draws)
    for draw in range(draws):
        sample = values[rng.integers(0, repeats, repeats)][:, rng.integers(0, users, users)]
        means[draw] = np.nanmean(sample) if (~np.isnan(sample)).any() else np.nan
    low, high = np.nanquantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return Student's interval of the mean of values (n,); n must be at least 2."""
    n = len(values)
    quantile = float(stats.t.ppf((1 + level) / 2, n - 1))
    deviation = values.std(ddof=1)
    half = float(quantile * deviation / np.sqrt(n))
    mean = float(values.mean())
    return mean - half, mean + half


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of a rate from few cases, always within 0 to 1 (Wilson 1927).

    NaN for n = 0. Raises DataError for more successes than cases.
    """
    if not n:
        return float("nan"), float("nan")
    if not 0 <= successes <= n:
        raise DataError(f"{successes} of {n} cases: the share must lie between 0 and 1")
    z = float(stats.norm.ppf((1 + level) / 2))
    rate = successes / n
    z2 = z * z / n
    centre = (rate + z2 / 2) / (1 + z2)
    half = z / (1 + z2) * np.sqrt(rate * (1 - rate) / n + z2 / (4 * n))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


# ---- paired tests


def paired_test(
    a: np.ndarray, b: np.ndarray, draws: int = 10_000, seed: int = 0, kind: str = "permutation"
) -> float:
    """Return the two-sided p-value of equal means of a and b (U,), paired by user.

    Users where either value is NaN are left out; without any difference p is 1. `kind`:
    "permutation" flips signs at random (Fisher 1935); "bootstrap" draws users of the centred
    differences; "t" is Student's test; "wilcoxon" is the signed-rank test (differences are
    symmetric about 0; zeros are left out). The first two are never 0: with n draws p is at least
    1 / (n + 1). Raises DataError for another kind or arrays of different lengths.
    """
    if a.shape != b.shape:
        raise DataError(
            f"values of {len(a)} users beside those of {len(b)}: a paired test needs the same users"
            " on both sides"
        )
    return float(paired_tests((a - b)[:, None], draws, seed, kind)[0])


def paired_tests(
    differences: np.ndarray, draws: int = 10_000, seed: int = 0, kind: str = "permutation"
) -> np.ndarray:
    """Return (M,) p-values that the mean of each column of differences (U, M) is 0.

    See `paired_test`. All columns share the draws.
    """
    if kind not in KINDS:
        raise DataError(f'no paired test "{kind}".{nearest(kind, KINDS)}')
    _refuse_infinite(differences)
    if kind in ("t", "wilcoxon"):
        columns = [column[~np.isnan(column)] for column in differences.T]
        return np.array([_parametric_p(column, kind) for column in columns])
    filled = np.where(np.isnan(differences), 0.0, differences)
    is_untestable = ~(filled != 0).any(axis=0)
    if kind == "bootstrap":
        # drawing the only user again and again gives no spread
        is_untestable |= (~np.isnan(differences)).sum(axis=0) < 2
    if is_untestable.all():
        return np.ones(differences.shape[1])
    if kind == "bootstrap":
        means = np.nanmean(np.where(is_untestable, 0.0, differences), axis=0)
        resampled = _resampled_means(differences - means, draws, seed)
        extremes = (np.abs(resampled) >= np.abs(means)).sum(axis=0)
    else:
        extremes = _count_extreme_flips(filled[(filled != 0).any(axis=1)], draws, seed)
    return np.where(is_untestable, 1.0, (extremes + 1) / (draws + 1))


def _parametric_p(column: np.ndarray, kind: str) -> float:
    """Return the p-value of Student's or the signed-rank test of differences (U,)."""
    if len(column) < 2 or not (column != 0).any():
        return 1.0
    if kind == "t" and np.ptp(column) == 0:
        return 0.0
    result = stats.ttest_1samp(column, 0.0) if kind == "t" else stats.wilcoxon(column)
    return float(result.pvalue)


def _count_extreme_flips(differences: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Count per column (M,) the draws whose randomly signed sum is as far from 0 as the sum."""
    users, columns = differences.shape
    totals = differences.sum(axis=0)
    rng = np.random.default_rng(seed)
    extremes = np.zeros(columns, dtype=np.int64)
    if not users:
        return extremes
    block_size = max(1, 4 * CELLS // users)
    differences32 = differences.astype(np.float32)
    for start in range(0, draws, block_size):
        block = min(block_size, draws - start)
        random_bytes = rng.bytes(block * -(-users // 8))
        packed = np.frombuffer(random_bytes, np.uint8).reshape(block, -1)
        flips = np.unpackbits(packed, axis=1)[:, :users]
        # sum of +-d = 2 * (sum where the bit is 1) - sum
        sums = 2 * (flips.astype(np.float32) @ differences32) - totals
        extremes += (np.abs(sums) >= np.abs(totals) * (1 - 1e-4)).sum(axis=0)
    return extremes


def detectable(differences: np.ndarray, level: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest true mean difference that a paired test finds with chance `power`.

    (z(1 - level / 2) + z(power)) * standard deviation / sqrt(U), by normal approximation, from
    differences (U,). NaN for fewer than 2 users. A smaller difference may exist: "not significant"
    is no proof of equality.
    """
    defined = differences[~np.isnan(differences)]
    if len(defined) < 2:
        return float("nan")
    z = stats.norm.ppf(1 - level / 2) + stats.norm.ppf(power)
    return float(z * defined.std(ddof=1) / np.sqrt(len(defined)))


# ---- tests of experiments


class WelchTest(NamedTuple):
    """Difference of two means with its 95 % interval and p-value."""

    difference: float
    low: float
    high: float
    p: float


def welch_test(control: np.ndarray, treatment: np.ndarray) -> WelchTest:
    """Compare the means of two independent groups (n,) and (m,) of unequal variance (Welch 1947).

    The difference is treatment - control. Both groups need at least 2 values. Without any spread
    the interval is a point and p is 0 or 1.
    """
    if np.ptp(control) == 0 and np.ptp(treatment) == 0:
        # means of equal values differ by rounding, which the test would call significant
        difference = float(treatment[0] - control[0])
        return WelchTest(difference, difference, difference, 1.0 if difference == 0 else 0.0)
    difference = float(treatment.mean() - control.mean())
    result = stats.ttest_ind(treatment, control, equal_var=False)
    low, high = result.confidence_interval(0.95)
    return WelchTest(difference, float(low), float(high), float(result.pvalue))


def split_test(counts: np.ndarray, shares: np.ndarray) -> float:
    """Return the chi-squared p-value that users were split in these shares; 1 without users.

    `counts` (A,) users of each arm; `shares` (A,) intended shares in any unit. A tiny p-value means
    a sample ratio mismatch: assignment or counting is broken.
    """
    if not counts.sum():
        return 1.0
    return float(stats.chisquare(counts, counts.sum() * shares / shares.sum()).pvalue)


# ---- many comparisons


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return (n,) p-values adjusted for the chance of any false alarm (Holm 1979)."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    return _unsorted(order, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))


def benjamini_hochberg(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return (n,) p-values adjusted for the expected share of false alarms.

    Among the results called significant at a level, at most that share is expected to be false
    (Benjamini and Hochberg 1995).
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    ranks = np.arange(1, len(p) + 1)
    scaled = p[order] * len(p) / ranks
    # no adjusted value may be above that of a larger p
    lowest = np.minimum.accumulate(scaled[::-1])
    return _unsorted(order, lowest[::-1])


def _unsorted(order: np.ndarray, adjusted: np.ndarray) -> np.ndarray:
    """Return adjusted p-values in the original order, capped at 1."""
    p_values = np.empty(len(order))
    p_values[order] = np.minimum(adjusted, 1)
    return p_values
