"""Rows of different lengths in flat arrays, and the exact top-k of all methods and metrics."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from tailor.errors import ModelError

MIN_GROUPS = 256
"""Minimum number of groups whose maxima bound the k-th largest value."""


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of different lengths: row i is `values[offsets[i]:offsets[i + 1]]`.

    This is the layout of a CSR matrix without its data.
    """

    offsets: np.ndarray
    """(n + 1,) int64."""
    values: np.ndarray
    """(m,)."""

    @classmethod
    def of(cls, rows: Sequence[Iterable[int]], dtype: type = np.int32) -> "Ragged":
        """Return the rows of a list of lists."""
        lists = [list(row) for row in rows]
        flat = [value for row in lists for value in row]
        return cls.of_lengths([len(row) for row in lists], np.array(flat, dtype=dtype))

    @classmethod
    def of_lengths(cls, lengths: Sequence[int] | np.ndarray, values: np.ndarray) -> "Ragged":
        """Return rows of these lengths, whose values follow each other in `values` (m,)."""
        offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return cls(offsets, values)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> np.ndarray:
        if i < 0:
            i += len(self)
            if i < 0:
                raise IndexError(i - len(self))
        return self.values[self.offsets[i] : self.offsets[i + 1]]

    @cached_property
    def lengths(self) -> np.ndarray:
        """(n,) number of values of each row."""
        return np.diff(self.offsets)

    @cached_property
    def row_ids(self) -> np.ndarray:
        """(m,) the row that each value belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @cached_property
    def from_end(self) -> np.ndarray:
        """(m,) distance of each value from the end of its row; 0 for the last one."""
        return np.repeat(self.offsets[1:], self.lengths) - 1 - np.arange(len(self.values))

    @cached_property
    def from_start(self) -> np.ndarray:
        """(m,) distance of each value from the start of its row; 0 for the first one."""
        return np.arange(len(self.values)) - np.repeat(self.offsets[:-1], self.lengths)

    def slice(self, start: int, stop: int) -> "Ragged":
        """Return the rows from `start` up to `stop`, without copying values."""
        offsets = self.offsets[start : stop + 1]
        return Ragged(offsets - offsets[0], self.values[offsets[0] : offsets[-1]])

    def take(self, rows: np.ndarray) -> "Ragged":
        """Return the rows with these numbers, in this order."""
        lengths = self.lengths[rows]
        old_starts = self.offsets[:-1][rows]
        new_starts = np.r_[0, np.cumsum(lengths)][:-1]
        shift = np.repeat(old_starts - new_starts, lengths)
        positions = np.arange(lengths.sum()) + shift
        return Ragged.of_lengths(lengths, self.values[positions])

    def keep(self, mask: np.ndarray) -> "Ragged":
        """Return the same rows with only the values where `mask` (m,) is true."""
        if mask.all():
            return self
        counts = np.zeros(len(mask) + 1, dtype=np.int64)
        np.cumsum(mask, out=counts[1:])
        return Ragged(counts[self.offsets], self.values[mask])

    def with_values(self, values: np.ndarray) -> "Ragged":
        """Return rows of the same lengths with other values (m,)."""
        return Ragged(self.offsets, values)

    def last(self, n: int) -> "Ragged":
        """Return the last n values of every row."""
        if self.lengths.max(initial=0) <= n:
            return self
        return self.keep(self.from_end < n)

    def pairs(self, distance: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the values (p,) that have another one `distance` places later, and those (p,)."""
        starts = np.flatnonzero(self.from_end >= distance)
        return self.values[starts], self.values[starts + distance]

    def distinct(self) -> "Ragged":
        """Return the values of every row once each, ascending; values are integers from 0."""
        base = int(self.values.max(initial=0)) + 1
        keys = np.unique(self.row_ids * base + self.values)
        lengths = np.bincount(keys // base, minlength=len(self))
        return Ragged.of_lengths(lengths, (keys % base).astype(self.values.dtype))

    def matrix(self, columns: int, data: np.ndarray | None = None) -> sp.csr_matrix:
        """Return (n, columns) sparse, in memory of its own, with a 1 or `data` (m,) at each value.

        Repeated values of one row stay separate entries, which products add up.
        """
        data = np.ones(len(self.values), dtype=np.float32) if data is None else data
        shape = (len(self), columns)
        return sp.csr_matrix((data, self.values.copy(), self.offsets.copy()), shape=shape)

    def decayed_matrix(self, columns: int, decay: float, length: int) -> sp.csr_matrix:
        """Return (n, columns) sparse weights of the last `length` values of each row.

        Each weighs `decay` times as much as the one after it; the last weighs 1.
        """
        recent = self.last(length)
        return recent.matrix(columns, decay ** recent.from_end.astype(np.float32))


def concatenate(parts: Sequence[Ragged]) -> Ragged:
    """Return the rows of all parts, one part after the other."""
    return Ragged.of_lengths(
        np.concatenate([part.lengths for part in parts]),
        np.concatenate([part.values for part in parts]),
    )


def best_first(scores: np.ndarray, columns: np.ndarray | None, k: int) -> np.ndarray:
    """Return the positions of the k highest of `scores` (n,), highest first.

    Equal scores stand in ascending order of `columns` (n,), or of position where that is None.
    Scores of -inf are left out.
    """
    bound = _lower_bound_of_kth(scores, k)
    positions = np.flatnonzero(scores >= bound if bound > -np.inf else scores > bound)
    remaining = scores[positions]
    if len(positions) > k:
        # more than k are left where scores tie with the k-th
        kth = np.partition(remaining, len(remaining) - k)[len(remaining) - k]
        is_high = np.flatnonzero(remaining >= kth)
        positions = positions[is_high]
        remaining = remaining[is_high]
    if columns is None:
        order = np.argsort(-remaining, kind="stable")
    else:
        order = np.lexsort((columns[positions], -remaining))
    return positions[order[:k]]


def _lower_bound_of_kth(scores: np.ndarray, k: int) -> Any:
    """Return the k-th largest score or a little less, in a sixth of the time of finding it.

    It is the k-th largest of the maxima of many groups.
    """
    groups = max(2 * k, MIN_GROUPS)
    size = len(scores) // groups
    if size < 4:  # nearly as many maxima as values
        return -np.inf
    maxima = scores[: size * groups].reshape(size, groups).max(axis=0)
    return np.partition(maxima, groups - k)[groups - k]


def top_k(
    scores: np.ndarray | sp.csr_matrix,
    k: int,
    exclude: Ragged | None = None,
    blocked: np.ndarray | None = None,
    candidates: Ragged | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the exact k best columns of every row: (B, k) int32 columns and (B, k) float32 scores.

    `scores` is (B, N): dense, where -inf means "not scored", or sparse, where a missing entry does.
    `exclude` and `candidates` hold columns a row; `blocked` columns hold for all rows. Columns are
    -1 and scores -inf where there are no more. Equal scores stand in column order, which is the
    seeded hash order of the outside ids (`Vocabulary.of_items`). Raises ModelError on NaN.
    """
    n_rows, n_columns = scores.shape
    best_columns = np.full((n_rows, k), -1, dtype=np.int32)
    best_scores = np.full((n_rows, k), -np.inf, dtype=np.float32)
    if k == 0:
        return best_columns, best_scores
    if scores.dtype.kind != "f":  # an unsigned count has no negative to sort by
        scores = scores.astype(np.float64)
    sparse = scores if isinstance(scores, sp.csr_matrix) else None
    if np.isnan(scores if sparse is None else sparse.data).any():
        raise ModelError(
            "a score is NaN: the method that made it is broken or was fitted on NaN values"
        )
    for row in range(n_rows):
        banned = [] if exclude is None else [exclude[row]]
        if blocked is not None:
            banned.append(blocked)
        only = None if candidates is None else candidates[row]
        if sparse is None:
            columns = None
            values = _allowed_scores(scores[row], banned, only)
        else:
            stored = slice(sparse.indptr[row], sparse.indptr[row + 1])
            columns = sparse.indices[stored]
            mask = _allowed_columns(n_columns, banned, only)
            values = np.where(mask[columns], sparse.data[stored], -np.inf)
        best = best_first(values, columns, k)
        best_columns[row, : len(best)] = best if columns is None else columns[best]
        best_scores[row, : len(best)] = values[best]
    return best_columns, best_scores


def _allowed_scores(
    scores: np.ndarray, banned: Sequence[np.ndarray], only: np.ndarray | None
) -> np.ndarray:
    """Return a copy (N,) with -inf where a column is banned, or is none of `only`."""
    if only is None:
        allowed = scores.copy()
    else:
        allowed = np.full_like(scores, -np.inf)
        allowed[only] = scores[only]
    for columns in banned:
        allowed[columns] = -np.inf
    return allowed


def _allowed_columns(n: int, banned: Sequence[np.ndarray], only: np.ndarray | None) -> np.ndarray:
    """Return (n,) bool: true where a column is not banned and one of `only`."""
    mask = np.full(n, only is None)
    if only is not None:
        mask[only] = True
    for columns in banned:
        mask[columns] = False
    return mask


def in_deviations(scores: np.ndarray) -> np.ndarray:
    """Return every row in standard deviations from its mean, over its finite scores.

    A score is 0 where it was not finite, and in a row without spread.
    """
    is_finite = np.isfinite(scores)
    counts = np.maximum(is_finite.sum(axis=1, keepdims=True), 1)
    finite_scores = np.where(is_finite, scores, 0)
    means = finite_scores.sum(axis=1, keepdims=True) / counts
    centred = np.where(is_finite, finite_scores - means, 0)
    spread = np.sqrt((centred**2).sum(axis=1, keepdims=True) / counts)
    out: np.ndarray = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 1e-9)
    return out
