"""Columns of JSON values: of the type of most values, so that an odd one changes nothing."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

KINDS = ("number", "text", "flag", "list")  # of equally frequent kinds the first
NULL = "null"


def kind_of(value: Any) -> str:
    """Return the kind of a JSON value."""
    if value is None:
        return NULL
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, int | float):
        return "number"
    return "list" if isinstance(value, list) else "text"


def main_kind(counts: Counter[str]) -> str:
    """Return the most frequent kind, NULL where there are no values."""
    return (
        max(KINDS, key=lambda kind: counts[kind]) if any(counts[kind] for kind in KINDS) else NULL
    )


def column(name: str, values: Sequence[Any], kind: str | None = None) -> pl.Series:
    """Return a column of the values that are of `kind`, by default the most frequent one.

    A text that reads as a number counts in a column of numbers, and a number in one of texts. Other
    values of another kind become null.
    """
    if kind is None:
        kind = main_kind(Counter(map(kind_of, values)))
    if kind == "number":
        return _numbers(name, values)
    if kind == "text":
        return pl.Series(name, [_text(value) for value in values], pl.String)
    if kind == "flag":
        flags = [value if isinstance(value, bool) else None for value in values]
        return pl.Series(name, flags, pl.Boolean)
    if kind == "list":
        return _lists(name, values)
    return pl.Series(name, [None] * len(values), pl.Null)


def _numbers(name: str, values: Sequence[Any]) -> pl.Series:
    numbers = [_number(value) for value in values]
    are_whole = all(isinstance(value, int) for value in numbers if value is not None)
    kind = pl.Int64 if are_whole else pl.Float64
    return pl.Series(name, numbers, kind, strict=False)


def _number(value: Any) -> int | float | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return value
    try:
        return float(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _text(value: Any) -> str | None:
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, bool | list):
        return None
    return json.dumps(value)


def _lists(name: str, values: Sequence[Any]) -> pl.Series:
    lists = [value if isinstance(value, list) else None for value in values]
    parts = [part for part in lists if part is not None]
    inner = column("", list(_flat(parts)))
    offset = 0
    rows: list[list[Any] | None] = []
    for part in lists:
        if part is None:
            rows.append(None)
            continue
        rows.append(inner[offset : offset + len(part)].to_list())
        offset += len(part)
    return pl.Series(name, rows, pl.List(inner.dtype))


def _flat(lists: Iterable[list[Any]]) -> Iterable[Any]:
    return (value for part in lists for value in part)
