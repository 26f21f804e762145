"""Columns of events for histories: actions, values, and the texts users wrote about items."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from tailor.errors import DataError, nearest

if TYPE_CHECKING:
    from tailor.data.dataset import Dataset

NAMES = ("actions", "values", "texts")


def event_columns(data: "Dataset", names: Iterable[str]) -> dict[str, np.ndarray]:
    """Return columns by name, (m,) each, in the order of `data.sequences.events`.

    Values are float64, NaN where an event has none; actions and texts are objects, None where an
    event has none. Raises DataError for an unknown name, and where the data have no such column.
    """
    columns = {}
    for name in names:
        if name not in NAMES:
            raise DataError(f'histories have no column "{name}".{nearest(name, NAMES)}')
        column = _texts(data) if name == "texts" else _event_column(data, name)
        values = column.gather(data.sequences.events)
        if name == "values":
            columns[name] = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        else:
            columns[name] = np.fromiter(values.to_list(), dtype=object, count=len(values))
    return columns


def _event_column(data: "Dataset", name: str) -> pl.Series:
    column = name.removesuffix("s")
    if column not in data.events.columns:
        raise DataError(
            f'{data.name}: the events have no column "{column}", so histories have no {name}'
        )
    return data.events[column]


def _texts(data: "Dataset") -> pl.Series:
    """Return a text for each event: that of the same user, item and, where given, time."""
    if "texts" not in data.tables:
        raise DataError(f"{data.name} has no table of texts: import one with user_id and item_id")
    texts = data.tables["texts"]
    keys = ["user_id", "item_id"]
    if "time_ms" in texts.columns and "time_ms" in data.events.columns:
        keys.append("time_ms")
    lacking = [name for name in (*keys, "text") if name not in texts.columns]
    if lacking:
        raise DataError(f"{data.name}: the texts have no column {', '.join(lacking)}")
    first = texts.select(*keys, "text").drop_nulls(keys).unique(keys, keep="first")
    joined = data.events.select(keys).join(first, on=keys, how="left", maintain_order="left")
    return joined["text"]
