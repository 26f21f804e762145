"""Queries of commands: who asks, with which history, when, and with which words.

A command hands a method what Python and the service hand it: the user's whole history with its
times, the user's attributes, the time of asking, the context and the text.
"""

import csv
import re
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from tailor.core.methods import Method
from tailor.core.saving import SavedModel
from tailor.data.actions import events_against
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.data.queries import Queries
from tailor.data.times import parsed, resolved
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError, nearest

MAX_NAMED = 5  # unknown ids that are named
MAX_SEARCHED = 10_000  # items among which the nearest to an unknown one is looked for
NS_PER_MS = 1_000_000


@dataclass(frozen=True)
class QueryOptions:
    """Options of `recommend`, `explain` and `predict` that describe a query."""

    history: Sequence[str] = ()
    """Values of --history."""
    user: str | None = None
    """A user of the data set, or of the histories saved with the model."""
    data_folder: Path | None = None
    """Data set that the user's history is read from."""
    text: str = ""
    """Words to search for."""
    moment: str | None = None
    """Time of asking, as it was written."""
    context: Sequence[str] = ()
    """NAME=VALUE."""
    values: str = ""
    """Value of each item of --history, separated by commas: ratings, or answers as 1 and 0."""
    has_values: bool = False
    """Whether the history of a user of a data set brings values, where the events have them."""


def query_of(saved: SavedModel, options: QueryOptions, catalogue: Collection[str]) -> Query:
    """Return the query that options describe.

    Raises DataError for a user that is not known, and for words that nothing in the model reads:
    they would change nothing, silently.
    """
    if options.history and options.user is not None:
        raise DataError("give --history or --user, not both")
    if options.values and not options.history:
        raise DataError(f"--values {options.values}: say by --history which items they belong to")
    method = saved.method
    if options.text.strip() and not method.answers_text():
        raise DataError(
            f'--text "{options.text[:60]}": {method.name} reads no text; fit a model with Hybrid,'
            " DenseRetriever or TextMatch in it (docs/guide/search.md)"
        )
    if options.user is not None:
        query = _query_of_user(saved, options.user, options.data_folder, options.has_values)
    else:
        ids = split_ids(options.history, catalogue)
        query = Query(history=History(ids, values=_numbers(options.values)))
    return replace(
        query,
        text=options.text,
        time_ms=query.time_ms if options.moment is None else moment_ms(options.moment),
        context={**query.context, **_context(options.context)},
    )


def _query_of_user(
    saved: SavedModel, user: str, data_folder: Path | None, has_values: bool
) -> Query:
    """Return the query of a user of a data set or of the saved histories.

    As in the service, events of a data set that speak against their item are no part of the
    history, and their items are excluded.
    """
    if data_folder is None:
        if saved.histories is None:
            raise DataError(
                f"{saved.folder} holds nobody's history: name the data set with --data, or fit"
                " with --with-histories"
            )
        return _query_of_row(saved.histories, user)
    data = Dataset.open(data_folder)
    columns = ["values"] if has_values and "value" in data.events.columns else []
    against = events_against(data)
    if not against.any():
        return _query_of_row(data.queries(columns=columns), user)
    query = _query_of_row(data.cut(~against).queries(columns=columns), user)
    is_unwanted = (data.events["user_id"] == user) & pl.Series(against)
    unwanted = data.events["item_id"].filter(is_unwanted).unique(maintain_order=True)
    return replace(query, exclude=(*query.exclude, *unwanted))


def _query_of_row(queries: Queries, user: str) -> Query:
    """Return the query of a user. Raises DataError where there is none."""
    rows = np.flatnonzero(queries.user_ids == user)
    if not len(rows):
        raise DataError(
            f'there is no user "{user}": for a new user leave out --user, and pass --history where'
            " there is one"
        )
    return queries[int(rows[0])]


def moment_ms(text: str) -> int:
    """Return milliseconds since 1970 of a time of asking: "now", a date or a number.

    Dates and numbers are read as `tailor data import` reads them. Raises DataError for a text that
    is no time.
    """
    if text.strip().lower() == "now":
        return time.time_ns() // NS_PER_MS
    column = parsed(pl.Series([text.strip()]))
    moments, _ = resolved(column, None, "--at", pl.Series([1]))
    if moments[0] is None:
        raise DataError(
            f"--at {text}: this is no time between 1971 and 2100; write it as in"
            ' "2026-05-01 12:30", or "now"'
        )
    return int(moments[0]) // NS_PER_MS


def _numbers(text: str) -> tuple[float, ...] | None:
    """Return numbers separated by commas, None for no text; one that is left out is NaN."""
    if not text.strip():
        return None
    try:
        return tuple(float(part) if part.strip() else float("nan") for part in text.split(","))
    except ValueError:
        raise DataError(
            f'--values "{text}": write a number for each item of --history, as in 1,0,1'
        ) from None


def _context(pairs: Sequence[str]) -> dict[str, object]:
    """Return NAME=VALUE pairs as a mapping."""
    context: dict[str, object] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name.strip():
            raise DataError(f'--context "{pair}": write NAME=VALUE, as in age=31')
        context[name.strip()] = _typed(value.strip())
    return context


def _typed(value: str) -> object:
    """Return a value as the JSON of the service would write it.

    31 and 1.5 are numbers, true and false truth values; anything else, such as 01234, is a text,
    and so is whatever stands in double quotes.
    """
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return value[1:-1]
    if value in ("true", "false"):
        return value == "true"
    if re.fullmatch(r"-?(0|[1-9]\d*)", value):
        return int(value)
    if re.fullmatch(r"-?(0|[1-9]\d*)\.\d+", value):
        return float(value)
    return value


# --- item ids of options


def catalogue_of(saved: SavedModel) -> Collection[str]:
    """Return all items that a model knows; empty if it does not say."""
    return saved.item_ids or set(_fitted_items(saved.method))


def _fitted_items(method: Method) -> Iterator[str]:
    """Yield the items of a method and of the methods inside it."""
    items = getattr(method, "items_", None)
    if isinstance(items, Vocabulary):
        yield from items.ids.tolist()
    for value in method.state().values():
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, Method):
                yield from _fitted_items(inner)


def split_ids(values: Sequence[str] | None, catalogue: Collection[str]) -> tuple[str, ...]:
    """Return the item ids that a repeatable option names.

    A value that is an item's id is one id, commas or not. Any other value is a line of CSV: ids
    separated by commas, in double quotes where an id has a comma itself. If none of these is known
    and nothing is quoted, the value is one unknown id.
    """
    ids: list[str] = []
    for value in values or ():
        if value in catalogue or value.strip() in catalogue:
            ids.append(value if value in catalogue else value.strip())
            continue
        parts = _csv_parts(value)
        is_quoted = value.lstrip().startswith('"') or ',"' in value.replace(" ", "")
        if is_quoted or not catalogue or any(part in catalogue for part in parts):
            ids += parts
        else:
            ids += [value.strip()] if value.strip() else []
    return tuple(ids)


def _csv_parts(value: str) -> list[str]:
    """Return the parts of a line of CSV, stripped, without empty ones."""
    try:
        parts = next(csv.reader([value], skipinitialspace=True), [])
    except csv.Error:
        return [value.strip()]
    return [part.strip() for part in parts if part.strip()]


def unknown_ids(ids: Sequence[str], catalogue: Collection[str], effect: str) -> list[str]:
    """Return a note for each id that the catalogue lacks, with the nearest item.

    `effect` says what the id does then: "does not count". Only the first few ids are named. An
    empty catalogue is one that is not known: no note.
    """
    unknown = [item for item in dict.fromkeys(ids) if item not in catalogue] if catalogue else []
    notes = [
        f'"{item}" is not in the catalogue and {effect}.{nearest_item(item, catalogue)}'
        for item in unknown[:MAX_NAMED]
    ]
    if len(unknown) > MAX_NAMED:
        notes.append(
            f"{len(unknown) - MAX_NAMED:,} more ids are not in the catalogue, the last of them"
            f' "{unknown[-1]}"'
        )
    return notes


def nearest_item(item: str, catalogue: Collection[str]) -> str:
    """Return ` Did you mean "x"?`, or "" for a catalogue too large to compare."""
    return nearest(item, catalogue) if len(catalogue) < MAX_SEARCHED else ""
