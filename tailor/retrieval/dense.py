"""Retrieval by meaning: items whose text points the same way as the query's."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self

import numpy as np

from tailor.core.defaults import DEFAULT
from tailor.core.defaults import encoder as encoder_of
from tailor.core.methods import ScoringRecommender, short_notes
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.ports.base import Encoder
from tailor.text.cached import asking, item_vectors
from tailor.text.hashing import HashingEncoder
from tailor.text.sentences import unit_length
from tailor.text.vector_index import VectorIndex

# Decimals of a cosine that count: items of one text are tied, however their products were summed.
DECIMALS = 6


@dataclass(eq=False)
class DenseRetriever(ScoringRecommender):
    """Items whose text means what the query says, in whatever words.

    Without a query, the user's latest items ask, older ones counting less. The score is the cosine
    of sentence vectors (Reimers and Gurevych 2019; Karpukhin et al. 2020). Vectors of items are
    made once and kept in the cache; users' words are encoded when they ask, in full precision, and
    kept nowhere. Up to `exact_upto` items all are compared; above, an index searches, and the fit
    report states its recall.
    """

    reads_text: ClassVar[bool] = True

    encoder: Encoder | str = DEFAULT
    """Encoder of items and queries; or "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    history_decay: float = 0.7
    """Weight of an item of the history relative to the one after it."""
    history_length: int = 20
    """Number of latest items that stand in for a missing query."""
    index: Literal["auto", "exact", "hnsw", "ivfpq"] = "auto"
    """Kind of the vector index; auto: by the number of items."""
    exact_upto: int = 200_000
    """Largest number of items that auto compares one by one."""

    vectors_: np.ndarray = field(init=False, repr=False)
    """(N, D) unit length; zero for an item without text."""
    space_: str = field(init=False, repr=False)
    """Vector space of the encoder."""
    index_: np.ndarray = field(init=False, repr=False)
    """(n,) uint8 of the index; empty where all are compared."""

    def __post_init__(self) -> None:
        if not 0 < self.history_decay <= 1 or self.history_length < 1:
            raise DataError(
                f"history_decay is {self.history_decay}, history_length {self.history_length}:"
                " above 0 and at most 1; from 1"
            )

    @classmethod
    def tiny(cls) -> Self:
        return cls(HashingEncoder(64))

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        encoder = encoder_of(self.encoder)
        self.vectors_ = item_vectors(encoder, data.item_texts, run.progress)
        self.space_ = encoder.space
        index = VectorIndex(self.index, self.exact_upto).build(self.vectors_, run.seed)
        self.index_ = index.to_bytes()
        self.fit_report_ = {
            "encoder": encoder.fingerprint,
            "items_without_text": int((~self.vectors_.any(axis=1)).sum()),
            **index.report,
        }

    def _query_vectors(self, queries: Queries) -> np.ndarray:
        """Return (B, D) unit vectors; zero for a query without text and history."""
        weights = queries.histories.decayed_matrix(
            len(self.items_), self.history_decay, self.history_length
        )
        sums = np.asarray(weights @ self.vectors_, dtype=np.float32)
        vectors = unit_length(sums.reshape(len(queries), -1))
        texts = {i: text for i in range(len(queries)) if (text := queries.text(i).strip())}
        if texts:
            encoder = asking(encoder_of(self.encoder), self.space_)
            vectors[list(texts)] = encoder.encode(list(texts.values()))
        return vectors

    def _scores(self, queries: Queries) -> np.ndarray:
        query_vectors = self._query_vectors(queries)
        scores: np.ndarray = np.round(query_vectors @ self.vectors_.T, DECIMALS)
        scores[:, ~self.vectors_.any(axis=1)] = -np.inf
        scores[~query_vectors.any(axis=1)] = -np.inf
        return scores

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        if candidates is not None or not len(self.index_):
            return super()._recommend(queries, k, candidates)
        queries = queries.reindexed(self.items_)
        query_vectors = self._query_vectors(queries)
        index = VectorIndex(self.index, self.exact_upto).restore(self.vectors_, self.index_)
        blocked = np.flatnonzero(~self.vectors_.any(axis=1))  # items without text
        if queries.blocked_rows is not None:
            blocked = np.union1d(blocked, queries.blocked_rows)
        depth = min(k, len(self.items_))
        rows, scores = index.search(query_vectors, depth, queries.exclude, blocked)
        padding = ((0, 0), (0, k - depth))
        rows = np.pad(rows, padding, constant_values=-1)
        scores = np.pad(scores, padding, constant_values=-np.inf)
        is_empty = ~query_vectors.any(axis=1)
        rows[is_empty] = -1
        scores[is_empty] = -np.inf
        notes = short_notes(self.name, queries, rows, k)
        return Rankings(self.items_, rows, scores, "cosine", notes=notes)
