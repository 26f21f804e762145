"""Playing a recommender in a world: what it is fitted to, what is counted."""

import numpy as np
import pytest

from tailor.core.run import Run
from tailor.errors import DataError
from tailor.retrieval.popularity import Popularity
from tailor.worlds.play import play
from tailor.worlds.slates import Slates


def small():
    return Slates(people=20, items=30, groups=4, size=5, warm=2)


def test_each_round_is_fitted_to_all_that_was_shown_before_it():
    world = small()
    logs = []
    whole_log = world.log
    world.log = lambda: logs.append(whole_log()) or logs[-1]
    method = Popularity()
    played = play(world, method, rounds=3, run=Run(workers=1), steps=2)
    assert [len(log.tables["requests"]) for log in logs] == [40, 80, 120]
    assert played.rewards.shape == (6, 20) and len(played.lists) == 6
    assert played.method.trained_on_.data_hash == logs[-1].content_hash
    assert not method.is_fitted


def test_rewards_are_the_choices_of_the_log():
    world = small()
    before = len(world.log().events)
    played = play(world, Popularity(), rounds=2, run=Run(workers=1), steps=2)
    assert played.rewards.sum() == len(world.log().events) - before
    shown = played.lists[-1].reindexed(world.catalogue).rows
    assert shown.shape == (20, 5) and (np.sort(shown, axis=1)[:, 1:] > 0).all()


def test_no_round_is_refused():
    with pytest.raises(DataError, match="rounds is 0"):
        play(small(), Popularity(), rounds=0)
