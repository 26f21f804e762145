"""Planted lives hold what their settings say, and the truth fits what is told."""

import polars as pl
import pytest

from tailor.errors import DataError
from tailor.worlds import life_words
from tailor.worlds.lives import DAY_MS, START_MS, lives

WORLD = lives(30, seed=3)
TURNS = WORLD.data.tables["turns"]


def said_by(user_id):
    return TURNS.filter((pl.col("dialogue_id") == user_id) & (pl.col("speaker") == "user"))


def test_every_fact_is_told_while_it_holds():
    for fact in WORLD.truth.facts:
        rows = said_by(fact.user_id).filter(pl.col("text").str.contains(fact.object, literal=True))
        days = [(time - START_MS) // DAY_MS for time in rows["time_ms"]]
        end = 10_000 if fact.to_day is None else fact.to_day
        assert any(fact.from_day <= day < end for day in days), fact


def test_single_values_follow_each_other():
    changed = 0
    for user_id in WORLD.data.tables["turns"]["dialogue_id"].unique():
        for predicate in life_words.ONE_VALUE:
            values = [f for f in WORLD.facts_of(user_id) if f.predicate == predicate]
            changed += len(values) == 2
            assert len(values) in (1, 2) and values[-1].to_day is None
            if len(values) == 2:
                assert values[0].to_day == values[1].from_day
                assert values[0].object != values[1].object
    assert 0.4 < changed / 150 < 0.8


def test_questions_have_the_present_value_among_four():
    questions = WORLD.truth.questions
    for row in questions.iter_rows(named=True):
        assert row["answer"] in row["options"] and len(set(row["options"])) == 4
        assert row["answer"] not in row["outdated"]
        assert set(row["outdated"]) <= set(row["options"])
    places = [row["options"].index(row["answer"]) for row in questions.iter_rows(named=True)]
    assert max(places.count(place) for place in range(4)) < 0.35 * len(places)
    judged = set(WORLD.data.tables["judgements"]["query_id"])
    assert judged == set(questions["request_id"])


def test_others_and_secrets_are_values_of_their_own():
    for fact in (*WORLD.truth.others, *WORLD.truth.secrets):
        own = {f.object for f in WORLD.facts_of(fact.user_id)}
        assert fact.object not in own
    assert len(WORLD.truth.secrets) > 3 and len(WORLD.truth.others) > 50
    assert lives(5, secrets=0, others=0).truth.others == ()


def test_free_wordings_are_only_used_where_asked_for():
    free = [
        t.format("X")[:8] for texts in life_words.FREE.values() for t in texts if "{0}" not in t[:8]
    ]
    starts = set(TURNS["text"].str.slice(0, 8))
    assert not starts & set(free)
    mixed = lives(30, seed=3, implicit=0.5)
    assert set(mixed.data.tables["turns"]["text"].str.slice(0, 8)) & set(free)


def test_held_out_wordings_share_no_sentence_with_the_others():
    def sentences(wordings):
        world = lives(20, seed=4, implicit=0.5, wordings=wordings)
        turns = world.data.tables["turns"].filter(pl.col("speaker") == "user")["text"]
        talk = set(turns) & set(life_words.SMALL_TALK)
        forms = (*life_words.FREE["likes"], *life_words.PLAIN["likes"])
        values = life_words.VALUES["likes"]
        said = {form for form in forms for value in values if form.format(value) in set(turns)}
        return talk | said

    first, last = sentences("first"), sentences("last")
    assert first and last and not first & last
    assert {life_words.FREE["likes"][-1], life_words.SMALL_TALK[-1]} <= last


def test_contradictions_and_scopes():
    facts = WORLD.truth.facts
    contradicted = [f for f in facts if f.kind == "contradicted"]
    assert len(contradicted) % 2 == 0 and contradicted
    assert contradicted[0].from_day == contradicted[1].from_day
    scoped = [f for f in facts if f.kind == "scoped"]
    assert {f.sign for f in scoped} == {1, -1} and all(f.scope for f in scoped)


def test_the_same_seed_gives_the_same_lives():
    again = lives(30, seed=3)
    assert again.data.content_hash == WORLD.data.content_hash
    assert lives(30, seed=4).data.content_hash != WORLD.data.content_hash
    events = WORLD.data.events
    assert set(events["item_id"]) <= set(WORLD.data.catalogue.ids)


def test_wrong_settings_are_named():
    with pytest.raises(DataError, match='wordings is "odd"'):
        lives(wordings="odd")
    with pytest.raises(DataError, match="facts 21"):
        lives(3, facts=21)
    with pytest.raises(DataError, match="shares"):
        lives(3, secrets=2)
    assert len(lives(2, facts=20, changes=1, others=1).truth.facts) > 40
