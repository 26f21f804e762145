"""Items as the names and words of their attributes: "title rose soap brand dove"."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from tailor.data.arrays import Ragged, concatenate
from tailor.data.vocabulary import Vocabulary
from tailor.text.words import words

NAME, VALUE = 1, 2  # kinds of words


@dataclass(frozen=True, eq=False)
class Sentences:
    """The words of each item as rows of a vocabulary, with their kinds."""

    word_rows: Ragged
    """By item: rows of its words."""
    kinds: np.ndarray
    """Parallel to word_rows.values: NAME of an attribute, or a word of its VALUE."""

    def take(self, things: np.ndarray) -> "Sentences":
        """Return the sentences of these items, in this order, repeated ones too."""
        positions = self.word_rows.with_values(np.arange(len(self.word_rows.values))).take(things)
        return Sentences(
            positions.with_values(self.word_rows.values[positions.values]),
            self.kinds[positions.values],
        )

    def beside(self, other: "Sentences") -> "Sentences":
        """Return these sentences followed by others."""
        return Sentences(
            concatenate([self.word_rows, other.word_rows]),
            np.concatenate([self.kinds, other.kinds]),
        )


def tell(table: pl.DataFrame, attributes: Sequence[str], most: int) -> list[list[tuple[str, int]]]:
    """Return (word, kind) pairs for every row of a table, at most `most` a row.

    The attributes follow each other in their order; one without a word is left out, and so are
    columns that the table lacks. Lists are joined; numbers are read as their digits.
    """
    rows: list[list[tuple[str, int]]] = [[] for _ in range(len(table))]
    for name in attributes:
        if name not in table.columns:
            continue
        name_words = [(word, NAME) for word in words(name.replace("_", " "))]
        for row, text in zip(rows, _texts(table[name]), strict=True):
            has_room = len(row) + len(name_words) < most
            value_words = words(text) if text and has_room else []
            if value_words:
                row += [*name_words, *((word, VALUE) for word in value_words)]
                del row[most:]
    return rows


def _texts(column: pl.Series) -> list[str | None]:
    if isinstance(column.dtype, pl.List):
        return column.cast(pl.List(pl.String)).list.join(" ").to_list()
    return column.cast(pl.String).to_list()


def sentences(rows: Sequence[Sequence[tuple[str, int]]], vocabulary: Vocabulary) -> Sentences:
    """Return pairs of `tell` as rows of a vocabulary; words outside it are left out."""
    lengths = [len(row) for row in rows]
    word_rows = vocabulary.rows([word for row in rows for word, _ in row])
    ragged = Ragged.of_lengths(lengths, word_rows.astype(np.int32))
    kinds = np.array([kind for row in rows for _, kind in row], dtype=np.int8)
    is_known = ragged.values >= 0
    return Sentences(ragged.keep(is_known), kinds[is_known])
