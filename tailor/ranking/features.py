"""Fields of a query and an item as codes: what the tables say of both, when it is asked, and what
was chosen before.

A field has codes of its own; its first stands for what is not known, or was too rare to learn
about. Slots of a field share its codes: an item with three categories fills three slots with a
third of the weight each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.data.examples import Examples
from tailor.data.queries import NO_TIME, Queries
from tailor.errors import DataError, nearest

MOST_VALUES = 5  # of a list such as an item's categories that are read
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
FIRST_DAY = 3  # 1 January 1970 was a Thursday
# columns of the items table that name or tell, and do not class
NO_FIELDS = ("item_id", "title", "text", "asset")


@dataclass(frozen=True, eq=False)
class Features:
    """What was learned of the fields; `about` and `items` are all of it, as plain values and an
    array.
    """

    about: Mapping[str, Any]
    """Names, slots and sizes of the fields, values and edges by name."""
    items: np.ndarray
    """(N + 1, S of the items' fields) int32 codes within each field; the last row is an item that
    is not known.
    """

    @property
    def field_of(self) -> list[int]:
        return [at for at, slots in enumerate(self.about["slots"]) for _ in range(slots)]

    @property
    def codes(self) -> int:
        return int(sum(self.about["sizes"]))

    @classmethod
    def learned(
        cls,
        data: Dataset,
        examples: Examples,
        wanted: Sequence[str],
        history: int,
        user_ids: bool,
        least: int,
        bins: int,
    ) -> "Features":
        """From the tables of `data`, with codes for what at least `least` examples have. `wanted`:
        names of fields, all where there are none.
        """
        about: dict[str, Any] = {
            "names": [],
            "slots": [],
            "sizes": [],
            "values": {},
            "edges": {},
            "item_fields": 0,
        }
        seen = np.bincount(np.maximum(examples.items, 0), minlength=len(data.catalogue))
        known = np.flatnonzero(seen >= least)
        columns = [
            _numbered(
                about,
                "item_id",
                np.searchsorted(known, np.arange(len(seen)))[:, None] + 1,
                len(known) + 1,
            )
        ]
        columns[0][seen < least] = 0
        for column in data.item_table.get_columns():
            if (
                column.name not in NO_FIELDS
                and (codes := _item_column(about, f"item:{column.name}", column, bins)) is not None
            ):
                columns.append(codes)
        about["item_fields"] = len(about["names"])
        for name in sorted(examples.queries.contexts):
            _learn_column(about, f"user:{name}", examples.queries.context(name), least, bins)
        if user_ids:
            _learn_column(about, "user_id", examples.queries.user_ids.tolist(), least, 0)
        if examples.queries.now_ms is not None:
            _add(about, "hour", 1, 25)
            _add(about, "weekday", 1, 8)
        if history:
            _add(about, "history", history, len(data.catalogue) + 1)
        items = np.concatenate(
            [np.concatenate(columns, axis=1), np.zeros((1, sum(one.shape[1] for one in columns)))]
        ).astype(np.int32)
        return cls(about, items)._only(wanted)

    def _only(self, wanted: Sequence[str]) -> "Features":
        names = self.about["names"]
        for one in wanted:
            if one not in names:
                raise DataError(
                    f'fields holds "{one}", which is not there:'
                    f" {', '.join(names)}.{nearest(one, names)}"
                )
        if not wanted:
            return self
        kept = [at for at, name in enumerate(names) if name in wanted]
        slots = np.isin(self.field_of, kept)[: self.items.shape[1]]
        about = {
            **self.about,
            **{key: [self.about[key][at] for at in kept] for key in ("names", "slots", "sizes")},
            "item_fields": sum(at < self.about["item_fields"] for at in kept),
        }
        return Features(about, self.items[:, slots])

    def encoded(self, queries: Queries, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of n queries over the catalogue, and an item row each (-1: not known): (n, S) int64 codes
        over all fields, (n, S) float32 weights.
        """
        codes, weights = [self.items[rows]], [self._item_weights[rows]]
        for name, slots in list(zip(self.about["names"], self.about["slots"], strict=True))[
            self.about["item_fields"] :
        ]:
            found = (
                self._history(queries, slots)
                if name == "history"
                else self._asked(name, queries)[:, None]
            )
            codes.append(found)
            weights.append(_shares(found) if name == "history" else np.ones(found.shape))
        starts = np.r_[0, np.cumsum(self.about["sizes"])[:-1]]
        return np.concatenate(codes, axis=1).astype(np.int64) + starts[
            self.field_of
        ], np.concatenate(weights, axis=1).astype(np.float32)

    @cached_property
    def _item_weights(self) -> np.ndarray:
        """(N + 1, S of the items' fields): shares within a list, and 1 for a single value, known or
        not.
        """
        ends = np.cumsum(self.about["slots"][: self.about["item_fields"]])
        parts = np.split(self.items, ends[:-1], axis=1)
        return np.concatenate(
            [_shares(part) if part.shape[1] > 1 else np.ones(part.shape) for part in parts], axis=1
        )

    def _history(self, queries: Queries, slots: int) -> np.ndarray:
        """(n, slots) the row of each of the latest items, and 1; 0 where there is none."""
        recent = queries.histories.last(slots)
        out = np.zeros((len(queries), slots), dtype=np.int64)
        out[recent.row_ids, recent.from_end] = recent.values + 1
        return out

    def _asked(self, name: str, queries: Queries) -> np.ndarray:
        """(n,) codes of a field that every query has once."""
        if name in ("hour", "weekday"):
            now = np.full(len(queries), NO_TIME) if queries.now_ms is None else queries.now_ms
            code = (now // HOUR_MS) % 24 if name == "hour" else (now // DAY_MS + FIRST_DAY) % 7
            return np.where(now == NO_TIME, 0, code + 1)
        given = (
            queries.user_ids.tolist()
            if name == "user_id"
            else queries.context(name.removeprefix("user:"))
        )
        if name in self.about["edges"]:
            return _binned(_as_numbers(given), np.array(self.about["edges"][name]))
        values = self.about["values"][name]
        return np.array(
            [values.get(str(one), 0) if one is not None else 0 for one in given], dtype=np.int64
        )


def _add(about: dict[str, Any], name: str, slots: int, size: int) -> None:
    for key, value in (("names", name), ("slots", slots), ("sizes", size)):
        about[key].append(value)


def _numbered(about: dict[str, Any], name: str, codes: np.ndarray, size: int) -> np.ndarray:
    """(N, slots) codes of a field of the items, noted."""
    _add(about, name, codes.shape[1], size)
    return codes.astype(np.int32)


def _item_column(
    about: dict[str, Any], name: str, column: pl.Series, bins: int
) -> np.ndarray | None:
    """(N, slots) codes of a column of the items table, or None for one that tells items apart
    rather than classing them.
    """
    if column.dtype == pl.List(pl.String):
        names = {
            one: code
            for code, one in enumerate(sorted(set(column.explode().drop_nulls().to_list())), 1)
        }
        lists = [[names[one] for one in row or []][:MOST_VALUES] for row in column.to_list()]
        width = max(map(len, lists), default=0)
        return (
            _numbered(
                about,
                name,
                np.array([row + [0] * (width - len(row)) for row in lists]),
                len(names) + 1,
            )
            if width
            else None
        )
    if column.dtype.is_numeric() and column.n_unique() > bins:
        numbers = column.cast(pl.Float64).to_numpy()
        edges = _edges(numbers, bins)
        return _numbered(about, name, _binned(numbers, edges)[:, None], len(edges) + 2)
    if column.dtype.is_numeric() or column.dtype in (pl.String, pl.Boolean):
        values = column.cast(pl.String)
        if values.n_unique() * 2 > max(len(values) - values.null_count(), 1):
            return None
        names = {
            one: code for code, one in enumerate(sorted(values.drop_nulls().unique().to_list()), 1)
        }
        return _numbered(
            about, name, np.array([[names.get(one, 0)] for one in values.to_list()]), len(names) + 1
        )
    return None


def _learn_column(
    about: dict[str, Any], name: str, given: Sequence[Any], least: int, bins: int
) -> None:
    """A field of what is known of who asks: bins of numbers, or values that at least `least`
    examples have.
    """
    known = [one for one in given if one is not None]
    if (
        bins
        and known
        and all(isinstance(one, int | float) and not isinstance(one, bool) for one in known)
        and len(set(known)) > bins
    ):
        edges = _edges(_as_numbers(given), bins)
        about["edges"][name] = edges.tolist()
        _add(about, name, 1, len(edges) + 2)
        return
    values, counts = np.unique(
        np.array([str(one) for one in known], dtype=object).astype(str), return_counts=True
    )
    about["values"][name] = {
        one: code for code, one in enumerate(values[counts >= least].tolist(), 1)
    }
    _add(about, name, 1, len(about["values"][name]) + 1)


def _as_numbers(given: Sequence[Any]) -> np.ndarray:
    return np.array([float(one) if isinstance(one, int | float) else np.nan for one in given])


def _edges(numbers: np.ndarray, bins: int) -> np.ndarray:
    """Where a number passes from one bin to the next: bins hold about as many each."""
    finite = numbers[np.isfinite(numbers)]
    return np.unique(np.quantile(finite, np.arange(1, bins) / bins)) if len(finite) else np.zeros(0)


def _binned(numbers: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.where(
        np.isfinite(numbers), np.searchsorted(edges, np.nan_to_num(numbers), side="right") + 1, 0
    )


def _shares(codes: np.ndarray) -> np.ndarray:
    """(n, slots) equal weights of the slots that are filled, 1 in all; none where none is."""
    filled = codes > 0
    return filled / np.maximum(1, filled.sum(axis=1, keepdims=True))
