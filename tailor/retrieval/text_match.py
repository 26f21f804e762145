"""Text match: items whose words answer the query's."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import scipy.sparse as sp

from tailor.core.methods import ScoringRecommender
from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import Evidence, Explanation, Query, Ranking
from tailor.data.queries import Queries
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.text.bm25 import BM25
from tailor.text.words import check_language, telling


@dataclass(eq=False)
class TextMatch(ScoringRecommender):
    """BM25 of a query's words over the items' title, categories and text; without a query, the
    words of the latest items.

    Robertson et al. (1994); serves search, and people of whom only words are known.
    """

    reads_text: ClassVar[bool] = True

    k1: float = 1.5
    """How soon a repeated word stops counting."""
    b: float = 0.75
    """How much long texts are held back."""
    language: str | None = None
    """Such as "english": words count by their stems, and its commonest words not at all."""
    history_length: int = 5
    """Latest items whose texts stand in for a missing query."""

    weights_: sp.csr_matrix = field(init=False, repr=False)
    """(V, N) what each word adds to each item."""
    words_: Vocabulary = field(init=False, repr=False)
    texts_: list[str] = field(init=False, repr=False)
    """(N,)."""

    def __post_init__(self) -> None:
        check_language(self.language)

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_, self.texts_ = data.catalogue, data.item_texts
        index = BM25(self.k1, self.b, self.language)
        index.add(self.texts_)
        self.weights_, self.words_ = index.weights, Vocabulary(index.vocabulary)
        self.fit_report_ = {"words": len(self.words_)}

    def _text(self, queries: Queries, i: int) -> str:
        latest = queries.histories[i][-self.history_length :]
        return queries.text(i).strip() or " ".join(self.texts_[row] for row in latest)

    def _scores(self, queries: Queries) -> sp.csr_matrix:
        asked = Ragged.of(
            [
                self.words_.rows(telling(self._text(queries, i), self.language))
                for i in range(len(queries))
            ]
        )
        return asked.keep(asked.values >= 0).matrix(len(self.words_)) @ self.weights_

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Each item's score split exactly over the query's words."""
        self._check_fitted()
        asked = Queries.of(queries).reindexed(self.items_)
        out = []
        for i, ranking in enumerate(rankings):
            rows = self.items_.rows(ranking.ids)
            counts = Counter(
                word for word in telling(self._text(asked, i), self.language) if word in self.words_
            )
            found = list(counts)
            parts = self.weights_[self.words_.rows(found)][:, np.maximum(rows, 0)].toarray()
            parts[:, rows < 0] = 0  # an item that is not known here
            parts *= np.array(list(counts.values()), dtype=np.float32)[:, None]
            shares = parts / np.maximum(parts.sum(axis=0), 1e-12)
            out.append(
                [
                    _explanation(item_id, found, shares[:, k])
                    for k, item_id in enumerate(ranking.ids)
                ]
            )
        return out


def _explanation(item_id: str, found: list[str], shares: np.ndarray) -> Explanation:
    order = np.argsort(-shares, kind="stable")
    return Explanation(
        item_id,
        tuple(Evidence("word", found[at], float(shares[at])) for at in order if shares[at] > 0),
    )
