"""Turns are found by what stands beside them, by dates, and by who is asked about."""

from dataclasses import replace

import numpy as np
import pytest

from tailor.text.hashing import HashingEncoder
from tailor.text.turns import NAMES, DialogueTurn, NamedDate, TurnFeatures, TurnIndex, resolved

DAY_MS = 86_400_000
MAY_2023 = 1_683_504_000_000  # 8 May 2023
TURNS = [
    DialogueTurn("Ann", "What did the kettle cost?", MAY_2023, "d", 0, "1"),
    DialogueTurn("Bob", "Nine euros.", MAY_2023, "d", 1, "1"),
    DialogueTurn("Ann", "The weather is fine.", MAY_2023 + 40 * DAY_MS, "d", 2, "2"),
    DialogueTurn("Bob", "Tents are sold out.", MAY_2023 + 40 * DAY_MS, "d", 3, "2"),
]


def column(name, request, turns=TURNS, **settings):
    features = TurnFeatures(settings.pop("encoder", HashingEncoder(64)), **settings)
    return features.of(turns, [request])[0, :, NAMES.index(name)]


def test_an_answer_gains_by_the_question_before_it():
    own = column("words", "kettle")
    assert own[0] > 0 and not own[1:].any()
    assert column("words beside", "kettle") == pytest.approx([0, own[0] / 2, own[0] / 4, 0])


def test_turns_of_another_dialogue_or_without_a_number_have_no_neighbours():
    apart = [replace(turn, dialogue_id=turn.text) for turn in TURNS]
    assert not column("words beside", "kettle", apart).any()
    alone = [replace(turn, number=None) for turn in TURNS]
    assert not column("words beside", "kettle", alone).any()
    assert column("words of session", "kettle", alone) == pytest.approx(column("words", "kettle"))


def test_a_session_shares_its_words_and_its_meaning():
    own = column("words", "kettle")
    shared = column("words of session", "kettle")
    assert shared == pytest.approx([own[0] / 2, own[0] / 2, 0, 0])
    cosines = column("cosine", "kettle")
    means = [cosines[:2].mean()] * 2 + [cosines[2:].mean()] * 2
    assert column("cosine of session", "kettle") == pytest.approx(means)
    assert not column("cosine", "kettle", encoder=None).any()


def test_turns_of_one_time_are_a_session_where_none_is_named():
    unnamed = [replace(turn, session_id="") for turn in TURNS]
    assert np.array_equal(
        column("words of session", "kettle", unnamed), column("words of session", "kettle")
    )


def test_dates_count_by_the_parts_that_a_question_names():
    assert column("date", "What did Ann buy in May 2023?").tolist() == [1, 1, 0.5, 0.5]
    assert column("date", "on 8 May").tolist() == [1, 1, 0, 0]
    assert not column("date", "in May 2023", dates=False).any()
    assert column("words", "in May 2023", dates=False).tolist() == [0, 0, 0, 0]
    untimed = [replace(turn, time_ms=None) for turn in TURNS]
    assert not column("date", "in May 2023", untimed).any()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("What may she do on 3 May, 2023?", ((2023,), (5,), (3,))),
        ("May 5th, then march", ((), (5,), (5,))),
        ("the 7th of March", ((), (3,), (7,))),
        ("9 kettles in 2021 or 2022", ((2021, 2022), (), ())),
        ("May I?", ((), (), ())),
    ],
)
def test_names_of_months_that_are_verbs_are_no_dates(text, parts):
    named = NamedDate.of(text)
    assert (sorted(named.years), sorted(named.months), sorted(named.days)) == tuple(
        map(list, parts)
    )


def test_the_speaker_asked_about_is_told_from_the_others():
    assert column("speaker", "What did Bob say?").tolist() == [-1, 1, -1, 1]
    assert column("speaker", "What was said?").tolist() == [0, 0, 0, 0]
    assert column("speaker", "Ann and Bob?").tolist() == [1, 1, 1, 1]
    turns = [DialogueTurn("", "likes tea"), DialogueTurn("Ann", "Tea!"), DialogueTurn("Bob", "No.")]
    assert TurnIndex(turns, None).speakers(["Does Ann like tea?"]).tolist() == [[0, 1, -1]]


def test_a_pronoun_stands_for_the_last_names_of_the_context():
    context = ["Hi!", "Caroline is back from Paris"]
    assert resolved("Where did she go?", context) == "Caroline Paris: Where did she go?"
    assert resolved("Where did Ann go?", context) == "Where did Ann go?"
    assert resolved("Where did she go?", []) == "Where did she go?"


def test_no_turns_and_no_requests_have_no_features():
    features = TurnFeatures(None)
    assert features.of([], ["kettle"]).shape == (1, 0, len(NAMES))
    assert features.of(TURNS, []).shape == (0, len(TURNS), len(NAMES))
