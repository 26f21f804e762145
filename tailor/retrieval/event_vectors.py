"""Vectors of items from who chose them: singular vectors of the events.

Shapes: U users, N items, D width.
"""

import numpy as np
import scipy.sparse as sp

from tailor.data.arrays import Ragged
from tailor.text.tfidf import svd_vectors


def normalized_events(rows: Ragged, items: int) -> sp.csr_matrix:
    """Return (N, U) events of items by users, divided by the square roots of both degrees."""
    events = rows.matrix(items)
    events.sum_duplicates()
    events.data[:] = 1
    user_degrees = np.diff(events.indptr)
    item_degrees = np.bincount(events.indices, minlength=items)
    item_scale = sp.diags(1 / np.sqrt(np.maximum(item_degrees, 1)))
    user_scale = sp.diags(1 / np.sqrt(np.maximum(user_degrees, 1)))
    return (item_scale @ events.T @ user_scale).tocsr()


def latent_vectors(matrix: sp.csr_matrix, dims: int, seed: int = 0) -> np.ndarray:
    """Return (n, at most `dims`) vectors of unit length of a matrix's rows; zero for empty rows."""
    has_entries = np.diff(matrix.indptr) > 0
    if not has_entries.any() or min(matrix.shape) < 2:
        return np.zeros((matrix.shape[0], 1), np.float32)
    vectors: np.ndarray = svd_vectors(matrix, dims, seed) * has_entries[:, None]
    return vectors
