"""Delimited text files in blocks: every good record as a row of strings, every bad one with its
true line and its own text.

A block whose quotes are all where quotes belong goes through Polars; any other goes through
Python's csv module, which decides what a record is. Both see the same file as the same records.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from tailor.data.importers.packed import is_packed, opened
from tailor.errors import DataError, nearest
from tailor.progress import Progress

BLOCK = 8 * 2**20  # bytes read at once
HEAD = 2**20  # bytes in which the header must stand
# characters; a quoted record longer than this is taken for a quote that is never closed
RECORD = 4 * 2**20
COLUMNS = 2_000  # of a table; beyond, names are values
LONGEST = 64 * 2**20  # bytes; no file of rows has a line longer than this
LINE = "\0line"  # the column of line numbers; no column of a file can be called so
NEWLINE, RETURN, QUOTE = 10, 13, 34
BOM = "\ufeff".encode()
MAGIC = {
    b"PAR1": "a Parquet file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"(\xb5/\xfd": "a zstd file",
    b"ARROW1": "an Arrow file",
    b"SQLite format": "a database",
    b"%PDF": "a PDF file",
    b"7z\xbc\xaf": "a 7z archive",
}


@dataclass(frozen=True)
class Layout:
    """How a file is written: its separator, its columns, and where its rows begin."""

    path: Path
    encoding: str
    separator: str
    quoted: bool
    columns: tuple[str, ...]
    kinds: tuple[str, ...]
    """Of RecBole's atomic files: token, token_seq, float or float_seq; else empty."""
    start: int
    """Bytes of the header, as UTF-8."""
    line: int
    """The line of the first row."""
    notes: tuple[str, ...] = ()

    def blocks(self, progress: Progress) -> "Iterator[Block]":
        return blocks(self, progress)

    def asked(self, names: Iterable[str]) -> "Layout":
        return self


class Bad(NamedTuple):
    line: int
    reason: str
    raw: str


@dataclass(frozen=True, eq=False)
class Block:
    """Some rows of a file as strings, with LINE, and the records among them that are no rows."""

    rows: pl.DataFrame
    bad: list[Bad]
    buffer: bytes
    spans: np.ndarray
    """(rows, 2) where in `buffer` each row stands."""

    def raw(self, row: int) -> str:
        start, stop = self.spans[row]
        return self.buffer[start:stop].decode().rstrip("\r\n")


def text_file(path: str | Path, what: str) -> Path:
    """The path of a file that may hold text, packed or not. Raises DataError for what is missing, a
    folder, empty or of a known other kind.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path} is a folder, a file of {what} is needed: name the file in it")
    try:
        with opened(path) as file:
            head = file.read(64)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: name the file of {what}") from None
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None
    if not head:
        raise DataError(f"{path} is empty: a file of {what} is needed")
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            raise DataError(
                f"{path} is {kind}, a text file is needed: unpack it, or write it as CSV"
            )
    return path


def pieces(path: Path, encoding: str, size: int | None = None) -> Iterator[bytes]:
    """The file in pieces of BLOCK (or `size`) bytes, as UTF-8 without byte order mark. Raises
    DataError naming line and byte of what is no text.
    """
    decoder, read, line = _decoder(encoding), 0, 1
    with opened(path) as file:
        piece = b"?"
        while piece:
            piece = file.read(size or BLOCK)
            read += len(piece)
            try:
                text = decoder.decode(piece, final=not piece)
                data = text.encode()
            except UnicodeDecodeError as error:
                raise _undecodable(path, encoding, error, read, line) from None
            except UnicodeError as error:
                raise DataError(
                    f"{path} is not text in {encoding} ({error}): name its encoding (--encoding)"
                ) from None
            line += data.count(b"\n")
            if data:
                yield data


def _decoder(encoding: str) -> codecs.IncrementalDecoder:
    known = (
        "utf-8",
        "utf-16",
        "latin-1",
        "cp1252",
        "utf-32",
        "shift_jis",
        "gb18030",
        "euc-kr",
        "cp1251",
    )
    try:
        found = codecs.lookup(encoding)
    except (LookupError, ValueError):
        raise DataError(f'no encoding "{encoding}".{nearest(encoding, known)}') from None
    if not found._is_text_encoding or found.incrementaldecoder is None:
        raise DataError(f'"{encoding}" is not an encoding of text.{nearest(encoding, known)}')
    return codecs.getincrementaldecoder("utf-8-sig" if found.name == "utf-8" else encoding)()


def _undecodable(
    path: Path, encoding: str, error: UnicodeDecodeError, read: int, line: int
) -> DataError:
    line += error.object[: error.start].count(b"\n")
    byte = read - len(error.object) + error.start
    value = error.object[error.start] if error.start < len(error.object) else 0
    with opened(path) as file:
        wide = file.read(2) in (b"\xff\xfe", b"\xfe\xff")
    other = (
        "utf-16"
        if wide
        else (
            "utf-8"
            if encoding.lower().replace("_", "-") not in {"utf-8", "utf8"}
            else "latin-1 (or cp1252)"
        )
    )
    return DataError(
        f"{path}:{line}: byte {byte} (0x{value:02x}) is not {encoding}: the file may be in {other};"
        " name it (--encoding)"
    )


def few_columns(path: Path, n: int) -> None:
    if n > COLUMNS:
        raise DataError(
            f"{path} names more than {COLUMNS:,} columns: give every row the same few, and what"
            " varies as values of one of them"
        )


def layout(path: Path, encoding: str, atomic: bool = False) -> Layout:
    """Separator and columns from the first line that is not blank. Raises DataError where there is
    no usable header or no row.
    """
    first = next(pieces(path, encoding, HEAD), b"")
    if b"\n" not in first and b"\r" in first:
        raise DataError(
            f"{path} ends its lines with a carriage return alone: save it with line feeds"
        )
    lines = list(io.StringIO(first.decode(), newline="\n"))
    blank = next((n for n, line in enumerate(lines) if line.strip("\r\n")), len(lines))
    if blank == len(lines):
        raise DataError(f"{path} holds only blank lines: a header and rows are needed")
    if "\0" in lines[blank]:
        raise DataError(
            f"{path}:{blank + 1}: a zero byte in the header: the file is binary, or text in utf-16"
            " (--encoding utf-16)"
        )
    separator = "\t" if atomic else _separator(lines[blank])
    fields, taken = _header(path, lines, blank, separator, quoted=not atomic)
    few_columns(path, len(fields))
    names = [name.strip() for name in fields]
    kinds = tuple(name.rpartition(":")[2] for name in names) if atomic else ()
    names = [name.rpartition(":")[0] or name for name in names] if atomic else names
    names = [name or f"column_{n + 1}" for n, name in enumerate(names)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f'{path}:{blank + 1}: several columns are called "{twice[0]}": rename them in the file'
        )
    start = len("".join(lines[: blank + taken]).encode())
    if not first[start:].strip() and len(first) < HEAD:
        raise DataError(f"{path} holds a header ({', '.join(names)}) and no rows")
    return Layout(
        path, encoding, separator, not atomic, tuple(names), kinds, start, blank + taken + 1
    )


def _separator(header: str) -> str:
    """The one of , ; tab | that stands most often outside quotes; a comma where none does."""
    outside = "".join(header.split('"')[::2])
    return max(",;\t|", key=outside.count)


def _header(
    path: Path, lines: list[str], at: int, separator: str, quoted: bool
) -> tuple[list[str], int]:
    if not quoted:
        return lines[at].rstrip("\r\n").split(separator), 1
    fields, taken, problem = _record(lines, at, separator)
    if problem:
        raise DataError(f"{path}:{at + 1}: the header cannot be read: {problem}")
    return fields, taken


def blocks(file: Layout, progress: Progress) -> Iterator[Block]:
    """All rows of the file in order, with a step of `progress` for every BLOCK bytes of it."""
    rest, line, skip = b"", file.line, file.start
    steps = None if is_packed(file.path) else -(-file.path.stat().st_size // BLOCK)
    for piece in progress(pieces(file.path, file.encoding), f"reading {file.path.name}", steps):
        rest += piece
        if len(rest) < skip:
            continue
        rest, skip = rest[skip:], 0
        block, used, lines = _cut(rest, file, line, final=False)
        rest, line = rest[used:], line + lines
        if len(rest) > LONGEST:
            raise DataError(
                f"{file.path}:{line}: a line of more than {LONGEST} bytes: this is not a file of"
                " rows"
            )
        if block is not None:
            yield block
    while rest:
        block, used, lines = _cut(
            rest if rest.endswith(b"\n") else rest + b"\n", file, line, final=True
        )
        rest, line = rest[used:], line + lines
        if block is not None:
            yield block


def _cut(buffer: bytes, file: Layout, line: int, final: bool) -> tuple[Block | None, int, int]:
    """A block from the whole records at the start of `buffer`, and how many bytes and lines of it
    are used.
    """
    data = np.frombuffer(buffer, np.uint8)
    newlines = np.flatnonzero(data == NEWLINE)
    quotes = np.flatnonzero(data == QUOTE) if file.quoted and b'"' in buffer else newlines[:0]
    ends = newlines[np.searchsorted(quotes, newlines) % 2 == 0] if len(quotes) else newlines
    used = int(ends[-1]) + 1 if len(ends) else 0
    left = len(buffer) - used
    if (
        (final and left)
        or (left > RECORD and len(quotes) % 2)
        or _needs_care(buffer[:used], data[:used], quotes, file)
    ):
        return _cut_slowly(buffer, file, line, final)
    if not used:
        return None, 0, 0
    starts = np.r_[0, ends[:-1] + 1]
    lines = line + np.asarray(
        np.searchsorted(newlines, starts) if len(quotes) else np.arange(len(starts))
    )
    separators = np.flatnonzero(data[:used] == ord(file.separator))
    if len(quotes):
        separators = separators[np.searchsorted(quotes, separators) % 2 == 0]
    fields = np.diff(np.searchsorted(separators, ends), prepend=0) + 1
    blank = (ends == starts) | ((ends == starts + 1) & (data[starts] == RETURN))
    wrong = ~blank & (fields != len(file.columns))
    after = line + int(np.searchsorted(newlines, used))
    # only the first line of such a record may be bad
    if (np.diff(lines, append=after)[wrong] > 1).any():
        return _cut_slowly(buffer, file, line, final)
    bad = [
        Bad(int(lines[i]), _miscounted(int(fields[i]), file), _decoded(buffer, starts[i], ends[i]))
        for i in np.flatnonzero(wrong)
    ]
    keep = ~(blank | wrong)
    text = (
        buffer[:used] if keep.all() else data[:used][np.repeat(keep, ends + 1 - starts)].tobytes()
    )
    rows = _parsed(text, file, quoted=bool(len(quotes)))
    if len(rows) != keep.sum():
        return _cut_slowly(buffer, file, line, final)
    rows = rows.with_columns(pl.Series(LINE, lines[keep], dtype=pl.UInt32))
    return Block(rows, bad, buffer, np.stack([starts, ends], 1)[keep]), used, after - line


def _needs_care(text: bytes, data: np.ndarray, quotes: np.ndarray, file: Layout) -> bool:
    """Whether Polars and the csv module may differ: a quote within a field, a mark Polars would
    eat.
    """
    if text.startswith(BOM):
        return True
    quotes = quotes[quotes < len(data)]
    opening, closing = quotes[::2], quotes[1::2]
    if not len(quotes):
        return False
    doubled = opening[1:] == closing[:-1] + 1  # "" within a field: closed and opened again
    before = np.where(opening > 0, data[opening - 1], NEWLINE)
    after, next_but_one = data[closing + 1], data[np.minimum(closing + 2, len(data) - 1)]
    edges = (NEWLINE, ord(file.separator))
    opens = np.isin(before, edges) | np.r_[False, doubled]
    closes = (
        np.isin(after, edges)
        | ((after == RETURN) & (next_but_one == NEWLINE))
        | np.r_[doubled, False]
    )
    return not (opens.all() and closes.all())


def _parsed(text: bytes, file: Layout, quoted: bool) -> pl.DataFrame:
    schema: dict[str, pl.DataType] = {name: pl.String() for name in file.columns}
    if not text:
        return pl.DataFrame(schema=schema)
    return pl.read_csv(
        text,
        has_header=False,
        schema=schema,
        separator=file.separator,
        quote_char='"' if quoted else None,
    )


def _cut_slowly(
    buffer: bytes, file: Layout, line: int, final: bool
) -> tuple[Block | None, int, int]:
    """As `_cut`, record by record through the csv module; of a record that is no row only the first
    line counts as bad.
    """
    csv.field_size_limit(max(csv.field_size_limit(), 2 * RECORD))
    text = buffer.decode()
    lines = list(io.StringIO(text, newline="\n"))
    if not final and lines and not lines[-1].endswith("\n"):
        lines.pop()
    offsets = np.r_[0, np.cumsum([len(one.encode()) for one in lines], dtype=np.int64)]
    # the csv module takes no lone carriage return outside quotes: a character that nothing uses
    # stands in for it
    mask = next(chr(code) for code in range(0xF0000, 0x10FFFE) if chr(code) not in text)
    readable = lines if "\r" not in text else [re.sub("\r(?!\n)", mask, one) for one in lines]
    rows: list[list[str]] = []
    at: list[tuple[int, int]] = []  # first line of each row, and the line after its last
    bad = []
    n = 0
    while n < len(lines):
        fields, taken, problem = (
            _record(readable, n, file.separator)
            if file.quoted
            else (_plain(readable[n], file), 1, "")
        )
        if problem == OPEN and not final and offsets[-1] - offsets[n] <= RECORD:
            break  # its end may come with the next piece
        if fields or problem:
            if problem or len(fields) != len(file.columns):
                bad.append(
                    Bad(
                        line + n, problem or _miscounted(len(fields), file), lines[n].rstrip("\r\n")
                    )
                )
                taken = 1
            else:
                rows.append(
                    [one.replace(mask, "\r") for one in fields] if readable is not lines else fields
                )
                at.append((n, n + taken))
        n += taken
    frame = pl.DataFrame(rows, schema={name: pl.String() for name in file.columns}, orient="row")
    spans = np.array(at, dtype=np.int64).reshape(-1, 2)
    frame = frame.with_columns(pl.Series(LINE, spans[:, 0] + line, dtype=pl.UInt32))
    return Block(frame, bad, buffer, offsets[spans]), int(offsets[n]), n


OPEN = "a quote is never closed"


def _record(lines: list[str], at: int, separator: str) -> tuple[list[str], int, str]:
    """The fields of the record that starts at line `at` (none if blank), how many lines it takes,
    and what is wrong with it.
    """
    taken, size, ran_out = 0, 0, False

    def feed() -> Iterator[str]:
        nonlocal taken, size, ran_out
        while at + taken < len(lines) and size <= RECORD:
            taken += 1
            size += len(lines[at + taken - 1])
            yield lines[at + taken - 1]
        ran_out = True

    try:
        fields = next(csv.reader(feed(), delimiter=separator))
    except csv.Error as error:
        return [], 1, f"cannot be read as CSV: {error}"
    if taken > 1 and not ran_out and not _strictly(lines[at : at + taken], separator):
        # read leniently, it would swallow the rows up to the next such quote
        return [], 1, "a quote has no partner"
    return fields, taken, OPEN if ran_out else ""


def _strictly(lines: list[str], separator: str) -> bool:
    try:
        next(csv.reader(lines, delimiter=separator, strict=True))
    except csv.Error:
        return False
    return True


def _plain(line: str, file: Layout) -> list[str]:
    line = line.removesuffix("\n").removesuffix("\r")
    return line.split(file.separator) if line else []


def _miscounted(fields: int, file: Layout) -> str:
    return f"wrong number of fields: {fields} instead of {len(file.columns)}"


def _decoded(buffer: bytes, start: int, stop: int) -> str:
    return buffer[start:stop].decode().rstrip("\r")
