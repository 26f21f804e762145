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
from tailor.text.words import RULES, Variants, check_language


@dataclass(eq=False)
class TextMatch(ScoringRecommender):
    """BM25 of the query's words over the items' title, categories and text.

    Without a query, the words of the user's latest items are used. Robertson et al. (1994); serves
    search, and users of whom only words are known.
    """

    reads_text: ClassVar[bool] = True

    k1: float = 1.5
    """How soon a repeated word stops counting; 0: at once."""
    b: float = 0.75
    """How much long texts are held back, from 0 to 1."""
    language: str | None = None
    """Language of the catalogue, such as "english": words count by their stems, and its commonest
    words only where nothing else is left. None: words as they are."""
    history_length: int = 5
    """Number of latest items whose texts stand in for a missing query."""

    weights_: sp.csr_matrix = field(init=False, repr=False)
    """(V, N) what each word adds to each item."""
    words_: Vocabulary = field(init=False, repr=False)
    """The V words."""
    texts_: list[str] = field(init=False, repr=False)
    """(N,) texts of the items."""
    rules_: int = field(init=False, repr=False)
    """Version of the rules that split texts into words."""

    def __post_init__(self) -> None:
        check_language(self.language)

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_, self.texts_ = data.catalogue, data.item_texts
        self._index(data.texts_of("title"))
        self.fit_report_ = {"words": len(self.words_)}

    def _index(self, titles: Sequence[str] = ()) -> None:
        index = BM25(self.k1, self.b, self.language)
        index.add(self.texts_, titles)
        self.weights_, self.words_ = index.weights, Vocabulary(index.vocabulary)
        self.rules_ = RULES
        self._variants = self._new_variants()

    def _new_variants(self) -> Variants:
        variants = Variants(self.language)
        for word in self.words_.ids.tolist():
            variants.add(word)
        for text in self.texts_:
            variants.add_text(text)
        return variants

    def _query_words(self, queries: Queries, i: int) -> list[str]:
        """Return the indexed words that the i-th query stands for."""
        latest = queries.histories[i][-self.history_length :]
        text = queries.text(i).strip() or " ".join(self.texts_[row] for row in latest)
        return self._variants.indexed_words(text, self.words_)

    def _prepare(self) -> None:
        """Rebuild what is not saved, and the index of older rules."""
        if getattr(self, "rules_", 1) != RULES:
            self._index()
        elif "_variants" not in self.__dict__:
            self._variants = self._new_variants()

    def _scores(self, queries: Queries) -> sp.csr_matrix:
        self._prepare()
        word_rows = Ragged.of(
            [self.words_.rows(self._query_words(queries, i)) for i in range(len(queries))]
        )
        return word_rows.matrix(len(self.words_)) @ self.weights_

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Split each item's score exactly over the query's words."""
        self._check_fitted()
        self._prepare()
        catalogue_queries = Queries.of(queries).reindexed(self.items_)
        return [
            self._explanations(self._query_words(catalogue_queries, i), ranking)
            for i, ranking in enumerate(rankings)
        ]

    def _explanations(self, query_words: Sequence[str], ranking: Ranking) -> list[Explanation]:
        item_rows = self.items_.rows(ranking.ids)
        counts = Counter(query_words)
        words = list(counts)
        scores = self.weights_[self.words_.rows(words)][:, np.maximum(item_rows, 0)].toarray()
        scores[:, item_rows < 0] = 0  # an item that is not in the catalogue
        scores *= np.array(list(counts.values()), dtype=np.float32)[:, None]
        shares = scores / np.maximum(scores.sum(axis=0), 1e-12)
        return [
            _explanation(item_id, words, shares[:, column])
            for column, item_id in enumerate(ranking.ids)
        ]


def _explanation(item_id: str, words: list[str], shares: np.ndarray) -> Explanation:
    order = np.argsort(-shares, kind="stable")
    evidence = (
        Evidence("word", words[i], float(shares[i])) for i in order.tolist() if shares[i] > 0
    )
    return Explanation(item_id, tuple(evidence))
