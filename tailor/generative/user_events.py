"""The events of a user as records tell them: items, ratings as words, texts."""

from dataclasses import dataclass, replace

import numpy as np

from tailor.data.queries import Queries
from tailor.generative.records import Record

MOST_RATINGS = 11  # different ratings, from which on they are no words


@dataclass(frozen=True)
class UserEvents:
    """The events of a user as plain lists."""

    rows: list[int]
    """Row of each event's item."""
    values: list[float]
    """Rating of each event, NaN where there is none."""
    texts: list[str]
    """Text of each event, "" where there is none."""

    @classmethod
    def of(cls, users: Queries, user: int) -> "UserEvents":
        """Return the events in the history of a user, a number in `users`."""
        rows = users.histories[user].tolist()
        values = [float("nan")] * len(rows)
        texts = [""] * len(rows)
        if "values" in users.columns:
            values = users.columns["values"][user].tolist()
        if "texts" in users.columns:
            texts = [text or "" for text in users.columns["texts"][user].tolist()]
        return cls(rows, values, texts)


def rating_word(value: float) -> str:
    """Return a rating as a word: "4", "4point5"."""
    return f"{value:g}".replace(".", "point")


def rating_of(word: str) -> float:
    """Return the rating that a word says."""
    return float(word.replace("point", "."))


def rating_words(users: Queries) -> list[str]:
    """Return the ratings of users' events as words, ascending; none where there are too many."""
    if "values" not in users.columns:
        return []
    values = users.columns["values"].values
    distinct = np.unique(values[np.isfinite(values)])
    if not len(distinct) or len(distinct) > MOST_RATINGS:
        return []
    return [rating_word(value) for value in distinct.tolist()]


def tell_words(record: Record) -> Record:
    """Return a record of which words alone are told, not items."""
    answers = [i for i in record.answers if isinstance(record.parts[i], str)]
    return replace(record, answers=tuple(answers))
