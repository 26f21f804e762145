"""Drafts from sentences, reviews, events and a language model."""

import json

import pytest

from tailor.errors import DataError
from tailor.llm.cached import Cached
from tailor.llm.scripted import ScriptedModel
from tailor.profiles.proposers import AspectProposer, LLMProposer, LogProposer, RuleProposer
from tailor.profiles.propositions import DAY_MS, EDITED, GUESSED, INFERRED, STATED, Observation
from tailor.profiles.revision import believed_of_all
from tailor.profiles.rules import stated_ms, statements
from tailor.testing.data import tiny_data

NOW = 1_700_000_000_000  # 14 November 2023


def said(*texts, **fields):
    return [Observation("chat", text, NOW + i, **fields) for i, text in enumerate(texts)]


def read(text):
    """Return (predicate, object, sign) of a text."""
    return [(s.predicate, s.object, s.sign) for s in statements(text, NOW)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I really love green tea and long walks.", [("likes", "green tea", 1), ("likes", "long walks", 1)]),
        ("I don't like jazz anymore, it is loud.", [("likes", "jazz", -1)]),
        ("I’m not a fan of horror films.", [("likes", "horror films", -1)]),
        ("I used to like football.", [("likes", "football", -1)]),
        ("I enjoy hiking, but I hate running.", [("likes", "hiking", 1), ("likes", "running", -1)]),
        ("My favourite colour is blue!", [("likes", "blue", 1)]),
        ("I prefer tea over coffee", [("likes", "tea", 1)]),
        ("I moved to New York City because of work.", [("lives in", "New York City", 1)]),
        ("i moved to paris last year", [("lives in", "paris", 1)]),
        ("I no longer live in Oslo.", [("lives in", "Oslo", -1)]),
        ("I work at Acme Corp as a clerk.", [("works at", "Acme Corp", 1)]),
        ("I no longer work at Acme.", [("works at", "Acme", -1)]),
        ("I'm a software engineer at Globex.", [("works as", "software engineer", 1)]),
        ("I'm vegan now.", [("follows the diet", "vegan", 1)]),
        ("I am no longer vegetarian.", [("follows the diet", "vegetarian", -1)]),
        ("Call me Sam.", [("is named", "Sam", 1)]),
        ("I'm allergic to nuts and kiwi.", [("is allergic to", "nuts", 1), ("is allergic to", "kiwi", 1)]),
        ("I want to run a marathon in June.", [("wants to", "run a marathon", 1)]),
        ("I need a new laptop.", [("needs", "new laptop", 1)]),
        ("I can speak Spanish and German.", [("speaks", "Spanish", 1), ("speaks", "German", 1)]),
        ("Please answer in German.", [("wants answers", "in German", 1)]),
        ("My wife is Anna.", [("is married to", "Anna", 1)]),
    ],
)  # fmt: skip
def test_sentences_are_read(text, expected):
    assert read(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "My mother loves opera.",
        'She said "I love cats".',
        "My friend thinks I like golf.",
        "Do I like tea?",
        "If I lived in Rome, I would love the food.",
        "I wish I lived in Rome.",
        "I moved to a new flat.",
        "I'm a bit tired and a lover of wine.",
        "I like it.",
        "Nothing of note.",
        "",
    ],
)
def test_others_quotes_questions_and_wishes_say_nothing(text):
    assert read(text) == []


def test_scope_span_date_and_sensitivity():
    text = "Well. At work, I prefer tea."
    (tea,) = statements(text)
    assert tea.scope == "at work" and text[slice(*tea.span)] == "I prefer tea"
    (walks,) = statements("I like walks in the morning")
    assert (walks.object, walks.scope) == ("walks", "in the morning")
    (moved,) = statements("I moved to Delft in May 2021.", NOW)
    assert moved.since_ms == 1_619_827_200_000
    assert stated_ms("two weeks ago", NOW) == NOW - 14 * DAY_MS
    assert stated_ms("in May 2031", NOW) is None
    (asthma,) = statements("I have asthma")
    assert asthma.sensitivity == 3 and tea.sensitivity == 0


def test_rules_read_the_users_words_alone_and_keep_what_they_rest_on():
    observations = [
        *said("I love tea"),
        *said("I love coffee", speaker="assistant"),
        Observation("event", "I love milk"),
        Observation("edit", "I live in Delft", NOW),
    ]
    tea, delft = RuleProposer().propose(observations)
    assert tea.observation_id == observations[0].observation_id
    assert (tea.weight, tea.proposer, tea.span) == (STATED, "rules@1", (0, 10))
    assert (delft.weight, delft.occurred_ms) == (EDITED, NOW)
    (own,) = RuleProposer(speakers=("assistant",)).propose(observations)
    assert own.object == "coffee"


def test_what_must_not_be_remembered_is_not_concluded():
    alone = said("Please don't remember that I live in Oslo.")
    before = said("I live in Oslo.", "Please do not store that.")
    elsewhere = [*said("I live in Oslo.", source="a"), *said("Keep it private.", source="b")]
    for observations, count in ((alone, 0), (before, 0), (elsewhere, 1)):
        assert len(RuleProposer().propose(observations)) == count
    assert len(RuleProposer().propose(said("I don't remember much, I live in Oslo."))) == 1


def test_a_request_to_forget_rejects():
    drafts = RuleProposer().propose(said("I live in Oslo.", "Forget that I live in Oslo."))
    assert [draft.act for draft in drafts] == ["say", "reject"]
    assert [p.status for p in believed_of_all(drafts)] == ["rejected"]


def test_odd_texts_are_read_without_harm():
    texts = [
        "I love " + "x" * 1_000_000,
        "I love 🍵 and שלום.",
        "I love '; DROP TABLE users; --",
        "أنا أحب الشاي",
        "I" * 50_000,
        "I really " * 5_000,
        '"' * 20_000,
    ]
    drafts = RuleProposer().propose(said(*texts))
    assert [d.object for d in drafts[1:3]] == ["🍵", "שלום"]
    assert all(len(draft.object) <= 200 for draft in drafts)


def test_aspects_of_reviews_have_the_sign_of_the_opinion():
    pytest.importorskip("vaderSentiment")
    text = "The stitching is superb. But the zipper is awful."
    review = Observation("review", text, NOW, "x")
    signs = {d.object: d.sign for d in AspectProposer().propose([review])}
    assert signs == {"stitching": 1, "zipper": -1}
    (zipper,) = AspectProposer(aspects=("zipper",)).propose([review])
    assert zipper.weight < INFERRED and text[slice(*zipper.span)] == "But the zipper is awful."
    rated = Observation("review", text, NOW, "x", value=5.0)
    assert [d.object for d in AspectProposer().propose([rated])] == ["stitching"]
    with pytest.raises(DataError, match="least_polarity"):
        AspectProposer(least_polarity=0)


def test_events_show_what_is_chosen_more_often_than_usual():
    data = tiny_data()
    history = data.queries()[0].history
    events = [
        Observation("event", "", time_ms, item_id)
        for item_id, time_ms in zip(history.item_ids, history.times_ms, strict=True)
    ]
    proposer = LogProposer.of(data)
    drafts = proposer.propose(events[::-1])
    likes = [d for d in drafts if d.predicate == "likes"]
    assert {d.object for d in likes} == {"kettle"} and len(likes) > 2
    assert {d.weight for d in drafts} == {INFERRED}
    assert any(d.predicate == "price band" for d in drafts)
    assert proposer.propose(said("I love tea")) == []


def test_what_is_bought_again_and_again_has_a_cycle():
    proposer = LogProposer.of(tiny_data())
    days = (0, 30, 61, 90)
    events = [Observation("event", "", day * DAY_MS, "thing-000") for day in days]
    cycles = [d for d in proposer.propose(events) if d.predicate == "buys again"]
    assert [d.object for d in cycles] == ["thing-000 every 30 days"]
    uneven = [Observation("event", "", day * DAY_MS, "thing-000") for day in (0, 3, 80, 90)]
    assert not [d for d in proposer.propose(uneven) if d.predicate == "buys again"]


def notes(*rows):
    names = ("line", "slot", "predicate", "object", "sign")
    return json.dumps({"notes": [dict(zip(names, row, strict=True)) for row in rows]})


def test_a_language_model_guesses_and_invents_nothing():
    reply = notes(
        (1, "preference", "Likes", "green tea", 1),
        (1, "preference", "likes", "coffee", 1),  # not in the line
        (7, "preference", "likes", "green tea", 1),  # no such line
        (1, "whim", "likes", "green tea", 1),  # no such slot
        (2, "fact", "lives in", "Oslo", 1),
    )
    model = ScriptedModel(reply=reply)
    observations = said(
        "Green tea again, as always.", "Oslo is home. Do not store that at all, ever, in any form."
    )
    (tea,) = LLMProposer(model).propose(observations)
    assert (tea.predicate, tea.object, tea.weight) == ("likes", "green tea", GUESSED)
    assert tea.proposer == LLMProposer(model).name != LLMProposer(ScriptedModel()).name
    for broken in ("no idea", "[1, 2]", '{"notes": 3}', '{"notes": [{"line": "x"}]}'):
        assert LLMProposer(ScriptedModel(reply=broken)).propose(observations) == []
    assert LLMProposer(ScriptedModel(failing=1.0)).propose(observations) == []


def test_answers_about_people_are_kept_in_no_cache(tmp_path):
    model = Cached(ScriptedModel(reply=notes((1, "preference", "likes", "tea", 1))), str(tmp_path))
    assert len(LLMProposer(model).propose(said("tea please"))) == 1
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
