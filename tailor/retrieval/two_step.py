"""Two steps: what follows the items that follow yours, or the items that read like yours."""

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
from tailor.errors import DataError
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.neighbours import repeated
from tailor.retrieval.text_neighbours import TextNeighbours, nearest_by_cosine
from tailor.text.tfidf import rare_word_vectors

ROWS = 1_000  # of the product that are held whole, before the heaviest are kept


@dataclass(eq=False)
class TwoStep(CoVisitation):
    """Goes from an item of your history to items that follow it (or that use the same rare words),
    and from there to what follows those.

    Most items have few followers; their followers' followers, or their twins' followers, are more.
    The matrix is A x W: W the co-visitation counts and A either W or the `twins` nearest items by
    text, all rows scaled to sum to 1, `top_n` kept. Beside co-visitation, not in its place: alone
    it is weaker. No paper of its own: two steps of a random walk on the item graph.
    """

    top_n: int | None = 200
    first: Literal["visits", "texts"] = "visits"
    """What the first step follows."""
    twins: Annotated[int, Range(3, 100, log=True)] = 20
    """With "texts": items that resemble an item."""
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

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        super()._fit(data, run, valid)
        then = _shares(self.weights_)
        to = (
            then
            if self.first == "visits"
            else _shares(
                nearest_by_cosine(
                    rare_word_vectors(data.item_texts, self.max_share), self.twins, run
                )
            )
        )
        kept = self.top_n or len(self.items_)
        blocks = [
            heaviest(to[start : start + ROWS] @ then, kept) for start in range(0, to.shape[0], ROWS)
        ]
        self.weights_ = sp.csr_matrix(sp.vstack(blocks)) if blocks else then
        self.fit_report_ |= {"pairs": self.weights_.nnz}

    def _estimate_cost(self, data: Dataset, run: Run, valid: Split | None) -> Cost:
        counts, n = (
            CoVisitation(**{name: getattr(self, name) for name in CoVisitation().params()}),
            len(data.catalogue),
        )
        counted, cost = stand_in(counts, data, run, valid)
        parts = [("counts", cost)]
        if self.first == "texts":
            first, cost = stand_in(
                TextNeighbours(top_n=self.twins, max_share=self.max_share), data, run, valid
            )
            parts.append(("texts", cost))
        then = _shares(counted.weights_)
        to = then if self.first == "visits" else _shares(first.weights_)
        drawn = run.rng("rows").permutation(n)
        # the first block waits for memory that later ones find
        heaviest(to[drawn[-ROWS:]] @ then, self.top_n or n)
        watch, chosen = Stopwatch(), drawn[:ROWS]
        some = heaviest(to[chosen] @ then, self.top_n or n)
        self.items_, self.weights_ = data.catalogue, repeated(some, n)
        seconds, kept = watch.lap() * n / max(len(chosen), 1), bytes_of(self.weights_)
        whole = Cost.in_turn([*parts, ("product", Cost(seconds, kept, 2 * kept))])
        return replace(whole, kept_bytes=kept, parts=())


def _shares(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Every row divided by its sum; empty rows stay empty."""
    sums = np.asarray(matrix.sum(axis=1)).ravel()
    return sp.csr_matrix(sp.diags(1 / np.maximum(sums, 1e-12)) @ matrix, dtype=np.float32)
