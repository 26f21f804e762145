"""Tables made of data frames by the rules of the import: names, ids, times and lists."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from tailor.data import times
from tailor.data.columns import renamed
from tailor.data.ids import check_ids, holds_control, tidy_ids
from tailor.data.lists import split_lists
from tailor.data.tables import ITEMS, TABLES, TEXT, TIME
from tailor.errors import DataError


def table_of(table: str, columns: Any) -> pl.DataFrame:
    """Return a table of a data frame (Polars, pandas, Arrow) or a mapping of columns.

    Raises DataError, naming column and row, for what cannot be read.
    """
    try:
        frame = pl.DataFrame(columns)
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise DataError(
            f'table "{table}" cannot be made of the columns given: {" ".join(str(error).split())}'
        ) from None
    if table not in TABLES:
        return frame
    frame, changes = renamed(table, frame)
    columns = [name for name in TABLES[table].columns if name in frame.columns]
    return frame.with_columns(_read_column(table, frame[name], changes) for name in columns)


def _read_column(table: str, values: pl.Series, changes: Mapping[str, str]) -> pl.Series:
    """Return the values of one of our columns; `changes` maps it to the frame's, if renamed."""
    name = values.name
    kind = TABLES[table].columns[name]
    label = f"{table}.{changes.get(name, name)}"
    if kind == TEXT and name.endswith("_id"):
        return _ids(values, label, name in TABLES[table].never_null)
    if kind == TIME and name != "order":
        return _times(values, label, name in changes).alias(name)
    if kind == ITEMS and values.dtype == TEXT:
        return split_lists(values, None)[0].alias(name)
    return values


def _ids(ids: pl.Series, label: str, required: bool) -> pl.Series:
    """Return ids as the import has them. Raises DataError for a missing or unusable one."""
    if ids.dtype != TEXT:
        return ids  # numbers are cast, or refused, with the whole table
    ids = tidy_ids(ids)
    check_ids(ids if required else ids.filter(holds_control(ids)), label)
    return ids


def _times(values: pl.Series, label: str, is_renamed: bool) -> pl.Series:
    """Return milliseconds since 1970.

    A column called time_ms holds milliseconds; another name or written dates are read as in a file.
    """
    if values.dtype == TEXT or (is_renamed and values.dtype.is_numeric()):
        return times.from_column(values, label)
    problem = times.column_problem(values) if values.dtype.is_integer() else None
    if problem:
        raise DataError(
            f"{label} {problem}; convert the column, or call it timestamp: its unit is found then"
        )
    return values
