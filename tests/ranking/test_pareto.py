import numpy as np
import pytest

from tailor.ranking.pareto import dominates, front_numbers, nsga2

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
