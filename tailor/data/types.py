"""Recognise numbers and truth values in a table's own columns, which are read as texts.

A column of codes stays text. It is one where its name says so (zip_code, store_id), or where its
numbers have leading zeros or more than 15 digits.
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
SAMPLE = 1_000  # values read first: enough to skip most columns of words
# A column of ENOUGH numbers or more may hold stray texts, if a share of MOST are numbers.
ENOUGH = 20
MOST = 0.95


@dataclass(frozen=True)
class Recognised:
    """A column of the recognised type, and the values that did not fit the type."""

    values: pl.Series
    emptied: int = 0
    """Number of values that did not fit the type and are now null."""
    example: str = ""
    """The first value that did not fit."""


def known_types(types: Mapping[str, str]) -> dict[str, str]:
    """Return column -> int, float, bool or text, from any spelling in KINDS.

    Raises DataError for an unknown type.
    """
    for column, kind in types.items():
        if kind.lower() not in KINDS:
            raise DataError(f'types: no type "{kind}" ({column}).{nearest(kind, KINDS)}')
    return {column: KINDS[kind.lower()] for column, kind in types.items()}


def recognised(texts: pl.Series, kind: str | None = None, decimal: str = ".") -> Recognised:
    """Return a column of texts as numbers or truth values, where it holds them.

    `kind` (int, float, bool or text) sets the type. Without `kind`, all values must fit the type,
    with one exception: among ENOUGH numbers or more, one value in twenty may be something else. It
    becomes null.
    """
    if kind == "text" or (kind is None and CODES.fullmatch(texts.name)):
        return Recognised(texts)
    plain = texts.str.strip_chars()
    plain = plain.set(plain.is_in(MISSING_VALUES), None)
    if kind is not None:
        return _converted(texts, plain, _as(plain, kind, decimal))
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
    """Return a column as numbers; as texts where it holds codes, or too many other texts."""
    dotted = with_dots(plain, decimal)
    is_number = dotted.str.contains(NUMBER).fill_null(False)
    value_count = int(plain.is_not_null().sum())
    number_count = int(is_number.sum())
    # leading zeros, or more than 15 digits
    has_codes = plain.str.contains(r"^[+-]?0\d|^[+-]?\d{16}").fill_null(False).any()
    all_numbers = number_count == value_count
    mostly_numbers = number_count >= ENOUGH and number_count >= MOST * value_count
    if has_codes or not (all_numbers or mostly_numbers):
        return Recognised(texts)
    dotted = dotted.set(~is_number, None)
    all_whole = dotted.str.contains(WHOLE).fill_null(True).all()
    dtype = pl.Int64 if all_whole else pl.Float64
    return _converted(texts, plain, dotted.cast(dtype, strict=False))


def _as(plain: pl.Series, kind: str, decimal: str) -> pl.Series:
    """Return a column as int, float or bool; null where a value does not fit."""
    if kind == "bool":
        truths = {text: True for text in TRUE} | {text: False for text in FALSE}
        lower = plain.str.to_lowercase()
        return lower.replace_strict(truths, default=None, return_dtype=pl.Boolean)
    numbers = with_dots(plain, decimal)
    if kind == "int":
        return numbers.str.replace(r"\.0+$", "").cast(pl.Int64, strict=False)
    values = numbers.cast(pl.Float64, strict=False)
    return values.set(~values.is_finite().fill_null(True), None)


def _converted(texts: pl.Series, plain: pl.Series, values: pl.Series) -> Recognised:
    """Return converted values, with a count and an example of what became null."""
    is_lost = plain.is_not_null() & values.is_null()
    examples = texts.filter(is_lost).head(1).to_list()
    return Recognised(values, int(is_lost.sum()), examples[0] if examples else "")


def with_dots(numbers: pl.Series, decimal: str) -> pl.Series:
    """Return 1.299,50 as 1299.50 where the decimal mark is a comma.

    A number of another form, such as 1299.50, becomes null. Without its point it would be a hundred
    times too large.
    """
    if decimal == ".":
        return numbers
    fits = numbers.str.contains(r"^[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?$").fill_null(False)
    plain = numbers.set(~fits, None).str.replace_all(".", "", literal=True)
    return plain.str.replace(",", ".", literal=True)
