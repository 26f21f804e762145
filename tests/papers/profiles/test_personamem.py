"""PersonaMem: notes, budget, learning what to keep, answering."""

import numpy as np
import pytest

from tailor.core.run import Run
from tailor.data.nouns import History, Query
from tailor.errors import DataError
from tailor.papers.profiles.personamem import (
    FEATURES,
    PersonaMem,
    TextMemory,
    exams_of,
    features,
    fitting,
    merged,
    notes_of,
)
from tailor.profiles.proposers import RuleProposer, withdrawn_ids
from tailor.profiles.propositions import DAY_MS, Observation
from tailor.profiles.revision import believed_of_all
from tailor.testing.data import tiny_data
from tailor.text.hashing import HashingEncoder
from tailor.worlds.lives import lives

WORLD = lives(6, seed=5, facts=12, small_talk=30, implicit=0.3)


def said(*texts):
    return [Observation("chat", text, day * DAY_MS) for day, text in enumerate(texts)]


def lines(memory):
    return memory.text.splitlines()


def test_a_later_value_takes_the_place_of_the_earlier_one():
    method = PersonaMem()
    memory = method.remember(said("I live in Oslo.", "I love tea.", "I moved to Delft."))
    assert lines(memory) == ["- likes tea", "- lives in Delft"]
    changed = method.remember(said("I love tea.", "It rains.", "I hate tea."))
    assert lines(changed) == ["- It rains.", "- not: likes tea"]


def test_what_holds_is_revised_as_a_memory_revises_it():
    method = PersonaMem()
    messages = said("I live in Oslo.", "I love tea.", "I no longer live in Oslo.", "I hate opera.")
    assert lines(method.remember(messages)) == ["- likes tea", "- not: likes opera"]
    within_a_day = [Observation("chat", "I hate tea.", DAY_MS + 5), *said("Hm.", "I love tea.")]
    assert lines(method.remember(within_a_day)) == ["- Hm."]
    again = method.remember([*within_a_day, *said(*["Hm."] * 9, "I love tea.")[-1:]])
    assert lines(again)[-1] == "- likes tea"
    for user in exams_of(WORLD.data):
        memory = PersonaMem(budget_tokens=100_000).remember(user.observations)
        withdrawn = withdrawn_ids([o for o in user.observations if o.speaker == "user"])
        drafts = RuleProposer().propose(
            [
                o
                for o in user.observations
                if o.speaker == "user" and o.observation_id not in withdrawn
            ]
        )
        holding = {
            (p.predicate, p.object_key, p.polarity)
            for p in believed_of_all(drafts)
            if p.valid_to_ms is None and p.status == "active"
        }
        noted = {
            (d.predicate, d.object_key, -1 if note.is_denial else 1)
            for note in memory.notes
            for d in note.drafts[-1:]
        }
        assert noted == holding


def test_the_same_again_gains_support():
    notes = merged([], [n for o in said("I love tea.", "I enjoy teas") for n in notes_of(o)])
    assert [(n.key, n.support) for n in notes] == [(notes[0].key, 2)]
    assert notes[0].text in ("likes tea", "likes teas")
    notes = merged(notes, notes_of(said(*["x"] * 2, "Lovely day, I love teas.")[2]))
    assert notes[0].support == 3 and len(notes) == 1
    sentences = merged([], [n for o in said("Lovely day!", "Lovely day!") for n in notes_of(o)])
    assert [(n.text, n.support) for n in sentences] == [("Lovely day!", 2)]


def test_the_budget_is_never_passed():
    for user in exams_of(WORLD.data):
        for budget in (16, 64, 256):
            memory = PersonaMem(budget_tokens=budget).remember(user.observations)
            assert memory.tokens <= budget
    notes = [n for o in said(*["I love tea."] * 3) for n in notes_of(o)]
    assert fitting(notes, [2, 0, 1], 2 * notes[0].tokens) == [2, 0]


def test_nothing_that_was_to_be_forgotten_is_kept():
    for exam in exams_of(WORLD.data):
        memory = PersonaMem(budget_tokens=2_000).remember(exam.observations)
        assert not any(secret.object in memory.text for secret in WORLD.truth.secrets)
    memory = PersonaMem().remember(said("I love jazz.", "Please don't store that."))
    assert memory.text == ""


def test_features_tell_statements_people_and_questions_apart():
    notes = [
        note
        for o in said(
            "I live in Oslo.", "My mother loves opera.", "Is it late?", "My Leaf needs tyres."
        )
        for note in notes_of(o)
    ]
    table = dict(zip(FEATURES, features(notes).T.tolist(), strict=True))
    assert table["plain statement"] == [1, 0, 0, 0] and table["single value"] == [1, 0, 0, 0]
    assert table["other person"] == [0, 1, 0, 0] and table["question"] == [0, 0, 1, 0]
    assert table["own affairs"] == [0, 1, 0, 1] and table["name within"] == [0, 0, 0, 1]
    assert features([]).shape == (0, len(FEATURES))


def test_learning_by_right_answers_raises_them():
    method = PersonaMem(budget_tokens=64, epochs=5, learning_rate=0.3)
    method.weights_ = np.zeros(len(FEATURES))
    exams = exams_of(WORLD.data)[:3]
    rewards = method._learn(exams, Run())
    assert np.mean(rewards[-2:]) > rewards[0] + 0.1
    weights = dict(zip(FEATURES, method.weights_, strict=True))
    assert weights["plain statement"] > 0 > weights["other person"]


def test_a_reward_that_is_the_same_for_all_teaches_nothing():
    method = PersonaMem(budget_tokens=48, epochs=1, group=3)
    method.weights_ = np.zeros(len(FEATURES))
    exams = [exam._replace(questions=[("q", ["zebra"], 0)]) for exam in exams_of(WORLD.data)[:2]]
    method._learn(exams, Run())
    assert not method.weights_.any()


def test_questions_are_answered_from_the_memory_alone():
    method = PersonaMem()
    memory = method.remember(said("I live in Delft.", "I love jazz.", "I hate opera."))
    options = ["Oslo", "Delft", "Graz"]
    assert method.choose(memory, "Where does the user live?", options) == 1
    assert method.choose(memory, "What does the user like?", ["opera", "jazz", "chess"]) == 1
    assert method.choose(memory, "What does the user like?", ["opera", "chess"]) == 1
    empty = TextMemory(())
    assert 0 <= method.choose(empty, "Where?", options) < 3
    by_meaning = PersonaMem(encoder=HashingEncoder(128))
    assert by_meaning.choose(memory, "Where does the user live?", options) == 1
    assert 0 <= by_meaning.choose(empty, "Where?", options) < 3


def test_a_profile_is_the_text_that_is_used():
    method = PersonaMem(epochs=0).fit(tiny_data(), Run())
    assert "untrained" in method.fit_report_
    history = History(("thing-001", "thing-002"), (1, 2), texts=("I love brass.", ""))
    (profile,) = method.profile([Query("u", history, "I live in Delft.", time_ms=9)])
    assert profile.text == "- likes brass\n- lives in Delft"
    assert [fact.text for fact in profile.facts] == ["likes brass", "lives in Delft"]
    assert profile.as_of_ms == 9 and profile.details["tokens"] <= 256


def test_it_is_fitted_on_turns_with_questions():
    method = PersonaMem(budget_tokens=48, epochs=1, group=2).fit(WORLD.data, Run())
    assert method.fit_report_["questions"] == len(WORLD.truth.questions)
    assert len(method.fit_report_["reward"]) == 1


def test_wrong_settings_are_named():
    with pytest.raises(DataError, match="budget_tokens is 3"):
        PersonaMem(budget_tokens=3)
