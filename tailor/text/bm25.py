"""BM25 over a growing collection of texts."""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from tailor.text.tfidf import count_words
from tailor.text.words import words


class BM25:
    """Scores texts by the words they share with a query; rare words count more, long texts less.

    Robertson et al. (1994) with Lucene's idf, ln(1 + (n - n_word + .5) / (n_word + .5)), which is never negative.
    Weights are made when first asked for after an `add`, so adding is cheap and searching is one sparse product.
    """

    def __init__(self, k1: float = 1.2, b: float = 0.75) -> None:
        self.k1, self.b = k1, b
        self.vocabulary: dict[str, int] = {}
        self._counts: list[sp.csr_matrix] = []
        self._weights: sp.csr_matrix | None = None

    def add(self, texts: Sequence[str]) -> None:
        """Append texts; the first text added is row 0."""
        for text in texts:
            for word in words(text):
                self.vocabulary.setdefault(word, len(self.vocabulary))
        self._counts.append(count_words(texts, self.vocabulary)[0])
        self._weights = None

    def __len__(self) -> int:
        return sum(part.shape[0] for part in self._counts)

    @property
    def weights(self) -> sp.csr_matrix:
        """(V, n): what each word adds to the score of each text."""
        if self._weights is None:
            wide = [sp.csr_matrix((p.data, p.indices, p.indptr), shape=(p.shape[0], len(self.vocabulary))) for p in self._counts]
            counts = sp.vstack(wide, format="csr") if wide else sp.csr_matrix((0, 0), dtype=np.float32)
            self._counts = [counts]
            n = counts.shape[0]
            lengths = np.asarray(counts.sum(axis=1)).ravel()
            share = lengths / max(lengths.mean(), 1e-12) if n else lengths
            texts_with = np.bincount(counts.indices, minlength=counts.shape[1])
            idf = np.log1p((n - texts_with + 0.5) / (texts_with + 0.5))
            saturation = self.k1 * (1 - self.b + self.b * np.repeat(share, np.diff(counts.indptr)))
            data = (idf[counts.indices] * counts.data / (counts.data + saturation)).astype(np.float32)
            self._weights = sp.csr_matrix((data, counts.indices, counts.indptr), shape=counts.shape).T.tocsr()
        return self._weights

    def scores(self, queries: Sequence[str]) -> sp.csr_matrix:
        """(Q, n) sparse scores; a word standing twice in a query counts twice."""
        weights = self.weights
        return (count_words(queries, self.vocabulary)[0] @ weights).tocsr()
