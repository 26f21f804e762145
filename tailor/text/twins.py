"""Find twins: items that say nearly the same words."""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from tailor.text.tfidf import tfidf

BLOCK = 2_000  # rows compared at a time


def twins_of(texts: Sequence[str], rows: np.ndarray, least: float = 0.9) -> np.ndarray:
    """Return (N,) bool: whether a text is a twin of one of the rows, or of a twin of theirs.

    Twins have a TF-IDF cosine of at least `least`; a text without words has none. The rows
    themselves are not marked.
    """
    vectors = tfidf(texts)
    is_near = np.zeros(len(texts), dtype=bool)
    is_near[rows] = True
    edge = np.asarray(rows)
    while len(edge):
        is_new = _is_like(vectors, edge, least) & ~is_near
        is_near |= is_new
        edge = np.flatnonzero(is_new)
    is_near[rows] = False
    return is_near


def _is_like(vectors: sp.csr_matrix, rows: np.ndarray, least: float) -> np.ndarray:
    """Return (N,) bool: whether a vector has a cosine of `least` with one of the rows."""
    columns = vectors.T.tocsr()
    is_like = np.zeros(vectors.shape[0], dtype=bool)
    for start in range(0, len(rows), BLOCK):
        cosines = sp.csr_matrix(vectors[rows[start : start + BLOCK]] @ columns)
        is_like[cosines.indices[cosines.data >= least]] = True
    return is_like
