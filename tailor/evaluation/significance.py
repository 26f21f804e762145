"""How sure one can be: intervals by bootstrap over users, paired tests, correction for many comparisons."""

from collections.abc import Sequence

import numpy as np


def bootstrap(values: np.ndarray, draws: int = 2000, level: float = 0.95, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of the mean of each column: values (U, M) -> low (M,), high (M,).

    Users are drawn with replacement (Efron 1979); a column's NaN (undefined for that user) is left out of its mean.
    """
    users = len(values)
    if not users:
        return np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    defined = ~np.isnan(values)
    both = np.concatenate([np.where(defined, values, 0), defined], axis=1)
    rng = np.random.default_rng(seed)
    means = np.empty((draws, values.shape[1]))
    for draw in range(draws):
        times = np.bincount(rng.integers(0, users, users), minlength=users)
        sums, counts = np.split(times @ both, 2)
        means[draw] = sums / np.where(counts > 0, counts, np.nan)
    tail = (1 - level) / 2
    low, high = np.nanquantile(means, [tail, 1 - tail], axis=0)
    return low, high


def paired_test(a: np.ndarray, b: np.ndarray, draws: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value that a and b (U,) have the same mean: signs of the differences are flipped at random (Fisher 1935).

    Never 0: with n draws the smallest value is 1 / (n + 1). Users where either is NaN are left out; 1.0 without differences.
    """
    difference = a - b
    difference = difference[~np.isnan(difference) & (difference != 0)]
    if not len(difference):
        return 1.0
    observed = abs(difference.sum()) * (1 - 1e-12)
    rng = np.random.default_rng(seed)
    extreme, block = 0, max(1, 20_000_000 // len(difference))
    for start in range(0, draws, block):
        rows = min(block, draws - start)
        flips = np.unpackbits(np.frombuffer(rng.bytes(rows * -(-len(difference) // 8)), np.uint8).reshape(rows, -1), axis=1)
        # sum of +-d = 2 * (sum where the bit is 1) - sum
        sums = 2 * (flips[:, : len(difference)].astype(np.float32) @ difference.astype(np.float32)) - difference.sum()
        extreme += int((np.abs(sums) >= observed - 1e-4 * abs(observed)).sum())
    return (extreme + 1) / (draws + 1)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """(n,) p-values adjusted so that the chance of any false alarm among all of them stays at the level (Holm 1979)."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty(len(p))
    out[order] = np.minimum(adjusted, 1)
    return out
