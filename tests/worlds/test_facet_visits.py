"""The planted log of visits: slates ignore likes, actions follow them, and lists have a worth."""

import numpy as np
import polars as pl
import pytest

from tailor.errors import DataError
from tailor.worlds.facet_visits import LEAST, MOST, facet_visits

SMALL = {"people": 80, "visits": 5}


def shown_rows(world):
    """Return (requests, S) the item rows of each slate, and the row of each request's user."""
    shown = world.data.tables["impressions"].join(
        world.data.tables["requests"].select("request_id", "user_id", "time_ms"), on="request_id"
    )
    shown = shown.sort("time_ms", "request_id", "position")
    slate = int(shown["position"].max()) + 1
    rows = world.data.catalogue.rows(shown["item_id"].to_list()).reshape(-1, slate)
    return rows, world.data.users.rows(shown["user_id"].to_list()[::slate])


def test_the_same_arguments_give_the_same_log():
    one, other = facet_visits(**SMALL, seed=3), facet_visits(**SMALL, seed=3)
    assert one.data.content_hash == other.data.content_hash
    assert one.data.content_hash != facet_visits(**SMALL, seed=4).data.content_hash


def test_slates_follow_the_ways_and_ignore_likes():
    world = facet_visits(people=300, visits=5, noise=0.0)
    rows, users = shown_rows(world)
    codes = world.truth.items.codes[rows]
    assert (codes[:, :, 0] == world.truth.ways[users, 0, 0][:, None]).all()
    assert (codes[:, :, 1] == codes[:, :1, 1]).all()
    assert all(len(set(slate)) == len(slate) for slate in rows.tolist())
    likes = world.truth.likes[users[:, None], 2, codes[:, :, 2]]
    assert likes.mean() == pytest.approx(2 / 6, abs=0.02)
    assert (world.truth.likes.sum(axis=2) == [0, 0, 2, 2]).all()


def test_noise_shows_any_item():
    world = facet_visits(people=300, visits=5, noise=0.5)
    rows, users = shown_rows(world)
    kinds = world.truth.items.codes[rows][:, :, 0]
    own = kinds == world.truth.ways[users, 0, 0][:, None]
    assert own.mean() == pytest.approx(0.5 + 0.5 / 6, abs=0.03)


def test_actions_are_as_probable_as_is_said():
    world = facet_visits(people=1_500, visits=5)
    rows, users = shown_rows(world)
    wanted = world.truth.probabilities(np.arange(1_500))[users[:, None], rows].sum(axis=(0, 1))
    counts = dict(world.data.events["action"].value_counts().iter_rows())
    actual = [counts[action] for action in ("click", "cart", "order")]
    assert actual == pytest.approx(wanted, rel=0.05)


def test_an_order_follows_a_cart_and_a_cart_a_click():
    events = facet_visits(**SMALL).data.events.sort("time_ms")
    by_item = events.group_by("request_id", "item_id", maintain_order=True).agg("action", "time_ms")
    whole = ["click", "cart", "order"]
    for actions, times in by_item.select("action", "time_ms").iter_rows():
        assert actions == whole[: len(actions)]
        assert len(set(times)) == len(times)


def test_events_are_of_shown_items_after_their_request():
    world = facet_visits(**SMALL)
    shown = world.data.tables["impressions"].select("request_id", "item_id")
    events = world.data.events
    assert len(events.join(shown, on=["request_id", "item_id"], how="inner")) == len(events)
    requests = world.data.tables["requests"].select(
        "request_id", pl.col("user_id").alias("asked_by"), pl.col("time_ms").alias("asked_ms")
    )
    joined = events.join(requests, on="request_id")
    assert (joined["user_id"] == joined["asked_by"]).all()
    assert (joined["time_ms"] > joined["asked_ms"]).all()


def test_utility_by_hand():
    world = facet_visits(**SMALL)
    truth = world.truth
    colours = np.flatnonzero(truth.likes[4, 2])
    shapes = np.flatnonzero(truth.likes[4, 3])
    disliked = np.flatnonzero(~truth.likes[4, 2])[0]

    def row(kind, colour, shape):
        return int(np.flatnonzero(truth.items.matching(np.array([kind, 0, colour, shape]))[0])[0])

    both = row(0, colours[0], shapes[0])
    same_look = row(1, colours[0], shapes[0])
    half = row(0, disliked, shapes[1])
    best, middle = MOST.prod(), ((LEAST + MOST) / 2).prod()
    lists = np.array([[both, half], [both, both], [both, -1], [both, same_look]])
    people = np.full(4, 4)
    wanted = [(best + middle) / 2, best / 2, best / 2, best]
    assert truth.utility(people, lists) == pytest.approx(wanted)
    wanted[3] = (best + 0.25 * best) / 2
    assert truth.utility(people, lists, variety=0.75) == pytest.approx(wanted)


def test_the_best_lists_are_worth_more_than_what_was_shown():
    world = facet_visits(**SMALL, noise=0.0)
    truth = world.truth
    rows, users = shown_rows(world)
    best = truth.best(np.arange(80), -1, 6)
    assert truth.items.matching(truth.ways[:, -1])[np.arange(80)[:, None], best].all()
    shown = truth.utility(users, rows).mean()
    assert truth.utility(np.arange(80), best).mean() > 2 * shown


def test_labels_name_the_actions():
    data = facet_visits(**SMALL).data
    assert data.where("order").sum() == (data.events["action"] == "order").sum()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"slate": 0}, "slate 0"),
        ({"liked": ()}, "liked"),
        ({"liked": ("maker",)}, '"maker" is in two of'),
        ({"liked": ("size",)}, 'liked "size" is no facet'),
        ({"slate": 9, "values": (2, 2, 2), "liked": ("colour",)}, "there are 8 items"),
    ],
)
def test_what_cannot_be_is_named(settings, message):
    with pytest.raises(DataError, match=message):
        facet_visits(**(SMALL | settings))
