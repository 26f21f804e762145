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
from tailor.errors import DataError
from tailor.retrieval.neighbours import SAMPLE, ItemToItem, nearest, repeated
from tailor.text.tfidf import rare_word_vectors, svd_vectors, tfidf


@dataclass(eq=False)
class TextNeighbours(ItemToItem):
    """Items whose title, categories and text use the same rare words as what you chose; works for
    items nobody chose yet.

    Cosine of TF-IDF vectors, or of their `dims` strongest singular directions, `top_n` neighbours
    per item, added up over the fading history. No paper of its own: a classical content baseline.
    """

    history_decay: Annotated[float, Range(0.2, 1.0)] = 0.7
    top_n: int | None = 100
    dims: int = 0
    """0: words themselves; else singular vectors, which also match related words."""
    max_share: Annotated[float, Range(0.01, 1.0, log=True)] = 0.1
    """Words in a larger share of the items, and in over 50, are left out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dims < 0 or not 0 < self.max_share <= 1:
            raise DataError(
                f"dims is {self.dims}, max_share {self.max_share}: dims from 0, max_share above 0"
                " and at most 1"
            )

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        texts = data.item_texts
        words = tfidf(texts) if self.dims else rare_word_vectors(texts, self.max_share)
        vectors = svd_vectors(words, self.dims, run.seed) if self.dims and words.nnz else words
        self.weights_ = nearest_by_cosine(vectors, self.top_n or len(texts), run)
        self.fit_report_ = {
            "items_without_words": int(sum(not text.strip() for text in texts)),
            "pairs": self.weights_.nnz,
        }

    def _estimate_cost(self, data: Dataset, run: Run, valid: Split | None) -> Cost:
        self.items_, watch = data.catalogue, Stopwatch()
        words = (
            tfidf(data.item_texts)
            if self.dims
            else rare_word_vectors(data.item_texts, self.max_share)
        )
        vectors = svd_vectors(words, self.dims, run.seed) if self.dims and words.nnz else words
        read = watch.lap()
        some = nearest(vectors, self.top_n, run, most=SAMPLE)
        self.weights_ = repeated(some, len(self.items_))
        share = len(self.items_) / max(some.shape[0], 1)
        kept = bytes_of(self.weights_)
        return Cost(read + watch.lap() * share, kept, 2 * kept + bytes_of(vectors) * 3)


def nearest_by_cosine(vectors: np.ndarray | sp.csr_matrix, top_n: int, run: Run) -> sp.csr_matrix:
    """(N, N) the `top_n` most similar other rows of each row, in blocks of bounded memory; only
    positive cosines.
    """
    return nearest(vectors, top_n, run, "comparing texts")
