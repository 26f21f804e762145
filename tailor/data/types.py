"""Types of columns that are not ours: numbers and truth values recognised in columns of texts.

A column of codes stays text: its name says so (zip_code, store_id), or its numbers have leading
zeros or more than 15 digits.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from tailor.data.ids import MISSING_VALUES
from tailor.errors import DataError, nearest

NUMBER = r"^[+-]?(0|[1-9]\d{0,14})(\.\d+)?([eE][+-]?\d{1,3})?$"
WHOLE = r"^[+-]?(0|[1-9]\d{0,14})$"
TRUE = ("true", "t", "yes", "y", "1", "1.0", "on")
FALSE = ("false", "f", "no", "n", "0", "0.0", "off")
KINDS = {
    "int": "int",
    "integer": "int",
    "number": "float",
    "float": "float",
    "bool": "bool",
    "boolean": "bool",
    "text": "text",
    "str": "text",
    "string": "text",
}
# names of columns that hold codes, whatever they look like
CODES = re.compile(
    r"(?i)(^|.*[_\W])(ids?|zip|postal|phone|code|codes|sku|isbn|ean|upc|asin|gtin|barcode|version)"
    r"([_\W].*|$)|.*[a-z](Id|Code|Zip)$"
)
SAMPLE = 1_000  # values that tell most columns of words from columns of numbers
ENOUGH = 20  # numbers that a column must hold before a stray text does not make it text
MOST = 0.95  # share of values that must be numbers then


@dataclass(frozen=True)
class Recognised:
    """A column of a recognised type, and what was lost by it."""

    values: pl.Series
    emptied: int = 0
    """Values that are not of the type, and were left empty."""
    example: str = ""
    """The first of them."""


def known_types(types: Mapping[str, str]) -> dict[str, str]:
    """Return column -> int, float, bool or text. Raises DataError for an unknown type."""
    for column, kind in types.items():
        if kind.lower() not in KINDS:
            raise DataError(f'types: no type "{kind}" ({column}).{nearest(kind, KINDS)}')
    return {column: KINDS[kind.lower()] for column, kind in types.items()}


def recognised(texts: pl.Series, kind: str | None = None, decimal: str = ".") -> Recognised:
    """Return a column of texts as numbers or truth values where it holds such.

    `kind` overrules: int, float, bool or text. Without it all values must fit; of 20 numbers or
    more, one in twenty may be something else and is left empty.
    """
    if kind == "text" or (kind is None and CODES.fullmatch(texts.name)):
        return Recognised(texts)
    plain = texts.str.strip_chars()
    plain = plain.set(plain.is_in(MISSING_VALUES), None)
    if kind is not None:
        return _lost(texts, plain, _as(plain, kind, decimal))
    sample = plain.drop_nulls().head(SAMPLE)
    if not len(sample):
        return Recognised(texts)
    if sample.str.to_lowercase().is_in(["true", "false"]).all():
        values = _as(plain, "bool", decimal)
        fits = values.null_count() == plain.null_count()
        return Recognised(values if fits else texts)
    dotted = with_dots(sample, decimal)
    if dotted.str.contains(NUMBER).fill_null(False).mean() < MOST:  # type: ignore[operator]
        return Recognised(texts)
    return _number(texts, plain, decimal)


def _number(texts: pl.Series, plain: pl.Series, decimal: str) -> Recognised:
    dotted = with_dots(plain, decimal)
    fits = dotted.str.contains(NUMBER).fill_null(False)
    present = int(plain.is_not_null().sum())
    numbers = int(fits.sum())
    codes = plain.str.contains(r"^[+-]?0\d|^[+-]?\d{16}").fill_null(False).any()
    clear = numbers == present or (numbers >= ENOUGH and numbers >= MOST * present)
    if codes or not clear:
        return Recognised(texts)
    dotted = dotted.set(~fits, None)
    whole = dotted.str.contains(WHOLE).fill_null(True).all()
    return _lost(texts, plain, dotted.cast(pl.Int64 if whole else pl.Float64, strict=False))


def _as(plain: pl.Series, kind: str, decimal: str) -> pl.Series:
    if kind == "bool":
        truths = {text: True for text in TRUE} | {text: False for text in FALSE}
        lower = plain.str.to_lowercase()
        return lower.replace_strict(truths, default=None, return_dtype=pl.Boolean)
    numbers = with_dots(plain, decimal)
    if kind == "int":
        return numbers.str.replace(r"\.0+$", "").cast(pl.Int64, strict=False)
    values = numbers.cast(pl.Float64, strict=False)
    return values.set(~values.is_finite().fill_null(True), None)


def _lost(texts: pl.Series, plain: pl.Series, values: pl.Series) -> Recognised:
    lost = plain.is_not_null() & values.is_null()
    example = texts.filter(lost).head(1).to_list()
    return Recognised(values, int(lost.sum()), example[0] if example else "")


def with_dots(numbers: pl.Series, decimal: str) -> pl.Series:
    """Return 1.299,50 as 1299.50 where a comma parts decimals.

    What is not written so is null, since 1299.50 would be read as a hundred times as much.
    """
    if decimal == ".":
        return numbers
    fits = numbers.str.contains(r"^[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?$").fill_null(False)
    plain = numbers.set(~fits, None).str.replace_all(".", "", literal=True)
    return plain.str.replace(",", ".", literal=True)
