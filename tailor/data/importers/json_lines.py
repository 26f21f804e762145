"""JSON: one object a line, or an array of objects.

Names within an object are asked for by dotted names; lists stay lists where we have lists.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tailor.data.importers.packed import is_packed
from tailor.data.importers.reading import (
    BLOCK,
    LONGEST,
    STRAY,
    Block,
    few_columns,
    pieces,
    shown,
    stray_problem,
    text_file,
)
from tailor.data.importers.sources import Fields, Record, Records, clean, first_records, lines, nth
from tailor.errors import DataError
from tailor.progress import Progress, silent

HEAD = 2**16  # bytes that tell an array from lines
BETWEEN = re.compile(r"[\s,]*")  # what may stand between two values of an array
NEXT_OBJECT = re.compile(r"\n\s*\{")  # where reading goes on behind a broken object


def objects(path: Path, encoding: str, progress: Progress) -> Iterator[Record]:
    """Yield every object of the file, or why it is none.

    The position is the line. In an array, and where objects take several lines, it is the object's
    number.
    """
    text_file(path, "rows")
    head = next(pieces(path, encoding, HEAD), b"").decode().lstrip()
    if head.startswith("[") or (head.startswith("{") and _goes_on(head)):
        yield from _streamed(path, encoding, progress)
        return
    for line, text in lines(path, encoding, progress):
        yield _record(line, text)


def _goes_on(head: str) -> bool:
    """Return whether the first object takes more than its line."""
    first, newline, _ = head.partition("\n")
    if not newline:
        return False
    try:
        json.loads(first)
    except RecursionError:
        return False
    except ValueError:
        # an object that begins on a line and does not end there
        return first.rstrip().endswith(("{", "[", ","))
    return False


def _record(position: int, text: str) -> Record:
    if STRAY in text:
        return Record(position, shown(text), stray_problem(text) or "")
    try:
        return _of_value(position, text, json.loads(text))
    except (ValueError, RecursionError) as error:
        return Record(position, text, f"is not JSON: {error}")


def _of_value(position: int, text: str, value: Any) -> Record:
    if not isinstance(value, dict):
        return Record(position, text, "is no JSON object")
    return Record(position, text, _named(value) if "\\u" in text else value)


def _streamed(path: Path, encoding: str, progress: Progress) -> Iterator[Record]:
    """Yield the values of an array, or of objects one behind the other, over any lines."""
    decoder = json.JSONDecoder()
    text = ""
    number = 0
    opened = False  # whether the bracket of the array was read
    steps = None if is_packed(path) else -(-path.stat().st_size // BLOCK)
    read = progress(pieces(path, encoding), f"reading {path.name}", steps)
    for piece in _and_end(read):
        text += piece.decode()
        position = _skip(text, 0)
        if not opened and text[position : position + 1] == "[":
            opened, position = True, _skip(text, position + 1)
        while position < len(text):
            if opened and text[position] == "]":
                position = _skip(text, position + 1)
                continue
            stop, value, problem = _next_value(decoder, text, position, final=not piece)
            if stop is None:
                break
            number += 1
            raw = text[position:stop].strip()
            if STRAY in raw:
                problem = stray_problem(raw) or problem
            if problem:
                yield Record(number, shown(raw), problem)
            else:
                yield _of_value(number, raw, value)
            position = _skip(text, stop)
        text = text[position:]
        if len(text) > LONGEST:
            raise DataError(
                f"{path}: object {number + 1} is longer than {LONGEST} characters: this is not a"
                " file of rows"
            )


def _and_end(read: Iterable[bytes]) -> Iterator[bytes]:
    """Yield all pieces, then an empty one."""
    yield from (piece for piece in read if piece)
    yield b""


def _skip(text: str, position: int) -> int:
    match = BETWEEN.match(text, position)
    return match.end() if match else position


def _next_value(
    decoder: json.JSONDecoder, text: str, position: int, final: bool
) -> tuple[int | None, Any, str]:
    """Return where the next value ends, the value, and what is wrong with it.

    The end is None where more of the file is needed to tell.
    """
    try:
        value, stop = decoder.raw_decode(text, position)
    except (ValueError, RecursionError) as error:
        wrong = getattr(error, "pos", position)
        match = NEXT_OBJECT.search(text, max(wrong, position + 1) - 1)
        if match is None and not final:
            return None, None, ""
        return match.start() if match else len(text), None, f"is not JSON: {error}"
    if stop == len(text) and not final and not isinstance(value, dict | list):
        return None, None, ""  # the rest of a number may come with the next piece
    return stop, value, ""


def _named(value: dict[str, Any]) -> dict[str, Any] | str:
    """Return the object under names that columns can have, or why it is no row."""
    named = {clean(name): inner for name, inner in value.items()}
    if any("\0" in name for name in named):
        return "holds a name with a zero byte"
    if len(named) != len(value):
        return "holds names that differ only in halves of letters"
    return named


def converted(
    path: Path,
    encoding: str,
    columns: str,
    convert: Callable[[dict[str, Any]], Iterable[Fields | str]],
    needs: tuple[str, ...] = (),
    quiet: bool = False,
) -> Records:
    """Return a table whose rows are made of objects, perhaps several of one.

    An object that lacks one of `needs` is a bad row. `quiet` is for a second table of the same
    file, whose bad lines the first one reports.
    """

    def read(progress: Progress) -> Iterator[Record]:
        for record in objects(path, encoding, progress):
            rows, problem = _converted_rows(record, convert, needs)
            if problem and not quiet:
                yield record._replace(fields=problem)
            for n, fields in enumerate(rows):
                yield Record(nth(record.position, n), record.raw, fields)

    names = tuple(columns.split())
    kinds = tuple("list" if name in {"categories", "items"} else "" for name in names)
    return Records(path, names, read, kinds)


def _converted_rows(
    record: Record,
    convert: Callable[[dict[str, Any]], Iterable[Fields | str]],
    needs: tuple[str, ...],
) -> tuple[list[Fields | str], str]:
    """Return the rows of a record, and why it makes none as a whole."""
    if isinstance(record.fields, str):
        return [], record.fields
    for name in needs:
        if record.fields.get(name) is None:
            return [], f"no {name}"
    try:
        return list(convert(dict(record.fields))), ""
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        return [], f"is not of the expected layout: {type(error).__name__} {error}"


@dataclass(frozen=True)
class JsonLines:
    """A file of objects; its columns are the names of the first ones, dotted ones included."""

    path: Path
    encoding: str
    columns: tuple[str, ...]
    kinds: tuple[str, ...]
    top: tuple[str, ...]
    inner: tuple[str, ...] = field(default=())
    """Dotted names to take out."""
    line: int = 1
    """Line of the first row."""
    notes: tuple[str, ...] = ()
    """Remarks for the report."""

    def asked(self, names: Iterable[str]) -> "JsonLines":
        inner = tuple(name for name in names if name not in self.top)
        return JsonLines(self.path, self.encoding, self.columns, self.kinds, self.top, inner)

    def blocks(self, progress: Progress) -> Iterator[Block]:
        return Records(self.path, self.top + self.inner, self._records).blocks(progress)

    def _records(self, progress: Progress) -> Iterator[Record]:
        for record in objects(self.path, self.encoding, progress):
            if isinstance(record.fields, str) or not self.inner:
                yield record
            else:
                inner = {name: _inside(record.fields, name) for name in self.inner}
                yield record._replace(fields={**record.fields, **inner})


def json_lines(path: Path, encoding: str) -> JsonLines:
    """Return the source of a file of objects. Raises DataError where there is no row."""
    records = first_records(objects(path, encoding, silent), path)
    head = [record.fields for record in records if not isinstance(record.fields, str)]
    kinds: dict[str, str] = {}
    for fields in head:
        for name, value in _walked(fields, ""):
            kinds[name] = kinds.get(name) or _kind(value)
    top = tuple(dict.fromkeys(name for fields in head for name in fields))
    if not top:
        raise DataError(f"{path} holds only empty objects: rows with names are needed")
    few_columns(path, len(top))
    if len(head) == 1:
        _no_envelope(path, head[0])
    columns = tuple(dict.fromkeys((*top, *kinds)))
    return JsonLines(path, encoding, columns, tuple(kinds[name] for name in columns), top)


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return "list"
    return "object" if isinstance(value, dict) else ""


def _no_envelope(path: Path, fields: Fields) -> None:
    """Raise DataError for one object that holds the rows as a list."""
    for name, value in fields.items():
        if isinstance(value, list) and len(value) > 1 and all(isinstance(v, dict) for v in value):
            raise DataError(
                f'{path} is one object whose "{name}" holds a list of rows: write that list alone,'
                " or one object a line"
            )


def _walked(value: Any, before: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield dotted names and values of an object, and of the objects within it."""
    for name, inner in value.items():
        yield before + name, inner
        if isinstance(inner, dict) and depth < 5:
            yield from _walked(inner, f"{before}{name}.", depth + 1)


def _inside(value: Any, name: str) -> Any:
    """Return the value under a dotted name; None where there is none."""
    for step in name.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value
