"""Parquet files in batches.

Columns of ours become text and are read as a CSV's would be; further ones keep their types.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow
import pyarrow.parquet as pq

from tailor.data.importers.reading import LINE, Block
from tailor.errors import DataError
from tailor.progress import Progress

BATCH = 200_000  # rows


@dataclass(frozen=True, eq=False)
class ParquetBlock(Block):
    """A block that makes the text of a row only when it is needed."""

    frame: pl.DataFrame = field(default_factory=pl.DataFrame)
    """Rows as the file holds them."""

    def raw(self, row: int) -> str:
        """Return a row as JSON."""
        return json.dumps(self.frame.row(row, named=True), ensure_ascii=False, default=str)


@dataclass(frozen=True)
class Parquet:
    """A Parquet file as a source; its lines are rows, counted from 1."""

    path: Path
    inner: tuple[str, ...] = ()
    """Dotted names to take out of structs."""
    line: int = 1
    """Line of the first row."""
    notes: tuple[str, ...] = ()
    """Remarks for the report."""
    typed: bool = True
    """True: columns have types of their own."""

    @cached_property
    def schema(self) -> dict[str, Any]:
        try:
            schema = dict(pl.read_parquet_schema(self.path))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(
                f"{self.path} is no Parquet file, or is damaged ({str(error).splitlines()[0]}):"
                " write it again"
            ) from None
        for name in schema:
            if "\0" in name:
                raise DataError(
                    f"{self.path} has a column {name!r}: rename it, no name may hold a zero byte"
                )
        return schema

    @cached_property
    def columns(self) -> tuple[str, ...]:
        dotted = [
            f"{name}.{part.name}"
            for name, kind in self.schema.items()
            if isinstance(kind, pl.Struct)
            for part in kind.fields
        ]
        return (*self.schema, *dotted)

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        return tuple(_nested_kind(self.schema.get(name)) for name in self.columns)

    def asked(self, names: Iterable[str]) -> "Parquet":
        return replace(self, inner=tuple(name for name in names if name not in self.schema))

    def blocks(self, progress: Progress) -> Iterator[Block]:
        inner = [
            pl.col(name.split(".", 1)[0]).struct.field(name.split(".", 1)[1]).alias(name)
            for name in self.inner
        ]
        try:
            with pq.ParquetFile(self.path) as file:
                steps = -(-file.metadata.num_rows // BATCH)
                first = 1
                for batch in progress(file.iter_batches(BATCH), f"reading {self.path.name}", steps):
                    frame = pl.DataFrame(batch)
                    lines = pl.int_range(first, first + len(frame), dtype=pl.Int64, eager=True)
                    rows = frame.with_columns(*inner).with_columns(lines.alias(LINE))
                    first += len(frame)
                    yield ParquetBlock(rows, [], b"", np.zeros((0, 2), np.int64), frame=frame)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(
                f"{self.path} is damaged or cut short ({str(error).splitlines()[0]}): write it"
                " again"
            ) from None


def _nested_kind(kind: Any) -> str:
    if isinstance(kind, pl.List | pl.Array):
        return "list"
    return "object" if isinstance(kind, pl.Struct) else ""


def as_text(values: pl.Series) -> pl.Series:
    """Return values of any type as a CSV would write them.

    Moments are in UTC with their full precision, lists are JSON.
    """
    kind = values.dtype
    if kind == pl.String:
        return values
    if isinstance(kind, pl.Datetime):
        if kind.time_zone:
            values = values.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return values.dt.strftime("%Y-%m-%dT%H:%M:%S%.9f")
    if kind == pl.Date:
        return values.dt.strftime("%Y-%m-%d")
    if kind.is_float():
        values = values.fill_nan(None)
    if kind.is_nested():
        return _each(values, lambda value: json.dumps(value, ensure_ascii=False, default=str))
    if kind == pl.Binary:
        return _each(values, _decoded)
    try:
        return values.cast(pl.String, strict=False)
    except pl.exceptions.PolarsError:  # durations, objects
        return _each(values, str)


def _each(values: pl.Series, write: Callable[[Any], str]) -> pl.Series:
    texts = [None if value is None else write(value) for value in values.to_list()]
    return pl.Series(values.name, texts, dtype=pl.String)


def _decoded(value: bytes) -> str:
    """Return bytes as text, in hexadecimal where they are none: so no two become one."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()
