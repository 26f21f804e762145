"""Collections of documents with judged queries: BEIR's folders; topics, qrels, runs of TREC.

Documents are items, queries are requests (request_id is the query's id), judgements name both.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tailor.data.importers.json_lines import converted
from tailor.data.importers.packed import inner_name
from tailor.data.importers.sources import Fields, Record, Records, Source, lines, together
from tailor.errors import DataError
from tailor.progress import Progress, silent

RUN, QRELS, PAIR = 6, 4, 2  # fields of a line of a run, of judgements, of a topic
RowOf = Callable[[str], "Fields | str"]
ITEM_FILES = ("collection", "corpus", "documents", "docs")  # words in names of files of documents
NAMES = ("query-id", "corpus-id", "score")  # columns of BEIR's judgements
IDS = ("_id", "id", "qid", "query_id", "docid", "number")


def beir(src: Path, encoding: str) -> dict[str, Source]:
    """Return the tables of corpus.jsonl, queries.jsonl and qrels/*.tsv.

    `part` of a judgement is the part (train, dev, test) it comes from.
    """
    corpus = _file_of(src, "corpus")
    queries = _file_of(src, "queries")
    tables: dict[str, Source] = {}
    if corpus:
        tables["items"] = converted(corpus, encoding, "item_id title text", _document, ("_id",))
    if queries:
        tables["requests"] = converted(queries, encoding, "request_id text", _query, ("_id",))
    qrels = [
        path for path in sorted((src / "qrels").glob("*")) if inner_name(path).endswith(".tsv")
    ]
    if not qrels:
        raise DataError(
            f"{src}/qrels holds no .tsv file: name the folder of a BEIR set (corpus.jsonl,"
            " queries.jsonl, qrels/)"
        )
    tables["judgements"] = together(src / "qrels", [_tsv(path, encoding) for path in qrels])
    return tables


def trec(src: Path, encoding: str) -> dict[str, Source]:
    """Return the tables of a folder of files, told apart by their lines, or of one file.

    "qid 0 docid grade" are judgements, "qid Q0 docid rank score tag" a run (candidates),
    "id<TAB>text" or JSON topics (requests); a file called collection, corpus or documents holds
    "id<TAB>text" of items. JSON lines with "query" and "hits", as rerankers take them, are
    requests, items and candidates at once.
    """
    files = [src]
    if src.is_dir():
        inside = [path for path in src.iterdir() if path.is_file()]
        files = sorted(path for path in inside if not path.name.startswith("."))
    by_table: dict[str, list[Source]] = {}
    for path in files:
        for table, source in _recognised(path, encoding).items():
            by_table.setdefault(table, []).append(source)
    if not by_table:
        raise DataError(f"{src} holds no files: topics, qrels and runs are needed")
    return {table: together(src, sources) for table, sources in by_table.items()}


def _recognised(path: Path, encoding: str) -> dict[str, Source]:
    """Return the tables of one file, by its first line and its name."""
    first = next((text for _, text in lines(path, encoding, silent)), "")
    of_items = any(word in path.name.lower() for word in ITEM_FILES)
    table = "items" if of_items else "requests"
    fields = first.split()
    if first.lstrip().startswith("{") and '"hits"' in first:
        return {
            "requests": converted(path, encoding, "request_id text", _asked, ("query", "hits")),
            "items": _passages(path, encoding),
            "candidates": converted(
                path, encoding, "query_id item_id rank score", _hits, ("query", "hits"), quiet=True
            ),
        }
    if first.lstrip().startswith("{"):
        if of_items:
            return {table: converted(path, encoding, "item_id title text", _document)}
        return {table: converted(path, encoding, "request_id text", _query)}
    if len(fields) == RUN and _is_number(fields[3]) and _is_number(fields[4]):
        return {"candidates": _by_line(path, encoding, "query_id item_id rank score tag", _run)}
    if len(fields) == QRELS and _is_number(fields[3]):
        return {"judgements": _by_line(path, encoding, "query_id item_id grade", _judgement)}
    if "\t" in first:
        if of_items:
            return {table: _by_line(path, encoding, "item_id text", _item)}
        return {table: _by_line(path, encoding, "request_id text", _topic)}
    raise DataError(
        f"{path} is of no layout of TREC known here; its first line reads {first[:200]!r}: topics"
        " are id<TAB>text or JSON, judgements qid 0 docid grade, runs qid Q0 docid rank score tag"
    )


def _asked(record: dict[str, Any]) -> Iterator[Fields]:
    if record["hits"]:
        yield {"request_id": str(record["hits"][0]["qid"]), "text": record["query"]}


def _hits(record: dict[str, Any]) -> Iterator[Fields]:
    for n, hit in enumerate(record["hits"], 1):
        yield {
            "query_id": str(hit["qid"]),
            "item_id": str(hit["docid"]),
            "rank": hit.get("rank", n),
            "score": hit.get("score"),
        }


def _passages(path: Path, encoding: str) -> Records:
    """Return the texts of all hits; a passage that several queries found, once."""

    def read(progress: Progress) -> Iterator[Record]:
        seen: set[str] = set()

        def texts(record: dict[str, Any]) -> Iterator[Fields]:
            for hit in record["hits"]:
                if str(hit["docid"]) not in seen:
                    seen.add(str(hit["docid"]))
                    yield {"item_id": str(hit["docid"]), "text": hit["content"]}

        yield from converted(
            path, encoding, "item_id text", texts, ("query", "hits"), quiet=True
        ).read(progress)

    return Records(path, ("item_id", "text"), read)


def _by_line(path: Path, encoding: str, columns: str, row: RowOf) -> Records:
    def read(progress: Progress) -> Iterator[Record]:
        for line, text in lines(path, encoding, progress):
            yield Record(line, text, row(text))

    return Records(path, tuple(columns.split()), read)


def _judgement(text: str) -> Fields | str:
    fields = text.split()
    if len(fields) != QRELS:
        return f"wrong number of fields: {len(fields)} instead of {QRELS} (qid 0 docid grade)"
    return {"query_id": fields[0], "item_id": fields[2], "grade": fields[3]}


def _run(text: str) -> Fields | str:
    fields = text.split()
    if len(fields) != RUN:
        return (
            f"wrong number of fields: {len(fields)} instead of {RUN} (qid Q0 docid rank score tag)"
        )
    return {
        "query_id": fields[0],
        "item_id": fields[2],
        "rank": fields[3],
        "score": fields[4],
        "tag": fields[5],
    }


def _topic(text: str) -> Fields | str:
    query_id, tab, words = text.partition("\t")
    return {"request_id": query_id, "text": words} if tab else "no tab between id and text"


def _item(text: str) -> Fields | str:
    item_id, tab, words = text.partition("\t")
    return {"item_id": item_id, "text": words} if tab else "no tab between id and text"


def _tsv(path: Path, encoding: str) -> Source:
    """Return judgements of BEIR, with a header (query-id, corpus-id, score) or without.

    `part` is the name of the file.
    """
    part = inner_name(path).removesuffix(".tsv")
    first = next((text.split("\t") for _, text in lines(path, encoding, silent)), list(NAMES))
    headed = not _is_number(first[-1])
    places = _places(path, first, headed)

    def read(progress: Progress) -> Iterator[Record]:
        for n, (line, text) in enumerate(lines(path, encoding, progress)):
            fields = text.split("\t")
            if headed and n == 0:
                continue
            if len(fields) != len(first):
                reason = f"wrong number of fields: {len(fields)} instead of {len(first)}"
                yield Record(line, text, reason)
                continue
            values = [fields[position] for position in places]
            row = dict(zip(("query_id", "item_id", "grade"), values))
            yield Record(line, text, {**row, "part": part})

    return Records(path, ("query_id", "item_id", "grade", "part"), read, line=2 if headed else 1)


def _places(path: Path, first: list[str], headed: bool) -> list[int]:
    """Return where query, document and grade stand in a line of judgements."""
    if headed:
        lacking = [name for name in NAMES if name not in first]
        if lacking:
            raise DataError(
                f"{path} has no column {lacking[0]}, it has {', '.join(first)}: BEIR's are"
                f" {', '.join(NAMES)}"
            )
        places = [first.index(name) for name in NAMES]
    else:
        places = [0, len(first) - 2, len(first) - 1]  # the 0 of TREC may stand between
    if places[1] < 1:
        raise DataError(
            f"{path}: its first line reads {first!r}: query, document and grade with tabs between"
            " are needed"
        )
    return places


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _file_of(src: Path, name: str) -> Path | None:
    """Return the file of a table, perhaps packed; None where it is not there."""
    if not src.is_dir():
        raise DataError(
            f"{src} is no folder: name the folder of corpus.jsonl, queries.jsonl and qrels/"
        )
    paths = [src / f"{name}.jsonl{ending}" for ending in ("", ".gz", ".zip")]
    return next((path for path in paths if path.exists()), None)


def _document(record: dict[str, Any]) -> Iterator[Fields]:
    yield {
        "item_id": _id(record),
        "title": record.get("title"),
        "text": record.get("text") or record.get("contents"),
        "metadata": _metadata(record),
    }


def _query(record: dict[str, Any]) -> Iterator[Fields]:
    words = record.get("text") or record.get("query") or record.get("title")
    yield {"request_id": _id(record), "text": words, "metadata": _metadata(record)}


def _metadata(record: dict[str, Any]) -> str | None:
    metadata = record.get("metadata")
    return json.dumps(metadata, ensure_ascii=False) if metadata else None


def _id(record: dict[str, Any]) -> Any:
    """Return the id of a document or query, whatever its name."""
    values = [record[name] for name in IDS if record.get(name) is not None]
    return values[0] if values else None
