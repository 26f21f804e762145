"""Where the rows of a table come from: anything with columns that gives blocks of rows as strings.

The place of a row is one number. It holds the line; for a record that makes several rows (a user's
whole history on one line) the number of the row in it; and for a folder the number of the part.
So a rejected row is found again in whatever it came from.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import polars as pl

from tailor.data.importers.packed import is_packed
from tailor.data.importers.reading import (
    BLOCK,
    LINE,
    LONGEST,
    STRAY,
    Bad,
    Block,
    few_columns,
    pieces,
    shown,
    stray_problem,
    text_file,
)
from tailor.errors import DataError
from tailor.progress import Progress

NTH, PART = 31, 48  # first bits of a position that hold the number within the line, and the part
RECORDS = 20_000  # records in a block, or fewer of many bytes
HEAD = 1000  # records from which the columns of a file without a header are taken
Fields = Mapping[str, Any]


class Source(Protocol):
    """A table to be read: columns, and blocks of rows."""

    @property
    def path(self) -> Path: ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Names that may be asked for; a block may hold further ones."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """For each column "list", "object" or RecBole's type, where known."""

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def line(self) -> int:
        """Line of the first row."""

    def blocks(self, progress: Progress) -> Iterator[Block]: ...

    def asked(self, names: Iterable[str]) -> "Source":
        """Return the same source, whose blocks surely hold these of its columns."""


class Record(NamedTuple):
    """One record of a file that is no plain table."""

    position: int
    raw: str
    fields: Fields | str
    """The row, or why there is none."""


@dataclass(frozen=True)
class Records:
    """A source of records made one by one, for any format that is no plain table."""

    path: Path
    columns: tuple[str, ...]
    read: Callable[[Progress], Iterable[Record]]
    kinds: tuple[str, ...] = ()
    """For each column "list" where it holds lists, else empty."""
    line: int = 1
    """Line of the first row."""
    notes: tuple[str, ...] = ()
    """Remarks for the report."""

    def blocks(self, progress: Progress) -> Iterator[Block]:
        records: list[Record] = []
        size = 0
        for record in self.read(progress):
            records.append(record)
            size += len(record.raw)
            if len(records) == RECORDS or size > BLOCK:
                yield _block(records, self.columns, self.path)
                records, size = [], 0
        if records:
            yield _block(records, self.columns, self.path)

    def asked(self, names: Iterable[str]) -> "Records":
        return self


@dataclass(frozen=True)
class Parts:
    """The files of a folder as one table; a column that a part lacks is empty there."""

    path: Path
    parts: tuple[Source, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for part in self.parts for name in part.columns))

    @property
    def kinds(self) -> tuple[str, ...]:
        kinds: dict[str, str] = {}
        for part in self.parts:
            for name, kind in zip(part.columns, part.kinds):
                kinds[name] = kinds.get(name) or kind
        return tuple(kinds.get(name, "") for name in self.columns)

    @property
    def line(self) -> int:
        return self.parts[0].line

    @property
    def typed(self) -> bool:
        """Return whether any part says itself which type a column has."""
        return any(is_typed(part) for part in self.parts)

    @property
    def notes(self) -> tuple[str, ...]:
        lacking = [
            (part.path.name, [name for name in self.columns if name not in part.columns])
            for part in self.parts
        ]
        notes = [
            f"{name} has no {', '.join(missing)}: left empty there"
            for name, missing in lacking
            if missing
        ]
        remainder = (
            [f"... and {len(notes) - 10:,} more parts lack columns"] if len(notes) > 10 else []
        )
        return (f"{self.path} was read as {len(self.parts):,} parts", *notes[:10], *remainder)

    def blocks(self, progress: Progress) -> Iterator[Block]:
        for n, part in enumerate(self.parts):
            for block in part.blocks(progress):
                missing = [
                    pl.lit(None, pl.String()).alias(name)
                    for name in self.columns
                    if name not in block.rows.columns
                ]
                rows = block.rows.with_columns(pl.col(LINE).cast(pl.Int64) + (n << PART), *missing)
                bad = [record._replace(line=record.line + (n << PART)) for record in block.bad]
                yield replace(block, rows=rows, bad=bad)

    def asked(self, names: Iterable[str]) -> "Parts":
        names = list(names)
        parts = [
            part.asked([name for name in names if name in part.columns]) for part in self.parts
        ]
        return Parts(self.path, tuple(parts))


def together(folder: Path, sources: Sequence[Source]) -> Source:
    """Return one source of all."""
    return sources[0] if len(sources) == 1 else Parts(folder, tuple(sources))


@dataclass(frozen=True)
class Wrapped:
    """A source that changes the rows of another one."""

    source: Source

    @property
    def path(self) -> Path:
        return self.source.path

    @property
    def columns(self) -> tuple[str, ...]:
        return self.source.columns

    @property
    def kinds(self) -> tuple[str, ...]:
        return self.source.kinds

    @property
    def notes(self) -> tuple[str, ...]:
        return self.source.notes

    @property
    def line(self) -> int:
        return self.source.line

    @property
    def typed(self) -> bool:
        return is_typed(self.source)

    def blocks(self, progress: Progress) -> Iterator[Block]:
        return self.source.blocks(progress)

    def asked(self, names: Iterable[str]) -> "Source":
        return replace(self, source=self.source.asked(names))


@dataclass(frozen=True)
class Distinct(Wrapped):
    """A source that keeps the first row of every key.

    Where every review repeats its product, a repeated key is no mistake.
    """

    key: str

    def blocks(self, progress: Progress) -> Iterator[Block]:
        seen: set[str] = set()
        for block in self.source.blocks(progress):
            new = np.zeros(len(block.rows), dtype=bool)
            # `seen` is looked up, never copied: work stays linear
            for row, key in enumerate(block.rows[self.key].to_list()):
                new[row] = key is None or key not in seen
                if key is not None:
                    seen.add(key)
            rows = block.rows.filter(pl.Series(new))
            repeats = block.repeats + int((~new).sum())
            yield replace(block, rows=rows, spans=block.spans[new], repeats=repeats)


@dataclass(frozen=True)
class Partition(Wrapped):
    """A part file with the values that its folders name, as in date=2024-01-01/part-0.parquet."""

    values: tuple[tuple[str, str | None], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.source.columns, *(name for name, _ in self.added))

    @property
    def kinds(self) -> tuple[str, ...]:
        kinds = self.source.kinds or ("",) * len(self.source.columns)
        return (*kinds, *("" for _ in self.added))

    @property
    def added(self) -> list[tuple[str, str | None]]:
        """Names and values that the file itself does not have."""
        return [pair for pair in self.values if pair[0] not in self.source.columns]

    def blocks(self, progress: Progress) -> Iterator[Block]:
        columns = [pl.lit(value, pl.String).alias(name) for name, value in self.added]
        for block in self.source.blocks(progress):
            yield replace(block, rows=block.rows.with_columns(columns))

    def asked(self, names: Iterable[str]) -> "Partition":
        inner = [name for name in names if name in self.source.columns]
        return Partition(self.source.asked(inner), self.values)


def is_typed(source: Source) -> bool:
    """Return whether a source says itself which type a column has, as Parquet does."""
    return bool(getattr(source, "typed", False))


def placed(source: Source, position: int) -> tuple[Path, int]:
    """Return the file and the line of a position."""
    if isinstance(source, Wrapped):
        return placed(source.source, position)
    path = source.parts[position >> PART].path if isinstance(source, Parts) else source.path
    return path, line_of(position)


def line_of(position: int) -> int:
    """Return the line of a position."""
    return position & ((1 << NTH) - 1)


def nth(line: int, n: int) -> int:
    """Return the place of the row number `n` of the record on a line."""
    return line + (n << NTH)


def lines(
    path: Path, encoding: str, progress: Progress, strict: bool = False
) -> Iterator[tuple[int, str]]:
    """Yield number and text of every line that is not blank, without its end.

    A stray byte stands in the text as `reading.pieces` marks it; with `strict` it is an error.
    Raises DataError for a line without end and a file that cannot be read.
    """
    text_file(path, "rows")
    steps = None if is_packed(path) else -(-path.stat().st_size // BLOCK)
    remainder, line = b"", 1
    read = pieces(path, encoding, strict=strict)
    for piece in progress(read, f"reading {path.name}", steps):
        whole, newline, remainder = (remainder + piece).rpartition(b"\n")
        if len(remainder) > LONGEST:
            raise DataError(
                f"{path}:{line}: a line of more than {LONGEST} bytes: this is not a file of rows"
            )
        for text in whole.split(b"\n") if newline else ():
            if text.strip():
                yield line, text.decode().removesuffix("\r")
            line += 1
    if remainder.strip():
        yield line, remainder.decode().removesuffix("\r")


def first_records(records: Iterable[Record], path: Path) -> list[Record]:
    """Return up to HEAD records that are rows. Raises DataError where there is none."""
    rows: list[Record] = []
    bad: list[tuple[Record, str]] = []
    for record in records:
        if isinstance(record.fields, str):
            bad.append((record, record.fields))
        else:
            rows.append(record)
        if len(rows) + len(bad) >= HEAD and rows:
            break
    if rows:
        return rows
    if bad:
        record, reason = bad[0]
        line = line_of(record.position)
        raise DataError(
            f"{path}: no row can be read; line {line} reads {record.raw[:200]!r} ({reason})"
        )
    raise DataError(f"{path} holds only blank lines: rows are needed")


def written(value: Any) -> str | None:
    """Return a value of JSON as the text of a field; lists and objects stay JSON."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, list | dict | bool):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _block(records: list[Record], columns: tuple[str, ...], path: Path) -> Block:
    rows: list[tuple[Record, Fields]] = []
    bad: list[Bad] = []
    for record in records:
        problem = record.fields if isinstance(record.fields, str) else _stray_value(record.fields)
        if isinstance(record.fields, str) or problem:
            raw = shown(clean(record.raw))
            bad.append(Bad(record.position, clean(problem), raw))
        else:
            rows.append((record, record.fields))
    names = dict.fromkeys(columns)
    for _, fields in rows:
        names.update(dict.fromkeys(fields))
    few_columns(path, len(names))
    frame = pl.DataFrame(
        [_strings(name, [written(fields.get(name)) for _, fields in rows]) for name in names]
    )
    places = pl.Series(LINE, [record.position for record, _ in rows], dtype=pl.Int64)
    buffer, spans = _joined([clean(record.raw).encode() for record, _ in rows])
    return Block(frame.with_columns(places), bad, buffer, spans)


def _joined(raws: list[bytes]) -> tuple[bytes, np.ndarray]:
    """Return the texts of rows as one, and (rows, 2) where each begins and ends."""
    ends = np.cumsum([len(raw) for raw in raws], dtype=np.int64)
    starts = np.r_[0, ends[:-1]] if len(ends) else ends
    return b"".join(raws), np.stack([starts, ends], 1)


def _stray_value(fields: Fields) -> str:
    """Return which value holds a byte that is no text; "" where all are text."""
    for value in fields.values():
        if isinstance(value, str) and STRAY in value:
            return stray_problem(value) or ""
    return ""


def _strings(name: str, values: list[str | None]) -> pl.Series:
    try:
        return pl.Series(clean(name), values, dtype=pl.String)
    # half of a pair of surrogates, which JSON can write and UTF-8 cannot
    except UnicodeEncodeError:
        # written out, so that two ids with different halves stay two
        whole = [
            None if value is None else value.encode("utf-8", "backslashreplace").decode()
            for value in values
        ]
        return pl.Series(clean(name), whole, dtype=pl.String)


def clean(text: str) -> str:
    """Return the text with ? for half of a pair of surrogates."""
    return text.encode("utf-8", "replace").decode()
