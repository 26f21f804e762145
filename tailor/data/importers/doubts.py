"""Notes on columns that look as if they meant something else; they are kept as they are."""

from collections.abc import Mapping

import polars as pl

from tailor.data.ids import is_named_missing, is_scientific
from tailor.data.tables import TABLES, TEXT

ENOUGH = 20  # rows below which chance explains it
WORDS = ("title", "text")
IDS = ("user_id", "item_id")
LONG_ID = 200  # characters
SAMPLE = 1000  # rows that tell most files apart without reading on
MOST_NAMED = 5  # ids that a note names


def doubts(table: str, frame: pl.DataFrame, columns: Mapping[str, str]) -> list[str]:
    """Return what to ask the owner of the file; `columns` maps our column to the file's."""
    notes: list[str] = []
    for ours, theirs in columns.items():
        if ours not in frame.columns or TABLES[table].columns[ours] != TEXT:
            continue
        values = frame[ours].drop_nulls()
        if ours in IDS:
            notes += _doubts_of_ids(table, ours, theirs, values)
        if len(values) < ENOUGH:
            continue
        problem = _doubt_of_column(table, ours, values)
        if problem:
            notes.append(
                f'{table}.{ours} (column "{theirs}") {problem}; if it means something else, name'
                f" the right column (--columns {table}.{ours}=NAME)"
            )
    return notes


def _doubts_of_ids(table: str, ours: str, theirs: str, ids: pl.Series) -> list[str]:
    """Return notes on ids of any number: what a tool or a missing header has made of them."""
    notes = []
    scientific = ids.filter(is_scientific(ids))
    if len(scientific):
        notes.append(
            f"{table}.{ours} holds {len(scientific):,} ids such as {scientific[0]}: a spreadsheet"
            " made them of longer numbers, and different ids may be one now; export the column as"
            " text"
        )
    missing = ids.filter(is_named_missing(ids))
    for name, n in missing.value_counts(sort=True).rows()[:MOST_NAMED]:
        notes.append(
            f'{table}.{ours} is "{name}" in {n:,} rows and was kept as an id; if it stands for'
            f" none, say so (--missing {name})"
        )
    if theirs != ours and len(ids) > 1 and (ids.head(SAMPLE) == theirs).any():
        notes.append(
            f'{table}.{ours}: the name of its column, "{theirs}", is among its values too; if the'
            " file has no header, say so (--no-header)"
        )
    return notes


def _doubt_of_column(table: str, ours: str, values: pl.Series) -> str:
    """Return what is odd about a column of many values; "" where nothing is."""
    head = values.head(SAMPLE)
    if ours in WORDS and _numeric(head) and _numeric(values):
        return "holds nothing but numbers: it was read as words"
    if ours not in IDS:
        return ""
    if table == "events" and (values == values[0]).all():
        return f'is "{values[0]}" in every row'
    if (head.str.len_chars() > LONG_ID).sum() * 2 > len(head):
        return f"is longer than {LONG_ID} characters in most rows: is it a text?"
    if ours == "item_id" and head.str.contains(r"^\[.*,.*\]$").sum() * 2 > len(head):
        return "holds lists in most rows: one event a row is needed"
    return ""


def _numeric(values: pl.Series) -> bool:
    return bool(values.cast(pl.Float64, strict=False).is_not_null().all())
