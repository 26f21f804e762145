"""Wishes in words beside a history: texts as conditions, and phrases made of titles' words.

Shapes: M targets of a batch, N items, V words, W phrases of an item, T distinct texts, E width of a
condition.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from tailor.data.event_columns import QUERY, event_texts, named_events
from tailor.data.vocabulary import Vocabulary
from tailor.ports.base import Encoder
from tailor.text.cached import plain
from tailor.training.sequences import TrainingData


@dataclass(frozen=True, eq=False)
class TextVectors:
    """Texts as vectors, each encoded once; a blank text is zero."""

    rows: np.ndarray
    """Row of `vectors` of each text, in the shape that the texts came in; 0 for a blank text."""
    vectors: np.ndarray
    """(1 + T, E) float32; the first is zero."""

    @classmethod
    def of(cls, encoder: Encoder, texts: np.ndarray) -> "TextVectors":
        """Encode an array of texts of any shape; nothing of them is kept on disk."""
        distinct, rows = np.unique(texts.astype(str).ravel(), return_inverse=True)
        is_blank = np.array([not text.strip() for text in distinct.tolist()], dtype=bool)
        is_said = ~is_blank
        encoded = plain(encoder).encode(distinct[is_said].tolist())
        nothing = np.zeros((1, encoded.shape[1]), np.float32)
        vectors = np.concatenate([nothing, encoded])
        row_of = np.where(is_blank, 0, np.cumsum(is_said))
        scale = np.sqrt(vectors.shape[1])
        scaled = (vectors * scale).astype(np.float32)
        return cls(row_of[rows].reshape(texts.shape), scaled)

    def take(self, *index: np.ndarray) -> np.ndarray:
        """Return (M, E) the vectors of the texts at an index of their array."""
        vectors: np.ndarray = self.vectors[self.rows[index]]
        return vectors


def logged_texts(training: TrainingData, items: Vocabulary, kind: str = QUERY) -> np.ndarray:
    """Return (events,) the text of each event that is learned from; "" for none."""
    rows = training.rows
    user_ids = training.data.users.ids[rows.row_ids]
    events = named_events(user_ids, items.named(rows.values), training.times_ms)
    return np.array(event_texts(training.data, events, kind), dtype=object)


def drawn_words(
    item_words: sp.csr_matrix,
    vocabulary: Vocabulary,
    phrases: int,
    most: int,
    rng: np.random.Generator,
) -> list[list[list[str]]]:
    """Return per item (N) draws of 1 to `most` of its words.

    There are `phrases` draws of each; those of an item without words are empty. `item_words` (N, V)
    says which words an item has.
    """
    drawn = []
    for row in range(item_words.shape[0]):
        columns = item_words.indices[item_words.indptr[row] : item_words.indptr[row + 1]]
        sizes = rng.integers(1, most + 1, size=phrases)
        drawn.append(
            [vocabulary.ids[rng.permutation(columns)[:size]].tolist() for size in sizes.tolist()]
        )
    return drawn


def phrased(
    words: Sequence[Sequence[Sequence[str]]], patterns: Sequence[str], rng: np.random.Generator
) -> np.ndarray:
    """Return (N, W) texts of drawn words in patterns; "" without words."""
    flat = [draw for of_item in words for draw in of_item]
    numbers = rng.integers(len(patterns), size=len(flat)).tolist()
    texts = [
        patterns[number].format(" ".join(draw)) if draw else ""
        for draw, number in zip(flat, numbers, strict=True)
    ]
    phrases = len(flat) // max(len(words), 1)
    return np.array(texts, dtype=object).reshape(len(words), phrases)
