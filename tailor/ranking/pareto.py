"""NSGA-II: find points that no other beats in all objectives, within constraints.

Objectives are minimised. A point that breaks no constraint beats one that does, and a smaller
violation beats a larger one. Shapes: P points, D variables, M objectives. Source: Deb et al. 2002.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

CROSSING = 15.0  # distribution index of simulated binary crossover: larger, nearer to the parents
CROSSED = 0.9  # share of pairs of parents that are crossed
Evaluate = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Front:
    """Points of which none beats another, by the first objective."""

    points: np.ndarray
    """(F, D)."""
    objectives: np.ndarray
    """(F, M)."""


def nsga2(
    evaluate: Evaluate,
    low: np.ndarray,
    high: np.ndarray,
    rng: np.random.Generator,
    population: int = 100,
    generations: int = 100,
    start: np.ndarray | None = None,
    mutation: float = 20.0,
) -> Front:
    """Return the best front found in so many generations, its objectives distinct.

    `evaluate` takes points (P, D) between `low` and `high` (D,), and returns objectives (P, M) and
    violations (P,), 0 where no constraint is broken. `start` (S, D) are points to begin with; the
    others are drawn evenly. `mutation` is the distribution index of polynomial mutation: lower, and
    variables move further, as those must that are rounded.
    """
    points = rng.uniform(low, high, (population, len(low)))
    if start is not None:
        points[: len(start)] = start[:population]
    objectives, violations = evaluate(points)
    for _ in range(generations):
        ranks = front_numbers(objectives, violations)
        parents = _tournament(ranks, crowding(objectives, ranks), population, rng)
        children = _mutated(crossed(points[parents], low, high, rng), low, high, mutation, rng)
        child_objectives, child_violations = evaluate(children)
        objectives = np.concatenate([objectives, child_objectives])
        # points of equal objectives would crowd each other out, and share the ends of a front
        objectives, distinct = np.unique(objectives, axis=0, return_index=True)
        points = np.concatenate([points, children])[distinct]
        violations = np.concatenate([violations, child_violations])[distinct]
        ranks = front_numbers(objectives, violations)
        order = np.lexsort((-crowding(objectives, ranks), ranks))[:population]
        points, objectives, violations = points[order], objectives[order], violations[order]
    is_first = front_numbers(objectives, violations) == 0
    order = np.flatnonzero(is_first)[np.argsort(objectives[is_first, 0], kind="stable")]
    return Front(points[order], objectives[order])


def dominates(objectives: np.ndarray, violations: np.ndarray) -> np.ndarray:
    """Return (P, P) bool: whether the point of the row beats that of the column."""
    no_worse = (objectives[:, None] <= objectives[None]).all(axis=2)
    better = (objectives[:, None] < objectives[None]).any(axis=2)
    equal = violations[:, None] == violations[None]
    beats: np.ndarray = (violations[:, None] < violations[None]) | (equal & no_worse & better)
    return beats


def front_numbers(objectives: np.ndarray, violations: np.ndarray) -> np.ndarray:
    """Return (P,) the front of each point: 0 if none beats it, 1 if only those of 0 do, ..."""
    beats = dominates(objectives, violations)
    numbers = np.full(len(objectives), -1)
    beaten_by = beats.sum(axis=0)
    front = 0
    while (numbers < 0).any():
        members = np.flatnonzero((numbers < 0) & (beaten_by == 0))
        numbers[members] = front
        beaten_by = beaten_by - beats[members].sum(axis=0)
        front += 1
    return numbers


def crowding(objectives: np.ndarray, fronts: np.ndarray) -> np.ndarray:
    """Return (P,) how far apart the neighbours of a point lie on its front; ends: infinity."""
    distances = np.zeros(len(objectives))
    for front in np.unique(fronts):
        members = np.flatnonzero(fronts == front)
        for values in objectives[members].T:
            order = members[np.argsort(values, kind="stable")]
            sorted_values = np.sort(values)
            distances[order[[0, -1]]] = np.inf
            width = sorted_values[-1] - sorted_values[0]
            if width > 0:
                distances[order[1:-1]] += (sorted_values[2:] - sorted_values[:-2]) / width
    return distances


def _tournament(
    fronts: np.ndarray, distances: np.ndarray, n: int, rng: np.random.Generator
) -> np.ndarray:
    """Return (n,) winners of pairs of points: the lower front, then the less crowded."""
    first, second = rng.integers(len(fronts), size=(2, n))
    is_better = (fronts[first] < fronts[second]) | (
        (fronts[first] == fronts[second]) & (distances[first] > distances[second])
    )
    return np.where(is_better, first, second)


def crossed(
    parents: np.ndarray, low: np.ndarray, high: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return children (P, D) of neighbouring parents, by simulated binary crossover."""
    mates = np.roll(parents, 1, axis=0)
    draws = rng.random(parents.shape)
    spread = np.where(
        draws < 0.5,
        (2 * draws) ** (1 / (CROSSING + 1)),
        (1 / np.maximum(2 * (1 - draws), 1e-12)) ** (1 / (CROSSING + 1)),
    )
    is_crossed = (rng.random(parents.shape) < 0.5) & (rng.random((len(parents), 1)) < CROSSED)
    middle = ((1 + spread) * parents + (1 - spread) * mates) / 2
    children: np.ndarray = np.clip(np.where(is_crossed, middle, parents), low, high)
    return children


def _mutated(
    points: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    index: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return points (P, D) of which one variable each is moved, by polynomial mutation."""
    draws = rng.random(points.shape)
    shift = np.where(
        draws < 0.5,
        (2 * draws) ** (1 / (index + 1)) - 1,
        1 - np.maximum(2 * (1 - draws), 0) ** (1 / (index + 1)),
    )
    is_moved = rng.random(points.shape) < 1 / max(1, points.shape[1])
    moved: np.ndarray = np.clip(points + np.where(is_moved, shift * (high - low), 0.0), low, high)
    return moved
