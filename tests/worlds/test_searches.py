"""Test the planted searches: what words, sessions and tastes say, and that a seed gives one log."""

import numpy as np
import polars as pl
import pytest

from tailor.errors import DataError
from tailor.worlds.searches import DAY_MS, searches


@pytest.fixture(scope="module")
def world():
    return searches(users=300, seed=3)


def test_words_of_a_search_are_of_the_demand_of_its_event(world):
    keys = ["user_id", "item_id", "time_ms"]
    demands = world.data.events.with_columns(demand=pl.Series(world.demands))
    joined = world.data.tables["texts"].join(demands, on=keys)
    assert len(joined) == len(world.data.tables["texts"]) > 500
    for text, demand in zip(joined["text"], joined["demand"], strict=True):
        first, second = text.split()
        assert first != second
        assert {first, second} <= set(world.words[demand])


def test_topics_share_no_word(world):
    words = [word for topic in world.words for word in topic]
    assert len(set(words)) == len(words) == 12 * 6


def test_items_are_of_the_demand_and_of_the_taste_mostly(world):
    rows = world.data.catalogue.codes(world.data.events["item_id"])
    assert (world.topics[rows] == world.demands).mean() == pytest.approx(0.8625, abs=0.02)
    users = world.data.users.codes(world.data.events["user_id"])
    counts = np.zeros((300, 6))
    np.add.at(counts, (users, world.styles[rows]), 1)
    assert (counts.max(axis=1) / counts.sum(axis=1)).mean() == pytest.approx(0.875, abs=0.03)


def test_a_session_has_one_demand_and_at_most_one_search(world):
    days = world.data.events["time_ms"].to_numpy() // DAY_MS
    sessions = pl.DataFrame(
        {"user": world.data.events["user_id"], "day": days, "demand": world.demands}
    )
    assert sessions.group_by("user", "day").agg(pl.col("demand").n_unique())["demand"].max() == 1
    texts = world.data.tables["texts"]
    searched = texts.group_by("user_id", texts["time_ms"] // DAY_MS).len()
    assert searched["len"].max() == 1


def test_some_logs_end_with_a_search(world):
    last = world.data.events.group_by("user_id").agg(pl.col("time_ms").max())
    assert 20 < len(last.join(world.data.tables["texts"], on=["user_id", "time_ms"])) < 80


def test_the_same_seed_gives_the_same_log():
    first, second = searches(users=20, seed=1), searches(users=20, seed=1)
    assert first.data.content_hash == second.data.content_hash
    assert first.data.content_hash != searches(users=20, seed=2).data.content_hash


@pytest.mark.parametrize("wrong", [{"users": 0}, {"length": 0}, {"topics": 40}], ids=str)
def test_sizes_that_cannot_be_are_refused(wrong):
    with pytest.raises(DataError, match="at least 1 each"):
        searches(**wrong)
