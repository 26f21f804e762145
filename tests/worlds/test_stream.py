"""The planted stream: items change when and as much as is said."""

import numpy as np
import pytest

from tailor.errors import DataError
from tailor.worlds.stream import stream

SMALL = {"people": 30, "items": 20, "rows": 2_000}


def test_the_same_arguments_give_the_same_stream():
    first, again, other = (stream(**SMALL, seed=seed) for seed in (0, 0, 1))
    assert first.data.content_hash == again.data.content_hash != other.data.content_hash


def test_a_share_of_the_items_changes_at_each_jump():
    world = stream(**SMALL, jumps=(0.4, 0.6), share=0.25)
    assert world.jumps.tolist() == [800, 1200]
    assert ((np.diff(world.effects, axis=1) != 0).sum(axis=0) == 5).all()
    assert (np.diff(stream(**SMALL, share=0.0).effects, axis=1) == 0).all()


def test_values_follow_the_effects_of_their_period():
    world = stream(people=30, items=4, rows=40_000, jumps=(0.5,), share=1.0, size=2.0, tastes=1)
    values = world.data.events["value"].to_numpy()
    rows = world.data.catalogue.codes(world.data.events["item_id"])
    for item in range(4):
        early, late = (
            values[half][rows[half] == item].mean()
            for half in (slice(0, 20_000), slice(20_000, None))
        )
        odds = np.log(late / (1 - late)) - np.log(early / (1 - early))
        assert odds == pytest.approx(np.diff(world.effects[item])[0], abs=0.15)
    assert abs(values.mean() - world.probabilities.mean()) < 0.01


def test_jumps_out_of_order_are_refused():
    with pytest.raises(DataError, match="ascending"):
        stream(jumps=(0.6, 0.5))
