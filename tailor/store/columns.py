"""Columns of JSON values: of the type of most values, so that an odd one changes nothing."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

FAMILIES = ("number", "text", "flag", "list")  # of equally frequent ones the first
NULL = "null"
LIST = "list of "  # before the kind of the values of a list
WHOLE = re.compile(r"\s*[-+]?[0-9]{1,18}\s*")
BEYOND = 2**63  # of whole numbers, which columns do not hold


def kind_of(value: Any) -> str:
    """Return the kind of a JSON value; of a list it is "list of" and the kind of most values."""
    if value is None:
        return NULL
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, list):
        return LIST + main_kind(Counter(map(kind_of, value)))
    return "text"


def main_kind(counts: Counter[str]) -> str:
    """Return the most frequent kind, NULL where there are no values.

    All lists are of one family, whatever they hold; each counts once, however long it is.
    """
    families: Counter[str] = Counter()
    for kind, count in counts.items():
        families["list" if kind.startswith(LIST) else kind] += count
    if not any(families[family] for family in FAMILIES):
        return NULL
    family = max(FAMILIES, key=lambda family: families[family])
    if family != "list":
        return family
    inner = {kind[len(LIST) :]: n for kind, n in counts.items() if kind.startswith(LIST)}
    return LIST + main_kind(Counter(inner))


def column(name: str, values: Sequence[Any], kind: str | None = None) -> pl.Series:
    """Return a column of the values that are of `kind`, by default the most frequent one.

    A text that reads as a number counts in a column of numbers, and a number in one of texts. Other
    values of another kind become null, and so do texts and numbers that no column can hold.
    """
    if kind is None:
        kind = main_kind(Counter(map(kind_of, values)))
    converted = [_converted(value, kind) for value in values]
    base = kind.replace(LIST, "")
    dtype: Any = {"text": pl.String, "flag": pl.Boolean, NULL: pl.Null}.get(base, pl.Int64)
    if base == "number" and not _are_whole(converted):
        dtype = pl.Float64
        converted = [_as_float(value) for value in converted]
    for _ in range(kind.count(LIST)):
        dtype = pl.List(dtype)
    return pl.Series(name, converted, dtype)


def is_odd(value: Any, kind: str) -> bool:
    """Return whether a column of this kind lacks the value, or a part of it."""
    if value is None:
        return False
    if isinstance(value, list) and kind.startswith(LIST):
        return any(is_odd(part, kind[len(LIST) :]) for part in value)
    return _converted(value, kind) is None


def without_nan(value: Any) -> Any:
    """Return a JSON value with null in place of numbers that are not finite, which JSON lacks."""
    if isinstance(value, dict):
        return {name: without_nan(part) for name, part in value.items()}
    if isinstance(value, list):
        return [without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def is_column_name(name: str) -> bool:
    """Return whether a table can have a column of this name.

    Polars takes `*` and `^...$` for patterns of names.
    """
    is_pattern = name == "*" or (name.startswith("^") and name.endswith("$"))
    return bool(name.strip()) and not is_pattern and _is_encodable(name)


def _converted(value: Any, kind: str) -> Any:
    """Return the value as a column of this kind holds it, None where it is of another kind."""
    if kind == "number":
        return _number(value)
    if kind == "text":
        return _text(value)
    if kind == "flag":
        return value if isinstance(value, bool) else None
    if kind.startswith(LIST) and isinstance(value, list):
        return [_converted(part, kind[len(LIST) :]) for part in value]
    return None


def _number(value: Any) -> int | float | None:
    """Return a finite number that a column can hold, None for anything else."""
    if isinstance(value, str):
        try:
            value = int(value) if WHOLE.fullmatch(value) else float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return value if -BEYOND <= value < BEYOND else None
    return value if math.isfinite(value) else None


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value if _is_encodable(value) else None
    if value is None or isinstance(value, bool | list):
        return None
    return json.dumps(value)


def _is_encodable(text: str) -> bool:
    """Return whether a text is free of halves of surrogate pairs."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _are_whole(values: Iterable[Any]) -> bool:
    """Return whether all numbers in these values and their lists are whole."""
    return all(
        _are_whole(value) if isinstance(value, list) else not isinstance(value, float)
        for value in values
    )


def _as_float(value: Any) -> Any:
    """Return a number as a float, a list with its numbers as floats, None as it is."""
    if isinstance(value, list):
        return [_as_float(part) for part in value]
    return None if value is None else float(value)
