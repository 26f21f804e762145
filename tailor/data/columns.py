"""Names of columns: which column of a file or a data frame is which of ours.

The caller's mapping comes first, then usual names, exact ones before others. The import and
`Dataset.from_events` both ask here.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import polars as pl

from tailor.data.tables import TABLES
from tailor.errors import DataError, nearest

IDS = {
    "user_id": (
        "user_id user uid customer_id customer visitor_id reviewer_id member_id account_id"
        " client_id person_id"
    ),
    "item_id": (
        "item_id item iid movie_id movie product_id product article_id book_id track_id song_id"
        " game_id business_id news_id content_id sku parent_asin asin"
    ),
}
TIME = (
    "time_ms timestamp timestamp_ms time datetime date_time date unix_time unix_timestamp"
    " event_time unix_review_time ts created_at"
)
USUAL = {
    "events": {
        **IDS,
        "time_ms": TIME,
        "action": "action event_type event behavior behavior_type behaviour interaction",
        "value": "value rating score stars overall",
        "event_id": "event_id",
        "order": "order",
        "session_id": "session_id session user_session",
        "request_id": "request_id",
    },
    "items": {
        "item_id": IDS["item_id"] + " id",
        "title": "title name item_name product_name movie_title item_title product_title",
        "text": "text description desc summary plot overview",
        "categories": "categories category genres genre class",
        "price": "price",
        "created_ms": "created_ms created created_at",
        "lat": "lat latitude",
        "lon": "lon lng longitude",
        "asset": "asset",
    },
    "users": {"user_id": IDS["user_id"] + " id"},
    "texts": {
        **IDS,
        "text": "text tag review review_text review_body comment query note body",
        "kind": "kind",
        "text_id": "text_id review_id",
        "time_ms": TIME,
    },
    "turns": {
        "dialogue_id": "dialogue_id dialog_id conversation_id",
        "turn": "turn turn_id utterance_id",
        "speaker": "speaker role",
        "text": "text utterance content message",
        "items": "items",
        "time_ms": TIME,
    },
    "requests": {
        "request_id": "request_id query_id",
        "user_id": IDS["user_id"],
        "session_id": "session_id session",
        "time_ms": TIME,
        "text": "text query",
        "surface": "surface",
        "context": "context",
    },
    "impressions": {
        "request_id": "request_id",
        "position": "position rank",
        "item_id": IDS["item_id"],
        "score": "score",
        "propensity": "propensity propensity_score action_prob pscore",
        "model": "model",
        "shown": "shown",
    },
    "judgements": {
        "query_id": "query_id qid",
        "item_id": IDS["item_id"] + " doc_id corpus_id",
        "grade": "grade relevance label score",
    },
    "candidates": {
        "query_id": "query_id qid",
        "item_id": IDS["item_id"] + " doc_id corpus_id",
        "rank": "rank position",
        "score": "score",
    },
}
KINDS = {
    "tag": "tag",
    "review": "review",
    "reviewtext": "review",
    "reviewbody": "review",
    "comment": "comment",
    "query": "query",
}


def plain(name: str) -> str:
    """Return a name without case, spaces and underscores, in which spellings differ."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def is_usual(name: str) -> bool:
    """Return whether a name is one of ours or a usual one, of any table."""
    return plain(name) in USUAL_NAMES


def numbered(n: int) -> str:
    """Return the name of column `n` (from 1) of a file without a header."""
    return f"column_{n}"


USUAL_NAMES = frozenset(
    plain(name)
    for columns in USUAL.values()
    for ours, usual in columns.items()
    for name in (ours, *usual.split())
)


def by_table(
    columns: Mapping[str, str] | None, files: Mapping[str, tuple[Path, Iterable[str]]]
) -> dict[str, dict[str, str]]:
    """Sort the caller's mapping by table: our column -> the file's.

    A column of a file without a header may be named by its number. Raises DataError for an unknown
    column on either side.
    """
    by_table: dict[str, dict[str, str]] = {table: {} for table in files}
    for key, theirs in (columns or {}).items():
        table, _, ours = key.rpartition(".")
        if table and table not in files:
            raise DataError(
                f'columns name the table "{table}" ({key}), which is not imported'
                f" here.{nearest(table, files)}"
            )
        tables = [table] if table else list(files)
        names = {name: _ours(name, ours) for name in tables}
        targets = {name: column for name, column in names.items() if column is not None}
        if not targets:
            our_columns = [column for name in tables for column in TABLES[name].columns]
            raise DataError(
                f'columns: there is no column "{ours}" of ours.{nearest(ours, our_columns)}'
            )
        present = {name: _theirs(theirs, files[name][1]) for name in targets}
        if not any(present.values()):
            raise _no_column(theirs, [files[name] for name in targets])
        for name, column in present.items():
            if column is not None:
                by_table[name][targets[name]] = column
    return by_table


def _no_column(name: str, files: Sequence[tuple[Path, Iterable[str]]]) -> DataError:
    """Return the error for a column that no file has."""
    paths = ", ".join(str(path) for path, _ in files)
    columns = [column for _, names in files for column in names]
    return DataError(f'columns: no column "{name}" in {paths}.{nearest(name, columns)}')


def _theirs(name: str, columns: Iterable[str]) -> str | None:
    """Return the file's column of a name or a number; None where it has none."""
    columns = list(columns)
    if name in columns:
        return name
    if name.isdigit() and numbered(int(name)) in columns:
        return numbered(int(name))
    return None


def _ours(table: str, name: str) -> str | None:
    """Return our column by its own name or a usual one, as `timestamp` for `time_ms`."""
    if name in TABLES[table].columns:
        return name
    for ours, usual in USUAL.get(table, {}).items():
        if plain(name) in map(plain, usual.split()):
            return ours
    return None


def recognised(table: str, names: Iterable[str], mapping: Mapping[str, str]) -> dict[str, str]:
    """Return our column -> the file's, by the caller's mapping and by usual names.

    Each column of the file is used once, except where the caller asks for it twice.
    """
    names = list(names)
    columns = dict(mapping)
    taken = set(mapping.values())
    usual_names = USUAL.get(table) or {name: name for name in TABLES[table].columns}
    for ours, usual in usual_names.items():
        if ours in columns:
            continue
        for guess in usual.split():
            fitting = [name for name in names if plain(name) == plain(guess) and name not in taken]
            if fitting:
                columns[ours] = fitting[0]
                taken.add(fitting[0])
                break
    return columns


def renamed(table: str, frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, str]]:
    """Return a frame under our names, and our column -> the one it was, where that differs.

    A column that is called like ours already is never replaced.
    """
    if table not in TABLES:
        return frame, {}
    exact = {name: name for name in frame.columns if name in TABLES[table].columns}
    columns = recognised(table, frame.columns, exact)
    if "time_ms" in columns and "order" not in exact:
        columns.pop("order", None)
    changes = {ours: theirs for ours, theirs in columns.items() if ours != theirs}
    return frame.rename({theirs: ours for ours, theirs in changes.items()}), changes


def complete(
    table: str, path: Path, line: int, names: Iterable[str], columns: Mapping[str, str], hint: str
) -> None:
    """Raise DataError where a required column was not found, naming the ones there are.

    `hint` is what else the file may be.
    """
    names = list(names)
    for ours in TABLES[table].required:
        if ours not in columns:
            close = nearest(ours, names) if names else ""
            close = close if "Did" in close else ""
            raise DataError(
                f"{path}:{line}: no column of this file is known as {ours}; its first line names"
                f" {', '.join(names)}.{close} Say which one it is: --columns {table}.{ours}=NAME"
                f"{hint}"
            )
