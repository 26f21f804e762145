"""Columns called like ours that look as if they meant something else: kept as they are, and told."""

from collections.abc import Mapping

import polars as pl

from tailor.data.tables import TABLES, TEXT

ENOUGH = 20  # rows below which chance explains it
WORDS = ("title", "text")
IDS = ("user_id", "item_id")
LONG_ID = 200  # characters
SOME = 1000  # rows that tell most files apart without reading on


def doubts(table: str, frame: pl.DataFrame, found: Mapping[str, str]) -> list[str]:
    """What to ask the owner of the file; nothing for a few rows."""
    if len(frame) < ENOUGH:
        return []
    told = []
    for ours, theirs in found.items():
        if ours not in frame.columns or TABLES[table].columns[ours] != TEXT:
            continue
        values = frame[ours].drop_nulls()
        if len(values) < ENOUGH:
            continue
        if ours in WORDS and _numeric(values.head(SOME)) and _numeric(values):
            told.append(
                _told(table, ours, theirs, "holds nothing but numbers: it was read as words")
            )
        elif ours in IDS and table == "events" and (values == values[0]).all():
            told.append(_told(table, ours, theirs, f'is "{values[0]}" in every row'))
        elif ours in IDS and (values.head(SOME).str.len_chars() > LONG_ID).sum() * 2 > min(
            SOME, len(values)
        ):
            told.append(
                _told(
                    table,
                    ours,
                    theirs,
                    f"is longer than {LONG_ID} characters in most rows: is it a text?",
                )
            )
    return told


def _numeric(values: pl.Series) -> bool:
    return bool(values.cast(pl.Float64, strict=False).is_not_null().all())


def _told(table: str, ours: str, theirs: str, what: str) -> str:
    return (
        f'{table}.{ours} (column "{theirs}") {what}; if it means something else, name the right'
        f" column (--columns {table}.{ours}=NAME)"
    )
