from itertools import product

import numpy as np
import polars as pl
import pytest

from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.nouns import History, Query
from tailor.errors import DataError
from tailor.papers.ranking.wireless_personalization import (
    Problem,
    WirelessPersonalization,
    greedy,
)
from tailor.worlds.levels import levels

ZONES = {"amount": "amount", "context": "use", "population": 24, "generations": 10}
IDS = [f"level-{level}" for level in range(1, 11)]


@pytest.fixture(scope="module")
def world():
    return levels(users=120, noise=0.05, seed=1)


@pytest.fixture(scope="module")
def log(world):
    rng = np.random.default_rng(0)
    return world.feedback(rng.integers(10, size=(120, 6)), rng)


@pytest.fixture(scope="module")
def method(log):
    return WirelessPersonalization(**ZONES, explore=0.0).fit(log, Run(seed=0))


def queries_of(log, world):
    return log.queries(world.user_ids, columns=["values"])


def test_satisfaction_never_falls_with_the_level(method, log, world):
    predicted = np.array(method.predict(queries_of(log, world), [IDS] * 120))
    assert (np.diff(predicted, axis=1) >= -1e-9).all()
    assert predicted.min() >= 0 and predicted.max() <= 1


def test_own_feedback_moves_a_curve_and_more_of_it_moves_it_further(method):
    late = History(("level-7",), values=(0.0,))
    often = History(("level-7",) * 6, values=(0.0,) * 6)
    nothing = Query(context={"use": "video"})
    once, six = (Query(history=h, context={"use": "video"}) for h in (late, often))
    shared, moved, far = (p.mean() for p in method.predict([nothing, once, six], [IDS] * 3))
    assert far < moved < shared


def test_the_narrower_users_are_spread_the_less_a_curve_moves(method):
    narrow = method._with_state()
    narrow.spread = 0.03
    odd = Query(history=History(("level-9",), values=(0.0,)), context={"use": "mail"})
    shared = method.predict([Query(context={"use": "mail"})], [IDS])[0].mean()
    moved = shared - method.predict([odd], [IDS])[0].mean()
    hardly = shared - narrow.predict([odd], [IDS])[0].mean()
    assert 0 < 3 * hardly < moved


def test_own_curves_are_nearer_to_the_truth_than_one_for_all(method, log, world):
    queries, truth = queries_of(log, world), world.satisfaction()
    one = WirelessPersonalization(amount="amount", spread=0.0).fit(log)
    by_use = WirelessPersonalization(amount="amount", context="use", spread=0.0).fit(log)
    errors = [
        np.abs(np.array(m.predict(queries, [IDS] * 120)) - truth).mean()
        for m in (method, by_use, one)
    ]
    assert errors[0] < 0.8 * errors[1] < errors[1] < errors[2]


def test_contexts_have_zones_of_their_own_and_few_events_are_drawn_to_all(method, world, log):
    mail, games, unknown = (Query(context={"use": use}) for use in ("mail", "games", "chess"))
    zones = method.zones([mail, games, unknown])
    assert (zones[0] + 2 < zones[1]).all()
    assert (zones[:, 0] < zones[:, 1]).all()
    drawn = WirelessPersonalization(**{**ZONES, "shared": 1e9}).fit(log)
    curves = np.array(drawn.predict([mail, games, unknown], [IDS] * 3))
    assert np.allclose(curves[0], curves[2], atol=1e-3)


def test_unknown_levels_take_the_mean_amount(method):
    query = Query(context={"use": "music"})
    at_mean = method.predict([query], [["level-5"]])[0] + method.predict([query], [["level-6"]])[0]
    unknown = method.predict([query], [["no such level"]])[0]
    assert unknown == pytest.approx(at_mean / 2, abs=0.1)


def test_an_allocation_stays_within_its_capacity_and_reports_itself(method, log, world):
    allocation = method.allocate(queries_of(log, world), capacity=480, run=Run(seed=0))
    amounts = np.array([int(level.removeprefix("level-")) for level in allocation.level_ids])
    assert allocation.amounts.tolist() == amounts.tolist()
    assert amounts.sum() <= 480
    predicted = np.array(method.predict(queries_of(log, world), [IDS] * 120))
    assert np.allclose(allocation.satisfaction, predicted[np.arange(120), amounts - 1])
    assert allocation.worst == np.percentile(allocation.satisfaction, 5)
    assert (np.diff(allocation.front[:, 0]) <= 0).all()
    assert (np.diff(allocation.front[:, 1]) <= 0).all()


def test_allocations_beat_one_level_for_all_by_the_truth(method, log, world):
    allocation = method.allocate(queries_of(log, world), capacity=480, run=Run(seed=0))
    levels_chosen = allocation.amounts.astype(int) - 1
    felt = world.satisfaction()[np.arange(120), levels_chosen].mean()
    assert felt > world.satisfaction()[:, 3].mean() + 0.1


def test_a_floor_serves_the_worst_better(method, log, world):
    queries = queries_of(log, world)
    free = method.allocate(queries, capacity=480, run=Run(seed=0))
    floored = method.allocate(queries, capacity=600, floor=0.4, run=Run(seed=0))
    assert free.worst < 0.4 <= floored.worst


def test_allocations_over_the_capacity_or_below_the_floor_break_a_constraint():
    satisfaction = np.tile([0.0, 0.5, 1.0], (4, 1))
    problem = Problem(satisfaction, np.array([1.0, 2.0, 3.0]), capacity=8.0, floor=0.4)
    points = np.array([[1.0, 1, 1, 1], [2, 2, 2, 2], [0.2, 0.4, 0, 0]])
    objectives, violations = problem.evaluate(points)
    assert objectives.tolist() == [[-0.5, 8], [-1, 12], [0, 4]]
    assert violations.tolist() == pytest.approx([0, 0.5, 0.4])


def test_the_floor_spares_the_dearest_users_and_the_optimum_climbs_from_it():
    satisfaction = np.tile([0.0, 0.5, 0.6, 1.0], (41, 1))
    satisfaction[:2] = [0.0, 0.1, 0.2, 1.0]  # two of 41 are dear to serve
    amounts = np.array([1.0, 2.0, 3.0, 9.0])
    floors = [0, 0] + [1] * 39  # these take 80
    for capacity, first in ((80.0, floors), (88.0, [3, *floors[1:]])):
        problem = Problem(satisfaction, amounts, capacity, floor=0.5)
        assert problem.start(4)[0].tolist() == first
        _, violations = problem.evaluate(problem.start(4)[:1])
        assert violations.tolist() == [0]


def test_the_optimum_reaches_the_floor_before_it_serves_others_better():
    satisfaction = np.array([[0.0, 0.6, 1.0], [0.0, 0.05, 0.5]])
    amounts = np.array([1.0, 2.0, 3.0])
    assert greedy(satisfaction, amounts, 5.0).tolist() == [2, 0]
    problem = Problem(satisfaction, amounts, 5.0, floor=0.5)
    assert problem.start(2)[0].tolist() == [1, 2]


def test_points_are_picked_by_target_and_knee(method, log, world):
    queries = queries_of(log, world)
    most = method.allocate(queries, 900, run=Run(seed=0))
    knee = method.allocate(queries, 900, pick="knee", run=Run(seed=0))
    cheap = method.allocate(queries, 900, pick=0.4, run=Run(seed=0))
    assert cheap.amounts.sum() < knee.amounts.sum() < most.amounts.sum()
    assert 0.4 <= cheap.satisfaction.mean() < knee.satisfaction.mean() < most.satisfaction.mean()
    with pytest.raises(DataError, match="pick is 'best'"):
        method.allocate(queries, 900, pick="best")


def test_exploring_moves_a_share_of_users_by_one_level(log, world):
    method = WirelessPersonalization(**ZONES, explore=0.3).fit(log, Run(seed=0))
    queries = queries_of(log, world)
    allocation = method.allocate(queries, capacity=480, run=Run(seed=0))
    still = method._with_state()
    still.explore = 0.0
    fixed = still.allocate(queries, capacity=480, run=Run(seed=0))
    difference = allocation.amounts - fixed.amounts
    assert set(np.abs(difference).tolist()) == {0.0, 1.0}
    assert 0.1 < (difference != 0).mean() < 0.35
    assert allocation.amounts.sum() <= 480
    assert (fixed.propensities == 1).all()


def test_propensities_are_the_frequencies_of_the_levels(log, world):
    method = WirelessPersonalization(**ZONES, explore=0.3).fit(log, Run(seed=0))
    _, satisfaction, order = method._table(queries_of(log, world))
    problem = Problem(satisfaction[:, order], method.amounts_[order], 480, 0.0)
    levels = np.clip(np.arange(len(satisfaction)) % 12 - 1, 0, 9)
    explored, propensities = method._explored(levels, problem, Run(seed=1))
    rng = np.random.default_rng(5)
    draws = [method._moved(levels, problem, rng) == explored for _ in range(800)]
    assert np.abs(np.mean(draws, axis=0) - propensities).max() < 0.15
    assert propensities[(levels == 0) & (explored == 0)].mean() > 0.8, "nobody goes below the least"


@pytest.mark.parametrize(("floor", "message"), [(0.9, "lower the floor"), (1.0, "lower|less")])
def test_a_floor_beyond_the_capacity_is_refused(log, world, floor, message):
    method = WirelessPersonalization(**ZONES).fit(log, Run(seed=0))
    queries = queries_of(log, world)
    with pytest.raises(DataError, match=message):
        method.allocate(queries, capacity=len(queries) * 1.5, floor=floor)


def test_the_greedy_optimum_is_that_of_all_choices_where_its_steps_end():
    rng = np.random.default_rng(0)
    amounts = np.array([1.0, 2.0, 4.0, 5.0])
    for _ in range(20):
        satisfaction = np.sort(rng.random((4, 4)), axis=1)
        chosen = greedy(satisfaction, amounts, 11.0)
        used = amounts[chosen].sum()
        best = max(
            satisfaction[np.arange(4), list(choice)].sum()
            for choice in product(range(4), repeat=4)
            if amounts[list(choice)].sum() <= used
        )
        assert used <= 11
        assert satisfaction[np.arange(4), chosen].sum() == pytest.approx(best)


def test_a_capacity_below_the_smallest_levels_is_refused(method, log, world):
    with pytest.raises(DataError, match="smallest levels take 120"):
        method.allocate(queries_of(log, world), capacity=100)


def test_levels_without_amounts_and_logs_without_feedback_are_refused(log):
    with pytest.raises(DataError, match='"speed"'):
        WirelessPersonalization(amount="speed").fit(log)
    silent = log.events.with_columns(value=pl.lit(None, pl.Float64))
    with pytest.raises(DataError, match="nobody said"):
        WirelessPersonalization(amount="amount").fit(Dataset({**log.tables, "events": silent}, "x"))


@pytest.mark.parametrize("settings", [{"highest": 0.0}, {"explore": 1.0}, {"population": 1}])
def test_bad_settings_are_refused(settings):
    with pytest.raises(DataError, match=next(iter(settings))):
        WirelessPersonalization(**settings)
