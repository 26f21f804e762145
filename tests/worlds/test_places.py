"""The planted town: visits fall into opening hours, near favourites are likelier."""

import numpy as np
import pytest

from tailor.errors import DataError
from tailor.worlds.places import HOUR_MS, places


def test_visits_fall_into_opening_hours():
    world = places(people=60, items=40, visits=20)
    rows = world.data.sequences.rows.values
    hours = world.data.sequences.times_ms.values // HOUR_MS % 24
    assert world.is_open[rows, hours].all()
    assert (world.is_open.sum(axis=1) == 10).all()
    assert places(people=60, items=40, visits=20).data.content_hash == world.data.content_hash


def test_people_return_to_favourites():
    world = places(people=60, items=40, visits=20, favourites=5)
    rows = world.data.sequences.rows
    assert rows.distinct().lengths.max() <= 5
    assert world.data.item_table["lat"].is_not_null().all()
    assert np.diff(world.data.sequences.times_ms[0]).min() >= 0


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(DataError):
        places(open_hours=25)
