"""The planted ring: interests move as time passes, and the last pauses are whole."""

import numpy as np
import pytest

from tailor.data.splits import last_out
from tailor.errors import DataError
from tailor.worlds.ring import DAY_MS, ring


def event_groups(world):
    return world.groups[world.data.sequences.rows.values]


def distance(places, groups, size):
    """Return how far the middle of a group is from a place round the ring."""
    apart = np.abs(places - (groups + 0.5)) % size
    return np.minimum(apart, size - apart)


def test_the_same_arguments_give_the_same_log():
    first, second = ring(users=50, seed=3), ring(users=50, seed=3)
    assert first.data.provenance == second.data.provenance
    assert first.data.provenance != ring(users=50, seed=4).data.provenance


def test_events_are_where_the_interest_is_but_for_a_share():
    world = ring(users=300, seed=1)
    sequences = world.data.sequences
    users = sequences.rows.row_ids
    interest = world.interest_at(sequences.times_ms.values[None])[users, np.arange(len(users))]
    near = distance(interest, event_groups(world), 24) < 1.7
    # the others are of any group, of which about a seventh is near by chance
    assert near.mean() == pytest.approx(0.7 + 0.3 * 3.4 / 24, abs=0.02)


def test_how_far_a_user_moves_depends_on_the_pause():
    world = ring(users=400, off=0.0, seed=2)
    rows = world.data.sequences.rows
    last = rows.offsets[1:] - 1
    groups = event_groups(world)
    # events lie around the interest: a short pause may look like a step back
    moved = (groups[last] - groups[last - 1] + 4) % 24 - 4
    times = world.data.sequences.times_ms.values
    days = (times[last] - times[last - 1]) / DAY_MS
    assert days.min() > 0.99 and days.max() < 20.01
    assert np.corrcoef(days, moved)[0, 1] > 0.85
    speeds = moved[days > 10] / days[days > 10]
    assert speeds.mean() == pytest.approx(0.5, abs=0.05)


def test_validation_and_test_are_sessions_of_one_event():
    world = ring(users=60, sessions=5, events=3)
    rows = world.data.sequences.rows
    assert set(rows.lengths.tolist()) == {3 * 3 + 2}
    queries, _ = last_out(world.data).queries("test")
    times = queries.columns["times_ms"]
    pauses = queries.now_ms - times.values[times.offsets[1:] - 1]
    assert pauses.min() > 0.99 * DAY_MS


@pytest.mark.parametrize("sizes", [{"sessions": 2}, {"users": 0}, {"events": 0}])
def test_sizes_that_cannot_be_are_refused(sizes):
    with pytest.raises(DataError, match="at least 1 each, and 3 sessions"):
        ring(**sizes)
