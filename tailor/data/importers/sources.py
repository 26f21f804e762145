"""Where the rows of a table come from: anything that has columns and gives blocks of rows as
strings.

A row's place is one number: its line, for a record that makes several rows (a user's whole history
on one line) which of them it is, and for a folder of part files which part. So a rejected row is
found again in whatever it came from.
"""

import json
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
    Bad,
    Block,
    few_columns,
    pieces,
    text_file,
)
from tailor.errors import DataError
from tailor.progress import Progress

NTH, PART = 31, 48  # bits of a place below which the line, and the number within the line, stand
RECORDS = 20_000  # records in a block, or fewer of many bytes
HEAD = 1000  # records from which the columns of a file without a header are taken
Fields = Mapping[str, Any]


class Source(Protocol):
    @property
    def path(self) -> Path: ...
    @property
    def columns(self) -> tuple[str, ...]:
        """What may be asked for; a block may hold further ones."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of each column, where known: "list", "object", or what RecBole says."""

    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def line(self) -> int:
        """The line of the first row."""

    def blocks(self, progress: Progress) -> Iterator[Block]: ...
    def asked(self, names: Iterable[str]) -> "Source":
        """The same source, whose blocks surely hold these of its columns."""


class Record(NamedTuple):
    place: int
    raw: str
    fields: Fields | str
    """The row, or why there is none."""


@dataclass(frozen=True)
class Records:
    """Records made one by one, of any format that is no plain table."""

    path: Path
    columns: tuple[str, ...]
    read: Callable[[Progress], Iterable[Record]]
    kinds: tuple[str, ...] = ()
    line: int = 1
    notes: tuple[str, ...] = ()

    def blocks(self, progress: Progress) -> Iterator[Block]:
        held: list[Record] = []
        size = 0
        for record in self.read(progress):
            held.append(record)
            size += len(record.raw)
            if len(held) == RECORDS or size > BLOCK:
                yield _block(held, self.columns, self.path)
                held, size = [], 0
        if held:
            yield _block(held, self.columns, self.path)

    def asked(self, names: Iterable[str]) -> "Records":
        return self


@dataclass(frozen=True)
class Parts:
    """The files of a folder as one table: a column that a part lacks is empty there."""

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
    def notes(self) -> tuple[str, ...]:
        lacking = [
            (part.path.name, [name for name in self.columns if name not in part.columns])
            for part in self.parts
        ]
        told = [
            f"{name} has no {', '.join(missing)}: left empty there"
            for name, missing in lacking
            if missing
        ]
        more = [f"... and {len(told) - 10:,} more parts lack columns"] if len(told) > 10 else []
        return (f"{self.path} was read as {len(self.parts):,} parts", *told[:10], *more)

    def blocks(self, progress: Progress) -> Iterator[Block]:
        for n, part in enumerate(self.parts):
            for block in part.blocks(progress):
                missing = [
                    pl.lit(None, pl.String()).alias(name)
                    for name in self.columns
                    if name not in block.rows.columns
                ]
                rows = block.rows.with_columns(pl.col(LINE).cast(pl.Int64) + (n << PART), *missing)
                yield replace(
                    block,
                    rows=rows,
                    bad=[bad._replace(line=bad.line + (n << PART)) for bad in block.bad],
                )

    def asked(self, names: Iterable[str]) -> "Parts":
        names = list(names)
        return Parts(
            self.path,
            tuple(part.asked([one for one in names if one in part.columns]) for part in self.parts),
        )


def together(folder: Path, sources: Sequence[Source]) -> Source:
    """One source of all."""
    return sources[0] if len(sources) == 1 else Parts(folder, tuple(sources))


@dataclass(frozen=True)
class Distinct:
    """A source whose rows of a key seen before are left out: where every review repeats its
    product, that is no mistake.
    """

    source: Source
    key: str

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

    def blocks(self, progress: Progress) -> Iterator[Block]:
        seen: set[str] = set()
        for block in self.source.blocks(progress):
            new = np.zeros(len(block.rows), dtype=bool)
            # what was seen is asked, never copied: work stays linear
            for row, key in enumerate(block.rows[self.key].to_list()):
                new[row] = key is None or key not in seen
                if key is not None:
                    seen.add(key)
            yield replace(block, rows=block.rows.filter(pl.Series(new)), spans=block.spans[new])

    def asked(self, names: Iterable[str]) -> "Distinct":
        return Distinct(self.source.asked(names), self.key)


def placed(source: Source, place: int) -> tuple[Path, int]:
    """The file and the line of a place."""
    if isinstance(source, Distinct):
        return placed(source.source, place)
    path = source.parts[place >> PART].path if isinstance(source, Parts) else source.path
    return path, place & ((1 << NTH) - 1)


def nth(line: int, n: int) -> int:
    """The place of the row number n of the record on a line."""
    return line + (n << NTH)


def lines(path: Path, encoding: str, progress: Progress) -> Iterator[tuple[int, str]]:
    """Number and text of every line that is not blank, without its end. Raises DataError for a line
    without end and a file that cannot be read.
    """
    text_file(path, "rows")
    steps = None if is_packed(path) else -(-path.stat().st_size // BLOCK)
    rest, line = b"", 1
    for piece in progress(pieces(path, encoding), f"reading {path.name}", steps):
        whole, newline, rest = (rest + piece).rpartition(b"\n")
        if len(rest) > LONGEST:
            raise DataError(
                f"{path}:{line}: a line of more than {LONGEST} bytes: this is not a file of rows"
            )
        for text in whole.split(b"\n") if newline else ():
            if text.strip():
                yield line, text.decode().removesuffix("\r")
            line += 1
    if rest.strip():
        yield line, rest.decode().removesuffix("\r")


def first_records(records: Iterable[Record], path: Path) -> list[Record]:
    """Up to HEAD records that are rows. Raises DataError where there is none."""
    found: list[Record] = []
    wrong: list[Record] = []
    for record in records:
        (wrong if isinstance(record.fields, str) else found).append(record)
        if len(found) + len(wrong) >= HEAD and found:
            break
    if not found:
        if wrong:
            raise DataError(
                f"{path}: no row can be read; line {wrong[0].place} reads {wrong[0].raw[:200]!r}"
                f" ({wrong[0].fields})"
            )
        raise DataError(f"{path} holds only blank lines: rows are needed")
    return found


def written(value: Any) -> str | None:
    """A value of JSON as the text of a field; lists and objects stay JSON."""
    if value is None:
        return None
    if isinstance(value, str):
        return value
    return (
        json.dumps(value, ensure_ascii=False)
        if isinstance(value, list | dict | bool)
        else str(value)
    )


def _block(records: list[Record], columns: tuple[str, ...], path: Path) -> Block:
    good = [record for record in records if not isinstance(record.fields, str)]
    bad = [
        Bad(record.place, clean(record.fields), clean(record.raw))
        for record in records
        if isinstance(record.fields, str)
    ]
    names = dict.fromkeys(columns)
    for record in good:
        names.update(dict.fromkeys(record.fields))
    few_columns(path, len(names))
    rows = pl.DataFrame(
        [_strings(name, [written(record.fields.get(name)) for record in good]) for name in names]
    )  # type: ignore[union-attr]
    rows = rows.with_columns(pl.Series(LINE, [record.place for record in good], dtype=pl.Int64))
    raws = [clean(record.raw).encode() for record in good]
    ends = np.cumsum([len(raw) for raw in raws], dtype=np.int64)
    return Block(
        rows, bad, b"".join(raws), np.stack([np.r_[0, ends[:-1]] if len(ends) else ends, ends], 1)
    )


def _strings(name: str, values: list[str | None]) -> pl.Series:
    try:
        return pl.Series(clean(name), values, dtype=pl.String)
    # half of a pair of surrogates, which JSON can write and UTF-8 cannot
    except UnicodeEncodeError:
        return pl.Series(
            clean(name), [None if one is None else clean(one) for one in values], dtype=pl.String
        )


def clean(text: str) -> str:
    """With ? for half of a pair of surrogates."""
    return text.encode("utf-8", "replace").decode()
