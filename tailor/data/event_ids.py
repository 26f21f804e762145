"""Ids of events that bring none: made of what an event says, never of where it stands.

The same log gives the same ids whatever its folder, file or order, so that a store which reads it
twice counts every event once. Events that say the same are told apart by counting them.
"""

import hashlib
from collections import Counter

import numpy as np
import polars as pl

CONTENT = ("user_id", "item_id", "time_ms", "action", "value", "request_id")
PREFIX = "e-"
DIGEST = 16  # bytes


def with_event_ids(events: pl.DataFrame) -> pl.DataFrame:
    """Return the events with an `event_id` in every row; ids that are there stay.

    A new id is a hash of the columns CONTENT and of how many equal events without an id came
    before. A column that is not there counts as empty. Further columns do not count.
    """
    if "event_id" not in events.columns:
        events = events.with_columns(pl.lit(None, pl.String).alias("event_id"))
    missing = events["event_id"].is_null()
    if not missing.any():
        return events
    ids = pl.Series(content_ids(events.filter(missing)), dtype=pl.String)
    return events.with_columns(events["event_id"].scatter(missing.arg_true(), ids))


def content_ids(events: pl.DataFrame) -> list[str]:
    """Return an id for each event, made of its content and an occurrence count."""
    contents = events.select(
        pl.concat_str([_part(events, name) for name in CONTENT]).alias("content")
    )["content"]
    ids = [_digest(content, 0) for content in contents]
    equal = contents.is_duplicated().arg_true()
    copies: Counter[str] = Counter()
    for row, content in zip(equal.to_list(), contents.gather(equal).to_list(), strict=True):
        ids[row] = _digest(content, copies[content])
        copies[content] += 1
    return ids


def _digest(content: str, copy: int) -> str:
    return PREFIX + hashlib.blake2b(f"{copy}|{content}".encode(), digest_size=DIGEST).hexdigest()


def _part(events: pl.DataFrame, name: str) -> pl.Series:
    """Return a column as texts that begin with their length, so that parts never run together."""
    if name not in events.columns:
        return pl.Series(name, ["-"], dtype=pl.String).new_from_index(0, len(events))
    values = events[name]
    if name == "value":
        values = _bits(values)
    texts = values.cast(pl.String)
    lengths = texts.str.len_bytes().cast(pl.String)
    return (lengths + ":" + texts).fill_null("-").alias(name)


def _bits(values: pl.Series) -> pl.Series:
    """Return numbers as their 64 bits: the same on every machine and version; -0 is 0."""
    numbers = values.cast(pl.Float64).to_numpy()
    bits = (np.where(np.isnan(numbers), 0.0, numbers) + 0.0).view(np.int64)
    return pl.Series(values.name, bits).set(values.is_null(), None)
