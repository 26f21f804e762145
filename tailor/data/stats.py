"""Figures of a data set: sizes, quantiles, repeats, ties."""

from typing import Any

import numpy as np
import polars as pl

from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset

QUANTILES = {
    "min": 0.0,
    "p10": 0.1,
    "p25": 0.25,
    "median": 0.5,
    "p75": 0.75,
    "p90": 0.9,
    "p99": 0.99,
    "max": 1.0,
}


def stats(data: Dataset) -> dict[str, Any]:
    """Return figures as plain JSON values; shares are between 0 and 1.

    `items` is the whole catalogue; `events_per_item` and `top_items_share` (what the most frequent
    tenth of them holds) are of items with events. `repeats_share`: events of an item the user had
    before. `tied_times_share`: events at the time of another one of the same user;
    `tied_last_share`: users whose last event is decided by file order. Both are None without times,
    as is `time_range`. Raises DataError for a data set without events.
    """
    rows, times = data.sequences.rows, data.sequences.times_ms
    per_item = np.bincount(rows.values, minlength=len(data.catalogue))
    seen = np.sort(per_item[per_item > 0])[::-1]
    events = len(rows.values)
    cells = len(rows) * len(data.catalogue)
    top = seen[: -(-len(seen) // 10)]
    tied_share, tied_last = _tied_shares(times)
    return {
        "users": len(rows),
        "items": len(data.catalogue),
        "events": events,
        "density": events / cells if cells else 0.0,
        "events_per_user": quantiles(rows.lengths),
        "events_per_item": quantiles(seen),
        "time_range": time_range(data),
        "repeats_share": repeats_share(data),
        "exact_duplicates": exact_duplicates(data.events),
        "tied_times_share": tied_share,
        "tied_last_share": tied_last,
        "items_without_events": int((per_item == 0).sum()),
        "items_without_words": wordless(data),
        "top_items_share": float(top.sum() / events) if events else 0.0,
    }


def repeats_share(data: Dataset) -> float:
    """Return the share of events of an item that their user had before."""
    rows = data.sequences.rows
    if not len(rows.values):
        return 0.0
    pairs = rows.row_ids.astype(np.int64) * len(data.catalogue) + rows.values
    return 1 - len(np.unique(pairs)) / len(pairs)


def has_words(data: Dataset) -> bool:
    """Return whether any item has a title, a category or a text."""
    return any(text.strip() for text in data.item_texts)


def _tied_shares(times: Ragged | None) -> tuple[float | None, float | None]:
    """Return the share of tied events, and of users whose last event is tied."""
    if times is None:
        return None, None
    if not len(times.values):
        return 0.0, 0.0
    ties = tied(times)
    return float(ties.mean()), float(ties[times.from_end == 0].mean())


def quantiles(counts: np.ndarray) -> dict[str, float]:
    """Return the values of QUANTILES in `counts` (n,); empty where there are none."""
    if not len(counts):
        return {}
    return dict(zip(QUANTILES, np.quantile(counts, list(QUANTILES.values())).round(2).tolist()))


def time_range(data: Dataset) -> list[str] | None:
    """Return first and last time as ISO texts in UTC; None where there are no times."""
    if not data.has_times or not len(data.events):
        return None
    ends = data.events["time_ms"].to_numpy()[[0, -1]]
    return [f"{moment}Z" for moment in ends.astype("M8[ms]").astype("M8[s]")]


def tied(times: Ragged) -> np.ndarray:
    """Return (m,) bool: True for an event at the time of its user's event before or after it."""
    same = (times.values[1:] == times.values[:-1]) & (times.row_ids[1:] == times.row_ids[:-1])
    return np.r_[False, same] | np.r_[same, False]


def exact_duplicates(events: pl.DataFrame) -> int:
    """Count events that equal an earlier one in everything but event_id and order."""
    frame = events.drop("event_id", "order", strict=False)
    return len(frame) - frame.hash_rows().n_unique()


def wordless(data: Dataset) -> int:
    """Count items of the catalogue that have neither a title nor a text."""
    table = data.item_table
    words = [
        pl.col(name).fill_null("").str.strip_chars() != ""
        for name in ("title", "text")
        if name in table.columns
    ]
    if not words:
        return len(table)
    return int(table.select(~pl.any_horizontal(words))[:, 0].sum())
