"""Neighbours by text: items whose words resemble those of the history's items."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import scipy.sparse as sp

from tailor.core.costs import Cost, Stopwatch, bytes_of
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.dataset import Dataset
from tailor.data.splits import Split
from tailor.data.stats import has_words
from tailor.errors import DataError
from tailor.retrieval.neighbours import SAMPLE, ItemToItem, nearest, repeated
from tailor.text.tfidf import rare_word_vectors, svd_vectors, tfidf


@dataclass(eq=False)
class TextNeighbours(ItemToItem):
    """Items that share rare words with the history's items, new items included.

    The similarity of items is the cosine of their TF-IDF vectors, or of their `dims` strongest
    singular directions. The `top_n` neighbours of each item of the history are added up, older
    items counting less. No paper of its own: a classical content baseline.
    """

    history_decay: Annotated[float, Range(0.2, 1.0)] = 0.7
    """Weight of an item of the history relative to the one after it."""
    top_n: int | None = 100
    """Neighbours kept per item; None: all."""
    dims: int = 0
    """Number of singular directions, which also match related words; 0: the words themselves."""
    max_share: Annotated[float, Range(0.01, 1.0, log=True)] = 0.1
    """Largest share of the items that may hold a word; words of at most 50 items always count."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dims < 0 or not 0 < self.max_share <= 1:
            raise DataError(
                f"dims is {self.dims}, max_share {self.max_share}: dims from 0, max_share above 0"
                " and at most 1"
            )

    def unsuited(self, data: Dataset) -> str:
        return "" if has_words(data) else "no item has words"

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        texts = data.item_texts
        vectors = self._vectors(texts, run)
        self.weights_ = nearest_by_cosine(vectors, self.top_n or len(texts), run)
        self.fit_report_ = {
            "items_without_words": int(sum(not text.strip() for text in texts)),
            "pairs": self.weights_.nnz,
        }

    def _vectors(self, texts: list[str], run: Run) -> np.ndarray | sp.csr_matrix:
        if not self.dims:
            return rare_word_vectors(texts, self.max_share)
        word_vectors = tfidf(texts)
        return svd_vectors(word_vectors, self.dims, run.seed) if word_vectors.nnz else word_vectors

    def _estimate_cost(self, data: Dataset, run: Run, valid: Split | None) -> Cost:
        self.items_ = data.catalogue
        watch = Stopwatch()
        vectors = self._vectors(data.item_texts, run)
        vector_seconds = watch.lap()
        sample = nearest(vectors, self.top_n, run, max_blocks=SAMPLE)
        self.weights_ = repeated(sample, len(self.items_))
        scale = len(self.items_) / max(sample.shape[0], 1)
        kept_bytes = bytes_of(self.weights_)
        return Cost(
            vector_seconds + watch.lap() * scale,
            kept_bytes,
            2 * kept_bytes + bytes_of(vectors) * 3,
        )


def nearest_by_cosine(vectors: np.ndarray | sp.csr_matrix, top_n: int, run: Run) -> sp.csr_matrix:
    """Return (N, N) positive cosines of each row's `top_n` most similar other rows.

    Rows are compared in blocks of bounded memory.
    """
    return nearest(vectors, top_n, run, "comparing texts")
