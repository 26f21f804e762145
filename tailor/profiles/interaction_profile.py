"""InteractionProfile: a profile from counts of what a user did, without a language model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import polars as pl
from scipy.special import betaincc

from tailor.core.methods import Profiler
from tailor.core.run import Run
from tailor.core.specs import check_settings
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import Evidence, Fact, Profile
from tailor.data.queries import NO_TIME, Queries
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError

HOUR_MS = 3_600_000
DAY_PARTS = tuple(
    f"part of the day: {part}"
    for part in ("night (0-6 h)", "morning (6-12 h)", "afternoon (12-18 h)", "evening (18-24 h)")
)
REPEATS = "repeats: items had before"
PRICE_HALVES = ("price: cheaper half", "price: dearer half")
MAX_EVIDENCE = 5
"""Items named as evidence of a fact."""


@dataclass(eq=False)
class InteractionProfile(Profiler):
    """Names what a user chooses more often than the catalogue offers it.

    Every event has labels: attributes of its item, the cheaper or dearer half of the prices, the
    part of the day, and whether the user had the item before. A label becomes a fact if the user's
    share of it is above the usual share with a probability of at least `min_confidence`, by a beta
    distribution around the usual share. Usual are shares of the catalogue's items, or with `usual`
    of "events" of all users' events; for the part of the day and for repeats, always of events.
    """

    attributes: tuple[str, ...] = ("categories",)
    """Columns of the items table: texts, or lists of texts; absent ones are left out."""
    min_confidence: float = 0.9
    """Probability from which on a difference counts as a fact, from 0.5 to 1."""
    min_events: int = 3
    """Events of known items below which nothing is concluded."""
    prior_events: float = 4.0
    """Events at the usual shares that are assumed of every user; more: more caution."""
    max_facts: int = 8
    """Facts of a profile, surest first."""
    utc_offset_hours: float = 0.0
    """Added to the times for the part of the day."""
    usual: Literal["catalogue", "events"] = "catalogue"
    """Compare a user with what the catalogue offers, or with what all users choose."""

    items_: Vocabulary = field(init=False, repr=False)
    labels_: Vocabulary = field(init=False, repr=False)
    """Labels as "name: value"."""
    usual_: np.ndarray = field(init=False, repr=False)
    """(L,) float64 usual share of each label."""
    item_labels_: Ragged = field(init=False, repr=False)
    """N rows of the labels of each item."""
    prices_: np.ndarray = field(init=False, repr=False)
    """(N,) float64, NaN where not known."""

    def __post_init__(self) -> None:
        check_settings(self)
        if not 0.5 <= self.min_confidence <= 1 or self.min_events < 1 or self.prior_events <= 0:
            raise DataError(
                f"min_confidence is {self.min_confidence}, min_events {self.min_events},"
                f" prior_events {self.prior_events}: from 0.5 to 1, from 1, above 0"
            )

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        table = data.item_table
        n_items = len(table)
        self.prices_ = _prices(table)
        columns = [_labelled(table, name) for name in self.attributes if name in table.columns]
        pairs = pl.concat([_price_halves(self.prices_), *columns]).sort("row", "label")
        self.labels_ = Vocabulary.of_users([*pairs["label"].to_list(), *DAY_PARTS, REPEATS])
        labels = self.labels_.codes(pairs["label"])
        per_item = np.bincount(pairs["row"].to_numpy(), minlength=n_items)
        self.item_labels_ = Ragged.of_lengths(per_item, labels)
        rows = data.sequences.rows
        n_events = max(len(rows.values), 1)
        self.usual_ = np.bincount(labels, minlength=len(self.labels_)) / max(n_items, 1)
        if self.usual == "events":
            chosen_labels = self.item_labels_.take(rows.values).values
            counts = np.bincount(chosen_labels, minlength=len(self.labels_))
            # what nobody chose is as usual as the catalogue has it
            self.usual_ = np.where(counts > 0, counts / n_events, self.usual_)
        repeats = len(rows.values) - len(rows.distinct().values)
        self.usual_[self.labels_.rows([REPEATS])] = repeats / n_events
        if data.sequences.times_ms is not None:
            parts = self._day_parts(data.sequences.times_ms.values)
            day_rows = self.labels_.rows(DAY_PARTS)
            self.usual_[day_rows] = np.bincount(parts, minlength=len(DAY_PARTS)) / n_events
        self.fit_report_ = {"labels": len(self.labels_)}

    def _day_parts(self, times_ms: np.ndarray) -> np.ndarray:
        """Return (m,) numbers in DAY_PARTS."""
        hours = np.floor(times_ms / HOUR_MS + self.utc_offset_hours).astype(np.int64) % 24
        return hours // 6

    def _profile(self, queries: Queries) -> list[Profile]:
        queries = queries.reindexed(self.items_)
        return [self._profile_of(queries, i) for i in range(len(queries))]

    def _profile_of(self, queries: Queries, i: int) -> Profile:
        rows = queries.histories[i]
        times_ms = np.full(len(rows), NO_TIME)
        if "times_ms" in queries.columns:
            times_ms = queries.columns["times_ms"][i]
        as_of_ms = int(times_ms.max()) if len(rows) and times_ms.max() != NO_TIME else None
        if len(rows) < self.min_events:
            note = (
                f"{self.name}: {len(rows)} events of known items; nothing is concluded from fewer"
                f" than {self.min_events}"
            )
            return Profile(queries.user_ids[i], as_of_ms=as_of_ms, notes=(note,))
        events, labels = self._labels_of(rows, times_ms)
        facts = self._facts(rows, events, labels)
        return Profile(
            queries.user_ids[i],
            _summary(facts, len(rows)),
            facts,
            self._attributes(rows),
            as_of_ms,
            () if facts else (f"{self.name}: nothing is chosen more often than usual",),
        )

    def _labels_of(self, rows: np.ndarray, times_ms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the events and labels of (event, label) pairs of one history."""
        of_items = self.item_labels_.take(rows)
        timed = np.flatnonzero(times_ms != NO_TIME)
        day_labels = self.labels_.rows(DAY_PARTS)[self._day_parts(times_ms[timed])]
        is_repeat = np.ones(len(rows), dtype=bool)
        is_repeat[np.unique(rows, return_index=True)[1]] = False
        repeats = np.flatnonzero(is_repeat)
        repeat_labels = np.repeat(self.labels_.rows([REPEATS]), len(repeats))
        events = np.concatenate([of_items.row_ids, timed, repeats])
        return events, np.concatenate([of_items.values, day_labels, repeat_labels])

    def _facts(self, rows: np.ndarray, events: np.ndarray, labels: np.ndarray) -> tuple[Fact, ...]:
        """Return the labels that are more frequent than usual, surest first."""
        chosen, counts = np.unique(labels, return_counts=True)
        confidence = self._confidence(chosen, counts, len(rows))
        sure = np.flatnonzero(confidence >= self.min_confidence)
        surest = sure[np.argsort(-confidence[sure], kind="stable")][: self.max_facts]
        return tuple(
            self._fact(label, rows[events[labels == label]], len(rows), float(confidence[row]))
            for row, label in zip(surest.tolist(), chosen[surest].tolist(), strict=True)
        )

    def _confidence(self, labels: np.ndarray, counts: np.ndarray, n: int) -> np.ndarray:
        """Return (C,) the probability that a user's share of labels is above the usual one.

        `counts` (C,) are the events of n that have each.
        """
        usual = np.clip(self.usual_[labels], 1e-9, 1 - 1e-9)
        alpha = counts + self.prior_events * usual
        beta = n - counts + self.prior_events * (1 - usual)
        return np.where(
            self.usual_[labels] < 1, betaincc(alpha, np.maximum(beta, 1e-9), usual), 0.0
        )

    def _fact(self, label: int, rows: np.ndarray, n: int, confidence: float) -> Fact:
        """Return the fact that a user has a label in the events of the items `rows`, of n."""
        text = self.labels_.ids[label]
        name, _, value = text.partition(": ")
        share = len(rows) / n
        usual = float(self.usual_[label])
        details = {"slot": name, "object": value, "events": len(rows)}
        details |= {"share": round(share, 4), "usual_share": round(usual, 4)}
        return Fact(
            f"{text} ({share:.0%} of the events, usually {usual:.0%})",
            self._evidence(rows.tolist()),
            round(confidence, 4),
            details,
        )

    def _evidence(self, rows: list[int]) -> tuple[Evidence, ...]:
        """Return the items of events as evidence: the most frequent first, of equals the latest."""
        counts = {row: rows.count(row) for row in dict.fromkeys(reversed(rows))}
        often = sorted(counts, key=lambda row: -counts[row])[:MAX_EVIDENCE]
        ids = self.items_.named(often)
        return tuple(
            Evidence("item", item_id, counts[row] / len(rows))
            for item_id, row in zip(ids, often, strict=True)
        )

    def _attributes(self, rows: np.ndarray) -> dict[str, Any]:
        attributes: dict[str, Any] = {
            "events": len(rows),
            "repeat_share": round(1 - len(np.unique(rows)) / len(rows), 4),
        }
        prices = self.prices_[rows]
        prices = prices[np.isfinite(prices)]
        if len(prices) >= self.min_events:  # the middle half of them
            band = np.quantile(prices, [0.25, 0.75]).tolist()
            attributes["price_band"] = [round(price, 2) for price in band]
        return attributes


def _prices(table: pl.DataFrame) -> np.ndarray:
    """Return (N,) prices of the items, NaN where not known."""
    if "price" not in table.columns:
        return np.full(len(table), np.nan)
    return table["price"].cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()


def _price_halves(prices: np.ndarray) -> pl.DataFrame:
    """Return the items with a price and the half of the prices that it is in, as (row, label)."""
    rows = np.flatnonzero(np.isfinite(prices))
    is_dear = prices[rows] >= (np.median(prices[rows]) if len(rows) else 0)
    labels = [PRICE_HALVES[int(dear)] for dear in is_dear]
    return pl.DataFrame(
        {"row": rows, "label": labels}, schema={"row": pl.Int64, "label": pl.String}
    )


def _labelled(table: pl.DataFrame, name: str) -> pl.DataFrame:
    """Return the values of a column as (row, label); each element of a list is a value."""
    values = table.select(pl.int_range(pl.len(), dtype=pl.Int64).alias("row"), pl.col(name))
    if table.schema[name] == pl.List:
        values = values.explode(name)
    label = pl.lit(f"{name}: ") + pl.col(name).cast(pl.String)
    return values.select("row", label.alias("label")).drop_nulls().unique()


def _summary(facts: Sequence[Fact], n: int) -> str:
    if not facts:
        return ""
    return f"In {n} events, more than usual: " + "; ".join(fact.text for fact in facts) + "."
