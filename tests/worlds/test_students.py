from itertools import pairwise

import numpy as np
import pytest

from tailor.errors import DataError
from tailor.worlds.students import classroom


def test_an_answer_teaches_by_its_difficulty_and_costs_other_topics():
    room = classroom(students=2, topics=2, questions=1, rate=0.2, forgetting=0.5)
    room.difficulties = np.array([0.0, 0.0])
    room.first_abilities = np.zeros((2, 2))
    room.abilities = np.array([[0.0, 1.0], [np.log(3), 1.0]])
    is_right = room.answer(np.array([0, 0]), np.array([0.49, 0.76]))
    assert is_right.tolist() == [True, False]
    gains = [0.2, 0.2 * 4 * 0.75 * 0.25]
    assert np.allclose(room.abilities, [[gains[0], 0.5], [np.log(3) + gains[1], 0.5]])


def test_a_log_holds_every_answer_in_order_and_its_topics():
    room = classroom(students=30, topics=3, questions=4)
    data = room.practise(12, np.random.default_rng(0))
    assert len(data.events) == 360
    assert data.sequences.rows.lengths.tolist() == [12] * 30
    topics = dict(data.tables["items"].iter_rows())
    topic_of = [topics[item][0] for item in room.question_ids]
    assert topic_of == [f"topic {topic}" for topic in room.topics]
    by_student = data.events.sort("user_id", "time_ms")["item_id"].to_list()
    repeats = [topics[a] == topics[b] for a, b in pairwise(by_student)]
    assert np.mean(repeats) > 0.6  # chance would be a third


def test_other_students_answer_the_same_questions():
    first, other = classroom(students=5), classroom(students=5, new_students=1)
    assert (first.difficulties == other.difficulties).all()
    assert first.question_ids.to_list() == other.question_ids.to_list()
    assert (first.abilities != other.abilities).all()
    assert (classroom(students=5).abilities == first.abilities).all()


def test_impossible_rooms_are_refused():
    with pytest.raises(DataError, match="forgetting 2"):
        classroom(forgetting=2)
