"""Item neighbours: items that the same people chose."""

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
    """Items chosen by the same people as those of your history; in what order they were chosen does
    not count.

    An item is the vector of how often each user chose it. Two items are as similar as the product
    of their vectors over the product of their lengths plus `shrink`, which keeps pairs that one or
    two people share from leading. "tfidf" takes square roots of the counts and weighs each user by
    log((items + 1) / (the user's items + 1)), so that those who choose everything say little;
    "bm25" weighs users alike, lets counts saturate, mutes popular items by `b`, and divides by
    nothing. No paper of its own: the classical neighbourhood recommender, with the weights of
    implicit's (whose logarithm lacks the + 1 of the items).
    """

    similarity: Annotated[
        Literal["cosine", "tfidf", "bm25"], Choices("cosine", "tfidf", "bm25")
    ] = "cosine"
    shrink: Annotated[float, Range(0.1, 300.0, log=True)] = 10.0
    """Added to the product of the lengths; "bm25" has none."""
    k1: float = 1.2
    """"bm25": at which count a user's weight for an item has half of its limit."""
    b: float = 0.75
    """"bm25": how far an item's popularity mutes it, from 0 to 1."""
    user_length: int = 5_000
    """Most recent events of a user that are learned from: work grows with the square of it."""

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
        self.weights_ = self._similar(
            self._vectors(data.sequences.rows.last(self.user_length)), run
        )
        self.fit_report_ = {
            "items_with_neighbours": int((np.diff(self.weights_.indptr) > 0).sum()),
            "pairs": self.weights_.nnz,
        }

    def _estimate_cost(self, data: Dataset, run: Run, valid: Split | None) -> Cost:
        self.items_, watch = data.catalogue, Stopwatch()
        vectors = self._vectors(data.sequences.rows.last(self.user_length))
        before, some = watch.lap(), self._similar(vectors, run, SAMPLE)
        self.weights_ = repeated(some, len(self.items_))
        kept = bytes_of(self.weights_)
        return Cost(
            before + watch.lap() * len(self.items_) / max(some.shape[0], 1),
            kept,
            2 * kept + 3 * bytes_of(vectors),
        )

    def _similar(self, vectors: sp.csr_matrix, run: Run, most: int | None = None) -> sp.csr_matrix:
        """Each item's neighbours, heaviest first; of all items, or of `most` blocks of them."""
        lengths = np.sqrt(vectors.multiply(vectors).sum(axis=1)).A1.astype(np.float32)

        def divide(block: sp.csr_matrix, start: int) -> None:
            own = np.repeat(lengths[start : start + block.shape[0]], np.diff(block.indptr))
            block.data /= np.maximum(
                own * lengths[block.indices] + np.float32(self.shrink), np.finfo(np.float32).tiny
            )

        return nearest(
            vectors,
            self.top_n,
            run,
            "comparing items",
            None if self.similarity == "bm25" else divide,
            most,
        )

    def _vectors(self, histories: Ragged) -> sp.csr_matrix:
        """(N, U) float32 items by users."""
        counts = histories.matrix(len(self.items_))
        counts.sum_duplicates()
        # items stand where a search engine has documents, users where it has words
        if self.similarity != "cosine":
            user = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
            rarity = np.log((counts.shape[1] + 1) / (np.diff(counts.indptr) + 1))[user]
            counts.data = (
                np.sqrt(counts.data) if self.similarity == "tfidf" else self._saturated(counts)
            ) * rarity
        return sp.csr_matrix(counts.T, dtype=np.float32)

    def _saturated(self, counts: sp.csr_matrix) -> np.ndarray:
        total = np.bincount(counts.indices, counts.data, minlength=counts.shape[1])
        relative = 1 - self.b + self.b * total / max(total.mean(), 1e-12)
        weights: np.ndarray = (
            counts.data * (self.k1 + 1) / (self.k1 * relative[counts.indices] + counts.data)
        )
        return weights
