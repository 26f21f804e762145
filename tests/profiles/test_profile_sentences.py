"""Sentences that may stand in a profile: what counts say, and the events that say it."""

import numpy as np
import polars as pl

from tailor.data.dataset import Dataset
from tailor.profiles.sentences import FEATURES, KINDS, SentenceBank

FILMS = {
    "a": ("Alien Dawn (1979)", ["Horror", "Space"], 5.0),
    "b": ("Alien Dusk (1979)", ["Horror", "Space"], 5.0),
    "c": ("Laughing Cow (1994)", ["Comedy"], 20.0),
    "d": ("Laughing Dog (1994)", ["Comedy"], 20.0),
    "e": ("Quiet River (1994)", ["Drama"], 20.0),
    "f": ("Alien Harvest (1981)", ["Horror"], 5.0),
}


def films():
    items = pl.DataFrame(
        [(item, *values) for item, values in FILMS.items()],
        schema=["item_id", "title", "categories", "price"],
        orient="row",
    )
    events = pl.DataFrame({"user_id": ["u"] * len(FILMS), "item_id": list(FILMS)})
    return Dataset({"events": events, "items": items})


DATA = films()
BANK = SentenceBank.of(DATA)


def sentences(*items):
    return BANK.candidates(DATA.catalogue.rows(items))


def feature(candidates, text, name):
    return candidates.features[candidates.texts.index(text), FEATURES.index(name)]


def test_each_kind_of_sentence_is_made_of_counts():
    said = sentences("c", "d", "c", "a", "b", "a")
    assert {"likes Comedy", "likes Horror", "lately likes Horror"} <= set(said.texts)
    assert "moved from Comedy to Horror" in said.texts
    assert "likes Space more than others do" in said.texts
    assert "likes the 1970s" in said.texts and "likes Horror with Space" in said.texts
    assert not any("Drama" in text for text in said.texts)
    assert len(set(said.texts)) == len(said) == len(said.features) == len(said.events)


def test_words_of_titles_make_sentences():
    said = sentences("a", "b", "f")
    assert "likes alien" in said.texts and "likes cheap things" in said.texts
    assert said.events[said.texts.index("likes alien")].tolist() == [0, 1, 2]


def test_features_say_how_well_a_sentence_is_founded():
    said = sentences("c", "a", "b", "a")
    assert feature(said, "likes Comedy", "share") == 0.25
    assert feature(said, "likes Horror", "share") == 0.75
    assert feature(said, "likes Horror", "recency") == 0.75  # mean of places 2, 3, 4 of 4
    assert feature(said, "likes Comedy", "recency") == 0.25
    assert feature(said, "likes Horror", "specificity") > 0
    assert feature(said, "likes Horror", "frequent") == 1
    kinds = said.features[:, : len(KINDS)]
    assert (kinds.sum(axis=1) == 1).all()
    assert said.events[said.texts.index("likes Horror")].tolist() == [1, 2, 3]


def test_nothing_is_said_of_an_empty_history():
    assert len(BANK.candidates(np.zeros(0, np.int64))) == 0


def test_items_without_words_say_nothing():
    bare = Dataset({"events": DATA.events})
    assert len(SentenceBank.of(bare).candidates(np.array([0, 1]))) == 0
