"""Batches of sequences of similar length, since padding is wasted work.

A mean history of 8 events in a window of 50 would waste five sixths. A batch is an array of row
numbers; its longest row times its number of rows stays within a budget of positions.
"""

import numpy as np


def pack_batches(
    lengths: np.ndarray,
    budget: int,
    rng: np.random.Generator,
    batch_rows: int | None = None,
    pool_batches: int = 16,
) -> list[np.ndarray]:
    """Return all rows of length > 0 in batches of similar lengths, in random order.

    Rows are shuffled, sorted by length within pools of about `pool_batches` batches, and split
    wherever the budget is reached, so that the composition and order of batches differ from epoch
    to epoch. A row longer than the budget is a batch of its own. With `batch_rows`, a batch has
    that many rows whatever their lengths, so the number of steps does not depend on the lengths.
    """
    rows = rng.permutation(np.flatnonzero(lengths > 0))
    if not len(rows):
        return []
    if batch_rows:
        pool_size = pool_batches * batch_rows
    else:
        pool_size = max(1, int(pool_batches * budget / max(lengths[rows].mean(), 1)))
    batches: list[np.ndarray] = []
    for start in range(0, len(rows), pool_size):
        pool = rows[start : start + pool_size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        if batch_rows:
            batches += [pool[i : i + batch_rows] for i in range(0, len(pool), batch_rows)]
        else:
            batches += split_by_budget(pool, lengths, budget)
    return [batches[i] for i in rng.permutation(len(batches))]


def split_by_budget(rows: np.ndarray, lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Split rows of ascending length into batches of rows * longest <= budget.

    Each batch has at least one row.
    """
    batches = []
    start = 0
    row_lengths = lengths[rows]
    while start < len(rows):
        count = np.arange(1, min(len(rows) - start, budget) + 1)
        positions = row_lengths[start : start + budget] * count
        stop = start + max(1, int(np.searchsorted(positions, budget, side="right")))
        batches.append(rows[start:stop])
        start = stop
    return batches


def pad_rows(
    values: np.ndarray, starts: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return padded rows (B, T) and the mask (B, T) of their real values.

    Row b holds `lengths[b]` values from position `starts[b]` on, then zeros.
    """
    position = np.arange(int(lengths.max(initial=0)))
    mask = position < lengths[:, None]
    if len(values):
        padded = values[np.where(mask, starts[:, None] + position, 0)]
    else:
        padded = np.zeros(mask.shape, values.dtype)
    return np.where(mask, padded, 0), mask
