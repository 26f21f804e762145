"""The old test collections of the University of Glasgow: Cranfield, CACM and NPL, each in a layout
of its own.

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
    """cran.all.1400, cran.qry, cran.qrels.

    Judgements number the queries 1 to 225 by their place in the file, whatever number stands there.
    Cleverdon's codes run from 1 (a complete answer) to 4 (of minimum interest): the grade is 5 -
    code. The code -1, once a query and explained nowhere, gets grade 0; `code` keeps it
    (docs/log.md says what BM25 makes of these documents). Abstracts begin with the title, as in the
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
    """cacm.all, query.text, qrels.text: 12 of the 64 queries have no judgement."""
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
    """doc-text, query-text, rlv-ass: numbers, then words, then a slash."""
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


def _fields(found: Iterable[Line]) -> Iterator[tuple[int, str, dict[str, str]]]:
    """Line, number and fields (.T, .A, .W ...) of every record that begins with .I; a field met
    again is continued.
    """
    line, number, field, held = 0, "", "", dict[str, list[str]]()
    for at, text in found:
        if start := NUMBERED.match(text):
            if number:
                yield line, number, {name: "\n".join(words) for name, words in held.items()}
            line, number, field, held = at, str(int(start[1])), "", {}
        elif not number:
            raise DataError(
                f"line {at} reads {text[:100]!r}, a record .I NUMBER was expected: is this the"
                " collection's own file?"
            )
        elif mark := FIELD.match(text):
            field = mark[1]
        else:
            held.setdefault(field, []).append(text.strip())
    if number:
        yield line, number, {name: "\n".join(words) for name, words in held.items()}


def _marked(
    found: Iterable[Line], row: Callable[[str, dict[str, str]], Fields]
) -> Iterator[Record]:
    for line, number, fields in _fields(found):
        yield Record(line, f".I {number}", row(number, fields))


def _document(number: str, fields: dict[str, str]) -> Fields:
    title, words = _joined(fields.get("T")), _joined(fields.get("W"))
    made = {
        "item_id": number,
        "title": title,
        "text": words,
        "author": fields.get("A"),
        "source": fields.get("B"),
    }
    return {**made, "keywords": _joined(fields["K"])} if "K" in fields else made


def _query(number: str, fields: dict[str, str]) -> Fields:
    return {
        "request_id": number,
        "text": _joined(fields.get("W")),
        "author": fields.get("A"),
        "note": _joined(fields.get("N")),
    }


def _placed_queries(found: Iterable[Line]) -> Iterator[Record]:
    for n, (line, number, fields) in enumerate(_fields(found), 1):
        yield Record(
            line,
            f".I {number}",
            {"request_id": str(n), "text": _joined(fields.get("W")), "number_in_file": number},
        )


def _cleverdon(found: Iterable[Line]) -> Iterator[Record]:
    for line, text in found:
        fields = text.split()
        if len(fields) != 3 or fields[2] not in {"-1", "1", "2", "3", "4", "5"}:
            yield Record(
                line,
                text,
                "is no judgement: query, document and a code from 1 to 5 or -1 are needed",
            )
            continue
        code = int(fields[2])
        grade = 0 if code == -1 else 5 - code
        yield Record(
            line,
            text,
            {"query_id": fields[0], "item_id": fields[1], "grade": grade, "code": fields[2]},
        )


def _pairs(found: Iterable[Line]) -> Iterator[Record]:
    for line, text in found:
        numbers = text.split()[:2]
        good = len(numbers) == 2 and all(one.isdigit() for one in numbers)
        row = (
            dict(zip(("query_id", "item_id"), (str(int(one)) for one in numbers))) | {"grade": 1}
            if good
            else "is no pair of numbers"
        )
        yield Record(line, text, row)


def _slashed(found: Iterable[Line], names: tuple[str, str]) -> Iterator[Record]:
    for line, number, words in _chunks(found):
        yield Record(line, number, dict(zip(names, (number, _joined(" ".join(words))))))


def _assessed(found: Iterable[Line]) -> Iterator[Record]:
    for line, number, words in _chunks(found):
        for n, document in enumerate(" ".join(words).split()):
            yield Record(
                nth(line, n), number, {"query_id": number, "item_id": document, "grade": 1}
            )


def _chunks(found: Iterable[Line]) -> Iterator[tuple[int, str, list[str]]]:
    """Line, number and lines of what stands before every slash."""
    held: list[Line] = []
    for line, text in found:
        if text.strip() != "/":
            held.append((line, text.strip()))
        elif held:
            yield held[0][0], held[0][1], [words for _, words in held[1:]]
            held = []
    if held:
        yield held[0][0], held[0][1], [words for _, words in held[1:]]


def _joined(text: str | None) -> str | None:
    return " ".join(text.split()) or None if text else None
