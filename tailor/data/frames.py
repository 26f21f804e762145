"""Tables made of data frames by the rules of the import: names, ids, times and lists."""

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
    for name, kind in TABLES[table].columns.items():
        if name not in frame.columns:
            continue
        label = f"{table}.{changes.get(name, name)}"
        if kind == TEXT and name.endswith("_id"):
            frame = frame.with_columns(_ids(frame[name], label, name in TABLES[table].never_null))
        elif kind == TIME and name != "order":
            frame = frame.with_columns(_times(frame[name], label, name in changes).alias(name))
        elif kind == ITEMS and frame.schema[name] == TEXT:
            frame = frame.with_columns(split_lists(frame[name], None)[0].alias(name))
    return frame


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
