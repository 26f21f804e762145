"""Fields of a query and an item as codes: tables of both, the time, and the history.

A field has codes of its own; code 0 stands for unknown values and for values too rare to learn
about. The slots of a field share its codes: an item with three categories fills three slots with a
third of the weight each. Shapes: n pairs of a query and an item, N items, S slots.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.examples import Examples
from tailor.data.queries import NO_TIME, Queries
from tailor.errors import DataError, nearest
from tailor.nn.fields import FieldLayout
from tailor.ranking.encoding import HOUR_MS, Behaviours, Encoded

MAX_VALUES = 5  # values read of a list, such as an item's categories
DAY_MS = 24 * HOUR_MS
FIRST_DAY = 3  # 1 January 1970 was a Thursday
# columns of the items table that identify or describe an item instead of classifying it
NO_FIELDS = ("item_id", "title", "text", "asset")


@dataclass(frozen=True, eq=False)
class Features:
    """Fields and the codes of their values, learned from examples.

    `about` and `items` are all of it, as plain values and an array.
    """

    about: Mapping[str, Any]
    """Names, slots and sizes of the fields; codes of values, and edges of bins, by name."""
    items: np.ndarray
    """(N + 1, S of the items' fields) int32 codes; the last row is an unknown item."""

    @property
    def field_of(self) -> list[int]:
        """The field of each slot."""
        return [i for i, slots in enumerate(self.about["slots"]) for _ in range(slots)]

    @property
    def codes(self) -> int:
        """The number of codes of all fields."""
        return int(sum(self.about["sizes"]))

    @classmethod
    def learned(
        cls,
        data: Dataset,
        examples: Examples,
        fields: Sequence[str],
        history: int,
        user_ids: bool,
        least: int,
        bins: int,
    ) -> "Features":
        """Learn the codes of fields from the tables of `data` and examples.

        Values that at least `least` examples have get a code. `fields` are names, none for all;
        with `user_ids` that of the user is among them. `history` is the number of latest items;
        `bins` those of a numeric field.
        """
        fields_so_far = _Fields(bins, least)
        columns = fields_so_far.add_items(data, examples.items)
        item_fields = len(fields_so_far.names)
        queries = examples.queries
        for name in sorted(queries.contexts):
            fields_so_far.add_values(f"user:{name}", queries.context(name))
        if user_ids:
            fields_so_far.add_values("user_id", queries.user_ids.tolist(), has_bins=False)
        if queries.now_ms is not None:
            fields_so_far.add("hour", 1, 25)
            fields_so_far.add("weekday", 1, 8)
        if history:
            fields_so_far.add("history", history, len(data.catalogue) + 1)
        codes = np.concatenate(columns, axis=1)
        items = np.concatenate([codes, np.zeros((1, codes.shape[1]))]).astype(np.int32)
        about = {**fields_so_far.about(), "item_fields": item_fields}
        return cls(about, items)._select((*fields, "user_id") if fields and user_ids else fields)

    def _select(self, fields: Sequence[str]) -> "Features":
        """Return the features of these fields only, of all where none is named."""
        names = self.about["names"]
        for name in fields:
            if name not in names:
                raise DataError(
                    f'fields holds "{name}", which is not there:'
                    f" {', '.join(names)}.{nearest(name, names)}"
                )
        if not fields:
            return self
        chosen = [i for i, name in enumerate(names) if name in fields]
        item_slots = np.isin(self.field_of, chosen)[: self.items.shape[1]]
        lists = {key: [self.about[key][i] for i in chosen] for key in ("names", "slots", "sizes")}
        item_fields = sum(i < self.about["item_fields"] for i in chosen)
        about = {**self.about, **lists, "item_fields": item_fields}
        return Features(about, self.items[:, item_slots])

    @cached_property
    def layout(self) -> FieldLayout:
        """The fields as a net reads them."""
        slots = self.items.shape[1]
        codes = self.items.astype(np.int64) + self.first_codes[:slots]
        weights = self._item_weights.astype(np.float32)
        return FieldLayout(self.codes, self.field_of, codes, weights, self.about["item_fields"])

    @cached_property
    def first_codes(self) -> np.ndarray:
        """(S,) the first code of each slot's field, which stands for an unknown value."""
        return np.r_[0, np.cumsum(self.about["sizes"])[:-1]][self.field_of]

    def encoded(self, queries: Queries, items: Ragged, behaviours: int = 0) -> Encoded:
        """Encode the pairs of each query and its items, with the query's latest behaviours.

        `queries` are over the catalogue, `items` are item rows by query, -1 for an unknown item. A
        query is encoded once, however many items it has.
        """
        codes = []
        weights = []
        fields = list(zip(self.about["names"], self.about["slots"], strict=True))
        for name, slots in fields[self.about["item_fields"] :]:
            if name == "history":
                field_codes = self._history_codes(queries, slots)
                weights.append(_equal_weights(field_codes))
            else:
                field_codes = self._query_codes(name, queries)[:, None]
                weights.append(np.ones(field_codes.shape))
            codes.append(field_codes)
        owners = items.row_ids
        none = np.zeros((len(queries), 0))
        query_codes = np.concatenate([none, *codes], axis=1).astype(np.int64)
        query_weights = np.concatenate([none, *weights], axis=1).astype(np.float32)
        item_slots = self.items.shape[1]
        return Encoded(
            np.concatenate(
                [
                    self.layout.item_codes[items.values],
                    (query_codes + self.first_codes[item_slots:])[owners],
                ],
                axis=1,
            ),
            np.concatenate([self.layout.item_weights[items.values], query_weights[owners]], axis=1),
            np.where(items.values < 0, len(self.items) - 1, items.values).astype(np.int64),
            owners,
            Behaviours.of(queries, behaviours),
            len(self.items) - 1,
        )

    @cached_property
    def _item_weights(self) -> np.ndarray:
        """Weights of the items' slots, (N + 1, S): equal within a list, 1 for a single value."""
        ends = np.cumsum(self.about["slots"][: self.about["item_fields"]])
        parts = [
            _equal_weights(part) if part.shape[1] > 1 else np.ones(part.shape)
            for part in np.split(self.items, ends[:-1], axis=1)
        ]
        return np.concatenate(parts, axis=1)

    def _history_codes(self, queries: Queries, slots: int) -> np.ndarray:
        """Return (n, slots) the rows of the latest items plus 1; 0 for no item."""
        recent = queries.histories.last(slots)
        codes = np.zeros((len(queries), slots), dtype=np.int64)
        codes[recent.row_ids, recent.from_end] = recent.values + 1
        return codes

    def _query_codes(self, name: str, queries: Queries) -> np.ndarray:
        """Return (n,) codes of a field that every query has once."""
        if name in ("hour", "weekday"):
            now = np.full(len(queries), NO_TIME) if queries.now_ms is None else queries.now_ms
            code = (now // HOUR_MS) % 24 if name == "hour" else (now // DAY_MS + FIRST_DAY) % 7
            return np.where(now == NO_TIME, 0, code + 1)
        if name == "user_id":
            values = queries.user_ids.tolist()
        else:
            values = queries.context(name.removeprefix("user:"))
        if name in self.about["edges"]:
            return _bin(_as_numbers(values), np.array(self.about["edges"][name]))
        codes = self.about["values"][name]
        return np.array(
            [0 if value is None else codes.get(str(value), 0) for value in values], dtype=np.int64
        )


class _Fields:
    """Fields while they are learned."""

    def __init__(self, bins: int, least: int) -> None:
        self.bins = bins
        self.least = least
        self.names: list[str] = []
        self.slots: list[int] = []
        self.sizes: list[int] = []
        self.values: dict[str, dict[str, int]] = {}
        self.edges: dict[str, list[float]] = {}

    def about(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return {
            "names": self.names,
            "slots": self.slots,
            "sizes": self.sizes,
            "values": self.values,
            "edges": self.edges,
        }

    def add(self, name: str, slots: int, size: int) -> None:
        """Add a field with so many slots and codes."""
        self.names.append(name)
        self.slots.append(slots)
        self.sizes.append(size)

    def add_items(self, data: Dataset, example_items: np.ndarray) -> list[np.ndarray]:
        """Add the items' fields; return (N, slots) codes of each."""
        counts = np.bincount(np.maximum(example_items, 0), minlength=len(data.catalogue))
        frequent = np.flatnonzero(counts >= self.least)
        ids = np.searchsorted(frequent, np.arange(len(counts))) + 1
        ids[counts < self.least] = 0
        columns = [self._add_codes("item_id", ids[:, None], len(frequent) + 1)]
        for column in data.item_table.get_columns():
            if column.name in NO_FIELDS:
                continue
            codes = self._add_item_column(f"item:{column.name}", column)
            if codes is not None:
                columns.append(codes)
        return columns

    def _add_codes(self, name: str, codes: np.ndarray, size: int) -> np.ndarray:
        """Add a field of the items with codes (N, slots), and return these."""
        self.add(name, codes.shape[1], size)
        return codes.astype(np.int32)

    def _add_item_column(self, name: str, column: pl.Series) -> np.ndarray | None:
        """Add a column of the items table; return its codes (N, slots).

        Returns None for a column that identifies items rather than classifying them.
        """
        if column.dtype == pl.List(pl.String):
            return self._add_lists(name, column)
        if column.dtype.is_numeric() and column.n_unique() > self.bins:
            numbers = column.cast(pl.Float64).to_numpy()
            edges = _bin_edges(numbers, self.bins)
            return self._add_codes(name, _bin(numbers, edges)[:, None], len(edges) + 2)
        if column.dtype.is_numeric() or column.dtype in (pl.String, pl.Boolean):
            values = column.cast(pl.String)
            if values.n_unique() * 2 > max(len(values) - values.null_count(), 1):
                return None
            code_of = _number_values(values.drop_nulls().unique().to_list())
            codes = np.array([[code_of.get(value, 0)] for value in values.to_list()])
            return self._add_codes(name, codes, len(code_of) + 1)
        return None

    def _add_lists(self, name: str, column: pl.Series) -> np.ndarray | None:
        """Add a column of lists of texts; return its codes, None where all lists are empty."""
        code_of = _number_values(set(column.explode().drop_nulls().to_list()))
        lists = [
            [code_of[value] for value in values or [] if value is not None][:MAX_VALUES]
            for values in column.to_list()
        ]
        width = max(map(len, lists), default=0)
        if not width:
            return None
        codes = np.array([codes + [0] * (width - len(codes)) for codes in lists])
        return self._add_codes(name, codes, len(code_of) + 1)

    def add_values(self, name: str, values: Sequence[Any], has_bins: bool = True) -> None:
        """Add a field of the queries: bins of numbers, or values of at least `least` examples."""
        present = [value for value in values if value is not None]
        if has_bins and _are_numbers(present) and len(set(present)) > self.bins:
            edges = _bin_edges(_as_numbers(values), self.bins)
            self.edges[name] = edges.tolist()
            self.add(name, 1, len(edges) + 2)
            return
        texts = np.array([str(value) for value in present], dtype=object).astype(str)
        distinct, counts = np.unique(texts, return_counts=True)
        self.values[name] = _number_values(distinct[counts >= self.least].tolist())
        self.add(name, 1, len(self.values[name]) + 1)


def _number_values(values: Any) -> dict[str, int]:
    """Return the codes of values, from 1 in ascending order."""
    return {value: code for code, value in enumerate(sorted(values), 1)}


def _are_numbers(values: Sequence[Any]) -> bool:
    """Return whether there are values, all numbers and no truth values."""
    return bool(values) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    )


def _as_numbers(values: Sequence[Any]) -> np.ndarray:
    """Return values as floats, NaN for what is no number."""
    return np.array([float(v) if isinstance(v, int | float) else np.nan for v in values])


def _bin_edges(numbers: np.ndarray, bins: int) -> np.ndarray:
    """Return the edges between bins that hold about as many numbers each."""
    finite = numbers[np.isfinite(numbers)]
    return np.unique(np.quantile(finite, np.arange(1, bins) / bins)) if len(finite) else np.zeros(0)


def _bin(numbers: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the bin of each number, from 1; 0 for what is not finite."""
    bins = np.searchsorted(edges, np.nan_to_num(numbers), side="right") + 1
    return np.where(np.isfinite(numbers), bins, 0)


def _equal_weights(codes: np.ndarray) -> np.ndarray:
    """Return (n, slots) equal weights of the filled slots, with sum 1; zeros where none is."""
    is_filled = codes > 0
    return is_filled / np.maximum(1, is_filled.sum(axis=1, keepdims=True))
