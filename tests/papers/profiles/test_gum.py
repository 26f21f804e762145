"""GUM: audit, compare, revise, calibrate."""

import random
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.errors import DataError
from tailor.llm.scripted import ScriptedModel
from tailor.metrics.recalibration import Platt
from tailor.papers.profiles.gum import FEW_TRUTHS, GUM
from tailor.ports.base import Encoder
from tailor.profiles.propositions import DAY_MS, Observation, state_hash
from tailor.testing.data import tiny_data

DAY = DAY_MS


def said(text, day=0, **fields):
    return Observation("chat", text, day * DAY, **fields)


def texts(belief):
    """Return text -> status of what holds."""
    return {p.text: p.status for p in belief.propositions if p.valid_to_ms is None}


def labels(belief):
    return [comparison.label for comparison in belief.comparisons]


def test_a_later_value_supersedes_and_the_earlier_one_stays_on_record():
    belief = GUM().believe([said("I live in Oslo.", 1), said("I moved to Delft.", 50)])
    assert texts(belief) == {"lives in Delft": "active"}
    assert [p.text for p in belief.propositions] == ["lives in Oslo", "lives in Delft"]


@dataclass(frozen=True)
class Meanings(Encoder):
    """Knows which words mean the same."""

    space = "meanings"

    def encode(self, texts):
        names = ["jogging", "running", "chess"]
        vectors = np.array([[name in text for name in names] for text in texts], np.float32)
        vectors[:, 0] = vectors[:, 0] + vectors[:, 1]  # jogging is running
        vectors[:, 1] = 0
        return vectors


def test_identical_drafts_support_one_proposition():
    words = ("I love trail running.", "I enjoy trail jogging!", "I'm a fan of trail chess.")
    observations = [said(text, day) for day, text in enumerate(words)]
    belief = GUM(encoder=Meanings()).believe(observations)
    assert labels(belief) == ["unrelated", "identical", "unrelated"]
    assert set(texts(belief)) == {"likes trail running", "likes trail chess"}
    assert len(belief.propositions[0].support) == 2
    by_spelling = GUM().believe(observations)
    assert len(by_spelling.propositions) == 3


def test_a_similar_draft_lends_a_little():
    observations = [said("I love green tea.", 1), said("I hate iced green tea.", 9)]
    belief = GUM().believe(observations)
    assert labels(belief) == ["unrelated", "similar"]
    tea = next(p for p in belief.propositions if p.object == "green tea")
    assert tea.polarity == 1 and tea.beta == pytest.approx(1.3)
    unlike = GUM(similar=0.99, identical=0.99).believe(observations)
    assert next(p for p in unlike.propositions if p.object == "green tea").beta == 1


def test_only_the_nearest_by_words_are_compared():
    observations = [said(f"I love {name} tea.", day) for day, name in enumerate("abcdef")]
    assert set(labels(GUM().believe(observations))) <= {"unrelated", "similar", "identical"}
    comparison = GUM().believe([said("I love jazz.", 1), said("I love chess.", 2)]).comparisons[1]
    assert comparison.label == "unrelated" and comparison.nearest == ""


def test_what_the_audit_refuses_is_not_kept():
    card = said("I love my card 4111 1111 1111 1111", 1)
    secret = said("I live in Oslo, please don't remember that.", 2)
    password = said("My password is hunter2 and I like tea", 3)
    belief = GUM().believe([card, secret, password, said("I like tea", 4)])
    assert texts(belief) == {"likes tea": "active"} and len(belief.refused) == 3
    assert not GUM().audit(card) and GUM().audit(secret)


def test_order_and_repetition_change_nothing():
    observations = [
        said(text, day)
        for day, text in enumerate(
            ["I love tea.", "I live in Oslo.", "I hate tea.", "I moved to Delft.", "I love teas."]
            * 3
        )
    ]
    expected = state_hash(GUM().believe(observations).propositions)
    for seed in range(20):
        shuffled = [*observations, *observations[:4]]
        random.Random(seed).shuffle(shuffled)
        assert state_hash(GUM().believe(shuffled).propositions) == expected


def test_a_language_model_proposes_beside_the_patterns():
    reply = '{"notes": [{"line": 1, "slot": "preference", "predicate": "likes", "object": "oats", "sign": 1}]}'
    belief = GUM(llm=ScriptedModel(reply=reply)).believe([said("Oats again today", 1)])
    assert texts(belief) == {"likes Oats": "active"} or texts(belief) == {"likes oats": "active"}
    assert belief.propositions[0].alpha == pytest.approx(1.2)


def rated(users=40, events=25, seed=0):
    """Return ratings by users who like one of two genres, mostly."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        for step in range(events):
            item = int(rng.integers(40))
            is_liked = (item % 2 == user % 2) == (rng.random() < 0.9)
            rows.append((f"u{user}", f"i{item}", step * DAY, 5.0 if is_liked else 2.0))
    events_table = pl.DataFrame(
        rows, schema=["user_id", "item_id", "time_ms", "value"], orient="row"
    )
    items = pl.DataFrame(
        {
            "item_id": [f"i{item}" for item in range(40)],
            "categories": [["drama" if item % 2 else "comedy"] for item in range(40)],
        }
    )
    return Dataset({"events": events_table, "items": items}, "rated")


def test_ratings_say_what_is_liked_and_others_calibrate_it():
    data = rated()
    gum = GUM().fit(data, Run())
    assert gum.fit_report_["calibrated_on"] >= FEW_TRUTHS
    (query,) = [q for q in data.queries(columns=["values"]) if q.user_id == "u1"]
    (profile,) = gum.profile([query])
    likes = {fact.details["object"]: fact for fact in profile.facts}
    assert likes["drama"].details["polarity"] == 1 and likes["comedy"].details["polarity"] == -1
    assert {e.kind for e in likes["drama"].evidence} == {"item"}
    unseen = rated(seed=1)
    pairs = [
        pair
        for query in unseen.queries(columns=["values"])
        for pair in gum.later_likes(observed(query))
    ]
    raw, truth = np.array(pairs, float).T
    calibrated = Platt(*gum.platt_)(raw)
    assert np.mean((calibrated - truth) ** 2) < np.mean((raw - truth) ** 2)


def test_inferred_likes_fade_towards_the_population_s_rate():
    gum = GUM().fit(rated(), Run())
    ratings = [Observation("event", "", day * DAY, "i1", 5.0) for day in range(4)]
    low = [Observation("event", "", day * DAY, "i0", 1.0) for day in range(4)]
    likes = {p.object: p for p in gum.believe([*ratings, *low]).propositions}
    rate = float(Platt(*gum.platt_)(np.array([0.5]))[0])
    for name, share in (("drama", rate), ("comedy", 1 - rate)):
        p = likes[name]
        now, year, never = (gum.confidence(p, days * DAY) for days in (3, 368, 10**6))
        assert now > year > never == pytest.approx(share, abs=1e-6)
    days = tuple(day * DAY for day in range(8))
    history = History(("i1", "i0") * 4, days, values=(5.0, 1.0) * 4)
    queries = [Query("u", history, time_ms=day * DAY) for day in (8, 400)]
    soon, late = (profile.facts[0].confidence for profile in gum.profile(queries))
    assert soon > late


def observed(query):
    history = query.history
    return [
        Observation("event", "", time, item, value)
        for item, time, value in zip(
            history.item_ids, history.times_ms, history.values, strict=True
        )
    ]


def test_seeing_is_not_liking():
    gum = GUM().fit(rated(), Run())
    seen = [Observation("event", "", day * DAY, "i1") for day in range(4)]
    one_rated = [*seen, Observation("event", "", 9 * DAY, "i0", 5.0)]
    assert not any(p.object == "drama" for p in gum.believe(one_rated).propositions)


def test_reviews_and_present_words_are_read_too():
    gum = GUM().fit(tiny_data(), Run())
    history = History(("thing-001",), (DAY,), texts=("I love brass kettles.",))
    query = Query("u", history, "I'm allergic to wool.", time_ms=2 * DAY)
    (profile,) = gum.profile([query])
    assert [fact.text for fact in profile.facts] == [
        "likes brass kettles"
    ]  # the other is sensitive
    open_gum = GUM(most_sensitivity=3).fit(tiny_data(), Run())
    assert "is allergic to wool" in open_gum.profile([query])[0].text


def test_wrong_settings_are_named():
    with pytest.raises(DataError, match="batch is 2"):
        GUM(batch=2)
    with pytest.raises(DataError, match=r"similar is 0.9"):
        GUM(similar=0.9, identical=0.5)
