"""Item neighbours: items that the same users chose."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import scipy.sparse as sp

from tailor.core.costs import Cost, Stopwatch, bytes_of
from tailor.core.run import Run
from tailor.core.search_space import Choices, Range
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.retrieval.neighbours import SAMPLE, ItemToItem, nearest, repeated

SIMILARITIES = ("cosine", "tfidf", "bm25")


@dataclass(eq=False)
class ItemKNN(ItemToItem):
    """Recommend items that were chosen by the same users as those of the history.

    An item is the vector of how often each user chose it; the order of choices does not count. The
    similarity of two items is the product of their vectors divided by (the product of their lengths
    plus `shrink`), which keeps pairs that one or two users share from leading. "tfidf" takes square
    roots of the counts and weighs each user by log((items + 1) / (the user's items + 1)), so that
    users who choose everything count little; "bm25" weighs users alike, lets counts saturate,
    damps popular items by `b`, and divides by nothing. No paper of its own: the classical
    neighbourhood recommender, with the weights of implicit's (whose logarithm lacks the + 1 of the
    items).
    """

    similarity: Annotated[
        Literal["cosine", "tfidf", "bm25"], Choices("cosine", "tfidf", "bm25")
    ] = "cosine"
    """Weights of the item vectors, and whether they are divided by their lengths."""
    shrink: Annotated[float, Range(0.1, 300.0, log=True)] = 10.0
    """Number added to the product of the lengths; not used by "bm25"."""
    k1: float = 1.2
    """With "bm25": count at which a user's weight for an item reaches half of its limit."""
    b: float = 0.75
    """With "bm25": how much an item's popularity damps it, from 0 to 1."""
    user_length: int = 5_000
    """Most recent events of a user that are used; work grows with their square."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.similarity not in SIMILARITIES:
            raise DataError(
                f'similarity is "{self.similarity}": it must be one of {", ".join(SIMILARITIES)}'
            )
        if not self.shrink >= 0:
            raise DataError(f"shrink is {self.shrink}: it must be 0 or more")
        if not (self.k1 > 0 and 0 <= self.b <= 1):
            raise DataError(f"k1 is {self.k1}, b {self.b}: k1 must be above 0, b from 0 to 1")
        if self.user_length < 1:
            raise DataError(f"user_length is {self.user_length}: it must be at least 1")

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        vectors = self._item_vectors(data.sequences.rows.last(self.user_length))
        self.weights_ = self._neighbours(vectors, run)
        self.fit_report_ = {
            "items_with_neighbours": int((np.diff(self.weights_.indptr) > 0).sum()),
            "pairs": self.weights_.nnz,
        }

    def _estimate_cost(self, data: Dataset, run: Run, valid: Split | None) -> Cost:
        """Compute the neighbours of a sample of the items."""
        self.items_ = data.catalogue
        watch = Stopwatch()
        vectors = self._item_vectors(data.sequences.rows.last(self.user_length))
        preparing_s = watch.lap()
        sample = self._neighbours(vectors, run, SAMPLE)
        self.weights_ = repeated(sample, len(self.items_))
        kept_bytes = bytes_of(self.weights_)
        return Cost(
            preparing_s + watch.lap() * len(self.items_) / max(sample.shape[0], 1),
            kept_bytes,
            2 * kept_bytes + 3 * bytes_of(vectors),
        )

    def _neighbours(
        self, vectors: sp.csr_matrix, run: Run, max_blocks: int | None = None
    ) -> sp.csr_matrix:
        """Return each item's neighbours, heaviest first; those of `max_blocks` blocks of items."""
        lengths = np.sqrt(vectors.multiply(vectors).sum(axis=1)).A1.astype(np.float32)

        def divide(block: sp.csr_matrix, start: int) -> None:
            """Divide products by lengths, in place."""
            end = start + block.shape[0]
            entries = np.diff(block.indptr)
            row_lengths = np.repeat(lengths[start:end], entries)
            column_lengths = lengths[block.indices]
            divisors = row_lengths * column_lengths + np.float32(self.shrink)
            smallest = np.finfo(np.float32).tiny
            block.data /= np.maximum(divisors, smallest)

        rescale = None if self.similarity == "bm25" else divide
        return nearest(vectors, self.top_n, run, "comparing items", rescale, max_blocks)

    def _item_vectors(self, histories: Ragged) -> sp.csr_matrix:
        """Return (N, U) float32 item vectors; a search engine would have documents by words."""
        counts = histories.matrix(len(self.items_))
        counts.sum_duplicates()
        if self.similarity != "cosine":
            items_per_user = np.diff(counts.indptr)
            rarity = np.log((counts.shape[1] + 1) / (items_per_user + 1))
            is_tfidf = self.similarity == "tfidf"
            weights = np.sqrt(counts.data) if is_tfidf else self._saturate(counts)
            counts.data = weights * np.repeat(rarity, items_per_user)
        return sp.csr_matrix(counts.T, dtype=np.float32)

    def _saturate(self, counts: sp.csr_matrix) -> np.ndarray:
        """Return the weights of BM25 for counts (U, N)."""
        totals = np.bincount(counts.indices, counts.data, minlength=counts.shape[1])
        damping = 1 - self.b + self.b * totals / max(totals.mean(), 1e-12)
        weights: np.ndarray = (
            counts.data * (self.k1 + 1) / (self.k1 * damping[counts.indices] + counts.data)
        )
        return weights
