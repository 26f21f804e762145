"""The planted feed: what was put in can be found."""

import numpy as np
import pytest

from tailor.errors import DataError
from tailor.worlds.feed import feed


def test_the_same_arguments_give_the_same_data_and_others_do_not():
    assert (
        feed(60, 60, 1).data.content_hash
        == feed(60, 60, 1).data.content_hash
        != feed(60, 60, 2).data.content_hash
    )


def test_views_are_worth_what_is_said():
    world = feed(600, 100, views=2.0)
    views = np.log(world.data.item_table["views"].to_numpy() + 1.0)
    assert np.corrcoef(views, world.views_worth)[0, 1] > 0.99
    shown = world.data.tables["impressions"].group_by("item_id").len()
    times = dict(shown.iter_rows())
    engaged = np.bincount(world.data.sequences.rows.values, minlength=100) / np.array(
        [times[one] for one in world.data.catalogue.ids]
    )
    top, low = world.views_worth > 1, world.views_worth < -1
    assert engaged[top].mean() > 2 * engaged[low].mean()
    flat = feed(600, 100, views=0.0)
    assert not flat.views_worth.any()


def test_every_event_was_shown_first():
    world = feed(100, 60)
    shown = set(world.data.tables["impressions"].select("request_id", "item_id").iter_rows())
    assert set(world.data.events.select("request_id", "item_id").iter_rows()) <= shown


def test_too_few_are_refused():
    with pytest.raises(DataError):
        feed(posts=10)
