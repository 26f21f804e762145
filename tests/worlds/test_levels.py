import numpy as np
import pytest

from tailor.errors import DataError
from tailor.worlds.levels import STARTS, USES, levels


def test_satisfaction_is_nothing_below_the_zone_and_all_above_it():
    world = levels(users=50, levels=10)
    truth = world.satisfaction()
    shares = np.arange(1, 11) / 10
    assert (truth[shares[None] <= world.adequate[:, None]] == 0).all()
    assert (truth[shares[None] >= world.desired[:, None]] == 1).all()
    middle = (world.adequate + world.desired) / 2
    fine = levels(users=50, levels=1000).satisfaction()
    nearest = np.rint(middle * 1000).astype(int) - 1
    assert np.allclose(fine[np.arange(50), nearest], 0.5, atol=0.01)


def test_zones_are_those_of_the_use_where_users_do_not_differ():
    world = levels(users=60, deviation=0.0)
    assert {(use, start) for use, start in zip(world.uses, world.adequate, strict=True)} == set(
        zip(USES, STARTS, strict=True)
    )


def test_feedback_is_satisfaction_with_noise():
    world = levels(users=400, noise=0.1)
    felt = np.tile(np.arange(10), (400, 1))
    data = world.feedback(felt, np.random.default_rng(0), step=5)
    assert len(data.events) == 4000
    truth = world.satisfaction()
    row_of = {user_id: row for row, user_id in enumerate(world.user_ids)}
    errors = [
        value - truth[row_of[user_id], world.level_ids.index(item_id)]
        for user_id, item_id, value in data.events.select("user_id", "item_id", "value").iter_rows()
    ]
    assert 0.02 < np.abs(errors).mean() < 0.1  # cut off at 0 and 1
    assert abs(np.mean(errors)) < 0.02
    exact = levels(users=3, noise=0.0)
    data = exact.feedback(np.full((3, 1), 9), np.random.default_rng(0))
    assert data.events["value"].to_list() == exact.satisfaction()[:, 9].tolist()
    assert data.tables["items"]["amount"].to_list() == list(range(1, 11))


def test_impossible_worlds_are_refused():
    with pytest.raises(DataError, match="deviation -1"):
        levels(deviation=-1)
