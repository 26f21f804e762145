"""The planted log of interests: its truth, its knobs, and that it can be learned."""

import numpy as np
import pytest

from tailor.data.examples import Outcome
from tailor.errors import DataError
from tailor.worlds.interests import interests

SMALL = {"people": 200, "items": 120, "groups": 12, "length": 30, "slate": 6}


def correlation(world, values):
    return np.corrcoef(world.probabilities, values)[0, 1]


def shown_rows(world):
    examples = Outcome("shown", length=10_000).learn(world.data, np.random.default_rng(0))
    assert len(examples) == len(world.probabilities)
    return examples


def test_the_same_arguments_give_the_same_log():
    one, other = interests(**SMALL, seed=3), interests(**SMALL, seed=3)
    assert one.data.provenance == other.data.provenance
    assert one.data.provenance != interests(**SMALL, seed=4).data.provenance


def test_choices_follow_the_earlier_events_of_the_items_group():
    world = interests(**SMALL)
    examples = shown_rows(world)
    histories = examples.queries.histories
    asked = world.groups[examples.items]
    same = world.groups[histories.values] == asked[histories.row_ids]
    counts = np.bincount(histories.row_ids, same, len(examples))
    assert correlation(world, counts / (counts + 4)) > 0.85
    assert abs(examples.labels.mean() - world.probabilities.mean()) < 0.02


def test_items_of_the_catalogue_have_the_groups_that_the_table_names():
    world = interests(**SMALL)
    named = dict(world.data.tables["items"].select("item_id", "group").iter_rows())
    rows = world.data.catalogue.rows(list(named))
    assert [f"group {group}" for group in world.groups[rows]] == list(named.values())
    assert "group" not in interests(**SMALL, visible=False).data.tables["items"].columns


def test_with_worth_the_sign_of_an_item_counts():
    world = interests(**SMALL, worth=1.0)
    examples = shown_rows(world)
    histories = examples.queries.histories
    asked = world.groups[examples.items]
    same = world.groups[histories.values] == asked[histories.row_ids]
    signs = np.bincount(
        histories.row_ids, same * world.worths[histories.values], len(examples)
    ) / np.maximum(np.bincount(histories.row_ids, same, len(examples)), 1)
    assert correlation(world, signs * world.worths[examples.items]) > 0.95
    assert (interests(**SMALL).worths == 1).all()


def test_interests_come_in_pairs_and_are_hidden_as_the_knobs_say():
    world = interests(**SMALL, own=2, together=1.0)
    likes = world.likes
    assert (likes[:, 0::2] == likes[:, 1::2]).mean() > 0.95
    hidden = interests(**SMALL, own=4, hidden=0.5, noise=0.0)
    events = hidden.data.events.filter(hidden.data.events["request_id"].is_null())
    users = hidden.data.users.codes(events["user_id"])
    groups = hidden.groups[hidden.data.catalogue.codes(events["item_id"])]
    logged = np.zeros_like(hidden.likes)
    logged[users, groups] = True
    assert not (logged & ~hidden.likes).any()
    assert 0.3 < (hidden.likes & ~logged).sum() / hidden.likes.sum() < 0.6


def test_bursts_are_of_one_group():
    world = interests(**SMALL, burst=10, noise=0.0, visits=1)
    events = world.data.events.filter(world.data.events["request_id"].is_null()).sort("time_ms")
    groups = world.groups[world.data.catalogue.codes(events["item_id"])]
    users = world.data.users.codes(events["user_id"])
    order = np.argsort(users, kind="stable")
    by_person = groups[order].reshape(SMALL["people"], 3, 10)
    assert (by_person == by_person[:, :, :1]).all()


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(DataError, match="own at most groups"):
        interests(groups=3, own=4)
