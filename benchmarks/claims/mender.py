"""Mender on planted logs of facets: wishes in words, obeyed or not, beside TIGER.

Three random states. Colours are asked for before an event, and only then known. All nets take as
many steps; settings were chosen on the validation part of another state.
"""

import time
from typing import Any

import numpy as np
from claim_tools import SEEDS, difference_interval, is_above, seeded

from tailor.bench.claims import Claim
from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.splits import last_out
from tailor.evaluation.steering import Axes, Steering, hit_users
from tailor.generative.tiger import TIGER
from tailor.papers.generative.mender import Mender
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.worlds.facets import Facets, facets

NET: dict[str, Any] = {
    "width": 64,
    "length": 10,
    "epochs": 20,
    "dropout": 0.1,
    "lr": 0.005,
    "batch_places": 512,
    "patience": None,
}
TIMES = 1.15  # HR@10 with the wish over that of TIGER
ORDERED = 0.8  # share of users whose target is higher when it is wanted
UNSEEN = "nothing {}"  # a wording that no phrase of training has
STUDY = Steering()


def measure(run: Run) -> Claim:
    """500 people of a planted log with wishes, three random states."""
    rows = [on(facets(500, 10, seed), seeded(run, seed)) for seed in SEEDS]
    axes = [row["HR@10"] for row in rows]
    checks = {
        "with the wish at least 1.15 times TIGER, every state": all(
            row["Mender"]["own wish"] >= TIMES * row["TIGER"]["own wish"] for row in axes
        ),
        "with the wish above TIGER, every state": is_above(rows, "own wish over TIGER"),
        "a stranger's wish does not help, every state": all(
            row["leads"]["a stranger's wish over none"]["low"] <= 0 for row in rows
        ),
        "higher when wanted than when avoided in at least .8, every state": all(
            row["Mender"]["order"] >= ORDERED for row in axes
        ),
        "more often so than without the loss of avoided items, every state": is_above(
            rows, "order over no loss of avoided"
        ),
    }
    return Claim(checks, {"facets": rows}, list(SEEDS), ["worlds.facets"])


def on(world: Facets, run: Run) -> dict[str, Any]:
    """Measure all methods on one planted log."""
    split = last_out(world.data)
    methods: dict[str, Recommender] = {
        "popularity": Popularity(),
        "co-visitation": CoVisitation(),
        "TIGER": TIGER(**NET),
        "Mender": Mender(**NET),
        "no loss of avoided": Mender(**NET, against=0.0),
    }
    seconds = {}
    for name, method in methods.items():
        started = time.process_time()
        method.fit(split.train, run, split)
        seconds[name] = round(time.process_time() - started, 1)
    axes = STUDY.axes(split, run)
    unseen = Steering(avoided=UNSEEN).axes(split, run)
    mender = methods["Mender"]
    return {
        "seed": run.seed,
        "HR@10": {name: rounded(STUDY.measure(method, axes)) for name, method in methods.items()},
        "oracle": oracle(world, axes),
        "order, wording never seen": round(float(STUDY.orders(mender, unseen).mean()), 4),
        "leads": leads(methods, axes, run.seed),
        "steps": methods["Mender"].fit_report_["steps"],
        "seconds of a fit": seconds,
    }


def rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in figures.items()}


def leads(methods: dict[str, Recommender], axes: Axes, seed: int) -> dict[str, Any]:
    """Return leads of Mender, paired over users."""

    def hits_of(name: str, axis: str) -> np.ndarray:
        return hit_users(methods[name], axes.queries[axis], axes.targets[axis], STUDY.k)

    wished = hits_of("Mender", "own wish").astype(float)
    orders = {name: STUDY.orders(methods[name], axes) for name in ("Mender", "no loss of avoided")}
    differences = {
        "own wish over TIGER": wished - hits_of("TIGER", "own wish"),
        "own wish over none": wished - hits_of("Mender", "nothing asked"),
        "a stranger's wish over none": hits_of("Mender", "a stranger's wish").astype(float)
        - hits_of("Mender", "nothing asked"),
        "order over no loss of avoided": orders["Mender"] - orders["no loss of avoided"],
    }
    return {name: difference_interval(values, seed) for name, values in differences.items()}


def oracle(world: Facets, axes: Axes) -> dict[str, float]:
    """Return HR@10 of who knows the world: without the wish, and with it."""
    queries = axes.queries["own wish"]
    people = world.data.users.rows(queries.user_ids.tolist())
    nothing = np.full((len(people), len(world.truth.items.facets)), -1)
    chances = {
        "nothing asked": world.truth.chances(people, wishes=nothing),
        "own wish": world.truth.chances(people),
    }
    return {name: round(float(expected_hits(values).mean()), 4) for name, values in chances.items()}


def expected_hits(chances: np.ndarray) -> np.ndarray:
    """Return (U,) the chance that the target is among the ten likeliest items."""
    return np.sort(chances, axis=1)[:, -10:].sum(axis=1)
