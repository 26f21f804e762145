"""BM25Reranker: candidates in the order of their words' fit to the query."""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import numpy as np
import polars as pl

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.text.bm25 import BM25
from tailor.text.words import check_language

NO_EVENTS = {"user_id": pl.String, "item_id": pl.String}


@dataclass(eq=False)
class BM25Reranker(Recommender):
    """Orders each candidate list by the words its texts share with the query.

    Robertson et al. (1994); a word counts by how rare it is in the list itself, so documents that
    no catalogue has are ordered too: their texts come in the list's details under "text". Equal
    scores keep the order of the list. Without a query text, the texts of the latest items of the
    history are the query.
    """

    needs_candidates: ClassVar[bool] = True
    reads_candidate_texts: ClassVar[bool] = True
    reads_text: ClassVar[bool] = True

    language: str | None = None
    """As "english": words count by their stems, and its commonest words not at all; none: as
    they are written."""
    history_length: int = 5
    """Latest items whose texts stand in for an absent query text."""

    items_: Vocabulary = field(init=False, repr=False)
    texts_: list[str] = field(init=False, repr=False)
    """(N,) the texts of the catalogue, for candidates that bring none."""

    def __post_init__(self) -> None:
        check_language(self.language)

    @classmethod
    def without_catalogue(cls, language: str | None = None) -> Self:
        """Return a fitted one that knows no item: all candidates must bring their texts."""
        return cls(language).fit(Dataset({"events": pl.DataFrame(schema=NO_EVENTS)}))

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        self.texts_ = data.item_texts

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        assert candidates is not None  # `recommend` refuses to go on without
        lists = candidates.only(queries.allowed_in(candidates))
        known_queries = queries.reindexed(self.items_)
        order = np.full((len(lists), min(k, lists.rows.shape[1])), -1)
        scores = np.full(order.shape, -np.inf, np.float32)
        notes: dict[int, tuple[str, ...]] = {}
        for i in range(len(lists)):
            texts = lists.texts(i, self.items_, self.texts_)
            query = self._query_text(known_queries, i)
            fits = self._fits(query, texts)
            best = np.argsort(-fits, kind="stable")[: order.shape[1]]
            order[i, : len(best)] = best
            scores[i, : len(best)] = fits[best]
            if not query:
                notes[i] = (f"{self.name}: neither a query text nor texts of a history",)
            elif len(best) < k:
                notes[i] = (f"{self.name}: {len(best)} of {k} items are candidates",)
        return replace(lists.reordered(order), scores=scores, score_kind="bm25", notes=notes)

    def _query_text(self, queries: Queries, i: int) -> str:
        latest = queries.histories[i][-self.history_length :]
        return queries.text(i).strip() or " ".join(self.texts_[row] for row in latest).strip()

    def _fits(self, query: str, texts: list[str]) -> np.ndarray:
        """Return (n,) BM25 scores of texts, whose words are weighed among themselves."""
        if not texts or not query:
            return np.zeros(len(texts), np.float32)
        index = BM25(language=self.language)
        index.add(texts)
        scores: np.ndarray = index.scores([query]).toarray()[0]
        return scores.astype(np.float32)
