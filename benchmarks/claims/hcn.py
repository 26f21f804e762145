"""HCN: planted logs of users with four interests, and the second stage of a cascade on Beauty.

Vectors have 8 numbers for 20 groups of items, so that one vector has to lie between interests. All
nets make the same passes over the data. Settings of each method (learning rate, passes; of HCN
layers, recent events, weight of redundancy) were chosen on the validation part of another log.
On Beauty, HCN orders the 500 candidates of co-visitation, and 50 are kept.
"""

from typing import Any

import numpy as np
from claim_tools import SEEDS, fit_all, is_above, judge, parameters, seeded
from shared_data import real, sample_users

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.queries import Queries
from tailor.data.splits import by_time, last_out
from tailor.papers.retrieval.hcn import HCN
from tailor.pipeline.cascade import Cascade
from tailor.retrieval.comirec import ComiRec, MultiInterest
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.retrieval.sasrec import SASRec
from tailor.training.nets import NetMethod
from tailor.worlds.interests import Interests, interests

WORLD = {
    "people": 500,
    "items": 300,
    "own": 4,
    "uneven": 0.9,
    "length": 40,
    "visits": 1,
    "slate": 1,
}
NET = {
    "width": 8,
    "epochs": 20,
    "lr": 0.01,
    "dropout": 0.1,
    "negatives": None,
    "batch_places": 512,
    "patience": None,
}
CHOSEN = {"layers": 1, "recent": 40, "redundancy": 0.01, "warmup": 50}
LEADS = {
    f"over {name}": ("HCN", name)
    for name in ("ComiRec", "one vector", "SASRec", "recent and earlier", "popularity")
}
METRIC = "recall@50"
COARSE = {"width": 32, "epochs": 12, "negatives": 512, "dropout": 0.2, "patience": None}
USERS = 3_000  # of Beauty
SAME = 1e-5  # distance of a cosine from 1 below which two interests are copies


def measure(run: Run) -> Claim:
    """Planted logs, three random states; then 3,000 users of Beauty."""
    planted = [on_interests(interests(**WORLD, seed=seed), seeded(run, seed)) for seed in SEEDS]
    beauty = on_beauty(run)
    checks = {
        "recall@50 above ComiRec": is_above(planted, "over ComiRec"),
        "recall@50 above one vector": is_above(planted, "over one vector"),
        "more of a user's interests in 50 items than ComiRec and one vector": all(
            row["share of interests in the list"]["HCN"]
            > max(row["share of interests in the list"][name] for name in ("ComiRec", "one vector"))
            for row in planted
        ),
        "mean cosine of interests at least .2 below ComiRec's": all(
            row["mean cosine"]["HCN"] <= row["mean cosine"]["ComiRec"] - 0.2 for row in planted
        ),
        "Beauty: more hits of 500 candidates in 50 than by their order": is_above(
            [beauty], "over co-visitation"
        ),
    }
    figures = {"planted": planted, "beauty, 50 of 500": beauty}
    return Claim(checks, figures, list(SEEDS), ["interests", "beauty"])


def on_interests(world: Interests, run: Run) -> dict[str, Any]:
    """Judge HCN and its rivals on what users chose in the last tenth of the time."""
    split = by_time(world.data)
    methods = {
        "HCN": HCN(**NET, **CHOSEN),
        "recent and earlier": HCN(**NET, **CHOSEN | {"recent": 10}),
        "ComiRec": ComiRec(**NET),
        "one vector": ComiRec(**NET, interests=1),
        "SASRec": SASRec(**NET),
        "popularity": Popularity(),
    }
    for method in methods.values():
        method.fit(split.train, run)
    queries, _ = split.queries("test")
    users = world.data.users.rows(queries.user_ids.tolist())
    nets = {name: method for name, method in methods.items() if isinstance(method, MultiInterest)}
    return judge(methods, split, run, LEADS, METRIC) | {
        "share of interests in the list": {
            name: covered(method.recommend(queries.without_history(), 50), world, users)
            for name, method in methods.items()
        },
        "mean cosine": {name: mean_cosine(method, queries) for name, method in nets.items()},
        "parameters": {
            name: parameters(method)
            for name, method in methods.items()
            if isinstance(method, NetMethod)
        },
    }


def covered(lists: Any, world: Interests, users: np.ndarray) -> float:
    """Return the mean share of a user's interests of which the list holds an item."""
    rows = lists.reindexed(world.data.catalogue).rows
    holds = np.zeros(world.likes[users].shape, dtype=bool)
    places = np.nonzero(rows >= 0)
    holds[places[0], world.groups[rows[places]]] = True
    likes = world.likes[users]
    return round(float(((holds & likes).sum(axis=1) / likes.sum(axis=1)).mean()), 4)


def mean_cosine(method: MultiInterest, queries: Queries) -> float:
    """Return the mean cosine of two interests of a user, copies left out; 1 for one interest."""
    vectors = method.interest_vectors(queries)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=2, keepdims=True), 1e-9)
    cosines = vectors @ vectors.transpose(0, 2, 1)
    first, second = np.triu_indices(vectors.shape[1], 1)
    pairs = cosines[:, first, second]
    pairs = pairs[pairs < 1 - SAME]
    return round(float(pairs.mean()), 4) if pairs.size else 1.0


def on_beauty(run: Run) -> dict[str, Any]:
    """Judge the 50 items that are kept of co-visitation's 500, by HCN and by their order."""
    split = last_out(sample_users(real("beauty"), USERS))
    methods = {
        "HCN of 500": Cascade(CoVisitation(), HCN(**COARSE), depth=500),
        "ComiRec of 500": Cascade(CoVisitation(), ComiRec(**COARSE), depth=500),
        "co-visitation": CoVisitation(),
    }
    leads = {
        "over co-visitation": ("HCN of 500", "co-visitation"),
        "over ComiRec": ("HCN of 500", "ComiRec of 500"),
    }
    return judge(fit_all(methods, split, run), split, run, leads, "HR@50")
