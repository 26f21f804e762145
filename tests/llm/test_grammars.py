"""Grammars: what a scripted model writes is read back, with thoughts and without."""

import json

import numpy as np
import pytest

from tailor.llm.grammars import GRADES, GRAMMARS, ORDER, Reasoned

WORTHS = np.array([0.2, 0.9, 0.0, 0.5])


@pytest.mark.parametrize("name", GRAMMARS)
def test_what_is_written_is_read_and_fits_the_schema(name):
    grammar = GRAMMARS[name]
    worths = WORTHS[1:2] if grammar.is_alone else WORTHS
    written = grammar.write(worths)
    reading = grammar.read(written, len(worths))
    assert int(np.argmax(reading.scores)) == int(np.argmax(worths))
    schema = grammar.schema(len(worths))
    assert schema["title"] == name
    assert list(json.loads(written)) == list(schema["properties"])[: len(json.loads(written))]
    assert set(schema["required"]) <= set(schema["properties"])


def test_thoughts_come_first_and_are_words_of_the_best():
    reasoned = Reasoned(ORDER, reason_tokens=100)
    assert next(iter(reasoned.schema(3)["properties"])) == "reason"
    assert reasoned.tokens(3) == 100 + ORDER.tokens(3)
    assert reasoned.labels(3) == () and not reasoned.is_absolute and Reasoned(GRADES).is_absolute
    reading = reasoned.read('{"reason": "[1] and 2 are off", "order": [3, 1, 2]}', 3)
    assert np.argsort(-reading.scores).tolist() == [2, 0, 1]
    assert reading.words == {2: {"reason": "[1] and 2 are off"}}


def test_thoughts_without_an_answer_say_nothing():
    assert Reasoned(ORDER).read('{"reason": "2 is best"}', 3).is_unread
    assert Reasoned(ORDER).read("<think>2 is best", 3).is_unread


def test_grades_by_label_are_read():
    assert GRADES.read('{"[2]": 9, "[1]": 4}', 2).scores.tolist() == [4, 9]
    assert GRADES.read('{"answer": 4}', 2).is_unread
