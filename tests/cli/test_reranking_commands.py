"""`tailor rerank` and `tailor answer`: what they print and write, and what they refuse."""

import json
import re

import pytest
from running import fails, ok

from tailor.data.passage_lists import read_questions
from tailor.data.splits import last_out
from tailor.evaluation.runs import ExternalRun
from tailor.llm.scripted import ScriptedModel
from tailor.papers.reranking.rankify import Rankify
from tailor.testing.data import tiny_data

DOCUMENTS = [
    {"id": "d1", "text": "A copper kettle boils water.", "title": "Kettles"},
    {"id": "d2", "text": "How to tie a rope: make a loop. Then pull it tight."},
    {"id": "d3", "text": "Ropes and knots of the sea."},
    {"id": "d4", "text": "The tent weighs 3.5 kg. It sleeps two."},
]
QUESTIONS = [
    {"id": "q1", "text": "tie a rope"},
    {"id": "q2", "question": "how heavy is the tent?", "answers": ["3.5 kg"]},
]
JUDGE = """
class = "LLMReranker"
strategy = "yes-no"
[llm]
class = "llm.metered.Metered"
usd_per_million_in = 1000.0
usd_per_million_out = 1000.0
[llm.inner]
class = "llm.scripted.ScriptedModel"
knows = {"knots" = 1.0, "3.5 kg" = 1.0}
"""
HASHING = 'encoder={class="text.hashing.HashingEncoder"}'


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "d.jsonl", DOCUMENTS)
    write(tmp_path / "q.jsonl", QUESTIONS)
    (tmp_path / "judge.toml").write_text(JUDGE)
    return tmp_path


def write(path, rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def files(folder):
    return ("--docs", folder / "d.jsonl", "--queries", folder / "q.jsonl")


def test_documents_are_ordered_and_shown(folder):
    out = ok("rerank", *files(folder), "--method", folder / "judge.toml", "-k", 2)
    lines = [re.split(r"\s{2,}", line.strip()) for line in out.splitlines()]
    assert ["1", "d3", "Ropes and knots of the sea.", "1.0000", "2", "ranked"] in lines
    assert "q2: how heavy is the tent?" in out and "Kettles. A copper" not in out
    assert "2 questions" in out and "8 calls of a language model" in out and "usd per 1,000" in out


def test_any_reranker_is_named_by_class_with_its_settings(folder):
    out = ok("rerank", *files(folder), "--method", "E2Rank", "--set", HASHING, "--json")
    answer = json.loads(out)
    assert answer["method"] == "E2Rank" and answer["spent"]["calls"] == 0
    first, second = answer["queries"]
    assert next(row["id"] for row in second["documents"]) == "d4"
    assert sorted(row["prior_rank"] for row in first["documents"]) == [1, 2, 3, 4]
    assert first["documents"][0]["details"]["feedback"] > 0 and "trace" not in first


def test_one_question_is_ordered_by_a_catalogue(folder):
    (folder / "items.csv").write_text("item_id,title,price\nx,red kettle,5\ny,knots,9\n")
    out = ok("rerank", "kettle", "--docs", folder / "items.csv", "--method", folder / "judge.toml")
    assert re.search(r"1\s+y\s+knots\s", out) and "1: kettle" in out


def test_reasons_are_shown(folder):
    out = ok("rerank", *files(folder), "--method", "PrismReranker", "--set", HASHING)
    assert re.search(r"1\s+d2 .*ranked\s+Names tie, rope\.", out)


def test_a_fitted_model_is_named_by_its_folder(folder):
    data = tiny_data()
    data.save(folder / "data")
    last_out(data).save(folder / "split", folder / "data")
    fit = folder / "rerank.toml"
    fit.write_text('class = "E2Rank"\n[encoder]\nclass = "text.hashing.HashingEncoder"\n')
    ok("fit", fit, "--split", folder / "split", "--out", folder / "model")
    fitted = json.loads(ok("rerank", *files(folder), "--method", folder / "model", "--json"))
    fresh = json.loads(ok("rerank", *files(folder), "--method", fit, "--json"))
    assert fitted["queries"] == fresh["queries"]
    says = fails("rerank", *files(folder), "--method", folder / "model", "--set", "depth=5")
    assert "is fitted already" in says


def test_a_reranker_that_must_learn_first_names_the_command(folder):
    says = fails("rerank", *files(folder), "--method", "RankR1Student", "--set", HASHING)
    assert "tailor fit RankR1Student" in says


@pytest.mark.parametrize("name", ["out.run", "out.trec"])
def test_a_trec_run_is_written(folder, name):
    out = folder / name
    ok("rerank", *files(folder), "--method", folder / "judge.toml", "--out", out, "-k", 3)
    table = ExternalRun.read(out).table
    assert (
        table.filter(table["user_id"] == "q2").sort("score", descending=True)["item_id"][0] == "d4"
    )
    assert len(table) == 6


def test_lists_are_written_and_read_again(folder):
    out = folder / "out.jsonl"
    ok("rerank", *files(folder), "--method", folder / "judge.toml", "--out", out)
    first, second = read_questions(out)
    assert next(passage.id for passage in first.passages) == "d3"
    line = json.loads(out.read_text().splitlines()[1])
    assert [context["has_answer"] for context in line["contexts"]] == [True, False, False, False]
    again = json.loads(ok("rerank", "--queries", out, "--method", folder / "judge.toml", "--json"))
    assert again["queries"][1]["documents"][0]["prior_rank"] == 1
    assert second.answers == ("3.5 kg",)


def test_candidates_of_a_question_are_its_list(folder):
    rows = [{"id": "q1", "text": "rope", "candidates": ["d1", {"id": "x", "text": "knots"}]}]
    write(folder / "q.jsonl", rows)
    answer = json.loads(ok("rerank", *files(folder), "--method", folder / "judge.toml", "--json"))
    assert [row["id"] for row in answer["queries"][0]["documents"]] == ["x", "d1"]


def test_csv_is_read_as_the_import_reads_it(folder):
    (folder / "d.csv").write_text('id;text\nd1;"a kettle;\nnew"\nd2;knots\n', encoding="utf-8")
    (folder / "q.csv").write_text("query_id,text\n007,rope\n", encoding="utf-8")
    answer = json.loads(
        ok(
            *("rerank", "--docs", folder / "d.csv", "--queries", folder / "q.csv"),
            *("--method", folder / "judge.toml", "--json"),
        )
    )
    (query,) = answer["queries"]
    assert query["id"] == "007" and [row["id"] for row in query["documents"]] == ["d2", "d1"]


def test_limits_end_the_calls_and_the_lists_stand(folder):
    command = ("rerank", *files(folder), "--method", folder / "judge.toml", "--json")
    answer = json.loads(ok(*command, "--limits", "calls=3"))
    assert answer["spent"]["calls"] == 3
    statuses = [row["status"] for query in answer["queries"] for row in query["documents"]]
    assert statuses.count("ranked") == 3 and statuses.count("fallback") == 5
    answer = json.loads(ok(*command, "--limits", "usd=0.3", "--limits", "calls=100, seconds=9"))
    assert 0 < answer["spent"]["usd"] <= 0.3
    answer = json.loads(ok(*command, "--limits", "seconds=0"))
    assert answer["spent"]["calls"] == 0 and "time was over" in answer["queries"][0]["notes"][0]


def test_the_trace_shows_prompts_and_answers(folder):
    command = ("rerank", *files(folder), "--method", folder / "judge.toml", "--trace")
    out = ok(*command)
    assert out.count("--- prompt") == 8 and "Request: <<tie a rope>>" in out and '"yes"' in out
    answer = json.loads(ok(*command, "--json"))
    assert answer["queries"][0]["trace"][0]["docs"] == [0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--method", "E2Renk"), 'Did you mean "E2Rank"'),
        (("--method", "EASE"), "EASE is no reranker"),
        (("--method", "LLMReranker", "--set", "windo=5"), 'Did you mean "window"'),
        (("--method", "none.toml"), "there is no pipeline file none.toml"),
        (("--limits", "call=5"), 'Did you mean "calls"'),
        (("--limits", "calls=many"), "write a number, as in calls=20"),
        (("--limits", "seconds=-1"), "must be at least 0"),
        (("-k", "0"), "at least 1 document"),
        (("--depth", "0"), "at least 1 document"),
        (("--out", "lists.csv"), ".run or .trec for a TREC run"),
    ],
)
def test_a_mistake_is_quoted_with_its_remedy(folder, options, says):
    assert says in fails("rerank", *files(folder), *options)


@pytest.mark.parametrize("command", ["rerank", "answer"])
@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("none/lists.run", "there is no folder"),
        ("taken.run", "is a folder"),
        ("lists.run", 'the id "d 2" has a space'),
        ("/proc/lists.jsonl", "cannot be written"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_asked(
    folder, monkeypatch, command, out, says
):
    def refuse(*arguments, **settings):
        raise AssertionError("a model was asked")

    monkeypatch.setattr(ScriptedModel, "complete", refuse)
    write(folder / "d.jsonl", [DOCUMENTS[0], DOCUMENTS[1] | {"id": "d 2"}])
    (folder / "taken.run").mkdir()
    (folder / "rag.toml").write_text(
        'class = "Rankify"\nmanner = "fusion"\n[llm]\nclass = "llm.scripted.ScriptedModel"\n'
    )
    method = folder / ("judge.toml" if command == "rerank" else "rag.toml")
    options = ("--method", method, "--out", folder / out)
    assert says in fails(command, *files(folder), *options)


def test_missing_files_are_named(folder):
    assert "ask one question" in fails("rerank", "--docs", folder / "d.jsonl")
    assert "ask one question" in fails("rerank", "who?", *files(folder))
    assert "name their file (--docs)" in fails("rerank", "--queries", folder / "q.jsonl")
    gone = fails("rerank", "--queries", folder / "gone.jsonl")
    assert "gone.jsonl does not exist" in gone
    (folder / "d.jsonl").write_text('{"id": "d1", "text": "a"}\n{"id": "d2"}\n')
    assert "d.jsonl, line 2: the document has no text" in fails("rerank", *files(folder))


# --- answers


def test_questions_are_answered_with_passages_and_figures(folder):
    out = ok("answer", *files(folder))
    assert "The tent weighs 3.5 kg." in out and re.search(r"d4\s+The tent weighs", out)
    assert "Questions with right answers: 1" in out and re.search(r"hit@10 after\s+1\.0000", out)
    answer = json.loads(ok("answer", *files(folder), "--json"))
    assert answer["answers"][1]["item_ids"] == ["d4"]
    assert answer["figures"]["figures"]["token F1"]["mean"] == pytest.approx(0.75)


def test_one_question_is_asked_on_the_command_line(folder):
    out = ok("answer", "how heavy is the tent?", "--docs", folder / "d.jsonl")
    assert "3.5 kg" in out and "right answers" not in out


def test_a_model_answers_in_a_manner_and_its_calls_are_counted(folder):
    (folder / "rag.toml").write_text(
        'class = "Rankify"\nmanner = "fusion"\nread = 2\n[llm]\n'
        'class = "llm.scripted.ScriptedModel"\nreply = \'{"answer": "3.5 kg", "passages": [1]}\'\n'
        f"[reranker]\n{JUDGE.split('[llm]', maxsplit=1)[0]}[reranker.llm]\n"
        'class = "llm.scripted.ScriptedModel"\nknows = {"3.5 kg" = 1.0}\n'
    )
    answer = json.loads(
        ok(
            "answer",
            *files(folder),
            "--method",
            folder / "rag.toml",
            "--json",
            "--out",
            folder / "o.jsonl",
        )
    )
    # one passage has words of q2, two have some of q1: each is judged, and each is read
    assert answer["spent"]["calls"] == 3 + 3
    assert answer["figures"]["figures"]["exact match"]["mean"] == 1.0
    assert [len(of_query.passages) for of_query in read_questions(folder / "o.jsonl")] == [2, 1]


def test_lists_that_were_retrieved_before_need_no_documents(folder):
    contexts = [{"id": "x", "text": "The tent weighs 9 kg."}]
    write(folder / "q.jsonl", [{"question": "how heavy is the tent?", "contexts": contexts}])
    answer = json.loads(ok("answer", "--queries", folder / "q.jsonl", "--json"))
    assert answer["answers"][0]["text"] == "The tent weighs 9 kg."


def test_a_fitted_answerer_needs_no_documents(folder):
    Rankify().fit(tiny_data()).save(folder / "model")
    answer = json.loads(ok("answer", "copper stove", "--method", folder / "model", "--json"))
    assert answer["answers"][0]["item_ids"][0].startswith("thing-")
    docs = ("--docs", folder / "d.jsonl")
    assert "leave out --docs" in fails("answer", "copper", "--method", folder / "model", *docs)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "ask one question"),
        (("who?", "--queries", "q.jsonl"), "ask one question"),
        (("who?",), "there is nothing to answer from"),
        ((" ", "--docs", "d.jsonl"), "the question is empty"),
        (("who?", "--docs", "d.jsonl", "--method", "E2Rank"), "answers no questions"),
        (("who?", "--docs", "d.jsonl", "-k", "0"), "at least 1 passage"),
        (("who?", "--docs", "d.jsonl", "--set", "manner=guess"), "manner"),
        (("who?", "--docs", "d.jsonl", "--out", "x.csv"), "the ending says"),
    ],
)
def test_a_mistake_in_asking_is_quoted(folder, monkeypatch, words, says):
    monkeypatch.chdir(folder)
    assert says in fails("answer", *words)
