"""Features of request and document for small rerankers, standardised within each list.

Within-list deviations make lists of different collections comparable, so that a student learned on
one can order another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tailor.ports.base import Encoder
from tailor.reranking.shortlist import Shortlist, deviations
from tailor.text.bm25 import BM25
from tailor.text.cached import item_vectors, plain
from tailor.text.words import words

NAMES = ("prior", "bm25", "cosine", "overlap", "length", "feedback", "centrality")
FEEDBACK_DOCUMENTS = 3


class ListVectors(NamedTuple):
    """Vectors of a shortlist, of unit length; zero for a blank text."""

    request: np.ndarray
    """(D,) of what is asked for."""
    documents: np.ndarray
    """(n, D) of the documents."""


def list_vectors(encoder: Encoder, shortlists: Sequence[Shortlist]) -> list[ListVectors]:
    """Return the vectors of every shortlist; equal texts are encoded once."""
    requests = request_vectors(encoder, shortlists)
    texts = list(dict.fromkeys(text for shortlist in shortlists for text in shortlist.texts))
    vectors = item_vectors(encoder, texts) if texts else requests[:0]
    row_of = {text: row for row, text in enumerate(texts)}
    return [
        ListVectors(request, vectors[[row_of[text] for text in shortlist.texts]])
        for shortlist, request in zip(shortlists, requests, strict=True)
    ]


def request_vectors(encoder: Encoder, shortlists: Sequence[Shortlist]) -> np.ndarray:
    """Return (n, D) vectors of what is asked for, zero for nothing; each is encoded once."""
    # requests are people's words: they are kept in no cache
    requests = [shortlist.request for shortlist in shortlists]
    distinct = list(dict.fromkeys(requests))
    vectors = plain(encoder).encode(distinct)
    vectors[[not request.strip() for request in distinct]] = 0
    row_of = {request: row for row, request in enumerate(distinct)}
    return vectors[[row_of[request] for request in requests]]


def cosine_scores(documents: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Return cosines (n,) of unit vectors (n, D) and (D,); NaN where one of the two is zero."""
    cosines: np.ndarray = (documents @ query).astype(np.float64)
    cosines[~documents.any(axis=1)] = np.nan
    return cosines if query.any() else np.full(len(cosines), np.nan)


@dataclass(frozen=True)
class PairFeatures:
    """Makes the features (n, 7) of the documents of a shortlist, named by NAMES.

    prior: first-stage score; bm25 among the list's documents; cosine of request and document;
    overlap: share of the request's words, by rarity in the list; length: log of the words;
    feedback: cosine with the mean of the list's first documents; centrality: mean cosine with the
    others.
    """

    encoder: Encoder
    """Encoder of the cosines."""

    def of(self, shortlists: Sequence[Shortlist]) -> list[np.ndarray]:
        """Return one (n, 7) float32 array a shortlist, each column in deviations."""
        pairs = zip(shortlists, list_vectors(self.encoder, shortlists), strict=True)
        return [
            self._features(shortlist, vectors.documents, vectors.request)
            for shortlist, vectors in pairs
        ]

    def _features(
        self, shortlist: Shortlist, vectors: np.ndarray, request_vector: np.ndarray
    ) -> np.ndarray:
        n = len(shortlist)
        if not n:
            return np.empty((0, len(NAMES)), np.float32)
        similarities = vectors @ vectors.T
        first = np.argsort(-shortlist.prior, kind="stable")[:FEEDBACK_DOCUMENTS]
        columns = (
            shortlist.prior,
            _bm25(shortlist),
            vectors @ request_vector,
            _overlap(shortlist),
            np.log1p([len(words(text)) for text in shortlist.texts]),
            vectors @ vectors[first].mean(axis=0),
            (similarities.sum(axis=1) - similarities.diagonal()) / max(n - 1, 1),
        )
        return np.stack(
            [deviations(np.asarray(column, float)) for column in columns], axis=1
        ).astype(np.float32)


def _bm25(shortlist: Shortlist) -> np.ndarray:
    if not shortlist.request.strip():
        return np.zeros(len(shortlist))
    index = BM25()
    index.add(list(shortlist.texts))
    scores: np.ndarray = index.scores([shortlist.request]).toarray()[0]
    return scores


def _overlap(shortlist: Shortlist) -> np.ndarray:
    """Return (n,) the share of the request's words in each document, weighed by rarity."""
    request_words = set(words(shortlist.request))
    shared_words = [request_words & set(words(text)) for text in shortlist.texts]
    n = len(shared_words)
    weights = {
        word: np.log(1 + n / (0.5 + sum(word in of_text for of_text in shared_words)))
        for word in request_words
    }
    total = sum(weights.values()) or 1.0
    return np.array([sum(weights[word] for word in of_text) / total for of_text in shared_words])
