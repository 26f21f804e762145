"""Answers judged by right ones, and passages before and after reranking, by hand."""

import numpy as np
import pytest

from tailor.data.passage_lists import Passage, PassageList
from tailor.errors import DataError
from tailor.evaluation.answers import judge_answers

PASSAGES = (Passage("d1", "They went north."), Passage("d2", "No."), Passage("d3", "red tents"))


def test_figures_by_hand():
    retrieved = [
        PassageList("who?", PASSAGES, ("no",), "q1"),
        PassageList("what?", PASSAGES, ("a red tent", "red tents"), "q2"),
        PassageList("not judged", PASSAGES, (), "q3"),
    ]
    reordered = [retrieved[0].reordered([1, 0, 2]), retrieved[1], retrieved[2]]
    report = judge_answers(["No!", "tents", "x"], retrieved, reordered, k=1)
    assert report.questions == 2
    assert report.values["exact match"].tolist() == [1.0, 0.0]
    assert report.values["token F1"] == pytest.approx(np.array([1.0, 2 / 3]))
    # "no" in "north" is no hit
    assert report.values["hit@1 before"].tolist() == [0.0, 0.0]
    assert report.values["hit@1 after"].tolist() == [1.0, 0.0]
    figure = report.figure("hit@1 after")
    assert (figure.mean, figure.low, figure.high) == (0.5, 0.0, 1.0)
    assert report.to_dict()["figures"]["exact match"]["mean"] == 0.5


def test_lists_of_other_lengths_and_questions_without_answers_are_refused():
    bare = [PassageList("who?", PASSAGES)]
    with pytest.raises(DataError, match="give one each"):
        judge_answers([], bare, bare)
    with pytest.raises(DataError, match="no question has a right answer"):
        judge_answers(["x"], bare, bare)
