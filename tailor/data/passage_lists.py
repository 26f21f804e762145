"""Questions with lists of passages, as files hold them: read, checked and written.

A file of documents has `id` and `text` or `title` or both; a file of questions `text`, and
perhaps `id`, `answers` and `candidates`. JSON lines, CSV and Parquet are read. Lists that a program
retrieved beforehand have the form of DPR and Rankify, which is read and written too:

    {"question": "...", "answers": ["..."], "contexts": [{"id": "d1", "text": "...", "score": 7.1}]}
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from tailor.data.dataset import Dataset
from tailor.data.folders import replaced_by
from tailor.data.importers.delimited import ENDINGS, table_source
from tailor.data.importers.json_lines import objects
from tailor.data.importers.packed import inner_name
from tailor.data.importers.reading import LINE
from tailor.errors import DataError, nearest
from tailor.metrics.answers import has_answer
from tailor.progress import silent

ID = ("id", "_id", "doc_id", "docid", "item_id", "query_id", "qid", "request_id")
DOCUMENT_TEXT = ("text", "contents", "content", "passage")
QUESTION_TEXT = ("text", "question", "query")
CONTEXTS = ("contexts", "ctxs")
CANDIDATES = ("candidates", *CONTEXTS, "documents")
RUN_TAG = "tailor"
EVENT_COLUMNS = {"user_id": pl.String, "item_id": pl.String}
MAX_SEARCHED = 10_000  # documents among which the nearest to an unknown id is looked for


@dataclass(frozen=True)
class Passage:
    """A document, or a part of one, in the list of a question."""

    id: str
    text: str
    title: str = ""
    """Title, which is searched and read before the text."""
    score: float | None = None
    """Score of the stage that retrieved it, higher is better; None: only its rank is known."""

    @property
    def whole(self) -> str:
        """Title and text, as they are searched and read."""
        return f"{self.title}. {self.text}" if self.title else self.text


@dataclass(frozen=True)
class PassageList:
    """A question, its passages best first, and its right answers where they are known."""

    question: str
    passages: tuple[Passage, ...] = ()
    """Passages, best first."""
    answers: tuple[str, ...] = ()
    """Right answers, any of which counts; () where they are not known."""
    id: str = ""
    """Id of the question; "" for none."""
    profile: str = ""
    """Description of the user who asks."""
    history: tuple[str, ...] = ()
    """Titles of the user's latest items, oldest first."""
    is_retrieved: bool = False
    """Whether the passages were found for this question; False: they are still to be found."""
    spent: Mapping[str, Any] = field(default_factory=dict)
    """Calls, tokens_in, tokens_out and usd of making the list; no file has them."""

    def reordered(self, order: Sequence[int]) -> "PassageList":
        """Return the list with the passages at these places, best first."""
        return replace(self, passages=tuple(self.passages[doc] for doc in order))


class _Row(NamedTuple):
    """A row of a file, and the place to name in an error."""

    location: str
    fields: Mapping[str, Any]


def read_documents(path: str | Path) -> dict[str, Passage]:
    """Return the documents of a file by their ids, in its order.

    A document without an id has the number of its row. Raises DataError naming file and line for a
    row without text, a repeated id and a broken row.
    """
    documents: dict[str, Passage] = {}
    for number, row in enumerate(_rows(Path(path), "documents"), start=1):
        passage = _passage(row, str(number))
        if passage.id in documents:
            raise DataError(
                f'{row.location}: the id "{passage.id}" stands in an earlier row too: give every'
                " document an id of its own"
            )
        documents[passage.id] = passage
    if not documents:
        raise DataError(f'{path} holds no documents: write lines like {{"id": "d1", "text": "a"}}')
    return documents


def read_questions(
    path: str | Path, documents: Mapping[str, Passage] | None = None
) -> list[PassageList]:
    """Return the questions of a file, with their own candidates where they bring some.

    A candidate is the id of one of the `documents`, or an object with a text. Raises DataError
    naming file and line.
    """
    lists = []
    places: dict[str, str] = {}
    for number, row in enumerate(_rows(Path(path), "questions"), start=1):
        question = _question(row, str(number), documents or {})
        if question.id in places:
            raise DataError(
                f'{row.location}: the id "{question.id}" stands in {places[question.id]} too: give'
                " every question an id of its own"
            )
        places[question.id] = row.location
        lists.append(question)
    if not lists:
        raise DataError(f'{path} holds no questions: write lines like {{"id": "q1", "text": "a"}}')
    return lists


def write_lists(path: str | Path, lists: Sequence[PassageList]) -> None:
    """Write lists as JSON lines; each passage says whether it holds a right answer."""
    lines = [json.dumps(_line(of_question), ensure_ascii=False) for of_question in lists]
    with replaced_by(Path(path)) as aside:
        aside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_run(path: str | Path, lists: Sequence[PassageList], tag: str = RUN_TAG) -> None:
    """Write lists as a TREC run, whose scores fall by rank.

    Raises DataError for an id with a space, which the format has no room for.
    """
    check_run_ids([tag])
    check_run_ids(ids_of(lists))
    lines = []
    for of_question in lists:
        for rank, passage in enumerate(of_question.passages, start=1):
            # equal scores would leave the order to the reader
            score = len(of_question.passages) - rank + 1
            lines.append(f"{of_question.id} Q0 {passage.id} {rank} {score} {tag}\n")
    with replaced_by(Path(path)) as aside:
        aside.write_text("".join(lines), encoding="utf-8")


def ids_of(lists: Iterable[PassageList]) -> Iterator[str]:
    """Yield the ids of questions and of their passages."""
    for of_question in lists:
        yield of_question.id
        yield from (passage.id for passage in of_question.passages)


def check_run_ids(ids: Iterable[str]) -> None:
    """Raise DataError for the first id that a TREC run has no room for."""
    for name in ids:
        if len(name.split()) != 1:
            raise DataError(
                f'the id "{name}" has a space or is empty, and a TREC run has no room for that:'
                " write a file .jsonl"
            )


def documents_as_items(documents: Iterable[Passage]) -> Dataset:
    """Return documents as the items of a data set without events."""
    passages = list(documents)
    items = pl.DataFrame(
        {
            "item_id": [passage.id for passage in passages],
            "title": [passage.title or None for passage in passages],
            "text": [passage.text for passage in passages],
        },
        schema={"item_id": pl.String, "title": pl.String, "text": pl.String},
    )
    return Dataset({"events": pl.DataFrame(schema=EVENT_COLUMNS), "items": items}, "documents")


# --- rows of files


def _rows(path: Path, content: str) -> Iterator[_Row]:
    """Yield the rows of a file; raises DataError for the first one that is broken."""
    kind = ENDINGS.get(Path(inner_name(path)).suffix.lower(), "jsonl")
    if kind == "jsonl":
        for record in objects(path, "utf-8", silent):
            location = f"{path}, line {record.position}"
            if isinstance(record.fields, str):
                raise DataError(f"{location}: {record.fields}: mend or drop this row of {content}")
            yield _Row(location, record.fields)
        return
    for block in table_source(path, content, "utf-8").blocks(silent):
        for bad in block.bad:
            raise DataError(f"{path}, line {bad.line}: {bad.reason}: mend or drop this row")
        for fields in block.rows.iter_rows(named=True):
            yield _Row(f"{path}, line {fields.get(LINE)}", fields)


def _value(row: _Row, names: Sequence[str]) -> Any:
    """Return the first of these fields that says something, None where none does."""
    values = (row.fields.get(name) for name in names)
    return next((value for value in values if value not in (None, "")), None)


def _text(row: _Row, names: Sequence[str], content: str) -> str:
    """Return the text of a row. Raises DataError where it is missing or no string."""
    value = _value(row, names)
    if not isinstance(value, str) or not value.strip():
        hint = nearest(names[0], [name for name in row.fields if name != LINE])
        raise DataError(
            f"{row.location}: the {content} has no text: it needs one of {', '.join(names)}.{hint}"
        )
    return value


def _id(row: _Row, default: str) -> str:
    value = _value(row, ID)
    return default if value is None else str(value)


def _passage(row: _Row, default_id: str) -> Passage:
    title = _value(row, ("title",))
    score = _value(row, ("score",))
    if isinstance(score, str):
        score = _number(row, score)
    is_number = isinstance(score, int | float) and not isinstance(score, bool)
    if score is not None and not (is_number and math.isfinite(score)):
        raise DataError(f"{row.location}: score is {score!r}: write a number, higher is better")
    if title is not None and _value(row, DOCUMENT_TEXT) is None:
        text, title = str(title), None  # a catalogue may have titles only
    else:
        text = _text(row, DOCUMENT_TEXT, "document")
    value = None if score is None else float(score)
    return Passage(_id(row, default_id), text, str(title or ""), value)


def _number(row: _Row, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise DataError(f'{row.location}: score is "{text}": write a number') from None


def _question(row: _Row, default_id: str, documents: Mapping[str, Passage]) -> PassageList:
    question_id = _id(row, default_id)
    candidates = _value(row, CANDIDATES)
    if candidates is not None and not isinstance(candidates, list):
        raise DataError(
            f"{row.location}: candidates are {str(candidates)[:60]!r}: write a list of ids or of"
            ' objects like {"id": "d1", "text": "a"}; CSV has no room for them'
        )
    # an empty list of contexts says that a retriever found nothing
    if candidates == [] and _value(row, CONTEXTS) is None:
        raise DataError(
            f"{row.location}: the list of candidates is empty: drop the row, or leave the list out"
            " to have documents found by their words"
        )
    passages = tuple(
        _candidate(_Row(f"{row.location}, candidate {number}", {}), value, number, documents)
        for number, value in enumerate(candidates or (), start=1)
    )
    repeated = [passage.id for passage in passages]
    if len(set(repeated)) < len(repeated):
        twice = next(name for name in repeated if repeated.count(name) > 1)
        raise DataError(f'{row.location}: the candidate "{twice}" stands twice in the list')
    return PassageList(
        _text(row, QUESTION_TEXT, "question"),
        passages,
        _texts(row, ("answers", "answer")),
        question_id,
        str(_value(row, ("profile",)) or ""),
        _texts(row, ("history",)),
        candidates is not None,
    )


def _candidate(row: _Row, value: Any, number: int, documents: Mapping[str, Passage]) -> Passage:
    if isinstance(value, Mapping):
        document = documents.get(str(_value(_Row(row.location, value), ID)))
        if document is not None and _value(_Row(row.location, value), DOCUMENT_TEXT) is None:
            value = {**value, "text": document.text, "title": document.title}
        return _passage(_Row(row.location, value), str(number))
    name = str(value)
    if name not in documents:
        hint = "" if documents else " Name their file with --docs."
        if 0 < len(documents) <= MAX_SEARCHED:
            hint = nearest(name, documents)
        raise DataError(f'{row.location}: there is no document "{name}".{hint}')
    return documents[name]


def _texts(row: _Row, names: Sequence[str]) -> tuple[str, ...]:
    """Return the texts of a field that holds one text or a list of them."""
    value = _value(row, names)
    if value is None:
        return ()
    values = value if isinstance(value, list) else [value]
    return tuple(str(text) for text in values if text not in (None, ""))


def _line(of_question: PassageList) -> dict[str, Any]:
    contexts = []
    for passage in of_question.passages:
        fields: dict[str, Any] = {"id": passage.id, "text": passage.text}
        if passage.title:
            fields["title"] = passage.title
        if passage.score is not None:
            fields["score"] = passage.score
        if of_question.answers:
            fields["has_answer"] = has_answer(passage.whole, of_question.answers)
        contexts.append(fields)
    line: dict[str, Any] = {"id": of_question.id, "question": of_question.question}
    line |= {"answers": list(of_question.answers), "contexts": contexts}
    if of_question.profile:
        line["profile"] = of_question.profile
    if of_question.history:
        line["history"] = list(of_question.history)
    return line
