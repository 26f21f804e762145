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

# digits of a cosine that count: two items of one text are tied, however their products were summed
SAME = 6


@dataclass(eq=False)
class DenseRetriever(ScoringRecommender):
    """Items whose text means what the query says, in whatever words; without a query, what the
    latest items mean, fading.

    Cosine of sentence vectors (Reimers and Gurevych 2019; Karpukhin et al. 2020). Vectors of items
    are made once and kept in the cache; what people write is encoded when they ask, in full
    precision, and kept nowhere. All items are compared up to `exact_upto`, above it an index is
    asked, whose recall stands in the fit report.
    """

    reads_text: ClassVar[bool] = True

    encoder: Encoder | str = DEFAULT
    """Or "default": TAILOR_ENCODER, tailor.toml, else MiniLM."""
    history_decay: float = 0.7
    """Weight of an item of the history relative to the one after it."""
    history_length: int = 20
    """Latest items that stand in for a missing query."""
    index: Literal["auto", "exact", "hnsw", "ivfpq"] = "auto"
    exact_upto: int = 200_000
    """Items, with auto."""

    vectors_: np.ndarray = field(init=False, repr=False)
    """(N, D) unit length; zero for an item without text."""
    space_: str = field(init=False, repr=False)
    """Which encoder's vectors these are."""
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
        self.items_, texts = data.catalogue, data.item_texts
        encoder = encoder_of(self.encoder)
        self.vectors_ = item_vectors(encoder, texts, run.progress)
        self.space_ = encoder.space
        made = VectorIndex(self.index, self.exact_upto).build(self.vectors_, run.seed)
        self.index_ = made.to_bytes()
        self.fit_report_ = {
            "encoder": encoder.fingerprint,
            "items_without_text": int((~self.vectors_.any(axis=1)).sum()),
            **made.report,
        }

    def _asked(self, queries: Queries) -> np.ndarray:
        """(B, D) unit vectors of the queries; zero where a query says nothing."""
        weights = queries.histories.decayed_matrix(
            len(self.items_), self.history_decay, self.history_length
        )
        vectors = unit_length(
            np.asarray(weights @ self.vectors_, dtype=np.float32).reshape(len(queries), -1)
        )
        texts = {i: text for i in range(len(queries)) if (text := queries.text(i).strip())}
        if texts:
            vectors[list(texts)] = asking(encoder_of(self.encoder), self.space_).encode(
                list(texts.values())
            )
        return vectors

    def _scores(self, queries: Queries) -> np.ndarray:
        asked = self._asked(queries)
        scores: np.ndarray = np.round(asked @ self.vectors_.T, SAME)
        scores[:, ~self.vectors_.any(axis=1)] = -np.inf
        scores[~asked.any(axis=1)] = -np.inf
        return scores

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        if candidates is not None or not len(self.index_):
            return super()._recommend(queries, k, candidates)
        queries = queries.reindexed(self.items_)
        asked = self._asked(queries)
        index = VectorIndex(self.index, self.exact_upto).restore(self.vectors_, self.index_)
        silent = np.flatnonzero(~self.vectors_.any(axis=1))
        blocked = (
            silent if queries.blocked_rows is None else np.union1d(silent, queries.blocked_rows)
        )
        rows, scores = index.search(asked, min(k, len(self.items_)), queries.exclude, blocked)
        rows, scores = (
            np.pad(rows, ((0, 0), (0, k - rows.shape[1])), constant_values=-1),
            np.pad(scores, ((0, 0), (0, k - scores.shape[1])), constant_values=-np.inf),
        )
        nothing = ~asked.any(axis=1)
        rows[nothing], scores[nothing] = -1, -np.inf
        return Rankings(
            self.items_, rows, scores, "cosine", notes=short_notes(self.name, queries, rows, k)
        )
