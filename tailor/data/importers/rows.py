"""Rows of strings to rows of a table: ids stripped, numbers and times read, and what cannot be read
put aside with its reason.
"""

import ast
import html.entities
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import polars as pl

from tailor.data import times
from tailor.data.importers.parquet import as_text
from tailor.data.importers.reading import LINE, Bad, Block, few_columns
from tailor.data.importers.sources import Source, placed
from tailor.data.tables import ITEMS, NUMBER, ROW, TABLES, TIME
from tailor.errors import DataError
from tailor.progress import Progress, silent

Check = tuple[pl.Series, str, pl.Series | None]  # where a row is bad, why, and the values to quote
MISSING = ["", "nan", "NaN", "NAN", "null", "NULL", "Null", "none", "None", "NONE", "<NA>"]
LENIENT = {"items": ("price", "created_ms", "lat", "lon")}  # an item is worth keeping without these
NUMBERS = {
    ".": "a number such as 1299.50 (--decimal , reads 1.299,50)",
    ",": "a number such as 1.299,50",
}
MOST_BAD = 1_000_000  # rejected rows, each of which is held, beyond which most rows must be good
# such as &amp;
ENTITY = rf"(&(?:#\d+|#[xX][0-9a-fA-F]+|{'|'.join(html.entities.name2codepoint)}));"
TIMED = ("events", "texts")  # a file of these that has times has one in every row
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


@dataclass(frozen=True, eq=False)
class Rows:
    """A table as read from a file, in file order, with LINE and the columns of `times.parsed`; and
    its rejected rows.
    """

    frame: pl.DataFrame
    rejected: list[Bad]
    notes: list[str] = field(default_factory=list)


def known_decimal(mark: str) -> None:
    if mark not in (".", ","):
        raise DataError(f'decimals are parted by "." or ",", not by "{mark}"')


def read_rows(
    table: str,
    file: Source,
    found: Mapping[str, str],
    strict: bool,
    progress: Progress,
    decimal: str = ".",
) -> Rows:
    """All rows of a file; `decimal` is "," where numbers are written 1.299,50. Raises DataError at
    the first bad one when `strict`.
    """
    frames: list[pl.DataFrame] = []
    rejected: list[Bad] = []
    emptied, firsts, names, kept = Counter[str](), dict[str, str](), set[str](), 0
    for block in file.blocks(progress):
        frame, bad, lost = _typed(table, block, found, decimal)
        if strict and bad:
            raise refused(file, min(bad))
        frames.append(frame)
        rejected += bad
        emptied.update({name: len(values) for name, values in lost.items()})
        firsts = {name: values[0] for name, values in lost.items()} | firsts
        names.update(frame.columns)
        few_columns(file.path, len(names))
        kept += len(frame)
        if len(rejected) > max(MOST_BAD, kept):
            raise DataError(
                f"{file.path}: {len(rejected):,} of the first {len(rejected) + kept:,} rows are"
                f" bad: this is no file of {table}; the first reads {rejected[0].raw[:200]!r}"
                f" ({rejected[0].reason})"
            )
    if not frames:
        raise DataError(f"{file.path} holds no rows after its header")
    frame = _stacked(frames)
    wanted = {
        name: "a time" if TABLES[table].columns[name] == TIME else NUMBERS[decimal]
        for name in emptied
    }
    notes = [
        f'{table}.{name} could not be read in {n:,} rows and was left empty: "{firsts[name][:80]}"'
        f" is not {wanted[name]}"
        for name, n in emptied.items()
    ]
    return Rows(frame, rejected, [*file.notes, *notes])


def _stacked(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """One frame of all; a further column that has another type in another part of the file is text
    in all of them.
    """
    if all(frame.schema == frames[0].schema for frame in frames):
        return pl.concat(frames, how="vertical", rechunk=False)
    kinds: dict[str, set[pl.DataType]] = {}
    for frame in frames:
        for name, kind in frame.schema.items():
            kinds.setdefault(name, set()).add(kind)
    mixed = {name for name, held in kinds.items() if len(held) > 1}
    frames = [
        frame.with_columns(as_text(frame[name]) for name in frame.columns if name in mixed)
        for frame in frames
    ]
    return pl.concat(frames, how="diagonal", rechunk=False)


def refused(file: Source, bad: Bad) -> DataError:
    path, line = placed(file, bad.line)
    return DataError(
        f"{path}:{line}: {bad.reason}; the line reads {bad.raw[:200]!r}: mend it, or import without"
        " --strict"
    )


def reject(
    rows: Rows, file: Source, where: pl.Series, reasons: Iterable[str], strict: bool
) -> Rows:
    """The rows but those `where` is true, which go to the rejected ones; their own text is read
    from the file again.
    """
    if not where.any():
        return rows
    lines = dict(zip(rows.frame[LINE].filter(where).to_list(), reasons))
    bad = []
    for block in file.blocks(silent):
        at = block.rows[LINE].is_in(list(lines)).arg_true().to_list()
        bad += [Bad(line := block.rows[LINE][row], lines[line], block.raw(row)) for row in at]
        if strict and bad:
            raise refused(file, min(bad))
    return Rows(rows.frame.filter(~where), rows.rejected + bad, rows.notes)


def _typed(
    table: str, block: Block, found: Mapping[str, str], decimal: str
) -> tuple[pl.DataFrame, list[Bad], dict[str, pl.Series]]:
    """The block's good rows with our names and types, its bad ones, and the values that had to be
    emptied, by column.
    """
    raw, kinds, lenient = block.rows, TABLES[table].columns, LENIENT.get(table, ())
    extra = [name for name in raw.columns if name not in found.values() and name != LINE]
    named = pl.DataFrame(
        [
            raw[LINE].cast(pl.Int64),
            *(as_text(raw[theirs]).alias(ours) for ours, theirs in found.items()),
            *(_further(raw[name]).alias(beside(name, table, found, raw.columns)) for name in extra),
        ]
    )
    frame = named.with_columns(_text(ours) for ours in found)
    checks: list[Check] = [
        (frame[name].is_null(), f"no {name}", None) for name in TABLES[table].never_null
    ]
    emptied: dict[str, pl.Series] = {}
    for name in found:
        before = frame[name]
        if kinds[name] == TIME and name != "order":
            read = times.parsed(before)
            frame, understood, problem = (
                pl.concat([frame.drop(name), read], how="horizontal"),
                times.understood(read),
                "is not understood",
            )
            if table in TIMED:
                checks.append((before.is_null(), f"no {name}", None))
        elif kinds[name] in (NUMBER, TIME):
            number = (
                before.str.replace(r"\.0+$", "").cast(TIME, strict=False)
                if name == "order"
                else _plain(before, decimal).cast(NUMBER, strict=False)
            )
            number = number.set(~number.is_finite().fill_null(True), None)
            frame, understood, problem = (
                frame.with_columns(number),
                number.is_not_null(),
                "is not a number",
            )
        elif kinds[name] == ROW:
            whole = before.cast(pl.Float64, strict=False)
            whole = whole.set(
                (whole != whole.floor()).fill_null(True) | (whole.abs() >= 2**31), None
            ).cast(ROW)
            frame, understood, problem = (
                frame.with_columns(whole),
                whole.is_not_null(),
                "is not a whole number",
            )
        elif kinds[name] == pl.Boolean():
            truth = before.str.to_lowercase().replace_strict(
                BOOLEANS, default=None, return_dtype=pl.Boolean
            )
            frame, understood, problem = (
                frame.with_columns(truth),
                truth.is_not_null(),
                "is neither true nor false",
            )
        else:
            continue
        unread = before.is_not_null() & ~understood
        if name in lenient:
            emptied |= {name: before.filter(unread)} if unread.any() else {}
        else:
            checks.append((unread, f"{name} {problem}", before))
    bad = _judged(checks, frame[LINE], block)
    return (
        frame.filter(~pl.col(LINE).is_in([one.line for one in bad])) if bad else frame,
        block.bad + bad,
        emptied,
    )


def _plain(numbers: pl.Series, decimal: str) -> pl.Series:
    """1.299,50 as 1299.50 where a comma parts decimals; what is not written so is null, since
    1299.50 would be read as a hundred times as much.
    """
    if decimal == ".":
        return numbers
    fits = numbers.str.contains(r"^[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?$").fill_null(False)
    return (
        numbers.set(~fits, None)
        .str.replace_all(".", "", literal=True)
        .str.replace(",", ".", literal=True)
    )


def _judged(checks: list[Check], lines: pl.Series, block: Block) -> list[Bad]:
    """The rows that any check names, each with the reason of the first that does and the value it
    stumbled on.
    """
    reasons: dict[int, str] = {}
    for wrong, reason, values in checks:
        for row in wrong.arg_true() if wrong.any() else ():
            reasons.setdefault(row, reason if values is None else f'{reason}: "{values[row][:80]}"')
    return [Bad(lines[row], reason, block.raw(row)) for row, reason in sorted(reasons.items())]


def _further(values: pl.Series) -> pl.Series:
    values = as_text(values) if values.dtype.is_nested() else values
    return values.replace("", None) if values.dtype == pl.String else values


def _text(ours: str) -> pl.Expr:
    """Words stay as they are; everything else loses the white space around it, and "nan", "NULL",
    "None" are empty.
    """
    if ours in {"title", "text", "asset"}:
        return pl.col(ours).replace("", None)
    stripped = pl.col(ours).str.strip_chars()
    return pl.when(~stripped.is_in(MISSING)).then(stripped).alias(ours)


def beside(name: str, table: str, found: Mapping[str, str], names: Iterable[str]) -> str:
    """The name under which a further column of the file, one of `names`, is kept: its own, unless
    one of ours is called so.
    """
    if name not in found and name not in TABLES[table].columns:
        return name
    kept, taken = f"{name}_in_file", set(names)
    while kept in taken:
        kept += "_in_file"
    return kept


def split_lists(
    column: pl.Series, separator: str | None, written: bool = False
) -> tuple[pl.Series, str]:
    """Texts to lists of strings, and by what they were split: `separator`, else the first of | ; >
    , that any of them holds.

    The ";" that ends an HTML entity such as &amp; splits nothing.

    A column of written lists such as ["a", "b"] is read as such; `written` says that this is one,
    where a bare text is a list of one.
    """
    present = column.drop_nulls()
    if written:
        lists = [
            None if one is None else _listed(one) if one.startswith("[") else [one]
            for one in column
        ]
        return pl.Series(column.name, lists, dtype=ITEMS), "[]"
    if (
        separator is None
        and len(present)
        and (present.str.starts_with("[") & present.str.ends_with("]")).all()
    ):
        return (
            pl.Series(
                column.name, [None if one is None else _listed(one) for one in column], dtype=ITEMS
            ),
            "[]",
        )
    if separator is None:
        bare = present.str.replace_all(ENTITY, "")
        separator = next(
            (one for one in ("|", ";", " > ", ",") if bare.str.contains(one, literal=True).any()),
            "|",
        )
    if separator == ";" and present.str.contains(ENTITY).any():
        column = column.str.replace_all(ENTITY, "${1}\0")
        parts = column.str.split(separator).list.eval(
            pl.element().str.replace_all("\0", ";", literal=True).str.strip_chars()
        )
    else:
        parts = column.str.split(separator).list.eval(pl.element().str.strip_chars())
    return parts.list.eval(pl.element().filter(pl.element() != "")).cast(ITEMS), separator


def _listed(text: str) -> list[str]:
    for read in (json.loads, ast.literal_eval):
        try:
            return [
                one if isinstance(one, str) else json.dumps(one)
                for one in read(text)
                if one is not None
            ]
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return [one.strip(" '\"") for one in text[1:-1].split(",") if one.strip(" '\"")]
