"""Parquet files in batches. Columns of ours become text and are read as a CSV's would be; further
ones keep their types.
"""

import json
from collections.abc import Iterable, Iterator
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
    """A block whose raw text is only made where somebody asks."""

    given: pl.DataFrame = field(default_factory=pl.DataFrame)

    def raw(self, row: int) -> str:
        return json.dumps(self.given.row(row, named=True), ensure_ascii=False, default=str)


@dataclass(frozen=True)
class Parquet:
    path: Path
    inner: tuple[str, ...] = ()
    line: int = 1
    """"lines" are rows, counted from 1."""
    notes: tuple[str, ...] = ()

    @cached_property
    def schema(self) -> dict[str, Any]:
        try:
            found = dict(pl.read_parquet_schema(self.path))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(
                f"{self.path} is no Parquet file, or is damaged ({str(error).splitlines()[0]}):"
                " write it again"
            ) from None
        if named := next((name for name in found if "\0" in name), None):
            raise DataError(
                f"{self.path} has a column {named!r}: rename it, no name may hold a zero byte"
            )
        return found

    @cached_property
    def columns(self) -> tuple[str, ...]:
        dotted = [
            f"{name}.{one.name}"
            for name, kind in self.schema.items()
            if isinstance(kind, pl.Struct)
            for one in kind.fields
        ]
        return (*self.schema, *dotted)

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        kinds = [self.schema.get(name) for name in self.columns]
        return tuple(
            (
                "list"
                if isinstance(kind, pl.List | pl.Array)
                else "object"
                if isinstance(kind, pl.Struct)
                else ""
            )
            for kind in kinds
        )

    def asked(self, names: Iterable[str]) -> "Parquet":
        return replace(self, inner=tuple(one for one in names if one not in self.schema))

    def blocks(self, progress: Progress) -> Iterator[Block]:
        try:
            with pq.ParquetFile(self.path) as file:
                steps, first = -(-file.metadata.num_rows // BATCH), 1
                for batch in progress(file.iter_batches(BATCH), f"reading {self.path.name}", steps):
                    frame = pl.DataFrame(batch)
                    parts = [
                        pl.col(name.split(".", 1)[0])
                        .struct.field(name.split(".", 1)[1])
                        .alias(name)
                        for name in self.inner
                    ]
                    rows = frame.with_columns(*parts)
                    rows = rows.with_columns(
                        pl.int_range(first, first + len(frame), dtype=pl.Int64, eager=True).alias(
                            LINE
                        )
                    )
                    first += len(frame)
                    yield ParquetBlock(rows, [], b"", np.zeros((0, 2), np.int64), frame)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(
                f"{self.path} is damaged or cut short ({str(error).splitlines()[0]}): write it"
                " again"
            ) from None


def as_text(values: pl.Series) -> pl.Series:
    """Values of any type as a CSV would write them: moments in UTC with their full precision, lists
    as JSON.
    """
    kind = values.dtype
    if kind == pl.String:
        return values
    if isinstance(kind, pl.Datetime):
        moments = (
            values.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
            if kind.time_zone
            else values
        )
        return moments.dt.strftime("%Y-%m-%dT%H:%M:%S%.9f")
    if kind == pl.Date:
        return values.dt.strftime("%Y-%m-%d")
    if kind.is_nested():
        return pl.Series(
            values.name,
            [
                None if one is None else json.dumps(one, ensure_ascii=False, default=str)
                for one in values.to_list()
            ],
            dtype=pl.String,
        )
    if kind == pl.Binary:
        return pl.Series(
            values.name,
            [None if one is None else one.decode("utf-8", "replace") for one in values],
            dtype=pl.String,
        )
    try:
        return values.cast(pl.String, strict=False)
    except pl.exceptions.PolarsError:  # durations, objects
        return pl.Series(
            values.name, [None if one is None else str(one) for one in values], dtype=pl.String
        )
