"""Information that codes carry about each other, in bits, corrected for the number of values.

Codes are integers from 0; x and y are parallel arrays (n,).
"""

import numpy as np

DENSE = 16


def entropy(codes: np.ndarray) -> float:
    """Return the entropy of codes, 0 for none."""
    if not len(codes):
        return 0.0
    counts = np.bincount(codes)
    positive = counts[counts > 0]
    return float(np.log2(len(codes)) - (positive * np.log2(positive)).sum() / len(codes))


def joined(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return codes of the pairs of values, at most DENSE times as many as there are rows."""
    pairs: np.ndarray = x.astype(np.int64) * (int(y.max(initial=0)) + 1) + y
    if pairs.max(initial=0) < DENSE * len(pairs):
        return pairs
    codes: np.ndarray = np.unique(pairs, return_inverse=True)[1]
    return codes


def conditional_entropy(y: np.ndarray, x: np.ndarray) -> float:
    """Return H(y | x): what is left to know of y where x is known."""
    return entropy(joined(x, y)) - entropy(x)


def mutual_information(x: np.ndarray, y: np.ndarray) -> float:
    """Return H(y) - H(y | x), which grows with the number of values of x, be they noise."""
    return entropy(y) - conditional_entropy(y, x)


def information_above_noise(x: np.ndarray, y: np.ndarray) -> float:
    """Return H(shifted y | x) - H(y | x): what x tells beyond noise with the same counts.

    Where x has a value c times, its y are compared with those c rows before. The rows must be in
    random order, or a shift is no noise. It is about 0 for x without information, whatever the
    number of its values; values that occur once tell nothing. Source: Skrlj et al. 2023.
    """
    if not len(x):
        return 0.0
    counts = np.bincount(x)
    shifted = y[(np.arange(len(x)) - counts[x]) % len(x)]
    return entropy(joined(x, shifted)) - entropy(joined(x, y))  # H(x) cancels
