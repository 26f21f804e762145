"""Texts as vectors without a language model: TF-IDF, and its singular value decomposition."""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import svds

from tailor.text.words import telling

# a word in no more texts than these is never too frequent, or a small catalogue would lose its rare
# words
MIN_TEXTS = 50


def count_words(
    texts: Sequence[str], vocabulary: dict[str, int] | None = None, language: str | None = None
) -> tuple[sp.csr_matrix, dict[str, int]]:
    """(n, V) counts, and the word -> column mapping; with a `vocabulary` given, words outside it
    are left out; with a `language`, stems.
    """
    learn = vocabulary is None
    columns: dict[str, int] = {} if vocabulary is None else vocabulary
    flat: list[int] = []
    lengths = np.zeros(len(texts), dtype=np.int64)
    for i, text in enumerate(texts):
        found = (
            [columns.setdefault(word, len(columns)) for word in telling(text, language)]
            if learn
            else [columns[word] for word in telling(text, language) if word in columns]
        )
        flat += found
        lengths[i] = len(found)
    matrix = sp.csr_matrix(
        (np.ones(len(flat), np.float32), np.array(flat, np.int32), np.r_[0, np.cumsum(lengths)]),
        shape=(len(texts), len(columns)),
    )
    matrix.sum_duplicates()
    return matrix, columns


def tfidf(texts: Sequence[str], max_share: float = 1.0) -> sp.csr_matrix:
    """(n, V) rows of unit length (zero for a text without words): (1 + ln count) x (ln((1 + n) / (1
    + texts with the word)) + 1).

    Words in more than `max_share` of the texts are left out: they say least and cost most.
    """
    counts, _ = count_words(texts)
    n = counts.shape[0]
    texts_with = np.bincount(counts.indices, minlength=counts.shape[1])
    counts.data = 1 + np.log(counts.data)
    idf = np.where(texts_with <= max(1, max_share * n), np.log((1 + n) / (1 + texts_with)) + 1, 0.0)
    weighted = (counts @ sp.diags(idf.astype(np.float32))).tocsr()
    weighted.eliminate_zeros()
    return unit_rows(weighted)


def rare_word_vectors(texts: Sequence[str], max_share: float) -> sp.csr_matrix:
    """Return TF-IDF rows of the words in at most `max_share` of the texts, or in at most MIN_TEXTS."""
    return tfidf(texts, max(max_share, MIN_TEXTS / max(len(texts), 1)))


def unit_rows(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Every row divided by its length; zero rows stay zero."""
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return sp.csr_matrix(sp.diags(1 / np.maximum(lengths, 1e-12)) @ matrix, dtype=np.float32)


def svd_vectors(matrix: sp.csr_matrix, dims: int, seed: int = 0) -> np.ndarray:
    """(n, min(dims, rank)) float32 rows of unit length: the left singular vectors times the
    singular values (latent semantic analysis).
    """
    most = min(matrix.shape) - 1
    if dims > most or most < 1:  # all there are, which the sparse solver cannot give
        left, values, _ = np.linalg.svd(matrix.toarray().astype(np.float64), full_matrices=False)
    else:
        start = np.random.default_rng(seed).standard_normal(min(matrix.shape))
        left, values, _ = svds(matrix.astype(np.float64), k=dims, v0=start)
    order = np.argsort(-values)
    vectors = np.asarray(left[:, order] * values[order], dtype=np.float32)
    lengths = np.asarray(np.linalg.norm(vectors, axis=1, keepdims=True))
    # what is shorter is rounding
    unit: np.ndarray = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-6)
    return unit
