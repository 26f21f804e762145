"""Sentences that may stand in a profile: what counts of a history can say, with their evidence.

A sentence is in closed words ("likes Drama"), so that users share sentences and their vectors.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from tailor.data.arrays import Ragged
from tailor.data.attributes import attribute_values
from tailor.data.dataset import Dataset
from tailor.text.keywords import Keywords

KINDS = ("frequent", "special", "era", "rising", "moved", "price", "pair", "word")
"""Frequent: chosen most; special: more than usual; rising: more than before; moved: from one value
to another; pair: two values of one item; word: of titles and texts.
"""
FEATURES = (*KINDS, "share", "specificity", "recency", "support")
PER_KIND = {"frequent": 8, "special": 8, "era": 3, "rising": 4, "moved": 2, "pair": 6, "word": 8}
YEAR = re.compile(r"\b(1[89]\d\d|20\d\d)\b")
PRIOR_EVENTS = 4.0  # imagined events at the usual share
RISE = 0.1  # of a share in the later third, from which a value is rising
MAX_VALUES = 2_000  # words that are looked for


@dataclass(frozen=True, eq=False)
class Candidates:
    """Sentences that may be said of one user, and what speaks for each."""

    texts: tuple[str, ...]
    features: np.ndarray
    """(n, len(FEATURES)) float32."""
    events: tuple[np.ndarray, ...]
    """By sentence: positions in the history of the events that it was concluded from."""

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, eq=False)
class SentenceBank:
    """Values of items, from which sentences about histories are made."""

    names: tuple[str, ...]
    """(V,) values in words."""
    kinds: np.ndarray
    """(V,) int64: 0 an attribute's value, 1 a decade, 2 half of the prices, 3 a word."""
    values: Ragged
    """N rows of each item's values."""
    usual: np.ndarray = field(repr=False)
    """(V,) share of the items, weighed by their events, that have each value."""

    @classmethod
    def of(cls, data: Dataset, attributes: Sequence[str] = ("categories",)) -> "SentenceBank":
        """Return the bank of a data set's items."""
        table = data.item_table
        titles = data.texts_of("title")
        rows = [[(0, value) for _, value in row] for row in attribute_values(table, attributes)]
        for row, title in zip(rows, titles, strict=True):
            years = YEAR.findall(title)
            row += [(1, f"the {years[-1][:3]}0s")] if years else []
        for number, half in _price_halves(table).items():
            rows[number].append((2, half))
        words = Keywords.of(data.texts_of("title", "text"), np.arange(len(rows)), len(rows))
        for number, row in enumerate(rows):
            columns = words.weights[number].indices
            row += [(3, words.names[column]) for column in columns if column < MAX_VALUES]
        keys = sorted({key for row in rows for key in row})
        row_of = {key: number for number, key in enumerate(keys)}
        values = Ragged.of([[row_of[key] for key in dict.fromkeys(row)] for row in rows])
        popularity = np.bincount(data.sequences.rows.values, minlength=len(rows)) + 1.0
        weights = popularity[values.row_ids]
        usual = np.bincount(values.values, weights, minlength=len(keys)) / popularity.sum()
        return cls(
            tuple(name for _, name in keys), np.array([kind for kind, _ in keys]), values, usual
        )

    def candidates(self, rows: np.ndarray) -> Candidates:
        """Return the sentences that may be said of a history of item rows (T,), oldest first."""
        if not len(rows):
            return Candidates((), np.zeros((0, len(FEATURES)), np.float32), ())
        of_events = self.values.take(rows)
        counts = np.bincount(of_events.values, minlength=len(self.names))
        maker = _Maker(self, of_events, counts, len(rows))
        sentences = [
            *maker.frequent(),
            *maker.special(),
            *maker.of_kind("era", 1),
            *maker.rising(),
            *maker.moved(),
            *maker.of_kind("price", 2),
            *maker.pairs(),
            *maker.of_kind("word", 3),
        ]
        distinct: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for text, features, events in sentences:
            distinct.setdefault(text, (features, events))
        feature_rows = [of_text for of_text, _ in distinct.values()]
        return Candidates(
            tuple(distinct),
            np.array(feature_rows, np.float32).reshape(-1, len(FEATURES)),
            tuple(events for _, events in distinct.values()),
        )


def _price_halves(table: pl.DataFrame) -> dict[int, str]:
    """Return row -> the half of the prices that an item is in, for items with a price."""
    if "price" not in table.columns:
        return {}
    prices = table["price"].cast(pl.Float64, strict=False).fill_nan(None)
    known_prices = prices.drop_nulls().to_numpy()
    middle = float(np.median(known_prices)) if len(known_prices) else 0.0
    pairs = enumerate(prices.to_list())
    return {
        number: "dear things" if price >= middle else "cheap things"
        for number, price in pairs
        if price is not None
    }


Sentence = tuple[str, np.ndarray, np.ndarray]


class _Maker:
    """Makes the sentences of one history."""

    def __init__(
        self, bank: SentenceBank, of_events: Ragged, counts: np.ndarray, events: int
    ) -> None:
        self.bank = bank
        self.of_events = of_events
        self.counts = counts
        self.n = events
        usual = bank.usual
        shares = (counts + PRIOR_EVENTS * usual) / (events + PRIOR_EVENTS)
        self.over = np.log(np.maximum(shares, 1e-9) / np.maximum(usual, 1e-9))
        is_late = of_events.row_ids >= events - max(events // 3, 1)
        late = np.bincount(of_events.values[is_late], minlength=len(counts))
        n_late = max(events // 3, 1)
        self.rise = late / n_late - (counts - late) / max(events - n_late, 1)

    def frequent(self) -> list[Sentence]:
        rows = self._best(0, self.counts, "frequent")
        return [self._sentence("frequent", f"likes {self._name(row)}", [row]) for row in rows]

    def special(self) -> list[Sentence]:
        rows = [row for row in self._best(0, self.over, "special") if self.over[row] > 0]
        return [
            self._sentence("special", f"likes {self._name(row)} more than others do", [row])
            for row in rows
        ]

    def of_kind(self, name: str, kind: int) -> list[Sentence]:
        most = PER_KIND.get(name, 1)
        rows = [row for row in self._best(kind, self.over, name, most) if self.over[row] > 0]
        return [self._sentence(name, f"likes {self._name(row)}", [row]) for row in rows]

    def rising(self) -> list[Sentence]:
        rows = [row for row in self._best(0, self.rise, "rising") if self.rise[row] > RISE]
        return [self._sentence("rising", f"lately likes {self._name(row)}", [row]) for row in rows]

    def moved(self) -> list[Sentence]:
        rising = [row for row in self._best(0, self.rise, "moved") if self.rise[row] > RISE]
        falling = [row for row in self._best(0, -self.rise, "moved") if self.rise[row] < -RISE]
        return [
            self._sentence("moved", f"moved from {self._name(old)} to {self._name(new)}", [new])
            for old, new in zip(falling, rising, strict=False)
        ]

    def pairs(self) -> list[Sentence]:
        """Return sentences of two attribute values that stand together on most items."""
        counts: dict[tuple[int, int], int] = {}
        for number in range(self.n):
            values = self.of_events[number]
            attributes = sorted(values[self.bank.kinds[values] == 0].tolist())
            for position, first in enumerate(attributes):
                for second in attributes[position + 1 :]:
                    counts[first, second] = counts.get((first, second), 0) + 1
        best = sorted(counts, key=lambda pair: (-counts[pair], pair))[: PER_KIND["pair"]]
        return [
            self._sentence(
                "pair", f"likes {self._name(first)} with {self._name(second)}", [first, second]
            )
            for first, second in best
            if counts[first, second] > 1
        ]

    def _name(self, row: int) -> str:
        return self.bank.names[row]

    def _best(self, kind: int, worths: np.ndarray, name: str, most: int = 0) -> list[int]:
        """Return the rows of values of a kind that the history has, of largest worth."""
        rows = np.flatnonzero((self.bank.kinds == kind) & (self.counts > 0))
        order = np.argsort(-worths[rows], kind="stable")
        best: list[int] = rows[order][: most or PER_KIND[name]].tolist()
        return best

    def _sentence(self, kind: str, text: str, rows: list[int]) -> Sentence:
        events = self._events_of(rows)
        features = np.zeros(len(FEATURES), np.float32)
        features[KINDS.index(kind)] = 1
        share = len(events) / self.n
        recency = float(events.mean() + 1) / self.n if len(events) else 0.0
        specificity = float(np.mean([self.over[row] for row in rows]))
        features[len(KINDS) :] = (share, specificity, recency, np.log1p(len(events)) / 3)
        return text, features, events

    def _events_of(self, rows: list[int]) -> np.ndarray:
        """Return the positions of the events that have all of these values."""
        positions = [
            set(self.of_events.row_ids[self.of_events.values == row].tolist()) for row in rows
        ]
        return np.array(sorted(set.intersection(*positions)), dtype=np.int64)
