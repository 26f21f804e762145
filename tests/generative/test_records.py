"""Records and templates: what is read, what is told, and what is never learned from."""

import numpy as np
import pytest

from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError
from tailor.generative.records import (
    ANSWER,
    END,
    ITEM,
    PICTURE,
    SPECIAL,
    Picture,
    Record,
    Task,
    Template,
    TokenRows,
    frequent_words,
)

WORDS = Vocabulary([*SPECIAL, "after", "buys"])


def test_a_template_puts_fields_in_slots_and_marks_the_answer():
    record = Template("After {history}, she buys {answer}").fill({"history": [3, 5]}, [7])
    assert record.parts == ("after", 3, 5, "she", "buys", ANSWER, ITEM, 7)
    assert record.answers == (6, 7)


def test_an_answer_in_words_ends():
    record = Template("{answer}").fill({}, ["so", "good"])
    assert record.parts == (ANSWER, "so", "good", END)
    assert record.answers == (1, 2, 3)


def test_items_of_a_told_field_are_told_but_never_the_first_part():
    template = Template("{history} {answer}")
    assert template.fill({"history": [3, 5]}, spoken=["history"]).answers == (1,)
    assert template.fill({"history": [3, 5]}).answers == ()


def test_a_record_without_answer_ends_with_the_mark():
    assert Template("buys {answer}").fill({}).parts == ("buys", ANSWER)


def test_a_slot_must_be_filled_and_the_answer_comes_last():
    with pytest.raises(DataError, match="nothing fills"):
        Template("{history} {answer}").fill({})
    with pytest.raises(DataError, match="must end with"):
        Template("{answer} after {history}")


def test_texts_cannot_forge_marks():
    record = Template("say <end> <answer> {answer}").fill({}, ["x"])
    assert record.parts == ("say", "end", "answer", ANSWER, "x", END)


def test_the_held_out_template_is_never_drawn():
    task = Task.of("next", "a {answer}", "b {answer}", "c {answer}")
    rng = np.random.default_rng(0)
    assert {task.draw(rng).text for _ in range(50)} == {"a {answer}", "b {answer}"}
    assert task.unseen.text == "c {answer}"
    with pytest.raises(DataError, match="one held out"):
        Task.of("next", "a {answer}")


def test_tokens_number_words_first_and_then_items():
    rows = TokenRows.of([Record(("after", 2, "buys", 0), (1, 3)), Record(("huh",))], WORDS)
    assert rows.tokens[0].tolist() == [4, 8, 5, 6]
    assert rows.tokens[1].tolist() == [0]  # a word that is unknown
    assert rows.is_answer.tolist() == [False, True, False, True, False]


def test_an_unknown_word_is_never_told():
    rows = TokenRows.of([Record(("after", "huh", "buys"), (1, 2))], WORDS)
    assert rows.is_answer.tolist() == [False, False, True]


def test_dropping_spares_answers_marks_and_items():
    record = Record(("after", ANSWER, 1, "buys", "after"), (3,))
    rows = TokenRows.of([record], WORDS)
    is_word = np.array([False] * 4 + [True, True])
    dropped = rows.dropped(0.999, is_word, 0, np.random.default_rng(0))
    assert dropped.tokens[0].tolist() == [0, 1, 7, 5, 0]


def test_a_batch_is_padded_at_the_right():
    rows = TokenRows.of([Record(("after",)), Record(("after", 0), (1,), 4)], WORDS)
    batch = rows.batch(np.array([0, 1]))
    assert batch.tokens.tolist() == [[4, 0], [4, 6]]
    assert batch.is_answer.tolist() == [[False, False], [False, True]]
    assert batch.tasks.tolist() == [0, 4]


def test_frequent_words_come_first():
    assert frequent_words([["b", "a"], ["b", "c"]], 2) == ["b", "a"]


def picture(value):
    return Picture(np.full((2, 2, 3), value, np.uint8))


def test_pictures_are_shown_until_the_next_one():
    vocabulary = Vocabulary([*SPECIAL, PICTURE, "a"])
    first, second = picture(1), picture(2)
    records = [Record(("a", first, 0, "a", second, 1), (1, 2, 4, 5)), Record(("a", second, "a"))]
    rows = TokenRows.of(records, vocabulary)
    assert rows.tokens[0].tolist() == [5, 4, 6, 5, 4, 7]
    assert rows.is_answer[:6].tolist() == [False, False, True, False, False, True]
    batch = rows.batch(np.array([1, 0]))
    assert batch.pictures[1].tolist() == [-1, 0, 0, 0, 1, 1]
    assert batch.pictures[0, :3].tolist() == [-1, 1, 1]
    assert batch.pixels[:, 0, 0, 0].tolist() == [1, 2]


def test_a_batch_holds_the_pictures_of_its_own_records():
    vocabulary = Vocabulary([*SPECIAL, PICTURE, "a"])
    records = [Record((picture(1), "a")), Record((picture(2), "a")), Record(("a",))]
    rows = TokenRows.of(records, vocabulary)
    batch = rows.batch(np.array([1]))
    assert batch.pixels[:, 0, 0, 0].tolist() == [2] and batch.pictures.tolist() == [[0, 0]]
    blind = rows.batch(np.array([2]))
    assert blind.pictures.tolist() == [[-1]] and len(blind.pixels) == 0
    assert TokenRows.of(records[2:], vocabulary).batch(np.array([0])).pictures is None
