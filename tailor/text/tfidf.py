"""Texts as vectors without a language model: TF-IDF, and its singular value decomposition."""

from collections.abc import Iterable, Sequence

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import svds

from tailor.text.words import words

# A word in no more texts than these is never too frequent: a small catalogue keeps its rare words.
MIN_TEXTS = 50
ROUNDING = 1e-6  # vectors of a smaller length are rounding errors


def count_terms(
    term_lists: Iterable[Sequence[str]], vocabulary: dict[str, int] | None = None
) -> tuple[sp.csr_matrix, dict[str, int]]:
    """Count terms: return (n, V) counts and the mapping from term to column.

    With a `vocabulary` given, terms outside it are left out.
    """
    learns = vocabulary is None
    columns: dict[str, int] = {} if vocabulary is None else vocabulary
    flat: list[int] = []
    offsets = [0]
    for terms in term_lists:
        if learns:
            flat += [columns.setdefault(term, len(columns)) for term in terms]
        else:
            flat += [columns[term] for term in terms if term in columns]
        offsets.append(len(flat))
    matrix = sp.csr_matrix(
        (np.ones(len(flat), np.float32), np.array(flat, np.int32), np.array(offsets, np.int64)),
        shape=(len(offsets) - 1, len(columns)),
    )
    matrix.sum_duplicates()
    return matrix, columns


def count_words(
    texts: Sequence[str], vocabulary: dict[str, int] | None = None
) -> tuple[sp.csr_matrix, dict[str, int]]:
    """Count the words of texts, as `count_terms` does."""
    return count_terms(map(words, texts), vocabulary)


def tfidf(texts: Sequence[str], max_share: float = 1.0) -> sp.csr_matrix:
    """Return (n, V) TF-IDF rows of unit length, zero for a text without words.

    A word counts (1 + ln count) x (ln((1 + n) / (1 + texts with the word)) + 1). Words in more than
    `max_share` of the texts are left out: they say least and cost most.
    """
    counts, _ = count_words(texts)
    n = counts.shape[0]
    text_counts = np.bincount(counts.indices, minlength=counts.shape[1])
    counts.data = 1 + np.log(counts.data)
    is_rare = text_counts <= max(1, max_share * n)
    idf = np.where(is_rare, np.log((1 + n) / (1 + text_counts)) + 1, 0.0)
    weighted = (counts @ sp.diags(idf.astype(np.float32))).tocsr()
    weighted.eliminate_zeros()
    return unit_rows(weighted)


def rare_word_vectors(texts: Sequence[str], max_share: float) -> sp.csr_matrix:
    """Return TF-IDF rows of rare words only.

    A word is rare in at most `max_share` of the texts, or in at most MIN_TEXTS of them.
    """
    return tfidf(texts, max(max_share, MIN_TEXTS / max(len(texts), 1)))


def unit_rows(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Return every row divided by its length; zero rows stay zero."""
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return sp.csr_matrix(sp.diags(1 / np.maximum(lengths, 1e-12)) @ matrix, dtype=np.float32)


def svd_vectors(matrix: sp.csr_matrix, dims: int, seed: int = 0) -> np.ndarray:
    """Return latent semantic vectors: (n, min(dims, rank)) float32 rows of unit length.

    They are the left singular vectors times the singular values, the strongest direction first.
    """
    max_dims = min(matrix.shape) - 1
    if dims > max_dims or max_dims < 1:  # all directions, which the sparse solver cannot give
        left, values, _ = np.linalg.svd(matrix.toarray().astype(np.float64), full_matrices=False)
    else:
        start = np.random.default_rng(seed).standard_normal(min(matrix.shape))
        left, values, _ = svds(matrix.astype(np.float64), k=dims, v0=start)
    order = np.argsort(-values)
    vectors = np.asarray(left[:, order] * values[order], dtype=np.float32)
    lengths = np.asarray(np.linalg.norm(vectors, axis=1, keepdims=True))
    unit: np.ndarray = np.divide(
        vectors, lengths, out=np.zeros_like(vectors), where=lengths > ROUNDING
    )
    return unit
