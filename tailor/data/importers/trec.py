"""Collections of documents with judged queries: BEIR's folders, and the topics, qrels and runs of
TREC.

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
Made = Callable[[str], "Fields | str"]


def beir(src: Path, encoding: str) -> dict[str, Source]:
    """corpus.jsonl, queries.jsonl, and qrels/*.tsv: the columns of its judgements name the part
    (train, dev, test) they come from.
    """
    corpus, queries = _held(src, "corpus"), _held(src, "queries")
    found: dict[str, Source] = {}
    if corpus:
        found["items"] = converted(corpus, encoding, "item_id title text", _document, ("_id",))
    if queries:
        found["requests"] = converted(queries, encoding, "request_id text", _query, ("_id",))
    qrels = [
        path for path in sorted((src / "qrels").glob("*")) if inner_name(path).endswith(".tsv")
    ]
    if not qrels:
        raise DataError(
            f"{src}/qrels holds no .tsv file: name the folder of a BEIR set (corpus.jsonl,"
            " queries.jsonl, qrels/)"
        )
    found["judgements"] = together(src / "qrels", [_tsv(path, encoding) for path in qrels])
    return found


def trec(src: Path, encoding: str) -> dict[str, Source]:
    """A folder of files told apart by what their lines look like, or one of them.

    "qid 0 docid grade" are judgements, "qid Q0 docid rank score tag" a run (candidates),
    "id<TAB>text" or JSON topics (requests); a file called collection, corpus or documents holds
    "id<TAB>text" of items. JSON lines with "query" and "hits", as rerankers take them, are
    requests, items and candidates at once.
    """
    files = (
        sorted(path for path in src.iterdir() if path.is_file() and not path.name.startswith("."))
        if src.is_dir()
        else [src]
    )
    by_table: dict[str, list[Source]] = {}
    for path in files:
        for table, source in _recognised(path, encoding).items():
            by_table.setdefault(table, []).append(source)
    if not by_table:
        raise DataError(f"{src} holds no files: topics, qrels and runs are needed")
    return {table: together(src, sources) for table, sources in by_table.items()}


def _recognised(path: Path, encoding: str) -> dict[str, Source]:
    first = next((text for _, text in lines(path, encoding, silent)), "")
    of_items = any(
        word in path.name.lower() for word in ("collection", "corpus", "documents", "docs")
    )
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
        return {
            table: converted(
                path,
                encoding,
                "item_id title text" if of_items else "request_id text",
                _document if of_items else _query,
            )
        }
    if len(fields) == RUN and _is_number(fields[3]) and _is_number(fields[4]):
        return {"candidates": _by_line(path, encoding, "query_id item_id rank score tag", _run)}
    if len(fields) == QRELS and _is_number(fields[3]):
        return {"judgements": _by_line(path, encoding, "query_id item_id grade", _judgement)}
    if "\t" in first:
        return {
            table: _by_line(
                path,
                encoding,
                "item_id text" if of_items else "request_id text",
                _item if of_items else _topic,
            )
        }
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
    """The texts of all hits; a passage that several queries found, once."""

    def read(progress: Progress) -> Iterator[Record]:
        told: set[str] = set()

        def texts(record: dict[str, Any]) -> Iterator[Fields]:
            for hit in record["hits"]:
                if str(hit["docid"]) not in told:
                    told.add(str(hit["docid"]))
                    yield {"item_id": str(hit["docid"]), "text": hit["content"]}

        yield from converted(
            path, encoding, "item_id text", texts, ("query", "hits"), quiet=True
        ).read(progress)

    return Records(path, ("item_id", "text"), read)


def _by_line(path: Path, encoding: str, columns: str, made: Made) -> Records:
    def read(progress: Progress) -> Iterator[Record]:
        for line, text in lines(path, encoding, progress):
            yield Record(line, text, made(text))

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
    one, tab, words = text.partition("\t")
    return {"request_id": one, "text": words} if tab else "no tab between id and text"


def _item(text: str) -> Fields | str:
    one, tab, words = text.partition("\t")
    return {"item_id": one, "text": words} if tab else "no tab between id and text"


def _tsv(path: Path, encoding: str) -> Source:
    """Judgements of BEIR, with a header (query-id, corpus-id, score) or without; `part` is the file
    they stand in.
    """
    part, names = inner_name(path).removesuffix(".tsv"), ["query-id", "corpus-id", "score"]
    first = next((text.split("\t") for _, text in lines(path, encoding, silent)), names)
    headed = not _is_number(first[-1])
    if headed and (lacking := [name for name in names if name not in first]):
        raise DataError(
            f"{path} has no column {lacking[0]}, it has {', '.join(first)}: BEIR's are"
            f" {', '.join(names)}"
        )
    # the 0 of TREC may stand between
    at = [first.index(name) for name in names] if headed else [0, len(first) - 2, len(first) - 1]
    if at[1] < 1:
        raise DataError(
            f"{path}: its first line reads {first!r}: query, document and grade with tabs between"
            " are needed"
        )

    def read(progress: Progress) -> Iterator[Record]:
        for n, (line, text) in enumerate(lines(path, encoding, progress)):
            fields = text.split("\t")
            if n or not headed:
                wrong = f"wrong number of fields: {len(fields)} instead of {len(first)}"
                row = (
                    {
                        "query_id": fields[at[0]],
                        "item_id": fields[at[1]],
                        "grade": fields[at[2]],
                        "part": part,
                    }
                    if len(fields) == len(first)
                    else wrong
                )
                yield Record(line, text, row)

    return Records(path, ("query_id", "item_id", "grade", "part"), read, line=2 if headed else 1)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _held(src: Path, name: str) -> Path | None:
    if not src.is_dir():
        raise DataError(
            f"{src} is no folder: name the folder of corpus.jsonl, queries.jsonl and qrels/"
        )
    return next(
        (
            path
            for ending in ("", ".gz", ".zip")
            if (path := src / f"{name}.jsonl{ending}").exists()
        ),
        None,
    )


def _document(record: dict[str, Any]) -> Iterator[Fields]:
    yield {
        "item_id": _identity(record),
        "title": record.get("title"),
        "text": record.get("text") or record.get("contents"),
        "metadata": (
            json.dumps(record["metadata"], ensure_ascii=False) if record.get("metadata") else None
        ),
    }


def _query(record: dict[str, Any]) -> Iterator[Fields]:
    words = record.get("text") or record.get("query") or record.get("title")
    yield {
        "request_id": _identity(record),
        "text": words,
        "metadata": (
            json.dumps(record["metadata"], ensure_ascii=False) if record.get("metadata") else None
        ),
    }


def _identity(record: dict[str, Any]) -> Any:
    return next(
        (
            record[name]
            for name in ("_id", "id", "qid", "query_id", "docid", "number")
            if record.get(name) is not None
        ),
        None,
    )
