"""Personalised service levels: 200 users with planted zones of tolerance, three random states.

Users first try three levels at random. Then levels are allocated, felt, and learned from, in rounds.
True satisfaction is measured, which the method never sees. There is no public log of this kind.
The search starts from the greedy optimum, so that its front contains it: how far a search from
random points stays behind is printed, and no check. The floor is judged as predicted: the true 5th
percentile is printed beside it.
"""

from copy import copy
from typing import Any

import numpy as np
from claim_tools import SEEDS, is_above, seeded

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries
from tailor.evaluation.significance import bootstrap
from tailor.papers.ranking.wireless_personalization import (
    MUTATION,
    Allocation,
    Problem,
    WirelessPersonalization,
    greedy,
)
from tailor.ranking.pareto import nsga2
from tailor.worlds.levels import Levels, levels
from tailor.worlds.seeds import random_of

USERS, LEVELS = 200, 10
TRIED = 3  # random levels that a user has felt at the beginning
ROUNDS = 6
SHARE = 0.4  # of the resource that all largest levels would take
FLOOR = 0.2  # satisfaction of the 5th percentile
SAVED = 0.15
STEPS = 6  # of halving the resource at equal satisfaction
ZONES = {"amount": "amount", "context": "use"}
ONE_CURVE = {"amount": "amount", "spread": 0.0}


def measure(run: Run) -> Claim:
    """Three worlds of 200 users and 10 levels."""
    rows = [world_figures(seeded(run, seed)) for seed in SEEDS]
    checks = {
        "satisfaction above one level for all, at equal resource": is_above(rows, "uniform"),
        "satisfaction above one curve for all, at equal resource": is_above(rows, "one curve"),
        f"at least {SAVED:.0%} less resource at equal satisfaction": all(
            row["saved at equal satisfaction"] >= SAVED for row in rows
        ),
        "curves get better with rounds of feedback": all(
            row["curve error"][-1] < row["curve error"][0] for row in rows
        ),
        "the floor of the worst served holds as predicted, where it is asked for": all(
            row["worst, predicted"]["with floor"] >= FLOOR for row in rows
        ),
    }
    return Claim(checks, {"worlds": rows}, list(SEEDS), ["levels"])


def world_figures(run: Run) -> dict[str, Any]:
    """Measure one world."""
    world = levels(USERS, LEVELS, seed=run.seed)
    rng = random_of(run.seed, "claim")
    truth = world.satisfaction()
    capacity = SHARE * USERS * LEVELS
    tried = rng.integers(LEVELS, size=(USERS, TRIED))
    log = world.feedback(tried, rng)
    one_curve = WirelessPersonalization(**ONE_CURVE).fit(log, run)
    errors = []
    for step in range(ROUNDS):
        method = WirelessPersonalization(**ZONES).fit(log, run)
        queries = queries_of(log, world)
        errors.append(round(curve_error(method, queries, truth), 4))
        allocation = method.allocate(queries, capacity, run=seeded(run, 100 * run.seed + step))
        if step == 0:
            first = figures_of(method, one_curve, queries, world, capacity, run)
        felt = rows_of(allocation, world)[:, None]
        log = joined(log, world.feedback(felt, rng, TRIED + step))
    return {"seed": run.seed, **first, "curve error": errors}


def figures_of(
    method: WirelessPersonalization,
    one_curve: WirelessPersonalization,
    queries: Queries,
    world: Levels,
    capacity: float,
    run: Run,
) -> dict[str, Any]:
    """Compare allocations of one capacity, by the true satisfaction of each user."""
    plain = without_exploration(method)
    allocation = plain.allocate(queries, capacity, run=run)
    floored = plain.allocate(queries, capacity, floor=FLOOR, run=run)
    same = without_exploration(one_curve).allocate(queries, capacity, run=run)
    level = int(capacity // USERS) - 1
    felt = {
        "own zones": felt_by(allocation, world),
        "own zones with floor": felt_by(floored, world),
        "one curve": felt_by(same, world),
        "uniform": world.satisfaction()[:, level],
    }
    leads = {}
    for rival in ("uniform", "one curve"):
        low, high = bootstrap((felt["own zones"] - felt[rival])[:, None], seed=run.seed)
        leads[rival] = {"low": round(float(low[0]), 4), "high": round(float(high[0]), 4)}
    cheap = cheapest_like(plain, queries, world, float(felt["uniform"].mean()), run)
    predicted = plain.predict(queries, [world.level_ids] * USERS)
    table = np.array(predicted)
    amounts = np.arange(1, LEVELS + 1, dtype=float)
    best = table[np.arange(USERS), greedy(table, amounts, capacity)].mean()
    unaided = nsga2(
        Problem(table, amounts, capacity, 0.0).evaluate,
        np.zeros(USERS),
        np.full(USERS, LEVELS - 1.0),
        run.rng("unaided"),
        mutation=MUTATION,
    )
    return {
        "amount": {"own zones": float(allocation.amounts.sum()), "uniform": (level + 1.0) * USERS},
        "true satisfaction": {name: round(float(s.mean()), 4) for name, s in felt.items()},
        "5th percentile, true": {
            name: round(float(np.percentile(s, 5)), 4) for name, s in felt.items()
        },
        "worst, predicted": {
            "free": round(allocation.worst, 4),
            "with floor": round(floored.worst, 4),
        },
        "leads": leads,
        "saved at equal satisfaction": round(1 - cheap / ((level + 1.0) * USERS), 4),
        "greedy over front": round(float(best / allocation.satisfaction.mean() - 1), 4),
        "greedy over a search from random points": round(
            float(best / -unaided.objectives[:, 0].min() - 1), 4
        ),
    }


def without_exploration(method: WirelessPersonalization) -> WirelessPersonalization:
    plain = copy(method)
    plain.explore = 0.0
    return plain


def cheapest_like(
    method: WirelessPersonalization, queries: Queries, world: Levels, target: float, run: Run
) -> float:
    """Return the least amount whose allocation truly satisfies as much as a target."""
    low, high = 0.1, SHARE  # shares of the resource: not enough, and enough
    for _ in range(STEPS):
        share = (low + high) / 2
        allocation = method.allocate(queries, USERS * LEVELS * share, run=run)
        if felt_by(allocation, world).mean() >= target:
            high = share
        else:
            low = share
    allocation = method.allocate(queries, USERS * LEVELS * high, run=run)
    return float(allocation.amounts.sum())


def curve_error(method: WirelessPersonalization, queries: Queries, truth: np.ndarray) -> float:
    ids = [f"level-{level}" for level in range(1, LEVELS + 1)]
    predicted = np.array(method.predict(queries, [ids] * USERS))
    return float(np.abs(predicted - truth).mean())


def queries_of(log: Dataset, world: Levels) -> Queries:
    return log.queries(world.user_ids, columns=["values"])


def rows_of(allocation: Allocation, world: Levels) -> np.ndarray:
    return np.array([world.level_ids.index(level) for level in allocation.level_ids])


def felt_by(allocation: Allocation, world: Levels) -> np.ndarray:
    """Return (U,) the true satisfaction with an allocation."""
    return world.satisfaction()[np.arange(USERS), rows_of(allocation, world)]


def joined(first: Dataset, second: Dataset) -> Dataset:
    events = first.events.vstack(second.events)
    return Dataset({**first.tables, "events": events}, first.name)
