"""Find misfits: events whose item reads unlike all else that its user chose.

Shapes: U users, N items, S drawn items.
"""

import numpy as np
import scipy.sparse as sp

from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.text.tfidf import rare_word_vectors

BLOCK = 5_000  # users compared at a time
ROUNDING = 1e-6  # of a product of vectors
MAX_SHARE = 0.1  # of the items that may hold a word that counts


def misfits(
    data: Dataset, rng: np.random.Generator, level: float = 0.9, drawn: int = 200
) -> np.ndarray:
    """Return (events,) bool: whether an event's item fits its user no better than drawn ones.

    An item fits by its mean TF-IDF cosine with the user's other items. It must be above that of
    the share `level` of `drawn` items. Nothing is said of a user's only item, nor of items without
    words: they are none.
    """
    vectors = rare_word_vectors(data.item_texts, MAX_SHARE)
    sample = vectors[rng.integers(len(data.catalogue), size=drawn)].T.tocsr()
    rows: Ragged = data.sequences.rows
    parts = []
    for start in range(0, len(rows), BLOCK):
        block = rows.slice(start, min(start + BLOCK, len(rows)))
        parts.append(_misfits_of(block, vectors, sample, level))
    mask = np.zeros(len(data.events), dtype=bool)
    if parts:
        mask[data.sequences.events] = np.concatenate(parts)
    return mask


def _misfits_of(
    histories: Ragged, vectors: sp.csr_matrix, sample: sp.csr_matrix, level: float
) -> np.ndarray:
    """Return (events,) bool for the users of these histories; `sample` is (V, S)."""
    sums = histories.matrix(vectors.shape[0]) @ vectors
    limits = np.quantile((sums @ sample).toarray(), level, axis=1)
    chosen = vectors[histories.values]
    products = np.asarray(chosen.multiply(sums[histories.row_ids]).sum(axis=1)).ravel()
    squares = np.asarray(chosen.multiply(chosen).sum(axis=1)).ravel()
    lengths = histories.lengths[histories.row_ids]
    # a drawn item is compared with one item more than an event is
    scale = lengths / np.maximum(lengths - 1, 1)
    is_unlike = (products - squares) * scale <= limits[histories.row_ids] + ROUNDING
    is_judged = (lengths > 1) & (squares > 0)
    return is_unlike & is_judged
