"""EASE: a linear model of which items belong together, in closed form."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import scipy.sparse as sp
from scipy.linalg import lapack

from tailor.base import Run
from tailor.data.dataset import Dataset
from tailor.data.graphs import heaviest
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.ranges import Range
from tailor.retrieval.neighbours import ItemToItem


@dataclass(eq=False)
class EASE(ItemToItem):
    """Predicts each item of a user from all the others by ridge regression, with no item predicting itself.

    B = -P / diag(P) with P = inverse(X'X + l2 I), zero diagonal (Steck 2019, "Embarrassingly Shallow Autoencoders for
    Sparse Data"). Differs from the paper: histories fade, and only the `top_n` positive weights per item are kept, which
    makes serving sparse and explanations sums of positive parts; set history_decay=1 and top_n=None for the plain form
    (then without its negative weights). Cost is the cube of the items: beyond `max_items`, the most popular ones are used.
    """

    l2: Annotated[float, Range(20.0, 2000.0, log=True)] = 250.0  # ridge penalty; larger: fewer, more popular neighbours
    max_items: int = 15_000  # two arrays of 4 * max_items ** 2 bytes while fitting: 1.8 GB at 15,000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.l2 > 0:
            raise DataError(f"l2 is {self.l2}: it must be above 0")
        if self.max_items < 1:
            raise DataError(f"max_items is {self.max_items}: it must be at least 1")

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        seen = data.sequences.rows.matrix(len(self.items_))
        seen.sum_duplicates()
        seen.data[:] = 1
        counts = np.bincount(seen.indices, minlength=len(self.items_))
        kept = np.sort(np.argsort(-counts, kind="stable")[: self.max_items])
        kept = kept[counts[kept] > 0]
        weights = heaviest(_weights(seen[:, kept], self.l2), self.top_n or max(len(kept), 1))
        entries = weights.tocoo()
        self.weights_ = sp.csr_matrix((entries.data, (kept[entries.row], kept[entries.col])), shape=(len(counts), len(counts)))
        self.fit_report_ = {"items_used": len(kept), "items_with_events_left_out": int((counts > 0).sum()) - len(kept)}


def _weights(seen: sp.csr_matrix, l2: float) -> sp.csr_matrix:
    """(n, n) positive part of B for a binary (U, n) matrix."""
    gram = (seen.T @ seen).toarray(order="F").astype(np.float32, copy=False)
    n = gram.shape[0]
    if not n:
        return sp.csr_matrix((0, 0), dtype=np.float32)
    gram[np.diag_indices(n)] += l2
    factor, failed = lapack.spotrf(gram, lower=1, overwrite_a=1)
    inverse, also_failed = lapack.spotri(factor, lower=1, overwrite_c=1)
    if failed or also_failed:
        raise DataError(f"the item matrix cannot be inverted at l2={l2}: raise l2")
    diagonal = inverse.diagonal().copy()
    out = []
    for start in range(0, n, 1024):  # only the lower triangle is filled: read a block of rows, and mirror what lies above
        stop = min(start + 1024, n)
        block = np.zeros((stop - start, n), dtype=np.float32)
        block[:, :start] = inverse[start:stop, :start]
        block[:, start:] = inverse[start:, start:stop].T
        square = np.tril(inverse[start:stop, start:stop], -1)
        block[:, start:stop] = square + square.T  # and a zero diagonal
        out.append(sp.csr_matrix(np.maximum(-block / diagonal, 0)))
    return sp.vstack(out, format="csr")
