"""Events that are added to a log."""

import numpy as np
import polars as pl
import pytest

from tailor.data.dataset import Dataset
from tailor.data.noise import with_random_events, with_repeated_events
from tailor.errors import DataError
from tailor.testing.data import tiny_data

DATA = tiny_data()


def pairs(data):
    return set(data.events.select("user_id", "item_id").iter_rows())


def test_random_events_are_as_many_as_asked_for_and_of_any_item():
    noisy = with_random_events(DATA, 0.5, np.random.default_rng(0))
    assert len(noisy.events) == round(1.5 * len(DATA.events))
    assert pairs(DATA) < pairs(noisy)
    assert noisy.catalogue is DATA.catalogue and noisy.users is DATA.users
    columns = ("user_id", "time_ms")
    added = noisy.events.join(DATA.events, on=[*columns, "item_id"], how="anti")
    assert len(added) > 0.8 * 0.5 * len(DATA.events)
    assert set(added.select(*columns).iter_rows()) <= set(DATA.events.select(*columns).iter_rows())


def test_repeated_events_tell_nothing_new():
    repeated = with_repeated_events(DATA, 0.5, np.random.default_rng(0))
    assert len(repeated.events) == round(1.5 * len(DATA.events))
    assert pairs(repeated) == pairs(DATA)


def test_the_log_itself_stays_and_a_share_below_0_is_refused():
    before = DATA.content_hash
    assert len(with_random_events(DATA, 0, np.random.default_rng(0)).events) == len(DATA.events)
    assert DATA.content_hash == before
    with pytest.raises(DataError, match=r"share is -0\.1"):
        with_random_events(DATA, -0.1, np.random.default_rng(0))


def test_ids_of_events_are_not_given_twice():
    events = DATA.events.with_columns(event_id=pl.int_range(pl.len()).cast(pl.String))
    data = Dataset({**DATA.tables, "events": events})
    noisy = with_random_events(data, 0.2, np.random.default_rng(0))
    assert "event_id" not in noisy.events.columns
