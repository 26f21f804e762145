"""Rows of what was shown, with the outcome, as requests, impressions and choices.

A log of labelled impressions is one flat table: who saw which item when, what was known then, and
what came of it.
"""

from dataclasses import dataclass

import polars as pl

from tailor.data.conditions import Condition
from tailor.data.tables import TABLES
from tailor.errors import DataError

IDS = ("user_id", "item_id", "time_ms", "request_id")


@dataclass(frozen=True, eq=False)
class Shown:
    """Tables made of labelled rows, and what was understood."""

    requests: pl.DataFrame
    impressions: pl.DataFrame
    events: pl.DataFrame
    """The choices."""
    notes: list[str]


def split_shown(rows: pl.DataFrame, label: str) -> Shown:
    """Split rows of user_id, item_id, time_ms and further columns by the condition `label`.

    - Rows of one request_id, or else of one user and time, are one request.
    - Rows where the condition holds are events; rows where it is undecided are left out.
    - A further column that is the same within every request is known when it is made, and goes to
      the requests. A column of the condition, one that is empty wherever nothing was chosen, and
      `action` and `value` are of the choice, and go to the events: no method may learn from them
      what it shall predict. All others go to the impressions.

    Raises DataError where a needed column is not there, or no row was chosen.
    """
    if "time_ms" not in rows.columns:
        raise DataError(
            "a log of what was shown needs the times: name the column by --columns time_ms=NAME"
        )
    condition = Condition(label, "label")
    is_chosen = pl.Series(condition.holds(rows))
    is_decided = pl.Series(condition.decides(rows))
    if not is_chosen.any():
        raise DataError(f'label "{label}" holds for none of {len(rows):,} rows: nothing was chosen')
    decided = rows.filter(is_decided)
    is_chosen = is_chosen.filter(is_decided)
    decided = _with_request_ids(decided)
    outcome = _outcome_columns(decided, is_chosen, condition)
    further = [name for name in decided.columns if name not in (*IDS, *outcome, "order")]
    constant = [name for name in further if _is_constant(decided, name)]
    per_item = [name for name in further if name not in constant]
    requests = decided.select("request_id", "user_id", "time_ms", *constant)
    requests = requests.unique("request_id", keep="first", maintain_order=True)
    impressions = decided.select("request_id", "item_id", *per_item)
    if "position" not in impressions.columns:
        position = pl.int_range(pl.len()).over("request_id").cast(pl.Int32)
        impressions = impressions.with_columns(position=position)
    impressions = impressions.with_columns(shown=pl.lit(True))
    events = decided.filter(is_chosen).select(*IDS, *outcome)
    notes = _notes(rows, decided, label, len(requests), constant, outcome, per_item)
    return Shown(requests, impressions, events, notes)


def _with_request_ids(rows: pl.DataFrame) -> pl.DataFrame:
    """Give rows of one user and time a request, where no column says which belong together."""
    if "request_id" not in rows.columns:
        number = pl.struct("user_id", "time_ms").rank("dense").cast(pl.String)
        return rows.with_columns(request_id=pl.lit("request ") + number)
    missing = int(rows["request_id"].is_null().sum())
    if missing:
        raise DataError(f"request_id is empty in {missing:,} rows: every row shown needs one")
    mixed = rows.group_by("request_id").agg(pl.col("user_id", "time_ms").n_unique())
    mixed = mixed.filter((pl.col("user_id") > 1) | (pl.col("time_ms") > 1))
    if len(mixed):
        raise DataError(
            f'request_id "{mixed["request_id"][0]}" has rows of several users or times, as'
            f" {len(mixed):,} have: a request is one user at one time"
        )
    return rows


def _outcome_columns(rows: pl.DataFrame, is_chosen: pl.Series, condition: Condition) -> list[str]:
    """Return the columns that are known after the choice only."""
    of_condition = {test.column.text for test in condition.tests}
    unchosen = rows.filter(~is_chosen)
    empty = {
        name
        for name in rows.columns
        if len(unchosen)
        and unchosen[name].null_count() == len(unchosen)
        and rows[name].null_count() < len(rows)
    }
    outcome = of_condition | empty | {"action", "value", "event_id"}
    return [name for name in rows.columns if name in outcome and name not in IDS]


def _is_constant(rows: pl.DataFrame, name: str) -> bool:
    """Return whether all rows of a request have the same value in a column."""
    if name == "position" or rows.schema[name].is_nested():
        return False
    several = rows.group_by("request_id").agg(pl.col(name).n_unique())
    return bool((several[name] == 1).all())


def _notes(
    rows: pl.DataFrame,
    decided: pl.DataFrame,
    label: str,
    requests: int,
    constant: list[str],
    outcome: list[str],
    per_item: list[str],
) -> list[str]:
    """Return what was understood, so that a wrong reading is noticed."""
    notes = [f"{len(decided):,} rows shown in {requests:,} requests"]
    if len(decided) < len(rows):
        notes.append(f'{len(rows) - len(decided):,} rows were left out: "{label}" is undecided')
    contexts = [name for name in constant if name not in TABLES["requests"].columns]
    if contexts:
        notes.append(f"taken as known when shown, so learned from: {', '.join(contexts)}")
    outcomes = [name for name in outcome if name != "event_id"]
    notes.append(f"taken as known after the choice, so not learned from: {', '.join(outcomes)}")
    if per_item:
        notes.append(f"kept with the impressions, not learned from: {', '.join(per_item)}")
    return notes
