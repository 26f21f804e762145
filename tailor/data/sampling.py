"""Sampling for training: windows of sequences, and items that were not chosen."""

from dataclasses import dataclass

import numpy as np

from tailor.data.arrays import Ragged
from tailor.errors import DataError


@dataclass(frozen=True)
class WindowSampler:
    """Draws training windows in three steps, each with one exponent.

    1. A sequence of m + 1 events, with probability ~ m ** alpha.
    2. Its target, the event that t others precede (t = 1..m), with ~ t ** beta.
    3. The number w = 1..t of latest events before the target that are shown, with ~ w ** gamma.

    Infinite exponents take the largest. Sequences without a second event are never drawn. (GenPAS,
    arXiv:2509.13648; the form of the exponents is reconstructed.)
    """

    alpha: float = 1.0
    """Exponent of the sequence's length."""
    beta: float = 0.0
    """Exponent of the target's position."""
    gamma: float = np.inf
    """Exponent of the number of events shown."""

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "gamma"):
            value = getattr(self, name)
            if np.isnan(value) or value == -np.inf or (name == "alpha" and np.isinf(value)):
                raise DataError(
                    f"{name} is {value}: it must be a finite"
                    f" number{'' if name == 'alpha' else ', or infinity for the largest'}"
                )

    def draw(
        self, lengths: np.ndarray, size: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`size` windows out of sequences of `lengths` (U,): rows (size,), where each target
        stands, and how many events before it are shown.
        """
        before = np.maximum(lengths - 1, 0)
        if not before.any():
            raise DataError("no sequence has two events: there is nothing to learn from")
        rows = _one_of(
            np.where(before > 0, np.power(np.maximum(before, 1), float(self.alpha)), 0), size, rng
        )
        targets = _up_to(before[rows], self.beta, rng)
        return rows, targets, _up_to(targets, self.gamma, rng)


PRESETS = {
    # only the last event of each sequence, with all before it
    "last": WindowSampler(0, np.inf, np.inf),
    # every event but the first, each as often, with all before it
    "prefix": WindowSampler(1, 0, np.inf),
    "window": WindowSampler(2, 1, 0),  # nearly every contiguous piece as often as every other
}


def _one_of(weights: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """(size,) positions drawn in proportion to `weights`."""
    ends = np.cumsum(weights, dtype=np.float64)
    return np.searchsorted(ends, rng.random(size) * ends[-1], side="right")


def _up_to(most: np.ndarray, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """For every m of `most`, a number from 1 to m with probability ~ number ** exponent."""
    if exponent == np.inf:
        return most.copy()
    ends = np.cumsum(np.power(np.arange(1, most.max() + 1, dtype=np.float64), float(exponent)))
    return np.minimum(
        np.searchsorted(ends, rng.random(len(most)) * ends[most - 1], side="right") + 1, most
    )


def uniform_negatives(items: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """`size` different rows out of `items`, ascending; all of them where there are no more."""
    return np.sort(rng.choice(items, min(size, items), replace=False, shuffle=False))


def shuffled_batches(
    values: np.ndarray | int, size: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Return values in random order, cut into batches of nearly equal, at most `size`, lengths.

    `values` are (n, ...), or their number, which stands for the positions 0 to n - 1.
    """
    order = rng.permutation(values)
    return np.array_split(order, -(-len(order) // size))


def popular_negatives(
    counts: np.ndarray, size: int, rng: np.random.Generator, power: float = 0.75
) -> np.ndarray:
    """`size` rows, with repetition, in proportion to counts ** power (Mikolov et al. 2013)."""
    return _one_of(np.power(counts.astype(np.float64), power), size, rng)


def sample_ragged(rows: Ragged, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return (n, size) values drawn from each row, with repetition; -1 for an empty row."""
    draws = rng.random((len(rows), size))
    lengths = rows.lengths[:, None]
    places = (draws * lengths).astype(np.int64)
    positions = places + rows.offsets[:-1, None]
    has_values = np.broadcast_to(lengths > 0, positions.shape)
    values = np.full(positions.shape, -1, dtype=np.int64)
    drawn_positions = positions[has_values]
    values[has_values] = rows.values[drawn_positions]
    return values
