"""EASE: a linear model of which items belong together, in closed form."""

from dataclasses import dataclass
from typing import Annotated

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

SAMPLE = 2_000  # items whose counts are made and inverted by an estimate
ROWS = 1_024  # of the matrix that are worked on at a time


@dataclass(eq=False)
class EASE(ItemToItem):
    """Predicts each item of a user from all the others by ridge regression, with no item predicting
    itself.

    B = -P / diag(P) with P = inverse(X'X + l2 I), zero diagonal (Steck 2019, "Embarrassingly
    Shallow Autoencoders for Sparse Data"). Differs from the paper: histories fade, and only the
    `top_n` positive weights per item are kept, which makes serving sparse and explanations sums of
    positive parts; set history_decay=1 and top_n=None for the plain form (then without its negative
    weights). Cost is the cube of the items: beyond `max_items`, the most popular ones are used.
    """

    l2: Annotated[float, Range(20.0, 2000.0, log=True)] = 250.0
    """Ridge penalty; larger: fewer, more popular neighbours."""
    max_items: int = 15_000
    """An array of 4 * max_items ** 2 bytes while fitting: .9 GB at 15,000."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.l2 > 0:
            raise DataError(f"l2 is {self.l2}: it must be above 0")
        if self.max_items < 1:
            raise DataError(f"max_items is {self.max_items}: it must be at least 1")

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        seen, kept, left_out = _kept(data, self.max_items)
        weights = _positive(_inverse(_gram(seen), self.l2), self.top_n)
        entries, n = weights.tocoo(), len(self.items_)
        self.weights_ = sp.csr_matrix(
            (entries.data, (kept[entries.row], kept[entries.col])), shape=(n, n)
        )
        self.fit_report_ = {"items_used": len(kept), "items_with_events_left_out": left_out}

    def _estimate_cost(self, data: Dataset, run: Run, valid: Split | None) -> Cost:
        """Counting, by the rows of some items; inverting, by the cube of the items; keeping the
        heaviest, by their square.
        """
        self.items_ = data.catalogue
        seen, kept, _ = _kept(data, self.max_items)
        n, by_item, watch = len(kept), seen.T.tocsr(), Stopwatch()
        drawn = np.sort(run.rng("items").permutation(n)[:SAMPLE])
        share = n / max(len(drawn), 1)
        _counts(by_item[drawn], seen)
        counting = watch.lap() * share
        gram, _ = _gram(seen[:, drawn]), watch.lap()
        inverse = _inverse(gram, self.l2)
        inverting = watch.lap() * share**3
        some = _positive(inverse, self.top_n)
        rest = watch.lap() * share**2
        every = len(self.items_)
        self.weights_ = repeated(
            sp.csr_matrix(
                (some.data, kept[drawn][some.indices], some.indptr), shape=(len(drawn), every)
            ),
            every,
        )
        held = bytes_of(self.weights_)
        return Cost(
            counting + inverting + rest,
            held,
            4.0 * n**2 + 24 * ROWS * n + 2 * bytes_of(seen) + held,
        )


def _kept(data: Dataset, most: int) -> tuple[sp.csr_matrix, np.ndarray, int]:
    """Who has which of the items kept, as (U, n) ones; the items' rows, at most so many, the most
    popular; how many with events are left out.
    """
    seen = data.sequences.rows.matrix(len(data.catalogue))
    seen.sum_duplicates()
    seen.data[:] = 1
    counts = np.bincount(seen.indices, minlength=len(data.catalogue))
    kept = np.sort(np.argsort(-counts, kind="stable")[:most])
    kept = kept[counts[kept] > 0]
    return seen[:, kept], kept, int((counts > 0).sum()) - len(kept)


def _gram(seen: sp.csr_matrix) -> np.ndarray:
    """(n, n) how many users have both items, laid out as LAPACK reads it, so that the inverse can
    take its place.
    """
    n = seen.shape[1]
    gram, by_item = np.empty((n, n), dtype=np.float32), seen.T.tocsr()
    for start in range(0, n, ROWS):  # a row stands for a column: the matrix is symmetric
        gram[start : start + ROWS] = _counts(by_item[start : start + ROWS], seen)
    return gram.T


def _counts(some: sp.csr_matrix, seen: sp.csr_matrix) -> np.ndarray:
    """(m, n) how many users have both, of `some` (m, U) items."""
    return (some @ seen).toarray()


def _inverse(gram: np.ndarray, l2: float) -> np.ndarray:
    """(n, n) inverse(gram + l2 I), of which the lower triangle is filled; `gram` is overwritten."""
    if not len(gram):
        return gram
    gram[np.diag_indices(len(gram))] += l2
    factor, failed = lapack.spotrf(gram, lower=1, overwrite_a=1)
    inverse, also_failed = lapack.spotri(factor, lower=1, overwrite_c=1)
    if failed or also_failed:
        raise DataError(f"the item matrix cannot be inverted at l2={l2}: raise l2")
    return np.asarray(inverse)


def _positive(inverse: np.ndarray, top_n: int | None) -> sp.csr_matrix:
    """(n, n) the `top_n` largest positive entries of each row of B."""
    n, diagonal, out = len(inverse), inverse.diagonal().copy(), []
    # only the lower triangle is filled: read a block of rows, and mirror what lies above
    for start in range(0, n, ROWS):
        stop = min(start + ROWS, n)
        block = np.zeros((stop - start, n), dtype=np.float32)
        block[:, :start] = inverse[start:stop, :start]
        block[:, start:] = inverse[start:, start:stop].T
        square = np.tril(inverse[start:stop, start:stop], -1)
        block[:, start:stop] = square + square.T  # and a zero diagonal
        out.append(heaviest(sp.csr_matrix(np.maximum(-block / diagonal, 0)), top_n or n))
    return sp.vstack(out, format="csr") if out else sp.csr_matrix((0, 0), dtype=np.float32)
