"""How sure one can be: bootstrap intervals, paired tests, correction for many comparisons, and what
a test could have found.

Values are (U,) or (U, M): one row a user, one column a metric of a method; NaN is undefined for
that user and left out. All columns of one call share the draws, which is quicker and makes them
comparable. Users must be drawn from one population, independently; where rows belong together, name
`clusters`.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import stats

from tailor.errors import DataError, nearest

CELLS = 2**21  # drawn at a time: 16 MB
KINDS = ("permutation", "bootstrap", "t", "wilcoxon")


def bootstrap(
    values: np.ndarray,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    clusters: np.ndarray | None = None,
    strata: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of the mean of each column: values (U, M) -> low (M,), high (M,).

    Users are drawn with replacement (Efron 1979). `clusters` (U,): rows that belong together (of
    one user, of one session) are drawn together. `strata` (U,): as many are drawn from each stratum
    as it has, so that its share is no chance. Both: clusters within strata, those of a cluster's
    first row. A column that is defined for nobody has NaN. Raises DataError where their lengths do
    not fit, and for infinite values.
    """
    if not len(values):
        return np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    means = _drawn_means(values, draws, seed, clusters, strata)
    defined = ~np.isnan(means).all(axis=0)
    ends = np.full((2, values.shape[1]), np.nan)
    ends[:, defined] = np.nanquantile(means[:, defined], [(1 - level) / 2, (1 + level) / 2], axis=0)
    return ends[0], ends[1]


def _drawn_means(
    values: np.ndarray,
    draws: int,
    seed: int,
    clusters: np.ndarray | None = None,
    strata: np.ndarray | None = None,
) -> np.ndarray:
    """(draws, M) means of the columns over rows drawn with replacement."""
    _refuse_infinite(values)
    for what, given in (("clusters", clusters), ("strata", strata)):
        if given is not None and len(given) != len(values):
            raise DataError(f"{len(given)} {what} for {len(values)} rows: give one each")
    defined = ~np.isnan(values)
    sums, counts = np.where(defined, values, 0.0), defined.astype(np.float64)
    if clusters is not None:
        _, first, code = np.unique(clusters, return_index=True, return_inverse=True)
        sums, counts = (_summed(one, code, len(first)) for one in (sums, counts))
        strata = None if strata is None else np.asarray(strata)[first]
    # all columns are defined for the same rows: one divisor for all
    even = bool((counts == counts[:, :1]).all())
    means = []
    for times in draw_counts(len(sums), draws, seed, strata):
        total = times @ counts[:, :1] if even else times @ counts
        means.append((times @ sums) / np.where(total > 0, total, np.nan))
    return np.concatenate(means)


def _refuse_infinite(values: np.ndarray) -> None:
    if np.isinf(values).any():
        raise DataError("a value is infinite: what it would be averaged with would not count")


def _summed(values: np.ndarray, code: np.ndarray, n: int) -> np.ndarray:
    return np.stack([np.bincount(code, column, n) for column in values.T], axis=1)


def draw_counts(
    n: int, draws: int, seed: int, strata: np.ndarray | None, most: int | None = None
) -> Iterator[np.ndarray]:
    """Blocks (b, n) of how often each row is drawn, `draws` of them in all; b is at most `most`."""
    rng = np.random.default_rng(seed)
    groups = (
        [np.arange(n)]
        if strata is None
        else [np.flatnonzero(strata == name) for name in np.unique(strata)]
    )
    size = max(1, min(CELLS // n, most or draws))
    for start in range(0, draws, size):
        block = min(size, draws - start)
        keys = [
            group[rng.integers(0, len(group), (block, len(group)))] + np.arange(block)[:, None] * n
            for group in groups
        ]
        yield (
            np.bincount(np.concatenate(keys, axis=1).ravel(), minlength=block * n)
            .reshape(block, n)
            .astype(np.float64)
        )


def bootstrap_over_seeds(
    values: np.ndarray, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Interval of the mean of values (S, U), S repeats with other random states over the same
    users: repeats are drawn first, users then.

    With fewer than about 5 repeats the spread between them is hardly known; the table of seeds
    shows each.
    """
    if np.isnan(values).all():
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    repeats, users = values.shape
    means = np.empty(draws)
    for draw in range(draws):
        picked = values[rng.integers(0, repeats, repeats)][:, rng.integers(0, users, users)]
        means[draw] = np.nanmean(picked) if (~np.isnan(picked)).any() else np.nan
    low, high = np.nanquantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of a rate from few cases (Wilson 1927): never empty, never outside 0 to 1. NaN for n
    = 0.
    """
    if not n:
        return float("nan"), float("nan")
    if not 0 <= successes <= n:
        raise DataError(f"{successes} of {n} cases: the share must lie between 0 and 1")
    z = float(stats.norm.ppf((1 + level) / 2))
    rate, z2 = successes / n, z * z / n
    middle, half = (
        (rate + z2 / 2) / (1 + z2),
        z / (1 + z2) * np.sqrt(rate * (1 - rate) / n + z2 / (4 * n)),
    )
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


# ---- tests


def paired_test(
    a: np.ndarray, b: np.ndarray, draws: int = 10_000, seed: int = 0, kind: str = "permutation"
) -> float:
    """Two-sided p-value that a and b (U,) have the same mean; users where either is NaN are left
    out; 1.0 without differences.

    `kind`: "permutation" flips signs at random (Fisher 1935), "bootstrap" draws users of the
    centred differences, "t" is Student's, "wilcoxon" the signed ranks' (that the differences lie
    symmetrically about 0, zeros left out). The first two are never 0: with n draws at least 1 / (n
    + 1). Raises DataError for another kind or arrays of different lengths.
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
    """(M,) p-values that the mean of each column of differences (U, M) is 0; see `paired_test`. All
    columns share the draws.
    """
    if kind not in KINDS:
        raise DataError(f'no paired test "{kind}".{nearest(kind, KINDS)}')
    _refuse_infinite(differences)
    if kind in ("t", "wilcoxon"):
        return np.array([_textbook(column[~np.isnan(column)], kind) for column in differences.T])
    known = np.where(np.isnan(differences), 0.0, differences)
    nothing = ~(known != 0).any(axis=0)
    if kind == "bootstrap":
        # one user drawn again and again differs in nothing
        nothing |= (~np.isnan(differences)).sum(axis=0) < 2
    if nothing.all():
        return np.ones(differences.shape[1])
    if kind == "bootstrap":
        mean = np.nanmean(np.where(nothing, 0.0, differences), axis=0)
        extreme = (np.abs(_drawn_means(differences - mean, draws, seed)) >= np.abs(mean)).sum(
            axis=0
        )
    else:
        extreme = _flipped(known[(known != 0).any(axis=1)], draws, seed)
    return np.where(nothing, 1.0, (extreme + 1) / (draws + 1))


def _textbook(column: np.ndarray, kind: str) -> float:
    if len(column) < 2 or not (column != 0).any():
        return 1.0
    if kind == "t" and np.ptp(column) == 0:
        return 0.0
    found = stats.ttest_1samp(column, 0.0) if kind == "t" else stats.wilcoxon(column)
    return float(found.pvalue)


def _flipped(differences: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """(M,) in how many of `draws` the sum with random signs is as far from 0 as the sum itself."""
    users, columns = differences.shape
    total = differences.sum(axis=0)
    rng, extreme = np.random.default_rng(seed), np.zeros(columns, dtype=np.int64)
    if not users:
        return extreme
    size, narrow = max(1, 4 * CELLS // users), differences.astype(np.float32)
    for start in range(0, draws, size):
        rows = min(size, draws - start)
        flips = np.unpackbits(
            np.frombuffer(rng.bytes(rows * -(-users // 8)), np.uint8).reshape(rows, -1), axis=1
        )[:, :users]
        # sum of +-d = 2 * (sum where the bit is 1) - sum
        sums = 2 * (flips.astype(np.float32) @ narrow) - total
        extreme += (np.abs(sums) >= np.abs(total) * (1 - 1e-4)).sum(axis=0)
    return extreme


def detectable(difference: np.ndarray, level: float = 0.05, power: float = 0.8) -> float:
    """The smallest true mean difference that a paired test at `level` finds with chance `power`,
    given the spread of (U,) differences.

    (z(1 - level / 2) + z(power)) * standard deviation / root of U (normal approximation). NaN for
    fewer than 2 users. What lies below it may well be there: "not significant" is no proof of
    equality.
    """
    known = difference[~np.isnan(difference)]
    if len(known) < 2:
        return float("nan")
    return float(
        (stats.norm.ppf(1 - level / 2) + stats.norm.ppf(power))
        * known.std(ddof=1)
        / np.sqrt(len(known))
    )


# ---- many comparisons


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """(n,) p-values adjusted so that the chance of any false alarm among all of them stays at the
    level (Holm 1979).
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    return _back(order, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))


def benjamini_hochberg(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """(n,) p-values adjusted so that of those called significant no more than the level are
    expected to be false (Benjamini and Hochberg 1995).
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    return _back(order, np.minimum.accumulate(scaled[::-1])[::-1])


def _back(order: np.ndarray, adjusted: np.ndarray) -> np.ndarray:
    out = np.empty(len(order))
    out[order] = np.minimum(adjusted, 1)
    return out
