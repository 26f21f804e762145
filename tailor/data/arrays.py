"""Rows of different lengths in flat arrays, and the exact top-k that every method and metric shares."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from tailor.errors import ModelError


@dataclass(frozen=True, eq=False)
class Ragged:
    """Row i is `values[offsets[i]:offsets[i + 1]]` (the layout of a CSR matrix without its data)."""

    offsets: np.ndarray  # (n + 1,) int64
    values: np.ndarray  # (m,)

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
    def owners(self) -> np.ndarray:
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
        return Ragged.of_lengths(lengths, self.values[np.arange(lengths.sum()) + np.repeat(shift, lengths)])

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
        return self if not len(self) or self.lengths.max(initial=0) <= n else self.keep(self.from_end < n)

    def matrix(self, columns: int, data: np.ndarray | None = None) -> sp.csr_matrix:
        """(n, columns) sparse, of its own memory; repeated values of one row stay separate entries, which products add up."""
        data = np.ones(len(self.values), dtype=np.float32) if data is None else data
        return sp.csr_matrix((data, self.values.copy(), self.offsets.copy()), shape=(len(self), columns))

    def faded(self, columns: int, decay: float, length: int) -> sp.csr_matrix:
        """(n, columns) of the last `length` values of each row, each weighing `decay` times as much as the one after it."""
        recent = self.last(length)
        return recent.matrix(columns, decay ** recent.from_end.astype(np.float32))


def concatenate(parts: Sequence[Ragged]) -> Ragged:
    """The rows of all parts, one part after the other."""
    return Ragged.of_lengths(np.concatenate([p.lengths for p in parts]), np.concatenate([p.values for p in parts]))


def best_first(scores: np.ndarray, columns: np.ndarray, k: int) -> np.ndarray:
    """Positions of the k highest of `scores` (n,), highest first, equal ones by `columns` (n,) ascending."""
    if len(scores) > k:
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        kept = np.flatnonzero(scores >= least)  # more than k where scores tie at the edge
        return kept[np.lexsort((columns[kept], -scores[kept]))[:k]]
    return np.lexsort((columns, -scores))


def top_k(
    scores: np.ndarray | sp.csr_matrix,
    k: int,
    exclude: Ragged | None = None,
    blocked: np.ndarray | None = None,
    candidates: Ragged | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The exact k best columns of every row: (B, k) int32 columns, -1 where there are no more, and (B, k) float32 scores.

    `scores` is (B, N): dense, where -inf means "not scored", or sparse, where a missing entry does. `exclude` and
    `candidates` hold columns a row; `blocked` columns hold for all rows. Equal scores stand in column order, which is
    the seeded hash order of the outside ids (`Vocabulary.of_items`). Raises ModelError on NaN.
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
        raise ModelError("a score is NaN: the method that made it is broken or was fitted on NaN values")
    allowed = np.ones(columns_n, dtype=bool)
    if blocked is not None:
        allowed[blocked] = False
    every_column = np.arange(columns_n)
    in_candidates = np.zeros(columns_n, dtype=bool)
    for row in range(rows_n):
        if sparse is not None:
            columns = sparse.indices[sparse.indptr[row] : sparse.indptr[row + 1]]
            values = sparse.data[sparse.indptr[row] : sparse.indptr[row + 1]]
        else:
            columns, values = every_column, scores[row]
        banned = exclude[row] if exclude is not None else None
        if banned is not None and len(banned):
            was = allowed[banned]
            allowed[banned] = False
        if candidates is None:
            keep = allowed[columns]
        else:
            in_candidates[candidates[row]] = True
            keep = allowed[columns] & in_candidates[columns]
            in_candidates[candidates[row]] = False
        keep &= values > -np.inf
        columns, values = columns[keep], values[keep]
        if banned is not None and len(banned):
            allowed[banned] = was
        best = best_first(values, columns, k)
        out_columns[row, : len(best)] = columns[best]
        out_scores[row, : len(best)] = values[best]
    return out_columns, out_scores
