"""The test collections of the University of Glasgow: Cranfield, CACM, NPL, each in its layout.

Documents become items, queries requests, judgements judgements with higher grades for better
documents.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from tailor.data.importers.reading import text_file
from tailor.data.importers.sources import Fields, Record, Records, Source, lines, nth
from tailor.errors import DataError
from tailor.progress import Progress

DOCUMENT = ("item_id", "title", "text", "author", "source")
FIELD = re.compile(r"\.([A-Z])\s*$")
NUMBERED = re.compile(r"\.I\s+(\d+)\s*$")
Line = tuple[int, str]
Rows = Callable[[Iterable[Line]], Iterator[Record]]


def cranfield(src: Path, encoding: str) -> dict[str, Source]:
    """Return the tables of cran.all.1400, cran.qry and cran.qrels.

    Judgements number the queries 1 to 225 by their position in the file, whatever number stands
    there. Cleverdon's codes run from 1 (a complete answer) to 4 (of minimum interest): the grade is
    5 - code. The code -1, once a query and explained nowhere, gets grade 0; `code` keeps it
    (docs/log.md has BM25's scores of these documents). Abstracts begin with the title, as in the
    file.
    """
    return {
        "items": _records(
            src / "cran.all.1400", encoding, DOCUMENT, partial(_marked, row=_document)
        ),
        "requests": _records(
            src / "cran.qry", encoding, ("request_id", "text", "number_in_file"), _placed_queries
        ),
        "judgements": _records(
            src / "cran.qrels", encoding, ("query_id", "item_id", "grade", "code"), _cleverdon
        ),
    }


def cacm(src: Path, encoding: str) -> dict[str, Source]:
    """Return the tables of cacm.all, query.text and qrels.text.

    12 of the 64 queries have no judgement.
    """
    return {
        "items": _records(
            src / "cacm.all", encoding, (*DOCUMENT, "keywords"), partial(_marked, row=_document)
        ),
        "requests": _records(
            src / "query.text",
            encoding,
            ("request_id", "text", "author", "note"),
            partial(_marked, row=_query),
        ),
        "judgements": _records(
            src / "qrels.text", encoding, ("query_id", "item_id", "grade"), _pairs
        ),
    }


def npl(src: Path, encoding: str) -> dict[str, Source]:
    """Return the tables of doc-text, query-text and rlv-ass: numbers, words, a slash."""
    return {
        "items": _records(
            src / "doc-text",
            encoding,
            ("item_id", "text"),
            partial(_slashed, names=("item_id", "text")),
        ),
        "requests": _records(
            src / "query-text",
            encoding,
            ("request_id", "text"),
            partial(_slashed, names=("request_id", "text")),
        ),
        "judgements": _records(
            src / "rlv-ass", encoding, ("query_id", "item_id", "grade"), _assessed
        ),
    }


def _records(path: Path, encoding: str, columns: tuple[str, ...], rows: Rows) -> Records:
    text_file(path, "this collection")  # before the first table is read, not after it

    def read(progress: Progress) -> Iterator[Record]:
        return rows(lines(path, encoding, progress))

    return Records(path, columns, read)


def _fields(text_lines: Iterable[Line]) -> Iterator[tuple[int, str, dict[str, str]]]:
    """Yield line, number and fields (.T, .A, .W ...) of every record that begins with .I.

    A field that comes again is continued.
    """
    first_line = 0
    number = field = ""
    fields: dict[str, list[str]] = {}
    for line, text in text_lines:
        start, mark = NUMBERED.match(text), FIELD.match(text)
        if start:
            if number:
                yield first_line, number, _texts(fields)
            first_line, number, field, fields = line, str(int(start[1])), "", {}
        elif not number:
            raise DataError(
                f"line {line} reads {text[:100]!r}, a record .I NUMBER was expected: is this the"
                " collection's own file?"
            )
        elif mark:
            field = mark[1]
        else:
            fields.setdefault(field, []).append(text.strip())
    if number:
        yield first_line, number, _texts(fields)


def _texts(fields: dict[str, list[str]]) -> dict[str, str]:
    return {name: "\n".join(words) for name, words in fields.items()}


def _marked(
    text_lines: Iterable[Line], row: Callable[[str, dict[str, str]], Fields]
) -> Iterator[Record]:
    for line, number, fields in _fields(text_lines):
        yield Record(line, f".I {number}", row(number, fields))


def _document(number: str, fields: dict[str, str]) -> Fields:
    row = {
        "item_id": number,
        "title": _joined(fields.get("T")),
        "text": _joined(fields.get("W")),
        "author": fields.get("A"),
        "source": fields.get("B"),
    }
    if "K" in fields:
        row["keywords"] = _joined(fields["K"])
    return row


def _query(number: str, fields: dict[str, str]) -> Fields:
    return {
        "request_id": number,
        "text": _joined(fields.get("W")),
        "author": fields.get("A"),
        "note": _joined(fields.get("N")),
    }


def _placed_queries(text_lines: Iterable[Line]) -> Iterator[Record]:
    for n, (line, number, fields) in enumerate(_fields(text_lines), 1):
        row = {"request_id": str(n), "text": _joined(fields.get("W")), "number_in_file": number}
        yield Record(line, f".I {number}", row)


def _cleverdon(text_lines: Iterable[Line]) -> Iterator[Record]:
    for line, text in text_lines:
        fields = text.split()
        if len(fields) != 3 or fields[2] not in {"-1", "1", "2", "3", "4", "5"}:
            reason = "is no judgement: query, document and a code from 1 to 5 or -1 are needed"
            yield Record(line, text, reason)
            continue
        code = int(fields[2])
        grade = 0 if code == -1 else 5 - code
        row = {"query_id": fields[0], "item_id": fields[1], "grade": grade, "code": fields[2]}
        yield Record(line, text, row)


def _pairs(text_lines: Iterable[Line]) -> Iterator[Record]:
    for line, text in text_lines:
        numbers = text.split()[:2]
        if len(numbers) != 2 or not all(number.isdigit() for number in numbers):
            yield Record(line, text, "is no pair of numbers")
            continue
        query_id, item_id = (str(int(number)) for number in numbers)
        yield Record(line, text, {"query_id": query_id, "item_id": item_id, "grade": 1})


def _slashed(text_lines: Iterable[Line], names: tuple[str, str]) -> Iterator[Record]:
    for line, number, words in _chunks(text_lines):
        yield Record(line, number, dict(zip(names, (number, _joined(" ".join(words))))))


def _assessed(text_lines: Iterable[Line]) -> Iterator[Record]:
    for line, number, words in _chunks(text_lines):
        for n, document in enumerate(" ".join(words).split()):
            row = {"query_id": number, "item_id": document, "grade": 1}
            yield Record(nth(line, n), number, row)


def _chunks(text_lines: Iterable[Line]) -> Iterator[tuple[int, str, list[str]]]:
    """Yield line, number and lines of the text before every slash."""
    chunk: list[Line] = []
    for line, text in text_lines:
        if text.strip() != "/":
            chunk.append((line, text.strip()))
        elif chunk:
            yield chunk[0][0], chunk[0][1], [words for _, words in chunk[1:]]
            chunk = []
    if chunk:
        yield chunk[0][0], chunk[0][1], [words for _, words in chunk[1:]]


def _joined(text: str | None) -> str | None:
    """Return a text with single spaces; None for none."""
    return " ".join((text or "").split()) or None
