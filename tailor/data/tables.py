"""The tables of a data set: their columns, types and required columns.

Further columns are kept as they are.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from tailor.errors import DataError, nearest


@dataclass(frozen=True)
class Table:
    """The columns of one table."""

    columns: dict[str, pl.DataType]
    """Column -> its type."""
    required: tuple[str, ...]
    """Columns that must be present."""
    never_null: tuple[str, ...]
    """Columns that must hold a value in every row."""
    key: str | None = None
    """A column whose values are distinct."""


# TIME is milliseconds since 1970
TEXT, NUMBER, TIME, ROW = pl.String(), pl.Float64(), pl.Int64(), pl.Int32()
ITEMS = pl.List(pl.String())


def _table(required: str, key: str | None = None, **columns: pl.DataType) -> Table:
    names = tuple(required.split())
    return Table(columns, names, names, key)


TABLES = {
    "events": _table(
        "user_id item_id",
        event_id=TEXT,
        user_id=TEXT,
        item_id=TEXT,
        time_ms=TIME,
        order=TIME,
        action=TEXT,
        value=NUMBER,
        session_id=TEXT,
        request_id=TEXT,
    ),
    "items": _table(
        "item_id",
        key="item_id",
        item_id=TEXT,
        title=TEXT,
        text=TEXT,
        categories=ITEMS,
        price=NUMBER,
        created_ms=TIME,
        lat=NUMBER,
        lon=NUMBER,
        asset=TEXT,
    ),
    "users": _table("user_id", key="user_id", user_id=TEXT),
    "texts": _table(
        "user_id text", text_id=TEXT, user_id=TEXT, item_id=TEXT, kind=TEXT, text=TEXT, time_ms=TIME
    ),
    "turns": _table(
        "dialogue_id turn speaker",
        dialogue_id=TEXT,
        turn=ROW,
        speaker=TEXT,
        text=TEXT,
        items=ITEMS,
        time_ms=TIME,
    ),
    "requests": _table(
        "request_id",
        key="request_id",
        request_id=TEXT,
        user_id=TEXT,
        session_id=TEXT,
        time_ms=TIME,
        text=TEXT,
        surface=TEXT,
        context=TEXT,
    ),
    "impressions": _table(
        "request_id position item_id",
        request_id=TEXT,
        position=ROW,
        item_id=TEXT,
        score=NUMBER,
        propensity=NUMBER,
        model=TEXT,
        shown=pl.Boolean(),
    ),
    "judgements": _table("query_id item_id grade", query_id=TEXT, item_id=TEXT, grade=NUMBER),
    "candidates": _table(
        "query_id item_id rank", query_id=TEXT, item_id=TEXT, rank=ROW, score=NUMBER
    ),
    "preferences": _table(
        "user_id prompt_id a b choice",
        user_id=TEXT,
        prompt_id=TEXT,
        a=TEXT,
        b=TEXT,
        choice=TEXT,
        time_ms=TIME,
    ),
    "relations": _table(
        "head relation tail", head=TEXT, relation=TEXT, tail=TEXT, weight=NUMBER, time_ms=TIME
    ),
    "assets": _table(
        "asset_id path sha256", key="asset_id", asset_id=TEXT, path=TEXT, sha256=TEXT, kind=TEXT
    ),
}


def checked(name: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with our columns cast to their types.

    Raises DataError naming table, column and row. Importers put bad rows aside before; here, where
    frames come from code or from a folder, a bad row is an error.
    """
    if name not in TABLES:
        raise DataError(f'there is no table "{name}".{nearest(name, TABLES)}')
    table = TABLES[name]
    for column in table.required:
        if column not in frame.columns:
            raise DataError(
                f'table "{name}" lacks the column "{column}"; it has {", ".join(frame.columns)}'
            )
    for column, kind in table.columns.items():
        if column in frame.columns and frame.schema[column] != kind:
            frame = frame.with_columns(_cast(f"{name}.{column}", frame[column], kind))
    _check_values(name, table, frame)
    return frame


def _check_values(name: str, table: Table, frame: pl.DataFrame) -> None:
    """Raise DataError for an empty value or a repeated key."""
    for column in table.never_null:
        bad = frame[column].is_null()
        if bad.any():
            raise DataError(
                f"{name}.{column} is empty in {bad.sum()} rows, the first is row {bad.arg_max()}:"
                " every row needs one"
            )
    if table.key and frame[table.key].is_duplicated().any():
        twice = frame.filter(pl.col(table.key).is_duplicated())[table.key][0]
        raise DataError(f'{name}.{table.key} "{twice}" stands in several rows: one row each')


def _cast(name: str, values: pl.Series, kind: pl.DataType) -> pl.Series:
    """Return values of another type. Raises DataError where that would lose anything."""
    source = values.dtype
    if kind == TEXT and (source.is_float() or source.is_decimal()):
        raise DataError(
            f"{name} holds numbers with a decimal point: ids are strings; cast them to text"
            " yourself"
        )
    if kind == TEXT and source.is_nested():
        raise DataError(f"{name} is of type {source}: give text")
    if kind == TIME and source in (pl.Duration, pl.Time):
        raise DataError(f"{name} is of type {source}: give milliseconds since 1970, or moments")
    if kind == TIME and source.is_temporal():
        return values.dt.timestamp("ms")
    try:
        cast = values.cast(kind)
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"{name} has values of the wrong type: {str(error).splitlines()[0]}"
        ) from None
    if kind == ROW and source.is_float() and (cast != values).any():
        raise DataError(f"{name} holds {values.filter(cast != values)[0]}: give whole numbers")
    return cast


class Tables(Mapping[str, pl.DataFrame]):
    """Tables by name, each read when it is first needed.

    A table may be a frame, or a function that reads it.
    """

    def __init__(self, tables: Mapping[str, pl.DataFrame | Callable[[], pl.DataFrame]]) -> None:
        self._tables = dict(tables)

    def __getitem__(self, name: str) -> pl.DataFrame:
        table = self._tables[name]
        if not isinstance(table, pl.DataFrame):
            table = self._tables[name] = table()
        return table

    def __contains__(self, name: object) -> bool:
        return name in self._tables  # Mapping would read the table to find out

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)

    def filtered(self, masks: "Mapping[str, pl.Series]") -> "Tables":
        """Return the same tables with only the rows of the masks, filtered when first needed."""

        def rows(name: str) -> Callable[[], pl.DataFrame]:
            return lambda: self[name].filter(masks[name]) if name in masks else self[name]

        return Tables({name: rows(name) for name in self})
