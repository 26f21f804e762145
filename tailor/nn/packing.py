"""Batches of sequences of like length: padding is wasted work, and a mean history of 8 in a window
of 50 would waste five sixths.

A batch is an array of row numbers; the longest of its rows times their number stays within a budget
of places (tokens).
"""

import numpy as np


def packed(
    lengths: np.ndarray,
    budget: int,
    rng: np.random.Generator,
    most: int | None = None,
    mixed: int = 16,
) -> list[np.ndarray]:
    """Row numbers of all rows of length > 0, in batches of like lengths, in random order.

    Rows are shuffled, sorted by length within pools of about `mixed` batches, and cut wherever the
    budget is reached, so that neither the company of a row nor the order of batches repeats from
    epoch to epoch. A row longer than the budget is a batch of its own. With `most`, a batch is that
    many rows whatever their lengths: as many steps however rows are drawn.
    """
    rows = rng.permutation(np.flatnonzero(lengths > 0))
    if not len(rows):
        return []
    pool = mixed * most if most else max(1, int(mixed * budget / max(lengths[rows].mean(), 1)))
    batches: list[np.ndarray] = []
    for start in range(0, len(rows), pool):
        some = rows[start : start + pool]
        some = some[np.argsort(lengths[some], kind="stable")]
        batches += (
            [some[i : i + most] for i in range(0, len(some), most)]
            if most
            else cut(some, lengths, budget)
        )
    return [batches[i] for i in rng.permutation(len(batches))]


def cut(rows: np.ndarray, lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Rows of ascending length in batches of which rows * longest <= budget, each at least one row."""
    out, start, of = [], 0, lengths[rows]
    while start < len(rows):
        places = of[start : start + budget] * np.arange(1, min(len(rows) - start, budget) + 1)
        stop = start + max(1, int(np.searchsorted(places, budget, side="right")))
        out.append(rows[start:stop])
        start = stop
    return out


def padded(
    values: np.ndarray, starts: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(B, T) the `lengths` (B,) values from each of `starts` (B,) on, padded at the right with 0,
    and (B, T) bool of what is real.
    """
    place = np.arange(int(lengths.max(initial=0)))
    real = place < lengths[:, None]
    out = (
        values[np.where(real, starts[:, None] + place, 0)]
        if len(values)
        else np.zeros(real.shape, values.dtype)
    )
    return np.where(real, out, 0), real
