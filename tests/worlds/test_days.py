"""The planted days: routines by the hour, answers after cues, noise that nothing foretells."""

import numpy as np
import pytest

from tailor.data.moments import moments_of
from tailor.errors import DataError
from tailor.worlds.days import ANSWER, COMMON, CUE, NOISE, SLOT_HOURS, days


def test_a_day_has_an_event_in_each_slot():
    world = days(people=40, length=5)
    sequences = world.data.sequences
    assert (sequences.rows.lengths == 5 * len(SLOT_HOURS)).all()
    hours = moments_of(sequences.times_ms.values).hour.reshape(40, 5, -1)
    assert (hours == np.array(SLOT_HOURS)).all()
    assert days(people=40, length=5).data.content_hash == world.data.content_hash
    assert days(people=40, length=5, seed=1).data.content_hash != world.data.content_hash


def test_answers_follow_their_cues_and_nothing_else():
    world = days(people=200)
    rows = world.data.sequences.rows.values.reshape(200, -1)
    kinds = world.kinds[rows]
    before, after = rows[:, :-1], rows[:, 1:]
    is_cue = kinds[:, :-1] == CUE
    answered = world.answers[before] == after
    assert 0.85 < answered[is_cue].mean() < 0.95
    is_answer = kinds[:, 1:] == ANSWER
    assert (answered[is_answer]).all()
    assert (world.answers >= 0).sum() == (world.kinds == CUE).sum() == 12


def test_noise_is_as_rare_as_what_can_be_learned():
    world = days(people=200)
    rows = world.data.sequences.rows.values
    counts = np.bincount(rows, minlength=len(world.kinds))
    means = [counts[world.kinds == kind].mean() for kind in (COMMON, CUE, ANSWER, NOISE)]
    assert max(means[1:]) < 1.3 * min(means[1:]) < 0.1 * means[0]


def test_users_have_habits_for_each_hour():
    rows = days(people=50, length=20).data.sequences.rows.values.reshape(50, 20, -1)
    most = [np.bincount(rows[user, :, 0]).max() for user in range(50)]
    assert 0.5 < np.mean(most) / 20 < 0.85


@pytest.mark.parametrize("settings", [{"people": 0}, {"rare": 0.5, "noise": 0.5}])
def test_sizes_that_cannot_be_are_refused(settings):
    with pytest.raises(DataError):
        days(**settings)
