"""Delimited text files in blocks of rows, each row a row of strings.

A bad record keeps its true line and its own text. A block whose quotes are all where quotes belong
goes through Polars; any other goes through Python's csv module, which decides what a record is.
Both see the same file as the same records.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from tailor.data.columns import is_usual, numbered
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
ENCODINGS = (
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
# stands, with two hexadecimal digits after it, for a byte that is no text in the file's encoding
STRAY = "\U0010fffe"
STRAY_BYTES = STRAY.encode()
HANDLER = "tailor.stray"
# so many stray bytes, and so many to a byte of good text beyond ASCII, mean another encoding
MANY_STRAYS, STRAY_SHARE = 20, 0.05
# without any such good text, so large a share of lines does
STRAY_LINES = 0.1
OPEN = "a quote is never closed"
NUMBER = re.compile(r"[+-]?(\d+([.,]\d+)?|[.]\d+)([eE][+-]?\d+)?")
LONG_NUMBER = re.compile(r"\d{9,20}(\.\d+)?|\d{4}-\d{2}-\d{2}.*")


def _mark_stray(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    stray = error.object[error.start : error.end]
    return "".join(f"{STRAY}{byte:02x}" for byte in stray), error.end


codecs.register_error(HANDLER, _mark_stray)


@dataclass(frozen=True)
class Layout:
    """The dialect of a file: its separator, its columns, and where its rows begin."""

    path: Path
    encoding: str
    separator: str
    quoted: bool
    """Whether fields may stand in quotes."""
    columns: tuple[str, ...]
    kinds: tuple[str, ...]
    """Types of RecBole's atomic files: token, token_seq, float or float_seq; else empty."""
    start: int
    """Bytes of the header, as UTF-8."""
    line: int
    """The line of the first row."""
    notes: tuple[str, ...] = ()
    """Remarks for the report."""
    first: tuple[str, ...] = ()
    """The fields of the first row of a file without a header; else none."""

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
    """(rows, 2) the first byte of each row in `buffer`, and the one after its last."""
    repeats: int = 0
    """Rows left out because their key came before."""

    def raw(self, row: int) -> str:
        """Return the text of a row."""
        start, stop = self.spans[row]
        return self.buffer[start:stop].decode().rstrip("\r\n")


def text_file(path: str | Path, content: str) -> Path:
    """Return the path of a file that may hold text, packed or not.

    Raises DataError for what is missing, a folder, empty or of a known other kind.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path} is a folder, a file of {content} is needed: name the file in it")
    try:
        with opened(path) as file:
            head = file.read(64)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: name the file of {content}") from None
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None
    if not head:
        raise DataError(f"{path} is empty: a file of {content} is needed")
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            raise DataError(
                f"{path} is {kind}, a text file is needed: unpack it, or write it as CSV"
            )
    return path


def pieces(
    path: Path, encoding: str, size: int | None = None, strict: bool = False
) -> Iterator[bytes]:
    """Yield the file as UTF-8 in pieces of BLOCK (or `size`) bytes, without byte order mark.

    A byte that is no text becomes STRAY and its two digits, so that it costs one row only. Raises
    DataError, naming line and byte, where so many are none that the file is in another encoding,
    and at the first one when `strict`.
    """
    decoder = _decoder(encoding)
    strays = _Strays(path, encoding)
    with opened(path) as file:
        piece = b"?"
        while piece:
            piece = file.read(size or BLOCK)
            try:
                text = decoder.decode(piece, final=not piece)
                data = text.encode()
            except UnicodeError as error:
                raise DataError(
                    f"{path} is not text in {encoding} ({error}): name its encoding (--encoding)"
                ) from None
            strays.count(text, data)
            if strays.first and (strict or strays.are_many()):
                raise strays.refusal()
            if data:
                yield data
    if strays.first and strays.are_many(at_end=True):
        raise strays.refusal()


@dataclass
class _Strays:
    """Counts the bytes of a file that are no text in its encoding."""

    path: Path
    encoding: str
    strays: int = 0
    stray_lines: int = 0
    lines: int = 0
    good_bytes: int = 0
    """Bytes of good characters beyond ASCII, but for the first of each."""
    read: int = 0
    """Bytes of the file before the first stray one."""
    first: str = ""
    """Line, byte and value of the first one."""

    def count(self, text: str, data: bytes) -> None:
        """Count a piece of the file, as text and as UTF-8."""
        if STRAY not in text:
            self.read += 0 if self.first else len(data)
            self.good_bytes += len(data) - len(text)
            self.lines += data.count(b"\n")
            return
        if not self.first:
            before, _, after = text.partition(STRAY)
            line = self.lines + before.count("\n") + 1
            byte = self.read + len(before.encode())
            self.first = f"{self.path}:{line}: byte {byte} (0x{after[:2]})"
        strays = text.count(STRAY)
        self.strays += strays
        self.stray_lines += sum(STRAY in line for line in text.split("\n"))
        self.good_bytes += len(data) - len(text) - strays * (len(STRAY_BYTES) - 1)
        self.lines += data.count(b"\n")

    def are_many(self, at_end: bool = False) -> bool:
        """Return whether the file is rather in another encoding."""
        if self.strays > MANY_STRAYS and self.strays > STRAY_SHARE * self.good_bytes:
            return True
        return at_end and not self.good_bytes and self.stray_lines > STRAY_LINES * self.lines

    def refusal(self) -> DataError:
        """Return the error that names the first stray byte."""
        return DataError(
            f"{self.first} is not {self.encoding}: the file may be in {self._other_encoding()};"
            " name it (--encoding)"
        )

    def _other_encoding(self) -> str:
        with opened(self.path) as file:
            if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
                return "utf-16"
        is_utf8 = self.encoding.lower().replace("_", "-") in {"utf-8", "utf8"}
        return "latin-1 (or cp1252)" if is_utf8 else "utf-8"


def _decoder(encoding: str) -> codecs.IncrementalDecoder:
    try:
        codec = codecs.lookup(encoding)
    except (LookupError, ValueError):
        raise DataError(f'no encoding "{encoding}".{nearest(encoding, ENCODINGS)}') from None
    if not codec._is_text_encoding or codec.incrementaldecoder is None:
        raise DataError(f'"{encoding}" is not an encoding of text.{nearest(encoding, ENCODINGS)}')
    name = "utf-8-sig" if codec.name == "utf-8" else encoding
    # one lost byte shifts all that follows in these
    errors = "strict" if codec.name.startswith(("utf-16", "utf-32")) else HANDLER
    return codecs.getincrementaldecoder(name)(errors)


def stray_problem(text: str) -> str | None:
    """Say which byte of a row is no text in the file's encoding; None if all are."""
    _, mark, after = text.partition(STRAY)
    return f"holds a byte that is no text in the file's encoding (0x{after[:2]})" if mark else None


def shown(text: str) -> str:
    """Return a row's text with every stray byte as \\xe9."""
    return text.replace(STRAY, "\\x") if STRAY in text else text


def few_columns(path: Path, n: int) -> None:
    if n > COLUMNS:
        raise DataError(
            f"{path} names more than {COLUMNS:,} columns: give every row the same few, and what"
            " varies as values of one of them"
        )


def layout(path: Path, encoding: str, atomic: bool = False, header: bool | None = None) -> Layout:
    """Return separator and columns, from the first line that is not blank.

    A first line `sep=;` names the separator. `header` says whether the file names its columns;
    None takes it for granted, and refuses a first line that looks like a row. Raises DataError
    where there is no usable header or no row.
    """
    first = next(pieces(path, encoding, HEAD), b"")
    if b"\n" not in first and b"\r" in first:
        raise DataError(
            f"{path} ends its lines with a carriage return alone: save it with line feeds"
        )
    lines = list(io.StringIO(first.decode(), newline="\n"))
    start = _first_line(path, lines, 0)
    separator = "\t" if atomic else _named_separator(lines[start])
    if separator is not None and not atomic:
        start = _first_line(path, lines, start + 1)
    _readable_header(path, encoding, lines[start])
    if "\0" in lines[start]:
        raise DataError(
            f"{path}:{start + 1}: a zero byte in the header: the file is binary, or text in utf-16"
            " (--encoding utf-16)"
        )
    separator = separator or _separator(lines[start])
    fields, taken = _header(path, lines, start, separator, quoted=not atomic)
    few_columns(path, len(fields))
    if header is None and not atomic:
        _no_row(path, start, fields)
    if header is False and not atomic:
        begin = len("".join(lines[:start]).encode())
        columns = tuple(numbered(n) for n in range(1, len(fields) + 1))
        first_row = tuple(fields)
        return Layout(
            path, encoding, separator, True, columns, (), begin, start + 1, first=first_row
        )
    columns, kinds = _named_columns(path, start, fields, atomic)
    begin = len("".join(lines[: start + taken]).encode())
    if not first[begin:].strip() and len(first) < HEAD:
        raise DataError(f"{path} holds a header ({', '.join(columns)}) and no rows")
    line = start + taken + 1
    return Layout(path, encoding, separator, not atomic, columns, kinds, begin, line)


def _named_columns(
    path: Path, start: int, fields: Sequence[str], atomic: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of a header, and the types that an atomic file's header gives."""
    names = [name.strip() for name in fields]
    kinds: tuple[str, ...] = ()
    if atomic:
        kinds = tuple(name.rpartition(":")[2] for name in names)
        names = [name.rpartition(":")[0] or name for name in names]
    names = [name or numbered(n) for n, name in enumerate(names, 1)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f'{path}:{start + 1}: several columns are called "{twice[0]}": rename them in the file'
        )
    return tuple(names), kinds


def _first_line(path: Path, lines: Sequence[str], after: int) -> int:
    """Return the number, from 0, of the first line that is not blank."""
    for number in range(after, len(lines)):
        if lines[number].strip("\r\n"):
            return number
    raise DataError(f"{path} holds only blank lines: a header and rows are needed")


def _named_separator(line: str) -> str | None:
    """Return the separator that a line such as `sep=;` names, as spreadsheets write it."""
    named = re.fullmatch(r'"?sep=(.)"?', line.rstrip("\r\n"), re.IGNORECASE)
    return named[1] if named else None


def _no_row(path: Path, start: int, fields: Sequence[str]) -> None:
    """Raise DataError where the first line looks like a row: it would be lost."""
    texts = [text.strip() for text in fields]
    if any(is_usual(text) for text in texts):
        return
    numbers = [text for text in texts if NUMBER.fullmatch(text)]
    counted = [str(n) for n in range(len(texts))]
    if texts in (counted, [str(n + 1) for n in range(len(texts))]):
        return  # the header that a data frame without names writes
    is_row = len(texts) > 1 and all(NUMBER.fullmatch(text) or not text for text in texts)
    if (
        is_row
        or any(LONG_NUMBER.fullmatch(text) for text in texts)
        or 2 * len(numbers) > len(texts)
    ):
        raise DataError(
            f"{path}:{start + 1}: the first line, {', '.join(texts)[:200]}, looks like a row and"
            " not like a header: say so and number the columns (--no-header --columns"
            " user_id=1,item_id=2,...), or say that it is one (--header)"
        )


def _readable_header(path: Path, encoding: str, line: str) -> None:
    if STRAY in line:
        strays = _Strays(path, encoding)
        strays.count(next(pieces(path, encoding, HEAD)).decode(), b"")
        raise strays.refusal()


def _separator(header: str) -> str:
    """Return the one of , ; tab | that stands most often outside quotes, else a comma."""
    outside = "".join(header.split('"')[::2])
    return max(",;\t|", key=outside.count)


def _header(
    path: Path, lines: list[str], start: int, separator: str, quoted: bool
) -> tuple[list[str], int]:
    if not quoted:
        return lines[start].rstrip("\r\n").split(separator), 1
    record = _record(lines, start, separator)
    if record.problem:
        raise DataError(f"{path}:{start + 1}: the header cannot be read: {record.problem}")
    return record.fields, record.taken


def blocks(file: Layout, progress: Progress) -> Iterator[Block]:
    """Yield all rows of the file in order, with a step of `progress` for every BLOCK bytes."""
    remainder, line, skip = b"", file.line, file.start
    steps = None if is_packed(file.path) else -(-file.path.stat().st_size // BLOCK)
    for piece in progress(pieces(file.path, file.encoding), f"reading {file.path.name}", steps):
        remainder += piece
        if len(remainder) < skip:
            continue
        remainder, skip = remainder[skip:], 0
        block, used, lines = _cut(remainder, file, line, final=False)
        remainder, line = remainder[used:], line + lines
        if len(remainder) > LONGEST:
            raise DataError(
                f"{file.path}:{line}: a line of more than {LONGEST} bytes: this is not a file of"
                " rows"
            )
        if block is not None:
            yield block
    while remainder:
        block, used, lines = _cut(
            remainder if remainder.endswith(b"\n") else remainder + b"\n", file, line, final=True
        )
        remainder, line = remainder[used:], line + lines
        if block is not None:
            yield block


def _cut(buffer: bytes, file: Layout, line: int, final: bool) -> tuple[Block | None, int, int]:
    """Return a block of whole records from `buffer`, and the bytes and lines that they take."""
    data = np.frombuffer(buffer, np.uint8)
    newlines = np.flatnonzero(data == NEWLINE)
    quotes = np.flatnonzero(data == QUOTE) if file.quoted and b'"' in buffer else newlines[:0]
    ends = newlines[np.searchsorted(quotes, newlines) % 2 == 0] if len(quotes) else newlines
    used = int(ends[-1]) + 1 if len(ends) else 0
    unread = len(buffer) - used
    if (
        (final and unread)
        or (unread > RECORD and len(quotes) % 2)
        or _needs_care(buffer[:used], data[:used], quotes, file)
    ):
        return _cut_slowly(buffer, file, line, final)
    if not used:
        return None, 0, 0
    starts = np.r_[0, ends[:-1] + 1]
    lines = line + np.arange(len(starts))
    if len(quotes):
        lines = line + np.asarray(np.searchsorted(newlines, starts))
    fields = _field_counts(data[:used], quotes, ends, file)
    blank = (ends == starts) | ((ends == starts + 1) & (data[starts] == RETURN))
    miscounted = ~blank & (fields != len(file.columns))
    wrong = miscounted | _with_strays(buffer[:used], starts, ends)
    after = line + int(np.searchsorted(newlines, used))
    # only the first line of such a record may be bad; a backslash may part the fields otherwise
    several_lines = (np.diff(lines, append=after)[wrong] > 1).any()
    escaped = file.quoted and miscounted.any() and b"\\" in buffer
    if several_lines or escaped:
        return _cut_slowly(buffer, file, line, final)
    good = ~(blank | wrong)
    text = buffer[:used]
    if not good.all():
        text = data[:used][np.repeat(good, ends + 1 - starts)].tobytes()
    rows = _parsed(text, file, quoted=bool(len(quotes)))
    if len(rows) != good.sum():
        return _cut_slowly(buffer, file, line, final)
    bad = []
    for row in np.flatnonzero(wrong):
        raw = _decoded(buffer, starts[row], ends[row])
        reason = stray_problem(raw) or _miscounted(int(fields[row]), file)
        bad.append(Bad(int(lines[row]), reason, shown(raw)))
    rows = rows.with_columns(pl.Series(LINE, lines[good], dtype=pl.UInt32))
    return Block(rows, bad, buffer, np.stack([starts, ends], 1)[good]), used, after - line


def _field_counts(
    data: np.ndarray, quotes: np.ndarray, ends: np.ndarray, file: Layout
) -> np.ndarray:
    """Return (records,) how many fields each has; a separator within quotes parts none."""
    separators = np.flatnonzero(data == ord(file.separator))
    if len(quotes):
        separators = separators[np.searchsorted(quotes, separators) % 2 == 0]
    return np.diff(np.searchsorted(separators, ends), prepend=0) + 1


def _with_strays(text: bytes, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(records,) bool: True for a record that holds a stray byte."""
    stray = np.zeros(len(starts), dtype=bool)
    position = text.find(STRAY_BYTES)
    while position >= 0:
        row = int(np.searchsorted(ends, position))
        stray[row] = True
        position = text.find(STRAY_BYTES, int(ends[row]))
    return stray


def _needs_care(text: bytes, data: np.ndarray, quotes: np.ndarray, file: Layout) -> bool:
    """Return whether Polars and the csv module may differ.

    They do where a quote stands within a field or behind a backslash, and where the text begins
    with a mark that Polars would drop.
    """
    if text.startswith(BOM) or (file.quoted and b'\\"' in text):
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
    """As `_cut`, record by record through the csv module.

    Of a record that is no row only the first line counts as bad.
    """
    csv.field_size_limit(max(csv.field_size_limit(), 2 * RECORD))
    text = buffer.decode()
    lines = list(io.StringIO(text, newline="\n"))
    if not final and lines and not lines[-1].endswith("\n"):
        lines.pop()
    offsets = np.r_[0, np.cumsum([len(line.encode()) for line in lines], dtype=np.int64)]
    # the csv module takes no lone carriage return outside quotes: a character that nothing uses
    # stands in for it
    mask = next(chr(code) for code in range(0xF0000, 0x10FFFE) if chr(code) not in text)
    readable = lines if "\r" not in text else [re.sub("\r(?!\n)", mask, line) for line in lines]
    rows: list[list[str]] = []
    places: list[tuple[int, int]] = []  # first line of each row, and the line after its last
    bad = []
    width = len(file.columns)
    n = 0
    while n < len(lines):
        record = _record(readable, n, file.separator, width) if file.quoted else None
        record = record or Parsed(_plain(readable[n], file), 1, "")
        if record.problem == OPEN and not final and offsets[-1] - offsets[n] <= RECORD:
            break  # its end may come with the next piece
        taken = record.taken
        if record.fields or record.problem:
            problem = record.problem
            if not problem and len(record.fields) != width:
                problem = _miscounted(len(record.fields), file)
            raw = lines[n] if problem else "".join(lines[n : n + taken])
            reason = stray_problem(raw) or problem
            if reason:
                bad.append(Bad(line + n, reason, shown(raw.rstrip("\r\n"))))
                taken = 1 if problem else taken
            else:
                rows.append([text.replace(mask, "\r") for text in record.fields])
                places.append((n, n + taken))
        n += taken
    frame = pl.DataFrame(rows, schema={name: pl.String() for name in file.columns}, orient="row")
    spans = np.array(places, dtype=np.int64).reshape(-1, 2)
    frame = frame.with_columns(pl.Series(LINE, spans[:, 0] + line, dtype=pl.UInt32))
    return Block(frame, bad, buffer, offsets[spans]), int(offsets[n]), n


class Parsed(NamedTuple):
    """A record: its fields (none if blank), the lines it takes, and what is wrong with it."""

    fields: list[str]
    taken: int
    problem: str


def _record(lines: list[str], start: int, separator: str, width: int | None = None) -> Parsed:
    """Return the record that begins at line `start`.

    A quote within quotes is written "" or \\". The second is tried where a backslash is there and
    the first makes no record of `width` fields.
    """
    record, lines_read = _read_record(lines, start, separator)
    backslash = any("\\" in line for line in lines[start : start + lines_read])
    if not backslash or _is_clean(record, lines, start, separator, width):
        return record
    escaped, _ = _read_record(lines, start, separator, escapes=True)
    if _is_clean(escaped, lines, start, separator, width, escapes=True):
        return escaped
    return record


def _read_record(
    lines: list[str], start: int, separator: str, escapes: bool = False
) -> tuple[Parsed, int]:
    """Return the record by one of two ways to write a quote, and the lines read for it."""
    feed = _Feed(lines, start, separator if escapes else "")
    escape = "\\" if escapes else None
    try:
        fields = next(csv.reader(feed, delimiter=separator, escapechar=escape))
    except csv.Error as error:
        return Parsed([], 1, f"cannot be read as CSV: {error}"), feed.taken
    record = Parsed(fields, feed.taken, OPEN if feed.ran_out else "")
    if (
        feed.taken > 1
        and not feed.ran_out
        and not _strictly(record, lines, start, separator, escapes)
    ):
        # read leniently, it would swallow the rows up to the next such quote
        record = Parsed([], 1, "a quote has no partner")
    return record, feed.taken


def _is_clean(
    record: Parsed,
    lines: list[str],
    start: int,
    separator: str,
    width: int | None,
    escapes: bool = False,
) -> bool:
    """Return whether a record has `width` fields, and its quotes only where quotes belong."""
    fits = not record.problem and (width is None or len(record.fields) == width)
    return fits and _strictly(record, lines, start, separator, escapes)


class _Feed:
    """Lines for the csv module, one at a time, up to RECORD characters."""

    def __init__(self, lines: Sequence[str], start: int, separator: str) -> None:
        self.lines, self.start, self.separator = lines, start, separator
        self.taken = 0
        self.size = 0
        self.ran_out = False

    def __iter__(self) -> Iterator[str]:
        while self.start + self.taken < len(self.lines) and self.size <= RECORD:
            line = self.lines[self.start + self.taken]
            self.taken += 1
            self.size += len(line)
            yield _kept_backslashes(line, self.separator) if self.separator else line
        self.ran_out = True


def _kept_backslashes(line: str, separator: str) -> str:
    """Double every backslash that escapes neither a quote, a backslash nor the separator."""
    escape = re.compile(r'\\(["\\' + re.escape(separator) + r"])|\\")
    return escape.sub(lambda match: match[0] if match[1] else "\\\\", line)


def _strictly(record: Parsed, lines: list[str], start: int, separator: str, escapes: bool) -> bool:
    """Return whether the csv module reads the lines of a record in strict mode too."""
    feed = _Feed(lines[start : start + record.taken], 0, separator if escapes else "")
    escape = "\\" if escapes else None
    try:
        next(csv.reader(feed, delimiter=separator, escapechar=escape, strict=True))
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
