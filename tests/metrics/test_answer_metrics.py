"""Metrics of short answers, against values worked out by hand."""

import math

import numpy as np
import pytest

from tailor.metrics.answers import (
    answer_words,
    exact_match,
    first_hit,
    has_answer,
    hits_at,
    token_f1,
)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The Tent, a kettle!", ["tent", "kettle"]),
        ("It's 1,200 kg", ["its", "1200", "kg"]),
        ("3.5", ["3", "5"]),
        ("The", ["the"]),
        ("", []),
    ],
)
def test_words_of_an_answer(text, tokens):
    assert answer_words(text) == tokens


@pytest.mark.parametrize(
    ("text", "answer", "is_held"),
    [
        ("They went north.", "no", False),
        ("No, they did not.", "no", True),
        ("It was on 17 May 2023.", "7 May", False),
        ("It was on 7 May, 2023.", "7 May", True),
        ("It was in May, on the 7th.", "7 May", False),
        ("a copper kettle", "the copper kettle", True),
        ("anything", "", False),
        ("", "kettle", False),
    ],
)
def test_an_answer_is_held_as_whole_words_in_a_row(text, answer, is_held):
    assert has_answer(text, [answer]) is is_held
    assert has_answer(text, ["something else", answer]) is is_held


def test_exact_match_takes_the_best_of_several():
    assert exact_match("The red tent.", ["a blue tent", "red tent"]) == 1.0
    assert exact_match("tent red", ["red tent"]) == 0.0
    assert math.isnan(exact_match("red tent", []))


def test_token_f1_by_hand():
    # shared: red, tent; precision 2/3, recall 2/2
    assert token_f1("red tent now", ["the red tent"]) == pytest.approx(0.8)
    # "no" counts once: precision 1/3, recall 1/1
    assert token_f1("no no no", ["no"]) == pytest.approx(0.5)
    assert token_f1("blue", ["red"]) == 0.0
    assert token_f1("", ["red"]) == 0.0
    assert token_f1("!", ["?"]) == 1.0
    assert math.isnan(token_f1("red", []))


def test_first_hits_and_their_depth():
    texts = ["north", "no idea", "no"]
    assert first_hit(texts, ["no"]) == 2
    assert first_hit(texts, ["yes"]) == float("inf")
    values = hits_at([1, 2, float("inf"), float("nan")], 1)
    assert np.array_equal(values, [1, 0, 0, np.nan], equal_nan=True)
