"""Event logs and catalogues as they come - CSV, RecBole's atomic files, lines of "user item item ..." - to a data set in a folder."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from tailor.data.dataset import Dataset
from tailor.data.importers import names, times
from tailor.data.importers.reading import LINE, Bad, Layout, layout, text_file
from tailor.data.importers.report import ImportReport, by_reason
from tailor.data.importers.rows import Rows, beside, read_rows, reject, split_categories
from tailor.data.importers.sequences import read_sequences
from tailor.data.importers.times import Times
from tailor.data.tables import TABLES, TIME
from tailor.errors import DataError, nearest
from tailor.progress import Progress, silent

FORMATS = ("csv", "sequences", "recbole")
WHAT = {"events": "events", "items": "items", "users": "users", "texts": "texts"}
NANOSECONDS = "\0ns"
REJECTED = {"table": pl.String(), "file": pl.String(), "line": pl.Int64(), "reason": pl.String(), "raw": pl.String()}


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
    src: str | Path,
    out: str | Path,
    *,
    format: str = "csv",
    items: str | Path | None = None,
    users: str | Path | None = None,
    texts: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    time_unit: str | None = None,
    encoding: str = "utf-8",
    strict: bool = False,
    overwrite: bool = False,
    name: str | None = None,
    progress: Progress = silent,
) -> ImportReport:
    """Read an events file (and items, users, texts) into a data set in the folder `out`; bad rows go to rejected.parquet in it.

    `columns` maps our column, bare or as "items.text", to the file's. `time_unit` is s, ms, us or ns, or day-first or month-first for
    written dates; without it the column tells. Raises DataError for a file that cannot be used and, when `strict`, at the first bad
    row; nothing is written then. Events are sorted by time at full precision, ties in file order; without times file order stays.
    """
    if format not in FORMATS:
        raise DataError(f'no format "{format}".{nearest(format, FORMATS)}')
    if Path(out).exists() and not overwrite:  # before an hour of reading, not after it
        raise DataError(f"{out} is there already: choose another name, remove it, or pass overwrite (--overwrite)")
    times.known_unit(time_unit)
    paths = _paths(src, format, {"items": items, "users": users, "texts": texts})
    layouts = {table: layout(path, encoding, atomic=path.suffix in {".inter", ".item", ".user"})
               for table, path in paths.items() if table != "events" or format != "sequences"}  # fmt: skip
    wanted = names.by_table(columns, {table: (file.path, file.columns) for table, file in layouts.items()})
    read = {}
    for table, path in paths.items():
        if table in layouts:
            read[table] = _read_table(table, layouts[table], wanted[table], time_unit, strict, progress)
        else:
            read[table] = Read(*read_sequences(path, encoding, strict, progress), {})
        _not_all_rejected(read[table], path)
    data = Dataset({table: one.frame for table, one in read.items()}, name or Path(out).name)
    counts = {"exact_duplicates": read["events"].copies} | _strangers(data)
    bad = [(table, paths[table].name, *one) for table, part in read.items() for one in sorted(part.rejected)]
    data.save(out, overwrite, {"rejected": pl.DataFrame(bad, schema=REJECTED, orient="row")} if bad else None)
    return _report(out, format, paths, read, counts)


def _paths(src: str | Path, format: str, given: Mapping[str, str | Path | None]) -> dict[str, Path]:
    """The file of every table. A folder of RecBole holds NAME.inter and perhaps NAME.item and NAME.user."""
    src = Path(src)
    found: dict[str, str | Path] = {"events": src}
    if format == "recbole" and src.is_dir():
        events = sorted(src.glob("*.inter"))
        if len(events) != 1:
            has = ", ".join(path.name for path in events) or "none"
            raise DataError(f"{src} must hold one file NAME.inter, it has {has}: name the file itself")
        found["events"] = events[0]
        found |= {table: path for table, ending in (("items", ".item"), ("users", ".user"))
                  if (path := events[0].with_suffix(ending)).exists()}  # fmt: skip
    elif src.is_dir() and any(src.glob("*.inter")):
        raise DataError(f"{src} is a folder of RecBole's atomic files: say so (--format recbole)")
    found |= {table: path for table, path in given.items() if path is not None}
    return {table: text_file(path, WHAT[table]) for table, path in found.items()}


def _read_table(table: str, file: Layout, wanted: Mapping[str, str], unit: str | None, strict: bool, progress: Progress) -> Read:
    found = names.recognised(table, file.columns, wanted)
    if table == "events" and "time_ms" in found and "order" not in wanted:
        found.pop("order", None)  # with times, a column of that name may be anything
    names.complete(table, file.path, file.line - 1, file.columns, found)
    rows = read_rows(table, file, found, strict, progress)
    moments, column = None, next((name for name in found if TABLES[table].columns[name] == TIME and name != "order"), None)
    if column is not None:
        rows, moments = _with_times(table, column, rows, file, unit, strict)
    rows = _without_repeats(table, rows, file, strict)
    frame, notes = rows.frame, rows.notes + (moments.notes if moments else [])
    copies = _copies(frame) if table == "events" else 0
    if table == "events":
        frame = _in_order(frame)
    if "categories" in found:
        kinds = dict(zip(file.columns, file.kinds))
        lists, by = split_categories(frame["categories"], " " if kinds.get(found["categories"]) == "token_seq" else None)
        frame = frame.with_columns(lists)
        notes = [*notes, f'{table}.categories were split at "{by}"']
    if table == "texts" and "kind" not in found:
        frame = frame.with_columns(pl.lit(names.KINDS.get(names.plain(found["text"]), "note")).alias("kind"))
    frame = _floats(frame, table, file, found).drop(LINE, NANOSECONDS, strict=False)
    return Read(frame, rows.rejected, notes, found, moments, copies)


def _with_times(table: str, column: str, rows: Rows, file: Layout, unit: str | None, strict: bool) -> tuple[Rows, Times]:
    """Nanoseconds, and `column` in milliseconds; absurd times are rejected, those of an item emptied."""
    frame = rows.frame
    value, moments = times.settled(frame, unit, str(file.path), frame[LINE])
    frame = frame.drop(times.WHOLE, times.PART, times.KIND, times.OTHER)
    frame = frame.with_columns(value.alias(NANOSECONDS), (value // 1_000_000).alias(column))
    rows = Rows(frame, rows.rejected, rows.notes)
    if table == "items":
        return rows, moments
    absurd = value.is_null()
    read_as = "" if moments.unit == "date" else f", read in {moments.unit}"
    reason = f"{column} is absurd: before 1971 or after 2100{read_as}"
    return reject(rows, file, absurd, [reason] * int(absurd.sum()), strict), moments


def _without_repeats(table: str, rows: Rows, file: Layout, strict: bool) -> Rows:
    """Rows whose key an earlier line has already; only the first of them is kept."""
    key = "event_id" if table == "events" else TABLES[table].key
    if key is None or key not in rows.frame.columns:
        return rows
    column, lines = rows.frame[key], rows.frame[LINE]
    repeated = ~column.is_first_distinct() & column.is_not_null()
    if not repeated.any():
        return rows
    firsts = dict(zip(column.to_list()[::-1], lines.to_list()[::-1]))
    reasons = [f'repeated {key}: "{one}" stands on line {firsts[one]} first' for one in column.filter(repeated)]
    return reject(rows, file, repeated, reasons, strict)


def _copies(frame: pl.DataFrame) -> int:
    """How many events without an event_id are exact copies of an earlier one, at the full precision of their times."""
    if "event_id" in frame.columns:
        frame = frame.filter(pl.col("event_id").is_null())
    return len(frame) - frame.drop(LINE, "time_ms", strict=False).hash_rows().n_unique()


def _in_order(frame: pl.DataFrame) -> pl.DataFrame:
    by = next((name for name in (NANOSECONDS, "order") if name in frame.columns), None)
    if by is None or frame[by].is_sorted():
        return frame
    return frame.sort(by, maintain_order=True, nulls_last=True)


def _floats(frame: pl.DataFrame, table: str, file: Layout, found: Mapping[str, str]) -> pl.DataFrame:
    """RecBole says which further columns are numbers; one that holds anything else stays text."""
    kept = [beside(name, table, found) for name, kind in zip(file.columns, file.kinds) if kind == "float" and name not in found.values()]
    for name in kept:
        number = frame[name].cast(pl.Float64, strict=False)
        if number.null_count() == frame[name].null_count():
            frame = frame.with_columns(number)
    return frame


def _not_all_rejected(read: Read, path: Path) -> None:
    if len(read.frame):
        return
    first = min(read.rejected)
    reasons = ", ".join(f"{reason} ({n:,})" for reason, n in _counted(read.rejected).items())
    raise DataError(f"{path}: every row was rejected: {reasons}. The first, line {first.line}, reads {first.raw[:200]!r} ({first.reason})")


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


def _report(out: str | Path, format: str, paths: Mapping[str, Path], read: Mapping[str, Read], counts: dict[str, int]) -> ImportReport:
    moments = read["events"].moments
    about: dict[str, Any] = {
        "files": {table: str(path) for table, path in paths.items()},
        "rows": {table: len(one.frame) for table, one in read.items()},
        "rejected": {table: _counted(one.rejected) for table, one in read.items() if one.rejected},
        "columns": {table: one.found for table, one in read.items()},
        "further": {table: [name for name in one.frame.columns if name not in TABLES[table].columns] for table, one in read.items()},
        "time_unit": moments.unit if moments else None,
        "time_units": moments.counts if moments else {},
        "notes": [note for one in read.values() for note in one.notes],
    }
    return ImportReport(str(out), format, counts=counts, **about)
