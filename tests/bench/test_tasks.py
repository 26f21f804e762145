"""Suites of other tasks than recommending, and the study that makes every card again."""

import os

import pytest

from tailor.bench.cards import cards_in, report_of, run_suite
from tailor.bench.leaderboard import boards
from tailor.bench.suites import read_suite
from tailor.bench.verifying import verify
from tailor.core.run import Run
from tailor.errors import DataError
from tailor.papers.evaluation.bars import OpenBenchmark
from tailor.ranking.logistic_regression import LogisticRegression
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.testing.data import tiny_data

CTR = """
about = "planted"
seeds = [0]
baseline = "LR"
[data]
world = "crossed"
events = 2_000
users = 100
items = 30
[split]
by = "time"
[methods.LR]
class = "LogisticRegression"
source = "label"
label = "liked"
epochs = 2
[methods.FM]
class = "FactorizationMachine"
source = "label"
label = "liked"
epochs = 2
"""


def test_predictors_have_cards_that_can_be_made_again(tmp_path):
    (tmp_path / "ctr.toml").write_text(CTR)
    cards = run_suite(read_suite(tmp_path / "ctr.toml"), tmp_path / "runs", Run(workers=1))
    assert [card.status for card in cards] == ["done", "done"]
    assert all(verify(card, Run(workers=1)) == [] for card in cards)
    report = report_of(cards[0])
    assert {"user AUC", "log loss", "Brier"} == set(report.metrics) and "events, 1 where" in (
        cards[0].folder / "README.md"
    ).read_text()
    assert "LR,given,AUC," in (cards[0].folder / "results.csv").read_text()
    (board,) = boards(cards_in(tmp_path / "runs"), "LR")
    assert {test.b for test in board.tests} == {"FM"}


def test_a_judged_collection_is_a_suite(tmp_path, monkeypatch):
    (tmp_path / "qrels.txt").write_text("q1 0 d1 1\nq1 0 d2 0\n")
    (tmp_path / "lists.jsonl").write_text(
        '{"query": "red tent", "hits": [{"qid": "q1", "docid": "d2", "rank": 1, "score": 2.0,'
        ' "content": "blue kettle"}, {"qid": "q1", "docid": "d1", "rank": 2, "score": 1.0,'
        ' "content": "a red tent"}]}\n'
    )
    (tmp_path / "other.txt").write_text("not of the collection\n")
    (tmp_path / "judged.toml").write_text("""
[data]
import = ["lists.jsonl", "qrels.txt"]
format = "trec"
name = "two"
[split]
by = "judgements"
among = "candidates"
[protocol]
k = [1]
metrics = ["NDCG"]
[methods.given]
class = "AsGiven"
[methods.words]
class = "TextMatch"
""")
    monkeypatch.setenv("TAILOR_DATA", str(tmp_path))
    cards = run_suite(read_suite(tmp_path / "judged.toml"), tmp_path / "runs", Run(workers=1))
    means = {card.label: report_of(card).mean(card.label, "NDCG@1", "given") for card in cards}
    assert means == {"given": 0.0, "words": 1.0}
    assert all(verify(card, Run(workers=1)) == [] for card in cards)
    assert "judged collection" in (cards[0].folder / "README.md").read_text()
    (tmp_path / "judged.toml").write_text(
        (tmp_path / "judged.toml").read_text().replace("among =", "amongst =")
    )
    with pytest.raises(DataError, match="amongst"):
        run_suite(read_suite(tmp_path / "judged.toml"), tmp_path / "more", Run(workers=1))


def test_the_study_makes_every_card_again_and_names_what_changed(tmp_path):
    study = OpenBenchmark(seeds=(0, 1), k=(5,), out=str(tmp_path))
    found = study.run(
        tiny_data(), {"popular": Popularity(), "visits": CoVisitation()}, Run(workers=1)
    )
    assert (
        found.holds
        and len(found.cards) == 4
        and {row.method for row in found.boards[0].rows} == {"popular", "visits"}
    )
    path = found.cards[0].folder / "results.csv"
    os.chmod(path, 0o644)
    path.write_text(path.read_text().replace("NDCG", "NDCC"))
    assert any("results.csv" in line for line in verify(found.cards[0]))
    with pytest.raises(DataError, match="all recommend, or all predict"):
        study.run(tiny_data(), {"popular": Popularity(), "LR": LogisticRegression()}, Run())
