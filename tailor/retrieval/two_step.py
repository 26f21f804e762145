"""Two steps: what follows the followers of the history's items, or its lookalikes by text."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import scipy.sparse as sp

from tailor.core.costs import Cost, Stopwatch, bytes_of, stand_in
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.dataset import Dataset
from tailor.data.graphs import heaviest
from tailor.data.splits import Split
from tailor.data.stats import has_words
from tailor.errors import DataError
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.neighbours import repeated
from tailor.retrieval.text_neighbours import TextNeighbours, nearest_by_cosine
from tailor.text.tfidf import rare_word_vectors

ROWS = 1_000  # rows of the product in a block, before the heaviest entries are kept


@dataclass(eq=False)
class TwoStep(CoVisitation):
    """Recommend what follows the items that follow (or read like) the items of the history.

    Most items have few followers; the followers of those, or of items with similar text, are more.
    The matrix is A x W: W holds the co-visitation counts and A either W or the `twins` nearest
    items by text, all rows scaled to sum to 1, `top_n` kept. Meant beside co-visitation, not
    instead: alone it is weaker. No paper of its own: two steps of a random walk on the item graph.
    """

    top_n: int | None = 200
    """Neighbours kept per item; None keeps all."""
    first: Literal["visits", "texts"] = "visits"
    """First step: to items that follow, or to items with similar texts."""
    twins: Annotated[int, Range(3, 100, log=True)] = 20
    """With "texts": number of similar items per item."""
    max_share: float = 0.1
    """With "texts": words in more than this share of the items are left out, unless few items have
    them.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first not in ("visits", "texts"):
            raise DataError(f'first is "{self.first}": it must be "visits" or "texts"')
        if self.twins < 1 or not 0 < self.max_share <= 1:
            raise DataError(
                f"twins is {self.twins}, max_share {self.max_share}: twins from 1, max_share above"
                " 0 and at most 1"
            )

    def unsuited(self, data: Dataset) -> str:
        return "" if self.first == "visits" or has_words(data) else "no item has words"

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        super()._fit(data, run, valid)
        second = _scale_rows(self.weights_)
        first = second
        if self.first == "texts":
            vectors = rare_word_vectors(data.item_texts, self.max_share)
            first = _scale_rows(nearest_by_cosine(vectors, self.twins, run))
        top_n = self.top_n or len(self.items_)
        starts = range(0, first.shape[0], ROWS)
        blocks = [heaviest(first[start : start + ROWS] @ second, top_n) for start in starts]
        self.weights_ = sp.csr_matrix(sp.vstack(blocks)) if blocks else second
        self.fit_report_ |= {"pairs": self.weights_.nnz}

    def _estimate_cost(self, data: Dataset, run: Run, valid: Split | None) -> Cost:
        """Estimate counting and texts, and time a block of the product."""
        settings = {name: getattr(self, name) for name in CoVisitation().params()}
        counts, cost = stand_in(CoVisitation(**settings), data, run, valid)
        parts = [("counts", cost)]
        second = _scale_rows(counts.weights_)
        first = second
        if self.first == "texts":
            texts = TextNeighbours(top_n=self.twins, max_share=self.max_share)
            text_neighbours, cost = stand_in(texts, data, run, valid)
            parts.append(("texts", cost))
            first = _scale_rows(text_neighbours.weights_)
        n = len(data.catalogue)
        drawn = run.rng("rows").permutation(n)
        # the first block waits for memory that later ones reuse
        heaviest(first[drawn[-ROWS:]] @ second, self.top_n or n)
        watch = Stopwatch()
        sample_rows = drawn[:ROWS]
        sample = heaviest(first[sample_rows] @ second, self.top_n or n)
        self.items_ = data.catalogue
        self.weights_ = repeated(sample, n)
        seconds = watch.lap() * n / max(len(sample_rows), 1)
        kept_bytes = bytes_of(self.weights_)
        whole = Cost.in_turn([*parts, ("product", Cost(seconds, kept_bytes, 2 * kept_bytes))])
        return replace(whole, kept_bytes=kept_bytes, parts=())


def _scale_rows(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Return every row divided by its sum; empty rows stay empty."""
    sums = np.asarray(matrix.sum(axis=1)).ravel()
    return sp.csr_matrix(sp.diags(1 / np.maximum(sums, 1e-12)) @ matrix, dtype=np.float32)
