"""The planted shop of two kinds: events link what titles do not."""

import numpy as np
import polars as pl
import pytest

from tailor.errors import DataError
from tailor.worlds.two_kinds import two_kinds

SMALL = {"people": 300, "new": 24, "old": 60, "groups": 6}


@pytest.fixture(scope="module")
def world():
    return two_kinds(**SMALL)


def test_the_same_arguments_give_the_same_log(world):
    assert two_kinds(**SMALL).data.content_hash == world.data.content_hash
    assert two_kinds(**SMALL, seed=1).data.content_hash != world.data.content_hash


def test_events_are_mostly_of_groups_that_the_person_likes(world):
    events = world.data.events
    users = world.data.users.codes(events["user_id"])
    items = world.data.catalogue.codes(events["item_id"])
    is_liked = (world.groups[items][:, None] == world.tastes[users]).any(axis=1)
    plays = (events["action"] == "play").to_numpy()
    assert is_liked[plays].mean() > 0.85  # .85 and a third of the remainder, by chance
    assert 0.7 < is_liked[~plays].mean() < is_liked[plays].mean()
    assert world.is_new[items[~plays]].all()


def test_the_new_kind_is_sparse_and_titles_of_the_kinds_share_common_words_alone(world):
    events = world.data.events
    is_new = world.is_new[world.data.catalogue.codes(events["item_id"])]
    plays = (events["action"] == "play").to_numpy()
    assert (is_new & plays).sum() < 0.15 * (~is_new & plays).sum()
    table = world.data.tables["items"].with_columns(words=pl.col("title").str.split(" "))
    words = {kind: set(table.filter(kind=kind)["words"].explode()) for kind in ("new", "old")}
    assert len(words["new"] & words["old"]) <= 30
    assert len(words["new"] - words["old"]) >= 12


def test_truth_is_in_the_order_of_the_catalogue(world):
    kinds = dict(world.data.tables["items"].select("item_id", "kind").iter_rows())
    named = [kinds[item_id] == "new" for item_id in world.data.catalogue.ids]
    assert np.array_equal(named, world.is_new)


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(DataError, match="at least 1 each"):
        two_kinds(groups=3, liked=4)
