"""EASE: a linear item-to-item model, learned in closed form.

Shapes: U users, N items, n items that are used.
"""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.linalg import lapack

from tailor.core.costs import Cost, Stopwatch, bytes_of
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.dataset import Dataset
from tailor.data.graphs import heaviest
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.retrieval.neighbours import ItemToItem, repeated

SAMPLE = 2_000  # items whose counts are computed and inverted by an estimate
ROWS = 1_024  # rows of the matrix in a block


@dataclass(eq=False)
class EASE(ItemToItem):
    """Predict each item of a user from all others by ridge regression; none predicts itself.

    B = -P / diag(P) with P = inverse(X'X + l2 I), zero diagonal (Steck 2019, "Embarrassingly
    Shallow Autoencoders for Sparse Data"). Cost is the cube of the items: beyond `max_items`, the
    most popular ones are used.

    Differs from the paper: histories are decayed, and only the `top_n` positive weights per item
    are kept, which makes serving sparse and explanations sums of positive parts; set
    history_decay=1 and top_n=None for the plain form (then without its negative weights).
    """

    l2: Annotated[float, Range(20.0, 2000.0, log=True)] = 250.0
    """Ridge penalty; larger gives fewer, more popular neighbours."""
    max_items: int = 15_000
    """Items used, at most; fitting needs 4 * max_items ** 2 bytes, 0.9 GB at 15,000."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.l2 > 0:
            raise DataError(f"l2 is {self.l2}: it must be above 0")
        if self.max_items < 1:
            raise DataError(f"max_items is {self.max_items}: it must be at least 1")

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        choices = _choices(data, self.max_items)
        entries = _top_weights(_inverse(_gram(choices.matrix), self.l2), self.top_n).tocoo()
        rows, columns = choices.items[entries.row], choices.items[entries.col]
        n = len(self.items_)
        self.weights_ = sp.csr_matrix((entries.data, (rows, columns)), shape=(n, n))
        self.fit_report_ = {
            "items_used": len(choices.items),
            "items_with_events_left_out": choices.left_out,
        }

    def _estimate_cost(self, data: Dataset, run: Run, valid: Split | None) -> Cost:
        """Time a sample of the items.

        Counting grows with the items, inverting with their cube, selecting with their square.
        """
        self.items_ = data.catalogue
        choices = _choices(data, self.max_items)
        n = len(choices.items)
        by_item = choices.matrix.T.tocsr()
        watch = Stopwatch()
        drawn = np.sort(run.rng("items").permutation(n)[:SAMPLE])
        factor = n / max(len(drawn), 1)
        _shared_users(by_item[drawn], choices.matrix)
        counting_s = watch.lap() * factor
        gram = _gram(choices.matrix[:, drawn])
        watch.lap()
        inverse = _inverse(gram, self.l2)
        inverting_s = watch.lap() * factor**3
        sample = _top_weights(inverse, self.top_n)
        selecting_s = watch.lap() * factor**2
        columns = choices.items[drawn][sample.indices]
        items = len(self.items_)
        rows = sp.csr_matrix((sample.data, columns, sample.indptr), shape=(len(drawn), items))
        self.weights_ = repeated(rows, items)
        kept_bytes = bytes_of(self.weights_)
        return Cost(
            counting_s + inverting_s + selecting_s,
            kept_bytes,
            4.0 * n**2 + 24 * ROWS * n + 2 * bytes_of(choices.matrix) + kept_bytes,
        )


class _Choices(NamedTuple):
    """Which user chose which of the items used."""

    matrix: sp.csr_matrix
    """(U, n) ones."""
    items: np.ndarray
    """(n,) catalogue rows of the items used."""
    left_out: int
    """Number of items with events that are not used."""


def _choices(data: Dataset, max_items: int) -> _Choices:
    """Return users' choices among the most popular items."""
    matrix = data.sequences.rows.matrix(len(data.catalogue))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    counts = np.bincount(matrix.indices, minlength=len(data.catalogue))
    items = np.sort(np.argsort(-counts, kind="stable")[:max_items])
    items = items[counts[items] > 0]
    return _Choices(matrix[:, items], items, int((counts > 0).sum()) - len(items))


def _gram(choices: sp.csr_matrix) -> np.ndarray:
    """Return (n, n) the number of users who chose both items.

    In column order, as LAPACK reads it, so that the inverse can take its place.
    """
    n = choices.shape[1]
    gram = np.empty((n, n), dtype=np.float32)
    by_item = choices.T.tocsr()
    for start in range(0, n, ROWS):  # a row may be written as a column: the matrix is symmetric
        gram[start : start + ROWS] = _shared_users(by_item[start : start + ROWS], choices)
    return gram.T


def _shared_users(items: sp.csr_matrix, choices: sp.csr_matrix) -> np.ndarray:
    """Return (m, n) the number of users who chose both, for `items` (m, U)."""
    return (items @ choices).toarray()


def _inverse(gram: np.ndarray, l2: float) -> np.ndarray:
    """Return inverse(gram + l2 I) with the lower triangle filled; `gram` is overwritten."""
    if not len(gram):
        return gram
    gram[np.diag_indices(len(gram))] += l2
    factor, factor_error = lapack.spotrf(gram, lower=1, overwrite_a=1)
    inverse, inverse_error = lapack.spotri(factor, lower=1, overwrite_c=1)
    if factor_error or inverse_error:
        raise DataError(f"the item matrix cannot be inverted at l2={l2}: raise l2")
    return np.asarray(inverse)


def _top_weights(inverse: np.ndarray, top_n: int | None) -> sp.csr_matrix:
    """Return (n, n) the `top_n` largest positive entries of each row of B."""
    n = len(inverse)
    diagonal = inverse.diagonal().copy()
    parts = []
    # only the lower triangle is filled: read a block of rows, and mirror what is above it
    for start in range(0, n, ROWS):
        stop = min(start + ROWS, n)
        block = np.zeros((stop - start, n), dtype=np.float32)
        block[:, :start] = inverse[start:stop, :start]
        block[:, start:] = inverse[start:, start:stop].T
        square = np.tril(inverse[start:stop, start:stop], -1)
        block[:, start:stop] = square + square.T  # with a zero diagonal
        parts.append(heaviest(sp.csr_matrix(np.maximum(-block / diagonal, 0)), top_n or n))
    return sp.vstack(parts, format="csr") if parts else sp.csr_matrix((0, 0), dtype=np.float32)
