"""Rows of strings to rows of a table: ids tidied, numbers and times read.

What cannot be read is put aside with its reason.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import polars as pl

from tailor.data import times
from tailor.data.ids import MISSING_VALUES, holds_control, tidy_ids
from tailor.data.importers.parquet import as_text
from tailor.data.importers.reading import LINE, Bad, Block, few_columns
from tailor.data.importers.sources import Source, placed
from tailor.data.tables import NUMBER, ROW, TABLES, TEXT, TIME
from tailor.data.types import with_dots
from tailor.errors import DataError
from tailor.progress import Progress, silent

LENIENT = {"items": ("price", "created_ms", "lat", "lon")}  # an item is worth keeping without these
NUMBERS = {
    ".": "a number such as 1299.50 (--decimal , reads 1.299,50)",
    ",": "a number such as 1.299,50",
}
MOST_BAD = 1_000_000  # rejected rows, each of which is held, beyond which most rows must be good
TIMED = ("events", "texts")  # a file of these that has times has one in every row
WORDS = ("title", "text", "asset")  # texts that keep the white space around them
BOOLEANS = {
    "true": True,
    "1": True,
    "yes": True,
    "1.0": True,
    "false": False,
    "0": False,
    "no": False,
    "0.0": False,
}


@dataclass(frozen=True)
class Options:
    """Settings of how the values of a file are read."""

    time_unit: str | None = None
    """Unit of times, or order of day and month; None lets the column tell."""
    time_format: str | None = None
    """Format of written times, as strptime names it."""
    decimal: str = "."
    """Sign before decimals: a dot or a comma."""
    missing: tuple[str, ...] = ()
    """Further texts that stand for a missing value."""
    types: Mapping[str, str] = field(default_factory=dict)
    """Further column -> int, float, bool or text."""
    strict: bool = False
    """Raise at the first bad row."""


@dataclass(frozen=True, eq=False)
class Rows:
    """A table as read from a file, in file order, and its rejected rows.

    The frame has LINE and, where there are times, the columns of `times.parsed`.
    """

    frame: pl.DataFrame
    rejected: list[Bad]
    notes: list[str] = field(default_factory=list)
    """Remarks for the report."""
    repeats: int = 0
    """Rows left out because their key came before and may."""


class Check(NamedTuple):
    """A rule that rows may break."""

    wrong: pl.Series
    """(n,) bool: the rows that break it."""
    reason: str
    values: pl.Series | None = None
    """The values to quote."""


def known_decimal(mark: str) -> None:
    """Raise DataError for anything but a dot or a comma."""
    if mark not in (".", ","):
        raise DataError(f'decimals are parted by "." or ",", not by "{mark}"')


def read_rows(
    table: str, file: Source, columns: Mapping[str, str], options: Options, progress: Progress
) -> Rows:
    """Return all rows of a file. Raises DataError at the first bad one where options are strict.

    `columns` maps our column to the file's.
    """
    frames: list[pl.DataFrame] = []
    rejected: list[Bad] = []
    emptied = Counter[str]()
    examples: dict[str, str] = {}
    names: set[str] = set()
    n_good = repeats = 0
    for block in file.blocks(progress):
        frame, bad, unread = _typed(table, block, columns, options)
        if options.strict and bad:
            raise refused(file, min(bad))
        frames.append(frame)
        rejected += bad
        emptied.update({name: len(values) for name, values in unread.items()})
        examples = {name: values[0] for name, values in unread.items()} | examples
        names.update(frame.columns)
        few_columns(file.path, len(names))
        n_good += len(frame)
        repeats += block.repeats
        _mostly_good(table, file, rejected, n_good)
    if not frames:
        raise DataError(f"{file.path} holds no rows after its header")
    notes = _emptied_notes(table, emptied, examples, NUMBERS[options.decimal])
    return Rows(_stacked(frames), rejected, [*file.notes, *notes], repeats)


def _emptied_notes(
    table: str, emptied: Mapping[str, int], examples: Mapping[str, str], number: str
) -> list[str]:
    """Return notes on the values that could not be read and were left empty."""
    forms = {name: "a time" if TABLES[table].columns[name] == TIME else number for name in emptied}
    return [
        f"{table}.{name} could not be read in {n:,} rows and was left empty:"
        f' "{examples[name][:80]}" is not {forms[name]}'
        for name, n in emptied.items()
    ]


def _mostly_good(table: str, file: Source, rejected: list[Bad], n_good: int) -> None:
    """Raise DataError where so many rows are bad that none more can be held."""
    if len(rejected) > max(MOST_BAD, n_good):
        raise DataError(
            f"{file.path}: {len(rejected):,} of the first {len(rejected) + n_good:,} rows are"
            f" bad: this is no file of {table}; the first reads {rejected[0].raw[:200]!r}"
            f" ({rejected[0].reason})"
        )


def _stacked(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Return one frame of all blocks.

    A further column that has another type in another part of the file is text in all of them.
    """
    if all(frame.schema == frames[0].schema for frame in frames):
        return pl.concat(frames, how="vertical", rechunk=False)
    kinds: dict[str, set[pl.DataType]] = {}
    for frame in frames:
        for name, kind in frame.schema.items():
            kinds.setdefault(name, set()).add(kind)
    mixed = {name for name, types in kinds.items() if len(types) > 1}
    frames = [
        frame.with_columns(as_text(frame[name]) for name in frame.columns if name in mixed)
        for frame in frames
    ]
    return pl.concat(frames, how="diagonal", rechunk=False)


def refused(file: Source, bad: Bad) -> DataError:
    """Return the error for a bad row of a strict import."""
    path, line = placed(file, bad.line)
    return DataError(
        f"{path}:{line}: {bad.reason}; the line reads {bad.raw[:200]!r}: mend it, or import without"
        " --strict"
    )


def reject(
    rows: Rows, file: Source, wrong: pl.Series, reasons: Iterable[str], strict: bool
) -> Rows:
    """Move the rows where `wrong` is true to the rejected ones.

    Their own text is read from the file again.
    """
    if not wrong.any():
        return rows
    by_line = dict(zip(rows.frame[LINE].filter(wrong).to_list(), reasons))
    bad = []
    for block in file.blocks(silent):
        places = block.rows[LINE].cast(pl.Int64)
        for row in places.is_in(list(by_line)).arg_true().to_list():
            line = places[row]
            bad.append(Bad(line, by_line[line], block.raw(row)))
        if strict and bad:
            raise refused(file, min(bad))
    good = rows.frame.filter(~wrong)
    return Rows(good, rows.rejected + bad, rows.notes, rows.repeats)


def _typed(
    table: str, block: Block, columns: Mapping[str, str], options: Options
) -> tuple[pl.DataFrame, list[Bad], dict[str, pl.Series]]:
    """Return the good rows with our names and types, the bad ones, and values left empty.

    The last are by column.
    """
    frame = _named(table, block, columns)
    frame = frame.with_columns(_tidy(frame[ours], ours, options.missing) for ours in columns)
    checks = _id_checks(table, frame, columns)
    emptied: dict[str, pl.Series] = {}
    for name in columns:
        texts = frame[name]
        read = _read_values(table, name, texts, options)
        if read is None:
            continue
        if read.is_time:
            frame = pl.concat([frame.drop(name), read.values], how="horizontal")
        else:
            frame = frame.with_columns(read.values.get_columns())
        if read.is_time and table in TIMED:
            checks.append(Check(texts.is_null(), f"no {name}"))
        unread = texts.is_not_null() & ~read.understood
        if name not in LENIENT.get(table, ()):
            checks.append(Check(unread, f"{name} {read.problem}", texts))
        elif unread.any():
            emptied[name] = texts.filter(unread)
    bad = _bad_rows(checks, frame[LINE], block)
    if bad:
        frame = frame.filter(~pl.col(LINE).is_in([row.line for row in bad]))
    return frame, block.bad + bad, emptied


def _id_checks(table: str, frame: pl.DataFrame, columns: Mapping[str, str]) -> list[Check]:
    """Return the rules for required values and for ids."""
    never_null = TABLES[table].never_null
    missing = [Check(frame[name].is_null(), f"no {name}") for name in never_null]
    control = [
        Check(holds_control(frame[name]), f"{name} holds a control character", frame[name])
        for name in columns
        if _is_id(table, name)
    ]
    return missing + control


def _named(table: str, block: Block, columns: Mapping[str, str]) -> pl.DataFrame:
    """Return the rows with our names: our columns as texts, further ones as they are."""
    raw = block.rows
    ours = [as_text(raw[theirs]).alias(name) for name, theirs in columns.items()]
    further = [
        _further(raw[name]).alias(beside(name, table, columns, raw.columns))
        for name in raw.columns
        if name not in columns.values() and name != LINE
    ]
    return pl.DataFrame([raw[LINE].cast(pl.Int64), *ours, *further])


class Read(NamedTuple):
    """A column of texts read as values."""

    values: pl.DataFrame
    understood: pl.Series
    problem: str
    is_time: bool = False


def _read_values(table: str, name: str, texts: pl.Series, options: Options) -> Read | None:
    """Return the values of a column that is not text; None for one that is."""
    kind = TABLES[table].columns[name]
    if kind == TIME and name != "order":
        values = times.parsed(texts, options.time_format)
        return Read(values, times.understood(values), "is not understood", is_time=True)
    if kind in (NUMBER, TIME):
        if name == "order":
            number = texts.str.replace(r"\.0+$", "").cast(TIME, strict=False)
        else:
            number = with_dots(texts, options.decimal).cast(NUMBER, strict=False)
        number = number.set(~number.is_finite().fill_null(True), None)
        return Read(number.to_frame(), number.is_not_null(), "is not a number")
    if kind == ROW:
        number = texts.cast(pl.Float64, strict=False)
        broken = (number != number.floor()).fill_null(True) | (number.abs() >= 2**31)
        whole = number.set(broken, None).cast(ROW)
        return Read(whole.to_frame(), whole.is_not_null(), "is not a whole number")
    if kind == pl.Boolean():
        lower = texts.str.to_lowercase()
        truth = lower.replace_strict(BOOLEANS, default=None, return_dtype=pl.Boolean)
        return Read(truth.to_frame(), truth.is_not_null(), "is neither true nor false")
    return None


def _bad_rows(checks: list[Check], lines: pl.Series, block: Block) -> list[Bad]:
    """Return the rows that break a rule, each with the first such rule and the value it quotes."""
    reasons: dict[int, str] = {}
    for check in checks:
        for row in check.wrong.arg_true() if check.wrong.any() else ():
            reason = check.reason
            if check.values is not None:
                reason = f'{reason}: "{check.values[row][:80]}"'
            reasons.setdefault(row, reason)
    return [Bad(lines[row], reason, block.raw(row)) for row, reason in sorted(reasons.items())]


def _further(values: pl.Series) -> pl.Series:
    values = as_text(values) if values.dtype.is_nested() else values
    if values.dtype != pl.String:
        return values
    return values.set(values.is_in(["", r"\N"]), None)


def _is_id(table: str, name: str) -> bool:
    return name.endswith("_id") and TABLES[table].columns[name] == TEXT


def _tidy(texts: pl.Series, name: str, missing: tuple[str, ...]) -> pl.Series:
    """Return a column of ours without the white space around it; null where a value is missing.

    Words keep their white space. Ids such as "Null" and "nan" are ids.
    """
    if name in WORDS:
        return texts.set(texts.is_in(["", r"\N", *missing]), None)
    if name.endswith("_id"):
        ids = tidy_ids(texts)
        return ids.set(ids.is_in(missing), None)
    stripped = texts.str.strip_chars()
    return stripped.set(stripped.is_in([*MISSING_VALUES, *missing]), None)


def beside(name: str, table: str, columns: Mapping[str, str], names: Iterable[str]) -> str:
    """Return the name under which a further column of the file, one of `names`, is kept.

    It is its own, unless one of ours is called so.
    """
    if name not in columns and name not in TABLES[table].columns:
        return name
    taken = set(names)
    name += "_in_file"
    while name in taken:
        name += "_in_file"
    return name
