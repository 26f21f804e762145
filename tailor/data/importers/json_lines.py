"""JSON Lines: one object a line. What an object holds inside is asked for by dotted names; lists
stay lists where we have lists.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tailor.data.importers.reading import Block, few_columns
from tailor.data.importers.sources import Fields, Record, Records, clean, first_records, lines, nth
from tailor.errors import DataError
from tailor.progress import Progress, silent


def objects(path: Path, encoding: str, progress: Progress) -> Iterator[Record]:
    """Every line of the file as an object, or why it is none."""
    for line, text in lines(path, encoding, progress):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            if line == 1 and text.strip() == "[":
                raise DataError(
                    f"{path} is one JSON array over many lines: write one object a line (JSON"
                    " Lines)"
                ) from None
            yield Record(line, text, f"is not JSON: {error}")
            continue
        if line == 1 and isinstance(value, list):
            raise DataError(f"{path} is one JSON array: write one object a line (JSON Lines)")
        if not isinstance(value, dict):
            yield Record(line, text, "is no JSON object")
        else:
            yield Record(line, text, _named(value) if "\\u" in text else value)


def _named(value: dict[str, Any]) -> dict[str, Any] | str:
    """The object under names that columns can have, or why it is no row."""
    named = {clean(name): one for name, one in value.items()}
    if any("\0" in name for name in named):
        return "holds a name with a zero byte"
    return (
        named if len(named) == len(value) else "holds names that differ only in halves of letters"
    )


def converted(
    path: Path,
    encoding: str,
    columns: str,
    convert: Callable[[dict[str, Any]], Iterable[Fields | str]],
    needs: tuple[str, ...] = (),
    quiet: bool = False,
) -> Records:
    """A table whose rows are made of objects, several of one perhaps; an object that lacks one of
    `needs` is a bad row.

    `quiet` for a second table of the same file, whose bad lines the first one tells.
    """

    def read(progress: Progress) -> Iterator[Record]:
        for record in objects(path, encoding, progress):
            lacks = (
                ""
                if isinstance(record.fields, str)
                else next((name for name in needs if record.fields.get(name) is None), "")
            )
            if isinstance(record.fields, str) or lacks:
                if not quiet:
                    yield record._replace(fields=f"no {lacks}") if lacks else record
                continue
            try:
                rows = list(convert(dict(record.fields)))
            except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
                if not quiet:
                    yield record._replace(
                        fields=f"is not of the expected layout: {type(error).__name__} {error}"
                    )
                continue
            for n, fields in enumerate(rows):
                yield Record(nth(record.place, n), record.raw, fields)

    names = tuple(columns.split())
    kinds = tuple("list" if name in {"categories", "items"} else "" for name in names)
    return Records(path, names, read, kinds)


@dataclass(frozen=True)
class JsonLines:
    """A file of objects; `columns` are the names of the first ones, dotted names of what stands
    inside included.
    """

    path: Path
    encoding: str
    columns: tuple[str, ...]
    kinds: tuple[str, ...]
    top: tuple[str, ...]
    inner: tuple[str, ...] = field(default=())
    """Dotted names to take out."""
    line: int = 1
    notes: tuple[str, ...] = ()

    def asked(self, names: Iterable[str]) -> "JsonLines":
        inner = tuple(one for one in names if one not in self.top)
        return JsonLines(self.path, self.encoding, self.columns, self.kinds, self.top, inner)

    def blocks(self, progress: Progress) -> Iterator[Block]:
        def read(progress: Progress) -> Iterator[Record]:
            for record in objects(self.path, self.encoding, progress):
                if isinstance(record.fields, str) or not self.inner:
                    yield record
                else:
                    yield record._replace(
                        fields={
                            **record.fields,
                            **{name: _inside(record.fields, name) for name in self.inner},
                        }
                    )

        return Records(self.path, self.top + self.inner, read).blocks(progress)


def json_lines(path: Path, encoding: str) -> JsonLines:
    head = first_records(objects(path, encoding, silent), path)
    seen: dict[str, str] = {}
    for record in head:
        for name, value in _walked(record.fields, ""):
            seen[name] = seen.get(name) or (
                "list" if isinstance(value, list) else "object" if isinstance(value, dict) else ""
            )
    top = tuple(dict.fromkeys(name for record in head for name in record.fields))
    if not top:
        raise DataError(f"{path} holds only empty objects: rows with names are needed")
    few_columns(path, len(top))
    columns = tuple(dict.fromkeys((*top, *seen)))
    return JsonLines(path, encoding, columns, tuple(seen[name] for name in columns), top)


def _walked(value: Any, before: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        yield before + name, inner
        if isinstance(inner, dict) and depth < 5:
            yield from _walked(inner, f"{before}{name}.", depth + 1)


def _inside(value: Any, name: str) -> Any:
    for step in name.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value
