"""Everybody's files - CSV, JSON Lines, Parquet, and the layouts of public data sets - to a data set
in a folder.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from tailor.data import columns as names
from tailor.data import times
from tailor.data.dataset import Dataset
from tailor.data.importers.amazon import amazon_2023, per_user
from tailor.data.importers.delimited import delimited, recbole, table_source
from tailor.data.importers.dialogues import locomo, redial
from tailor.data.importers.doubts import doubts
from tailor.data.importers.glasgow import cacm, cranfield, npl
from tailor.data.importers.movielens import movielens
from tailor.data.importers.open_bandit import open_bandit
from tailor.data.importers.reading import LINE, Bad, text_file
from tailor.data.importers.report import PREVIEW, ImportReport, by_reason
from tailor.data.importers.rows import Rows, beside, known_decimal, read_rows, reject, split_lists
from tailor.data.importers.sequences import read_sequences
from tailor.data.importers.sources import NTH, Parts, Source, placed
from tailor.data.importers.trec import beir, trec
from tailor.data.tables import ITEMS, TABLES, TIME
from tailor.data.times import Times
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
FORMATS = (*READERS, "sequences")
NANOSECONDS = "\0ns"
REJECTED = {
    "table": pl.String(),
    "file": pl.String(),
    "line": pl.Int64(),
    "reason": pl.String(),
    "raw": pl.String(),
}


@dataclass(frozen=True, eq=False)
class Read:
    """One table, ready, and what is to be told about it."""

    frame: pl.DataFrame
    rejected: list[Bad]
    notes: list[str]
    found: dict[str, str]
    moments: Times | None = None
    copies: int = 0


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
    time_unit: str | None = None,
    decimal: str = ".",
    encoding: str = "utf-8",
    strict: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    name: str | None = None,
    progress: Progress = silent,
) -> ImportReport:
    """Read a file of events, or a folder of a known layout, into a data set in the folder `out`;
    bad rows go to rejected.parquet in it.

    `tables` adds or replaces tables by name (items, users and texts are short for three of them),
    each a CSV, JSON Lines or Parquet file or a folder of such parts. `columns` maps our column,
    bare or as "items.text", to the file's. `time_unit` is s, ms, us or ns, or day-first or
    month-first for written dates; without it the column tells. `decimal` is "," where numbers are
    written 1.299,50. Raises DataError for a file that cannot be used and, when `strict`, at the
    first bad row; nothing is written then. Events are sorted by time at full precision, ties in
    file order; without times file order stays. `dry_run` reads everything, writes nothing and puts
    the first rows of every table into the report.
    """
    if format not in FORMATS:
        raise DataError(f'no format "{format}".{nearest(format, FORMATS)}')
    # before an hour of reading, not after it
    if Path(out).exists() and not overwrite and not dry_run:
        raise DataError(
            f"{out} is there already: choose another name, remove it, or pass overwrite"
            " (--overwrite)"
        )
    times.known_unit(time_unit)
    known_decimal(decimal)
    given = {
        table: path
        for table, path in {
            "items": items,
            "users": users,
            "texts": texts,
            **(tables or {}),
        }.items()
        if path is not None
    }
    sources = _sources(src, format, given, encoding)
    wanted = names.by_table(
        columns, {table: (one.path, one.columns) for table, one in sources.items()}
    )
    read, paths = {}, {table: one.path for table, one in sources.items()}
    if format == "sequences" and src is not None:
        paths = {"events": text_file(src, "events"), **paths}
        read["events"] = Read(*read_sequences(paths["events"], encoding, strict, progress), {})
        _not_all_rejected(read["events"], paths["events"])
    for table, source in sources.items():
        read[table] = _read_table(
            table, source, wanted[table], time_unit, strict, progress, decimal
        )
        _not_all_rejected(read[table], source.path)
    data = Dataset({table: one.frame for table, one in read.items()}, name or Path(out).name)
    counts = (
        {"exact_duplicates": read["events"].copies} | _strangers(data) if "events" in read else {}
    )
    bad = [
        (table, *_place(table, one, sources, paths), *one[1:])
        for table, part in read.items()
        for one in sorted(part.rejected)
    ]
    if not dry_run:
        data.save(
            out,
            overwrite,
            {"rejected": pl.DataFrame(bad, schema=REJECTED, orient="row")} if bad else None,
        )
    preview = (
        {table: frame.head(PREVIEW).to_dicts() for table, frame in data.tables.items()}
        if dry_run
        else {}
    )
    return _report(out, format, paths, read, counts, preview)


def _sources(
    src: str | Path | None, format: str, given: Mapping[str, str | Path], encoding: str
) -> dict[str, Source]:
    """Of every table where its rows come from; what is given by name takes the place of what the
    format finds.
    """
    if src is None and not given:
        raise DataError("nothing to import: name a file or folder, or tables (--table NAME=FILE)")
    for table in given:
        if table not in TABLES:
            raise DataError(f'there is no table "{table}".{nearest(table, TABLES)}')
    sources = (
        dict(READERS[format](Path(src), encoding)) if src is not None and format in READERS else {}
    )
    default = format if format in {"jsonl", "parquet"} else "csv"
    return sources | {
        table: table_source(path, table, encoding, default) for table, path in given.items()
    }


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
    wanted: Mapping[str, str],
    unit: str | None,
    strict: bool,
    progress: Progress,
    decimal: str,
) -> Read:
    objects = {name for name, kind in zip(file.columns, file.kinds) if kind == "object"}
    found = names.recognised(table, [name for name in file.columns if name not in objects], wanted)
    if table == "events" and "time_ms" in found and "order" not in wanted:
        found.pop("order", None)  # with times, a column of that name may be anything
    names.complete(table, file.path, file.line - 1, file.columns, found)
    file = file.asked(found.values())
    rows = read_rows(table, file, found, strict, progress, decimal)
    moments, column = (
        None,
        next(
            (name for name in found if TABLES[table].columns[name] == TIME and name != "order"),
            None,
        ),
    )
    if column is not None:
        rows, moments = _with_times(table, column, rows, file, unit, strict)
    rows = _without_repeats(table, rows, file, strict)
    frame, notes = rows.frame, rows.notes + (moments.notes if moments else [])
    copies = _copies(frame) if table == "events" else 0
    if table == "events":
        frame = _in_order(frame)
    frame, split = _with_lists(table, frame, file, found)
    notes = [*notes, *split, *doubts(table, frame, found)]
    if table == "texts" and "kind" not in found:
        frame = frame.with_columns(
            pl.lit(names.KINDS.get(names.plain(found["text"]), "note")).alias("kind")
        )
    frame = _floats(frame, table, file, found).drop(LINE, NANOSECONDS, strict=False)
    return Read(frame, rows.rejected, notes, found, moments, copies)


def _with_times(
    table: str, column: str, rows: Rows, file: Source, unit: str | None, strict: bool
) -> tuple[Rows, Times]:
    """Nanoseconds, and `column` in milliseconds; absurd times are rejected, those of an item
    emptied.
    """
    frame = rows.frame
    lines = frame[LINE] & ((1 << NTH) - 1) if isinstance(file, Parts) else frame[LINE]
    value, moments = times.settled(frame, unit, str(file.path), lines)
    given = times.understood(frame)
    frame = frame.drop(times.WHOLE, times.PART, times.KIND, times.OTHER)
    frame = frame.with_columns(value.alias(NANOSECONDS), (value // 1_000_000).alias(column))
    rows = Rows(frame, rows.rejected, rows.notes)
    if table == "items":
        return rows, moments
    absurd = value.is_null() & given
    read_as = "" if moments.unit == "date" else f", read in {moments.unit}"
    reason = f"{column} is absurd: before 1971 or after 2100{read_as}"
    return reject(rows, file, absurd, [reason] * int(absurd.sum()), strict), moments


def _without_repeats(table: str, rows: Rows, file: Source, strict: bool) -> Rows:
    """Rows whose key an earlier line has already; only the first of them is kept."""
    key = "event_id" if table == "events" else TABLES[table].key
    if key is None or key not in rows.frame.columns:
        return rows
    column, lines = rows.frame[key], rows.frame[LINE]
    repeated = ~column.is_first_distinct() & column.is_not_null()
    if not repeated.any():
        return rows
    firsts = dict(zip(column.to_list()[::-1], lines.to_list()[::-1]))
    reasons = [
        f'repeated {key}: "{one}" stands on line {_told(file, firsts[one])} first'
        for one in column.filter(repeated)
    ]
    return reject(rows, file, repeated, reasons, strict)


def _told(file: Source, place: int) -> str:
    path, line = placed(file, place)
    return f"{line}" if path == file.path else f"{line} of {path.name}"


def _with_lists(
    table: str, frame: pl.DataFrame, file: Source, found: Mapping[str, str]
) -> tuple[pl.DataFrame, list[str]]:
    """Columns of lists split, and what they were split by; RecBole's stand between spaces."""
    kinds, notes = dict(zip(file.columns, file.kinds)), []
    for column in [name for name in found if TABLES[table].columns[name] == ITEMS]:
        kind = kinds.get(found[column])
        lists, by = split_lists(
            frame[column], " " if kind == "token_seq" else None, written=kind == "list"
        )
        frame = frame.with_columns(lists)
        if by != "[]":
            notes.append(f'{table}.{column} were split at "{by}"')
    return frame, notes


def _copies(frame: pl.DataFrame) -> int:
    """How many events without an event_id are exact copies of an earlier one, at the full precision
    of their times.
    """
    if "event_id" in frame.columns:
        frame = frame.filter(pl.col("event_id").is_null())
    return len(frame) - frame.drop(LINE, "time_ms", strict=False).hash_rows().n_unique()


def _in_order(frame: pl.DataFrame) -> pl.DataFrame:
    by = next((name for name in (NANOSECONDS, "order") if name in frame.columns), None)
    if by is None or frame[by].is_sorted():
        return frame
    return frame.sort(by, maintain_order=True, nulls_last=True)


def _floats(
    frame: pl.DataFrame, table: str, file: Source, found: Mapping[str, str]
) -> pl.DataFrame:
    """RecBole says which further columns are numbers; one that holds anything else stays text."""
    kept = [
        beside(name, table, found, file.columns)
        for name, kind in zip(file.columns, file.kinds)
        if kind == "float" and name not in found.values()
    ]
    for name in kept:
        number = frame[name].cast(pl.Float64, strict=False)
        if number.null_count() == frame[name].null_count():
            frame = frame.with_columns(number)
    return frame


def _not_all_rejected(read: Read, path: Path) -> None:
    if len(read.frame):
        return
    if not read.rejected:
        raise DataError(f"{path} holds no row of this table")
    first = min(read.rejected)
    reasons = ", ".join(f"{reason} ({n:,})" for reason, n in _counted(read.rejected).items())
    raise DataError(
        f"{path}: every row was rejected: {reasons}. The first, line"
        f" {first.line & ((1 << NTH) - 1)}, reads {first.raw[:200]!r} ({first.reason})"
    )


def _counted(rejected: list[Bad]) -> dict[str, int]:
    return by_reason(Counter(one.reason.partition(":")[0] for one in rejected))


def _strangers(data: Dataset) -> dict[str, int]:
    """Users and items that only one of two tables knows."""
    counts = {}
    for table, key in (("users", "user_id"), ("items", "item_id")):
        if table in data.tables:
            seen, known = data.events[key].unique(), data.tables[table][key]
            counts[f"{table}_not_in_table"] = int((~seen.is_in(known.implode())).sum())
            counts[f"{table}_without_events"] = int((~known.is_in(seen.implode())).sum())
    return counts


def _report(
    out: str | Path,
    format: str,
    paths: Mapping[str, Path],
    read: Mapping[str, Read],
    counts: dict[str, int],
    preview: dict[str, list[dict[str, Any]]],
) -> ImportReport:
    moments = next((one.moments for one in read.values() if one.moments), None)
    about: dict[str, Any] = {
        "files": {table: str(path) for table, path in paths.items()},
        "rows": {table: len(one.frame) for table, one in read.items()},
        "rejected": {table: _counted(one.rejected) for table, one in read.items() if one.rejected},
        "columns": {table: one.found for table, one in read.items()},
        "further": {
            table: [name for name in one.frame.columns if name not in TABLES[table].columns]
            for table, one in read.items()
        },
        "time_unit": moments.unit if moments else None,
        "time_units": moments.counts if moments else {},
        "notes": list(dict.fromkeys(note for one in read.values() for note in one.notes)),
    }
    return ImportReport(str(out), format, counts=counts, preview=preview, **about)
