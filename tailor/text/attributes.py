"""Things told as the names and words of their attributes: "title rose soap brand dove"."""

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
    """What is said of each thing: rows of a vocabulary, and for each whether it names an attribute
    or stands in its value.
    """

    said: Ragged
    kinds: np.ndarray
    """Parallel to said.values: NAME or VALUE."""

    def take(self, things: np.ndarray) -> "Sentences":
        """The sentences of these things, in this order, repeated ones too."""
        places = self.said.with_values(np.arange(len(self.said.values))).take(things)
        return Sentences(
            places.with_values(self.said.values[places.values]), self.kinds[places.values]
        )

    def beside(self, other: "Sentences") -> "Sentences":
        """These sentences, and others after them."""
        return Sentences(
            concatenate([self.said, other.said]), np.concatenate([self.kinds, other.kinds])
        )


def tell(table: pl.DataFrame, attributes: Sequence[str], most: int) -> list[list[tuple[str, int]]]:
    """For every row of a table (word, kind) of the attributes that it has, in their order, `most`
    words at most; none where no attribute has a word.

    Columns that the table lacks are passed over; lists are told one after the other; numbers as
    their digits.
    """
    told: list[list[tuple[str, int]]] = [[] for _ in range(len(table))]
    for name in (one for one in attributes if one in table.columns):
        column = table[name]
        texts = (
            column.cast(pl.List(pl.String)).list.join(" ")
            if isinstance(column.dtype, pl.List)
            else column.cast(pl.String)
        )
        key = [(word, NAME) for word in words(name.replace("_", " "))]
        for row, text in zip(told, texts.to_list(), strict=True):
            value = words(text) if text and len(row) + len(key) < most else []
            if value:
                row += [*key, *((word, VALUE) for word in value)]
                del row[most:]
    return told


def sentences(told: Sequence[Sequence[tuple[str, int]]], vocabulary: Vocabulary) -> Sentences:
    """What was told, in rows of a vocabulary; words outside it are left out."""
    lengths = [len(row) for row in told]
    rows = vocabulary.rows([word for row in told for word, _ in row])
    said = Ragged.of_lengths(lengths, rows.astype(np.int32))
    kinds = np.array([kind for row in told for _, kind in row], dtype=np.int8)
    known = said.values >= 0
    return Sentences(said.keep(known), kinds[known])
