"""Columns of events for histories: actions, values, and the texts users wrote about items."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from tailor.data.arrays import Ragged
from tailor.errors import DataError, nearest

if TYPE_CHECKING:
    from tailor.data.dataset import Dataset
    from tailor.data.queries import Queries

QUERY = "query"  # kind of the texts that tell what a user asked for just before an event
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
    return _joined(texts, data.events, keys)


def event_texts(data: "Dataset", events: pl.DataFrame, kind: str) -> list[str]:
    """Return the text of a kind of each event (m,); "" for none.

    It is the first that names the event's user, item and, where both have one, time. All texts
    count where texts have no kinds. `events` is any table with user_id and item_id.
    """
    texts = data.tables.get("texts")
    if texts is None or not {"user_id", "item_id", "text"} <= set(texts.columns):
        return [""] * len(events)
    if "kind" in texts.columns:
        texts = texts.filter(pl.col("kind") == kind)
    is_timed = "time_ms" in texts.columns and "time_ms" in events.columns
    keys = ["user_id", "item_id", "time_ms"] if is_timed else ["user_id", "item_id"]
    return [text or "" for text in _joined(texts, events, keys)]


def _joined(texts: pl.DataFrame, events: pl.DataFrame, keys: list[str]) -> pl.Series:
    """Return (m,) the first text with each event's keys, null for none."""
    first = texts.select(*keys, "text").drop_nulls(keys).unique(keys, keep="first")
    return events.select(keys).join(first, on=keys, how="left", maintain_order="left")["text"]


def with_typed_texts(
    queries: "Queries", targets: Ragged, data: "Dataset", kind: str = QUERY
) -> "Queries":
    """Return the same queries with the text that users typed before their first target.

    It was typed for that target: figures with it are none of plain next items. `targets` hold rows
    of the queries' catalogue, `data` the texts.
    """
    first = targets.values[targets.offsets[:-1]]
    events = named_events(queries.user_ids, queries.catalogue.named(first), queries.now_ms)
    return replace(queries, texts=np.array(event_texts(data, events, kind), dtype=object))


def named_events(
    user_ids: np.ndarray, item_ids: Sequence[str], times_ms: np.ndarray | None
) -> pl.DataFrame:
    """Return a table of events (m,) with user_id, item_id and, where there are times, time_ms."""
    events = pl.DataFrame(
        {
            "user_id": pl.Series(user_ids.tolist(), dtype=pl.String),
            "item_id": pl.Series(item_ids, dtype=pl.String),
        }
    )
    if times_ms is None:
        return events
    return events.with_columns(time_ms=pl.Series(times_ms, dtype=pl.Int64))
