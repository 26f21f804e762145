"""The planted map: overlaps, purposes, and that what is useful is what may be taken."""

import numpy as np
import pytest

from tailor.errors import DataError
from tailor.worlds.routes import ALIKE, routes

SMALL = {"requests": 300, "asked": 200, "places": 20}


def test_routes_of_a_corridor_share_more_than_others():
    world = routes(**SMALL)
    table = world.data.item_table
    segments = dict(zip(table["item_id"].to_list(), table["segments"].to_list(), strict=True))
    assert {name: frozenset(parts) for name, parts in segments.items()} == world.segments
    ids = world.candidates[0].ids
    overlaps = sorted(world.overlap(a, b) for i, a in enumerate(ids) for b in ids[:i])
    # 12 pairs are of one corridor, 54 of two, which meet at the ends alone
    assert overlaps[53] == pytest.approx(2 / 22) and overlaps[54] > 0.25
    assert world.overlap(ids[0], ids[0]) == 1


def test_without_noise_everybody_takes_a_useful_route():
    world = routes(**SMALL, noise=0.0)
    assert all(taken in useful for taken, useful in zip(world.taken, world.useful, strict=True))
    by_request = {}
    for query, ranking, useful in zip(world.queries, world.candidates, world.useful, strict=True):
        key = (query.context["purpose"], frozenset(ranking.ids))
        assert by_request.setdefault(key, useful) == useful
        assert useful <= set(ranking.ids)


def test_purposes_are_open_to_one_to_four_tastes():
    world = routes(requests=10, asked=800, places=3, noise=0.0)
    most = {}
    for query, useful in zip(world.queries, world.useful, strict=True):
        purpose = query.context["purpose"]
        most[purpose] = max(most.get(purpose, 0), len(useful))
    assert [most[f"purpose {number}"] == 1 for number in range(8)] == [
        True,
        False,
        False,
        False,
    ] * 2
    assert max(most.values()) <= 4


def test_routes_that_are_one_are_counted_once():
    world = routes(**SMALL, seed=2)
    pair = next(
        (a, b)
        for ranking in world.candidates
        for i, a in enumerate(ranking.ids)
        for b in ranking.ids[:i]
        if world.overlap(a, b) > ALIKE
    )
    assert world.different(frozenset(pair)) == 1
    ids = world.candidates[0].ids
    far = next(b for b in ids if world.overlap(ids[0], b) < 0.2)
    assert world.different(frozenset({ids[0], far})) == 2


def test_the_log_holds_every_route_shown_in_any_order():
    world = routes(**SMALL)
    impressions = world.data.tables["impressions"]
    assert len(impressions) == 300 * 12
    chosen = world.data.events.join(impressions, on=["request_id", "item_id"])
    assert len(chosen) == 300
    assert 4 < chosen["position"].to_numpy().mean() < 7  # the answer stands anywhere


def test_the_same_arguments_give_the_same_map():
    one, other = routes(**SMALL, seed=3), routes(**SMALL, seed=3)
    assert one.data.content_hash == other.data.content_hash and one.taken == other.taken
    assert one.data.content_hash != routes(**SMALL, seed=4).data.content_hash


def test_sizes_that_cannot_be_are_named():
    with pytest.raises(DataError, match="tastes 3"):
        routes(tastes=3)


def test_features_are_those_of_the_corridor_mostly():
    world = routes(**SMALL, spread=0.0)
    minutes = dict(world.data.item_table.select("item_id", "minutes").iter_rows())
    ids = world.candidates[0].ids
    assert len({minutes[route] for route in ids}) == 4
    assert np.std(list(minutes.values())) == pytest.approx(1.0, abs=0.3)
