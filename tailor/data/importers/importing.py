"""Imports of CSV, JSON, Parquet and public data sets to a data set in a folder."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from tailor.data import columns as names
from tailor.data import times
from tailor.data.dataset import Dataset
from tailor.data.importers.amazon import amazon_2023, per_user
from tailor.data.importers.delimited import delimited, other_format, recbole, table_source
from tailor.data.importers.dialogues import locomo, redial
from tailor.data.importers.doubts import doubts
from tailor.data.importers.glasgow import cacm, cranfield, npl
from tailor.data.importers.labelled import split_shown
from tailor.data.importers.movielens import movielens
from tailor.data.importers.open_bandit import open_bandit
from tailor.data.importers.reading import LINE, Bad, text_file
from tailor.data.importers.report import PREVIEW, ImportReport, by_reason
from tailor.data.importers.rows import (
    Options,
    Rows,
    beside,
    known_decimal,
    read_rows,
    reject,
)
from tailor.data.importers.sequences import read_sequences
from tailor.data.importers.sources import Source, is_typed, line_of, placed
from tailor.data.importers.trec import beir, trec
from tailor.data.lists import split_lists
from tailor.data.stats import exact_duplicates, time_range
from tailor.data.tables import ITEMS, TABLES, TEXT, TIME
from tailor.data.times import Times
from tailor.data.types import known_types, recognised
from tailor.errors import DataError, nearest
from tailor.progress import Progress, silent

# format -> the tables that a file or folder holds
READERS: dict[str, Callable[[Path, str], Mapping[str, Source]]] = {
    "csv": delimited,
    "jsonl": partial(delimited, format="jsonl"),
    "parquet": partial(delimited, format="parquet"),
    "recbole": recbole,
    "movielens": movielens,
    "amazon-2023": amazon_2023,
    "user-json": per_user,
    "beir": beir,
    "trec": trec,
    "cranfield": cranfield,
    "cacm": cacm,
    "npl": npl,
    "locomo": locomo,
    "redial": redial,
    "open-bandit": open_bandit,
}
PLAIN = ("csv", "jsonl", "parquet")
FORMATS = (*READERS, "sequences")
NANOSECONDS = "\0ns"
REJECTED = {
    "table": pl.String(),
    "file": pl.String(),
    "line": pl.Int64(),
    "reason": pl.String(),
    "raw": pl.String(),
}
TYPE_NAMES = {pl.Int64: "int", pl.Float64: "float", pl.Boolean: "bool"}
AHEAD_MS = 86_400_000  # a day: clocks of other zones and wrong ones


@dataclass(frozen=True, eq=False)
class Read:
    """One table, ready, and what the report says about it."""

    frame: pl.DataFrame
    rejected: list[Bad]
    notes: list[str]
    columns: dict[str, str]
    """Our column -> the file's."""
    moments: Times | None = None
    """Units of its times."""
    repeats: int = 0
    """Records left out because their key came before and may."""
    types: dict[str, str] = field(default_factory=dict)
    """Further column -> the type recognised."""


def import_data(
    src: str | Path | None,
    out: str | Path,
    *,
    format: str = "csv",
    items: str | Path | None = None,
    users: str | Path | None = None,
    texts: str | Path | None = None,
    tables: Mapping[str, str | Path] | None = None,
    columns: Mapping[str, str] | None = None,
    header: bool | None = None,
    types: Mapping[str, str] | None = None,
    time_unit: str | None = None,
    time_format: str | None = None,
    decimal: str = ".",
    missing: Sequence[str] = (),
    encoding: str = "utf-8",
    strict: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    name: str | None = None,
    label: str | None = None,
    progress: Progress = silent,
) -> ImportReport:
    """Read a file of events, or a folder of a known layout, into a data set in the folder `out`.

    Bad rows go to rejected.parquet in it. Events are sorted by time at full precision, ties in
    file order; without times file order stays.

    tables
        Adds or replaces tables by name (items, users and texts are short for three of them), each
        a CSV, JSON or Parquet file or a folder of such parts.
    columns
        Our column, bare or as "items.text", to the file's, or to its number.
    header
        False where a CSV file has no line of names, True where that line looks like a row.
    types
        A column that is not ours to int, float, bool or text; without it numbers and truth values
        are recognised.
    time_unit
        s, ms, us, ns, cocoa, dotnet, filetime, webkit or excel for numbers; day-first or
        month-first for written dates. Without it the column tells.
    time_format
        Format of written times, as in "%d.%m.%y %H:%M".
    decimal
        "," where numbers are written 1.299,50.
    missing
        Further texts that stand for a missing value, ids included.
    label
        For a log of what was shown: the condition under which a row was chosen, as in
        "clicked == 1". Rows become requests, impressions and events (`labelled.split_shown`).
    dry_run
        Reads everything, writes nothing and puts the first rows of every table into the report.

    Raises DataError for a file that cannot be used and, when `strict`, at the first bad row;
    nothing is written then.
    """
    # before an hour of reading, not after it
    if format not in FORMATS:
        raise DataError(f'no format "{format}".{nearest(format, FORMATS)}')
    if not dry_run:
        _free_place(out, overwrite)
    options = _options(time_unit, time_format, decimal, missing, types, strict)
    extra = {"items": items, "users": users, "texts": texts, **(tables or {})}
    by_name = {table: path for table, path in extra.items() if path is not None}
    sources = _sources(src, format, by_name, encoding, header)
    mapping = names.by_table(
        columns, {table: (source.path, source.columns) for table, source in sources.items()}
    )
    table_types = _types_by_table(options.types, sources)
    read: dict[str, Read] = {}
    paths = {table: source.path for table, source in sources.items()}
    if format == "sequences" and src is not None:
        paths = {"events": text_file(src, "events"), **paths}
        rows = read_sequences(paths["events"], encoding, strict, progress)
        read["events"] = Read(rows.frame, rows.rejected, rows.notes, {})
        _not_all_rejected(read["events"], paths["events"])
    for table, source in sources.items():
        read[table] = _read_table(
            table, source, mapping[table], options, table_types[table], progress
        )
        _not_all_rejected(read[table], source.path)
    if label is not None:
        read |= _split_shown(read, label)
    data = Dataset({table: part.frame for table, part in read.items()}, name or Path(out).name)
    if not dry_run:
        data.save(out, overwrite, _rejected_rows(read, sources, paths))
    return _report(out, format, paths, read, data, dry_run)


def import_table(
    table: str,
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    time_unit: str | None = None,
    encoding: str = "utf-8",
    progress: Progress = silent,
) -> tuple[Read, pl.DataFrame]:
    """Read one table from a file, and return it beside its rejected rows.

    It is read as `import_data` reads it, but makes no data set: items come without events. Rejected
    rows have the columns of REJECTED. Raises DataError as `import_data` does.
    """
    options = _options(time_unit, None, ".", (), None, False)
    source = table_source(path, table, encoding)
    layout = {table: (source.path, source.columns)}
    mapping = names.by_table(columns, layout)[table]
    read = _read_table(table, source, mapping, options, {}, progress)
    _not_all_rejected(read, source.path)
    rejected = _rejected_rows({table: read}, {table: source}, {table: source.path})
    return read, (rejected or {}).get("rejected", pl.DataFrame(schema=REJECTED))


def _split_shown(read: Mapping[str, Read], label: str) -> dict[str, Read]:
    """Return requests, impressions and events made of the rows that were read as events."""
    rows = read.get("events")
    taken = [table for table in ("requests", "impressions") if table in read]
    if rows is None or taken:
        raise DataError(
            "label is for one file of what was shown, of which requests and impressions are made:"
            f" leave out {' and '.join(taken) or 'the label'}"
        )
    tables = split_shown(rows.frame, label)
    return {
        "events": replace(rows, frame=tables.events, notes=[*rows.notes, *tables.notes]),
        "requests": Read(tables.requests, [], [], {}),
        "impressions": Read(tables.impressions, [], [], {}),
    }


def _free_place(out: str | Path, overwrite: bool) -> None:
    """Raise DataError where a folder is there already and may not be replaced."""
    if Path(out).exists() and not overwrite:
        raise DataError(
            f"{out} is there already: choose another name, remove it, or pass overwrite"
            " (--overwrite)"
        )


def _options(
    time_unit: str | None,
    time_format: str | None,
    decimal: str,
    missing: Sequence[str],
    types: Mapping[str, str] | None,
    strict: bool,
) -> Options:
    """Return the settings of values. Raises DataError for one that cannot be."""
    times.known_unit(time_unit)
    times.known_format(time_format)
    known_decimal(decimal)
    column_types = known_types(types or {})
    return Options(time_unit, time_format, decimal, tuple(missing), column_types, strict)


def _sources(
    src: str | Path | None,
    format: str,
    by_name: Mapping[str, str | Path],
    encoding: str,
    header: bool | None,
) -> dict[str, Source]:
    """Return the source of every table.

    A table given by name takes the place of the one that the format finds.
    """
    if src is None and not by_name:
        raise DataError("nothing to import: name a file or folder, or tables (--table NAME=FILE)")
    for table in by_name:
        if table not in TABLES:
            raise DataError(f'there is no table "{table}".{nearest(table, TABLES)}')
    sources: dict[str, Source] = {}
    if src is not None and format in PLAIN:
        sources = delimited(Path(src), encoding, format, header)
    elif src is not None and format in READERS:
        sources = dict(READERS[format](Path(src), encoding))
    default = format if format in {"jsonl", "parquet"} else "csv"
    # only the file of events is meant where both are given
    its_header = header if src is None else None
    return sources | {
        table: table_source(path, table, encoding, default, its_header)
        for table, path in by_name.items()
    }


def _types_by_table(
    types: Mapping[str, str], sources: Mapping[str, Source]
) -> dict[str, dict[str, str]]:
    """Sort the caller's types by table. Raises DataError for a column that no file has."""
    by_table: dict[str, dict[str, str]] = {table: {} for table in sources}
    for key, kind in types.items():
        table, _, column = key.rpartition(".")
        tables = [table] if table in sources else list(sources)
        column = column if table in sources else key
        having = [name for name in tables if column in sources[name].columns]
        if not having:
            columns = [name for table in tables for name in sources[table].columns]
            raise DataError(f'types: no file has a column "{key}".{nearest(key, columns)}')
        for name in having:
            by_table[name][column] = kind
    return by_table


def _rejected_rows(
    read: Mapping[str, Read], sources: Mapping[str, Source], paths: Mapping[str, Path]
) -> dict[str, pl.DataFrame] | None:
    """Return the rejected rows with table, file, line and reason; None where there are none."""
    rows = [
        (table, *_place(table, bad, sources, paths), bad.reason, bad.raw)
        for table, part in read.items()
        for bad in sorted(part.rejected)
    ]
    return {"rejected": pl.DataFrame(rows, schema=REJECTED, orient="row")} if rows else None


def _place(
    table: str, bad: Bad, sources: Mapping[str, Source], paths: Mapping[str, Path]
) -> tuple[str, int]:
    if table not in sources:
        return paths[table].name, bad.line
    path, line = placed(sources[table], bad.line)
    return path.name, line


def _read_table(
    table: str,
    file: Source,
    mapping: Mapping[str, str],
    options: Options,
    types: Mapping[str, str],
    progress: Progress,
) -> Read:
    """Read one table from its source; `mapping` is the caller's: our column to the file's."""
    columns = _columns(table, file, mapping)
    for name in types:
        if name in columns.values():
            raise DataError(f'types: "{name}" of {table} is read as one of our columns already')
    file = file.asked(columns.values())
    rows = read_rows(table, file, columns, options, progress)
    time_columns = [
        name for name in columns if TABLES[table].columns[name] == TIME and name != "order"
    ]
    moments = None
    if time_columns:
        rows, moments = _with_times(table, time_columns[0], rows, file, options)
    rows = _without_repeats(table, rows, file, options.strict)
    frame = _in_order(rows.frame) if table == "events" else rows.frame
    frame, notes = _with_lists(table, frame, file, columns)
    notes = [*rows.notes, *(moments.notes if moments else []), *notes]
    notes += doubts(table, frame, columns)
    if table == "texts" and "kind" not in columns:
        kind = names.KINDS.get(names.plain(columns["text"]), "note")
        frame = frame.with_columns(pl.lit(kind).alias("kind"))
    frame, type_notes = _with_types(frame, table, file, columns, options, types)
    frame = frame.drop(LINE, NANOSECONDS, strict=False)
    notes += type_notes
    kinds = _types_of(table, frame)
    return Read(frame, rows.rejected, notes, columns, moments, rows.repeats, kinds)


def _types_of(table: str, frame: pl.DataFrame) -> dict[str, str]:
    """Return the types of further columns that are no text."""
    return {
        name: TYPE_NAMES[type(kind)]
        for name, kind in frame.schema.items()
        if name not in TABLES[table].columns and type(kind) in TYPE_NAMES
    }


def _columns(table: str, file: Source, mapping: Mapping[str, str]) -> dict[str, str]:
    """Return our column -> the file's. Raises DataError where a required one is not found."""
    kinds = dict(zip(file.columns, file.kinds))
    plain = [name for name in file.columns if kinds.get(name) != "object"]
    columns = names.recognised(table, plain, mapping)
    if table == "events" and "time_ms" in columns and "order" not in mapping:
        columns.pop("order", None)  # with times, a column of that name may be anything
    names.complete(
        table, file.path, max(file.line - 1, 1), file.columns, columns, other_format(file)
    )
    item_column = columns.get("item_id")
    if table == "events" and kinds.get(item_column or "") == "list":
        raise DataError(
            f'{file.path}: "{item_column}" holds lists of items: one event a row is needed, or'
            " lines of `user item item ...` (--format sequences)"
        )
    return columns


def _with_times(
    table: str, column: str, rows: Rows, file: Source, options: Options
) -> tuple[Rows, Times]:
    """Add nanoseconds, and `column` in milliseconds.

    Rows with absurd times are rejected; those of an item are emptied.
    """
    frame = rows.frame
    lines = frame[LINE].cast(pl.Int64) & line_of(-1)
    value, moments = times.resolved(frame, options.time_unit, str(file.path), lines)
    readable = times.understood(frame)
    frame = frame.drop(times.WHOLE, times.PART, times.KIND, times.OTHER)
    frame = frame.with_columns(value.alias(NANOSECONDS), (value // 1_000_000).alias(column))
    rows = Rows(frame, rows.rejected, rows.notes, rows.repeats)
    absurd = value.is_null() & readable
    if table == "items":
        if absurd.any():
            rows.notes.append(
                f"{table}.{column} lies before 1971 or after 2100 in {int(absurd.sum()):,} rows and"
                " was left empty"
            )
        return rows, moments
    read_as = "" if moments.unit == "date" else f", read in {moments.unit}"
    reason = f"{column} is absurd: before 1971 or after 2100{read_as}"
    return reject(rows, file, absurd, [reason] * int(absurd.sum()), options.strict), moments


def _without_repeats(table: str, rows: Rows, file: Source, strict: bool) -> Rows:
    """Reject rows whose key an earlier line has already."""
    key = "event_id" if table == "events" else TABLES[table].key
    if key is None or key not in rows.frame.columns:
        return rows
    column, lines = rows.frame[key], rows.frame[LINE]
    repeated = ~column.is_first_distinct() & column.is_not_null()
    if not repeated.any():
        return rows
    firsts = dict(zip(column.to_list()[::-1], lines.to_list()[::-1]))
    reasons = [
        f'repeated {key}: "{value}" stands on line {_line_named(file, firsts[value])} first'
        for value in column.filter(repeated)
    ]
    return reject(rows, file, repeated, reasons, strict)


def _line_named(file: Source, position: int) -> str:
    path, line = placed(file, position)
    return f"{line}" if path == file.path else f"{line} of {path.name}"


def _with_lists(
    table: str, frame: pl.DataFrame, file: Source, columns: Mapping[str, str]
) -> tuple[pl.DataFrame, list[str]]:
    """Split the columns of lists, and note by what; RecBole's stand between spaces."""
    kinds = dict(zip(file.columns, file.kinds))
    notes = []
    for column in [name for name in columns if TABLES[table].columns[name] == ITEMS]:
        kind = kinds.get(columns[column])
        separator = " " if kind == "token_seq" else None
        lists, mark = split_lists(frame[column], separator, written=kind == "list")
        frame = frame.with_columns(lists)
        if mark != "[]":
            notes.append(f'{table}.{column} were split at "{mark}"')
    return frame, notes


def _in_order(frame: pl.DataFrame) -> pl.DataFrame:
    """Sort events by time or order; ties stay in file order."""
    for column in (NANOSECONDS, "order"):
        if column in frame.columns:
            if frame[column].is_sorted():
                return frame
            return frame.sort(column, maintain_order=True, nulls_last=True)
    return frame


def _with_types(
    frame: pl.DataFrame,
    table: str,
    file: Source,
    columns: Mapping[str, str],
    options: Options,
    types: Mapping[str, str],
) -> tuple[pl.DataFrame, list[str]]:
    """Recognise numbers and truth values in the further columns; note what was left empty.

    RecBole and Parquet say themselves which type a column has.
    """
    kinds = dict(zip(file.columns, file.kinds))
    atomic = any(kind in ("token", "token_seq", "float_seq") for kind in kinds.values())
    notes = []
    further = [name for name in file.columns if name not in columns.values()]
    file_names = {beside(name, table, columns, file.columns): name for name in further}
    for name in frame.columns:
        if name in TABLES[table].columns or name.startswith("\0"):
            continue
        theirs = file_names.get(name, name)  # a column that only later rows have
        declared = atomic or is_typed(file) or kinds.get(theirs) in ("list", "object")
        if declared and theirs not in types:
            if kinds.get(theirs) == "float":
                frame = frame.with_columns(_as_floats(frame[name]))
            continue
        if frame.schema[name] != TEXT:
            frame = frame.with_columns(pl.col(name).cast(pl.String))
        column = recognised(frame[name], types.get(theirs), options.decimal)
        frame = frame.with_columns(column.values.alias(name))
        if column.emptied:
            kind = TYPE_NAMES[type(column.values.dtype)]
            notes.append(
                f"{table}.{name} was read as {kind}; {column.emptied:,} values are none and were"
                f' left empty, such as "{column.example[:80]}" (--types {table}.{name}=text keeps'
                " them)"
            )
    return frame, notes


def _as_floats(texts: pl.Series) -> pl.Series:
    """Return numbers; the texts where any value is none."""
    numbers = texts.cast(pl.Float64, strict=False)
    return numbers if numbers.null_count() == texts.null_count() else texts


def _not_all_rejected(read: Read, path: Path) -> None:
    """Raise DataError where no row is left."""
    if len(read.frame):
        return
    if not read.rejected:
        raise DataError(f"{path} holds no row of this table")
    first = min(read.rejected)
    reasons = ", ".join(f"{reason} ({n:,})" for reason, n in _counted(read.rejected).items())
    hint = ""
    if any("is not understood" in reason for reason in _counted(read.rejected)):
        hint = '; a format of times of your own is named as in --time-format "%d.%m.%y %H:%M"'
    raise DataError(
        f"{path}: every row was rejected: {reasons}. The first, line"
        f" {line_of(first.line)}, reads {first.raw[:200]!r} ({first.reason}){hint}"
    )


def _counted(rejected: list[Bad]) -> dict[str, int]:
    return by_reason(Counter(bad.reason.partition(":")[0] for bad in rejected))


def _counts(data: Dataset) -> dict[str, int]:
    """Return counts of duplicates, and of users and items that only one of two tables has."""
    counts: dict[str, int] = {}
    if "events" not in data.tables:
        return counts
    counts["exact_duplicates"] = exact_duplicates(data.events)
    for table, key in (("users", "user_id"), ("items", "item_id")):
        if table in data.tables:
            with_events, listed = data.events[key].unique(), data.tables[table][key]
            unlisted = ~with_events.is_in(listed.implode())
            unused = ~listed.is_in(with_events.implode())
            counts[f"{table}_not_in_table"] = int(unlisted.sum())
            counts[f"{table}_without_events"] = int(unused.sum())
    return counts


def _future_note(data: Dataset) -> list[str]:
    """Return a note on events of the future, which a clock or a unit made."""
    if "events" not in data.tables or not data.has_times:
        return []
    moments = data.events["time_ms"]
    future = moments > int(time.time() * 1000) + AHEAD_MS
    if not future.any():
        return []
    latest = moments.to_numpy().max().astype("M8[ms]").astype("M8[D]")
    return [
        f"{int(future.sum()):,} events lie in the future, the latest on {latest}: odd; mend the"
        " clock, or name the unit (--time-unit) or the format (--time-format)"
    ]


def _report(
    out: str | Path,
    format: str,
    paths: Mapping[str, Path],
    read: Mapping[str, Read],
    data: Dataset,
    dry_run: bool,
) -> ImportReport:
    moments = next((part.moments for part in read.values() if part.moments), None)
    notes = [note for part in read.values() for note in part.notes] + _future_note(data)
    preview: dict[str, list[dict[str, Any]]] = {}
    if dry_run:
        preview = {table: frame.head(PREVIEW).to_dicts() for table, frame in data.tables.items()}
    return ImportReport(
        folder=str(out),
        format=format,
        files={table: str(path) for table, path in paths.items()},
        rows={table: len(part.frame) for table, part in read.items()},
        rejected={table: _counted(part.rejected) for table, part in read.items() if part.rejected},
        columns={table: part.columns for table, part in read.items()},
        further={
            table: [name for name in part.frame.columns if name not in TABLES[table].columns]
            for table, part in read.items()
        },
        time_unit=moments.unit if moments else None,
        time_units=moments.counts if moments else {},
        counts=_counts(data),
        notes=list(dict.fromkeys(notes)),
        preview=preview,
        records={
            table: len(part.frame) + len(part.rejected) + part.repeats
            for table, part in read.items()
        },
        left_out={table: part.repeats for table, part in read.items() if part.repeats},
        time_range=time_range(data) if "events" in data.tables else None,
        types={table: part.types for table, part in read.items() if part.types},
    )
