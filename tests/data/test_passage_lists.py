"""Files of documents and questions: what is read, what is refused and how, what is written."""

import json

import polars as pl
import pytest

from tailor.data.passage_lists import (
    Passage,
    PassageList,
    read_documents,
    read_questions,
    write_lists,
    write_run,
)
from tailor.errors import DataError
from tailor.evaluation.runs import ExternalRun

DOCUMENTS = {"d1": Passage("d1", "a kettle", "Kettles"), "7": Passage("7", "a tent")}


def file_of(folder, *lines, name="rows.jsonl"):
    path = folder / name
    text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return path


def test_documents_of_lines_tables_and_other_names(tmp_path):
    lines = file_of(
        tmp_path,
        {"id": "d1", "text": "a kettle", "title": "Kettles"},
        {"_id": 7, "contents": "a tent", "title": None},
    )
    assert read_documents(lines) == DOCUMENTS
    csv = file_of(tmp_path, "id,title,text", "d1,Kettles,a kettle", "7,,a tent", name="d.csv")
    assert read_documents(csv) == DOCUMENTS
    parquet = tmp_path / "d.parquet"
    rows = {"doc_id": ["d1", "7"], "text": ["a kettle", "a tent"], "title": ["Kettles", None]}
    pl.DataFrame(rows).write_parquet(parquet)
    assert read_documents(parquet) == DOCUMENTS


def test_documents_without_ids_have_the_numbers_of_their_rows(tmp_path):
    assert list(read_documents(file_of(tmp_path, {"text": "a"}, {"text": "a"}))) == ["1", "2"]


def test_questions_with_candidates_of_their_own(tmp_path):
    path = file_of(
        tmp_path,
        {"id": "q1", "text": "tea", "candidates": ["7", {"id": "x", "text": "a pot", "score": 2}]},
        {"question": "where?", "answers": ["here"], "contexts": [{"id": "d1", "score": 0.5}]},
        {"qid": 9, "query": "who?", "profile": "likes tea", "history": ["a cup"], "answer": 2023},
    )
    first, second, third = read_questions(path, DOCUMENTS)
    assert first.passages == (DOCUMENTS["7"], Passage("x", "a pot", "", 2.0)) and first.is_retrieved
    assert second.passages == (Passage("d1", "a kettle", "Kettles", 0.5),)
    assert (second.id, second.answers) == ("2", ("here",))
    assert (third.id, third.question, third.answers) == ("9", "who?", ("2023",))
    assert (third.profile, third.history, third.is_retrieved) == ("likes tea", ("a cup",), False)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"id": "a", "txt": "x"}', "line 2: the document has no text: it needs one of text"),
        ('{"id": "a", "text": 5}', "line 2: the document has no text"),
        ('{"id": "a", "text": "  "}', "line 2: the document has no text"),
        ('{"id": "d1", "text": "x"}', 'line 2: the id "d1" stands in an earlier row'),
        ('{"id": "a", "text": "x"', "line 2: is not JSON"),
        ("[1]", "line 2: is no JSON object"),
        ('{"id": "a", "text": "x", "score": "high"}', 'line 2: score is "high": write a number'),
        ('{"id": "a", "text": "x", "score": [1]}', "line 2: score is [1]: write a number"),
    ],
)
def test_a_bad_document_is_named_with_file_and_line(tmp_path, line, says):
    path = file_of(tmp_path, {"id": "d1", "text": "a"}, line)
    with pytest.raises(DataError) as error:
        read_documents(path)
    assert str(path) in str(error.value) and says in str(error.value)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"text": "a", "candidates": "d1"}', "write a list of ids"),
        ('{"text": "a", "candidates": ["d2"]}', 'there is no document "d2". Known: 7, d1.'),
        ('{"text": "a", "candidates": [{"id": "d9"}]}', "candidate 1: the document has no text"),
        ('{"text": "a", "candidates": ["d1", "d1"]}', 'the candidate "d1" stands twice'),
        ('{"id": "q1", "text": "a"}', 'the id "q1" stands in'),
        ('{"candidates": ["d1"]}', "the question has no text"),
        ('{"text": "a", "candidates": []}', "the list of candidates is empty"),
        ('{"text": "a", "candidates": [{"text": "b", "score": NaN}]}', "score is nan"),
        ('{"text": "a", "candidates": [{"text": "b", "score": "inf"}]}', "score is inf"),
    ],
)
def test_a_bad_question_is_named_with_file_and_line(tmp_path, line, says):
    path = file_of(tmp_path, {"id": "q1", "text": "a"}, line)
    with pytest.raises(DataError) as error:
        read_questions(path, DOCUMENTS)
    assert f"{path}, line 2" in str(error.value) and says in str(error.value)


def test_candidates_by_id_need_documents(tmp_path):
    with pytest.raises(DataError, match="Name their file with --docs"):
        read_questions(file_of(tmp_path, {"text": "a", "candidates": ["d1"]}))


@pytest.mark.parametrize("read", [read_documents, read_questions])
def test_missing_and_empty_files_are_refused(tmp_path, read):
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="is empty"):
        read(tmp_path / "empty.jsonl")
    with pytest.raises(DataError, match="holds no"):
        read(file_of(tmp_path, "", ""))


def test_lists_are_written_as_they_are_read(tmp_path):
    lists = [
        PassageList(
            "who?",
            (Passage("d1", "They went north.", "", 2.5), Passage("d2", "No.", "A title")),
            ("no",),
            "q1",
            "likes tea",
            ("a cup",),
            True,
        ),
        PassageList("nothing", (), (), "q2", is_retrieved=True),
    ]
    path = tmp_path / "lists.jsonl"
    write_lists(path, lists)
    assert read_questions(path) == lists
    first = json.loads(path.read_text().splitlines()[0])
    # "no" is no part of "north"
    assert [context["has_answer"] for context in first["contexts"]] == [False, True]


def test_a_run_is_read_back_in_its_order(tmp_path):
    # the order counts, whatever the scores of the first stage were
    passages = (Passage("d2", "x", score=0.5), Passage("d1", "y", score=1.0))
    write_run(tmp_path / "lists.run", [PassageList("who?", passages, id="q1")])
    table = ExternalRun.read(tmp_path / "lists.run").table.sort("score", descending=True)
    assert table["item_id"].to_list() == ["d2", "d1"] and table["user_id"].to_list() == ["q1"] * 2
    with pytest.raises(DataError, match='the id "d 1" has a space'):
        write_run(tmp_path / "x.run", [PassageList("who?", (Passage("d 1", "y"),), id="q1")])
    assert not (tmp_path / "x.run").exists()
