import numpy as np
import pytest

from tailor.ranking.pareto import crossed, crowding, dominates, front_numbers, nsga2

POINTS = np.array([[1.0, 4.0], [2.0, 2.0], [4.0, 1.0], [3.0, 3.0], [4.0, 4.0], [2.0, 2.0]])


def test_fronts_of_points_worked_out_by_hand():
    assert front_numbers(POINTS, np.zeros(6)).tolist() == [0, 0, 0, 1, 2, 0]
    beats = dominates(POINTS, np.zeros(6))
    assert beats[1, 3] and not beats[3, 1]
    assert not beats[1, 5] and not beats[0, 1]


def test_a_point_within_the_constraints_beats_any_that_breaks_them():
    violations = np.array([0.5, 0.2, 0.0, 0.0, 0.0, 0.0])
    assert front_numbers(POINTS, violations).tolist() == [4, 3, 0, 1, 2, 0]
    beats = dominates(POINTS, violations)
    assert beats[4, 1] and beats[1, 0] and not beats[0, 1]


def schaffer(points):
    """Return the objectives x^2 and (x - 2)^2, whose best points are x from 0 to 2."""
    x = points[:, 0]
    return np.column_stack([x**2, (x - 2) ** 2]), np.zeros(len(x))


def test_the_front_of_a_known_problem_is_found():
    rng = np.random.default_rng(0)
    front = nsga2(schaffer, np.array([-50.0]), np.array([50.0]), rng, 40, 60)
    x = front.points[:, 0]
    assert x.min() > -0.05 and x.max() < 2.05
    assert x.min() < 0.1 and x.max() > 1.9
    assert np.diff(np.sort(x)).max() < 0.3  # spread, by the crowding distance
    assert (np.diff(front.objectives[:, 0]) >= 0).all()


def test_a_constraint_cuts_the_front():
    def constrained(points):
        objectives, _ = schaffer(points)
        return objectives, np.maximum(1 - points[:, 0], 0)

    front = nsga2(
        constrained, np.array([-50.0]), np.array([50.0]), np.random.default_rng(0), 40, 60
    )
    assert front.points.min() > 0.999


def test_a_start_is_never_lost_where_nothing_beats_it():
    start = np.array([[1.0]])
    low, high = np.array([-1e6]), np.array([1e6])
    front = nsga2(schaffer, low, high, np.random.default_rng(0), 10, 5, start)
    assert front.points == pytest.approx(1.0, abs=1.01)
    unaided = nsga2(schaffer, low, high, np.random.default_rng(0), 10, 5)
    assert np.abs(unaided.points).max() > 10


def test_crowding_is_the_distance_of_the_neighbours_on_a_front():
    objectives = np.array([[0.0, 4.0], [1.0, 2.0], [3.0, 1.0], [4.0, 0.0], [9.0, 9.0]])
    distances = crowding(objectives, np.array([0, 0, 0, 0, 1]))
    assert distances[1:3].tolist() == [3 / 4 + 3 / 4, 3 / 4 + 2 / 4]
    assert np.isinf(distances[[0, 3, 4]]).all()


def test_the_least_crowded_points_of_the_last_front_survive():
    x = np.array([[0.0], [0.99], [1.0], [1.01], [2.0]])
    low, high = np.array([0.0]), np.array([2.0])
    rng = np.random.default_rng(0)
    front = nsga2(schaffer, low, high, rng, population=5, generations=30, start=x)
    distances = np.diff(np.sort(front.points[:, 0]))
    assert len(front.points) == 5
    assert distances.min() > 0.05 and distances.max() < 0.9


def test_children_lie_around_their_parents():
    rng = np.random.default_rng(0)
    low, high = np.zeros(200), np.full(200, 10.0)
    parents = np.stack([np.full(200, 4.0), np.full(200, 6.0)])
    children = crossed(parents, low, high, rng)
    is_new = ~np.isin(children, parents)
    assert 0.2 < is_new.mean() < 0.8
    assert np.abs(children - parents).max() < 2.5
    same = np.stack([parents[0]] * 2)
    assert np.allclose(crossed(same, low, high, rng), same)
