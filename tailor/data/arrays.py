"""Rows of different lengths in flat arrays, and the exact top-k that every method and metric
shares.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from tailor.errors import ModelError

GROUPS = 256  # at least, whose maxima tell about where the k-th largest value is


@dataclass(frozen=True, eq=False)
class Ragged:
    """Row i is `values[offsets[i]:offsets[i + 1]]` (the layout of a CSR matrix without its data)."""

    offsets: np.ndarray
    """(n + 1,) int64."""
    values: np.ndarray
    """(m,)."""

    @classmethod
    def of(cls, rows: Sequence[Iterable[int]], dtype: type = np.int32) -> "Ragged":
        lists = [list(row) for row in rows]
        flat = [value for row in lists for value in row]
        return cls.of_lengths([len(row) for row in lists], np.array(flat, dtype=dtype))

    @classmethod
    def of_lengths(cls, lengths: Sequence[int] | np.ndarray, values: np.ndarray) -> "Ragged":
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
        return np.diff(self.offsets)

    @cached_property
    def row_ids(self) -> np.ndarray:
        """(m,) the row that each value belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @cached_property
    def from_end(self) -> np.ndarray:
        """(m,) distance of each value from the end of its row; 0 for the last one."""
        return np.repeat(self.offsets[1:], self.lengths) - 1 - np.arange(len(self.values))

    def slice(self, start: int, stop: int) -> "Ragged":
        offsets = self.offsets[start : stop + 1]
        return Ragged(offsets - offsets[0], self.values[offsets[0] : offsets[-1]])

    def take(self, rows: np.ndarray) -> "Ragged":
        lengths = self.lengths[rows]
        shift = self.offsets[:-1][rows] - np.r_[0, np.cumsum(lengths)][:-1]
        return Ragged.of_lengths(
            lengths, self.values[np.arange(lengths.sum()) + np.repeat(shift, lengths)]
        )

    def keep(self, mask: np.ndarray) -> "Ragged":
        """The same rows holding only the values where `mask` (m,) is true."""
        if mask.all():
            return self
        counts = np.zeros(len(mask) + 1, dtype=np.int64)
        np.cumsum(mask, out=counts[1:])
        return Ragged(counts[self.offsets], self.values[mask])

    def with_values(self, values: np.ndarray) -> "Ragged":
        return Ragged(self.offsets, values)

    def last(self, n: int) -> "Ragged":
        return (
            self
            if not len(self) or self.lengths.max(initial=0) <= n
            else self.keep(self.from_end < n)
        )

    def matrix(self, columns: int, data: np.ndarray | None = None) -> sp.csr_matrix:
        """(n, columns) sparse, of its own memory; repeated values of one row stay separate entries,
        which products add up.
        """
        data = np.ones(len(self.values), dtype=np.float32) if data is None else data
        return sp.csr_matrix(
            (data, self.values.copy(), self.offsets.copy()), shape=(len(self), columns)
        )

    def decayed_matrix(self, columns: int, decay: float, length: int) -> sp.csr_matrix:
        """(n, columns) of the last `length` values of each row, each weighing `decay` times as much
        as the one after it.
        """
        recent = self.last(length)
        return recent.matrix(columns, decay ** recent.from_end.astype(np.float32))


def concatenate(parts: Sequence[Ragged]) -> Ragged:
    """The rows of all parts, one part after the other."""
    return Ragged.of_lengths(
        np.concatenate([p.lengths for p in parts]), np.concatenate([p.values for p in parts])
    )


def best_first(scores: np.ndarray, columns: np.ndarray | None, k: int) -> np.ndarray:
    """Positions of the k highest of `scores` (n,), highest first, equal ones by `columns` (n,)
    ascending, None: by position. What scores -inf is left out.
    """
    least = _at_most_kth(scores, k)
    kept = np.flatnonzero(scores >= least if least > -np.inf else scores > least)
    some = scores[kept]
    if len(kept) > k:
        # more than k where scores tie at the edge
        sure = np.flatnonzero(some >= np.partition(some, len(some) - k)[len(some) - k])
        kept, some = kept[sure], some[sure]
    order = (
        np.argsort(-some, kind="stable") if columns is None else np.lexsort((columns[kept], -some))
    )
    return kept[order[:k]]


def _at_most_kth(scores: np.ndarray, k: int) -> Any:
    """The k-th largest or a little less, in a sixth of the time that finding it takes: the k-th
    largest of the maxima of many groups.
    """
    groups = max(2 * k, GROUPS)
    size = len(scores) // groups
    if size < 4:  # as many maxima as values, nearly
        return -np.inf
    highest = scores[: size * groups].reshape(size, groups).max(axis=0)
    return np.partition(highest, groups - k)[groups - k]


def top_k(
    scores: np.ndarray | sp.csr_matrix,
    k: int,
    exclude: Ragged | None = None,
    blocked: np.ndarray | None = None,
    candidates: Ragged | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The exact k best columns of every row: (B, k) int32 columns, -1 where there are no more, and
    (B, k) float32 scores.

    `scores` is (B, N): dense, where -inf means "not scored", or sparse, where a missing entry does.
    `exclude` and `candidates` hold columns a row; `blocked` columns hold for all rows. Equal scores
    stand in column order, which is the seeded hash order of the outside ids
    (`Vocabulary.of_items`). Raises ModelError on NaN.
    """
    rows_n, columns_n = scores.shape
    out_columns = np.full((rows_n, k), -1, dtype=np.int32)
    out_scores = np.full((rows_n, k), -np.inf, dtype=np.float32)
    if k == 0:
        return out_columns, out_scores
    if scores.dtype.kind != "f":  # an unsigned count has no negative to sort by
        scores = scores.astype(np.float64)
    sparse = scores if isinstance(scores, sp.csr_matrix) else None
    if np.isnan(scores if sparse is None else sparse.data).any():
        raise ModelError(
            "a score is NaN: the method that made it is broken or was fitted on NaN values"
        )
    for row in range(rows_n):
        banned = [
            some[row] if isinstance(some, Ragged) else some
            for some in (exclude, blocked)
            if some is not None
        ]
        only = None if candidates is None else candidates[row]
        if sparse is None:
            columns, values = None, _dense_allowed(scores[row], banned, only)
        else:
            stored = slice(sparse.indptr[row], sparse.indptr[row + 1])
            columns = sparse.indices[stored]
            values = np.where(_mask(columns_n, banned, only)[columns], sparse.data[stored], -np.inf)
        best = best_first(values, columns, k)
        out_columns[row, : len(best)] = best if columns is None else columns[best]
        out_scores[row, : len(best)] = values[best]
    return out_columns, out_scores


def _dense_allowed(
    scores: np.ndarray, banned: Sequence[np.ndarray], only: np.ndarray | None
) -> np.ndarray:
    """(N,) a copy with -inf where a column is banned, or is none of `only`."""
    if only is None:
        out = scores.copy()
    else:
        out = np.full_like(scores, -np.inf)
        out[only] = scores[only]
    for columns in banned:
        out[columns] = -np.inf
    return out


def _mask(n: int, banned: Sequence[np.ndarray], only: np.ndarray | None) -> np.ndarray:
    """(n,) bool: which columns are none of `banned`, and one of `only`."""
    out = np.full(n, only is None)
    if only is not None:
        out[only] = True
    for columns in banned:
        out[columns] = False
    return out
