"""KNNEmbed: planted logs of interests and Beauty, against one query over the same vectors.

Vectors are singular vectors of the events; one query is the mean of the vectors of a user's items.
In the planted logs 20 groups share 16 directions, so that the mean of four interests may point at a
fifth; with 32 directions, printed beside it, the mean keeps them apart. Settings are the defaults,
which were looked at on the validation part of another log and of other users of Beauty.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from claim_tools import (
    SEEDS,
    difference_interval,
    fit_all,
    is_above,
    is_not_below,
    lead,
    means,
    seeded,
)
from shared_data import real, sample_users

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.splits import Split, split_by
from tailor.evaluation.protocol import evaluate
from tailor.metrics.lists import intra_list_diversity
from tailor.papers.retrieval.knn_embed import KNNEmbed
from tailor.worlds.interests import interests

USERS = 4_000  # of Beauty
WORLD = {"people": 1_000, "length": 30, "uneven": 0.8, "visits": 1, "slate": 1}
DEPTHS = (50, 200)
ONE_QUERY = {"clusters": 1, "top": 1, "neighbour_weight": 0.0, "centre_weight": 0.0}


def measure(run: Run) -> Claim:
    """Three planted logs with three random states, then 4,000 users of Beauty."""
    splits = {seed: split_by(interests(**WORLD, seed=seed).data, "last") for seed in SEEDS}
    planted = [compare_queries(splits[seed], 16, seeded(run, seed)) for seed in SEEDS]
    wide = [compare_queries(splits[seed], 32, seeded(run, seed)) for seed in SEEDS]
    beauty = compare_queries(split_by(sample_users(real("beauty"), USERS), "last"), 64, run)
    checks = {}
    for depth in DEPTHS:
        checks[f"planted: recall@{depth} above one query"] = is_above(planted, f"HR@{depth}")
        checks[f"Beauty: recall@{depth} not below one query"] = is_not_below(
            [beauty], f"HR@{depth}"
        )
        checks[f"the items of a list of {depth} are farther apart, planted and Beauty"] = is_above(
            [*planted, beauty], f"distance@{depth}"
        )
    figures = {"planted": planted, "planted, 32 directions": wide, "beauty, 4,000 users": beauty}
    return Claim(checks, figures, list(SEEDS), ["interests", "beauty"])


def compare_queries(split: Split, dims: int, run: Run) -> dict[str, Any]:
    """Return recall and mean distance within lists of both, and leads paired over users."""
    methods = {"KNNEmbed": KNNEmbed(dims=dims), "one query": KNNEmbed(dims=dims, **ONE_QUERY)}
    fit_all(methods, split, run)
    report = evaluate(methods, split, k=DEPTHS, metrics=("HR",), seen=("removed",), run=run)
    leads = {
        f"HR@{depth}": lead(report, "KNNEmbed", "one query", f"HR@{depth}", run.seed)
        for depth in DEPTHS
    }
    distances = {
        depth: {name: list_distances(method, split, depth) for name, method in methods.items()}
        for depth in DEPTHS
    }
    leads |= {f"distance@{depth}": distance_lead(distances[depth], run) for depth in DEPTHS}
    return {
        "seed": run.seed,
        "users": len(report.user_ids),
        "means": means(report),
        "mean distance in a list": {
            f"@{depth}": {name: round(float(np.nanmean(d)), 4) for name, d in by_name.items()}
            for depth, by_name in distances.items()
        },
        "leads": leads,
    }


def list_distances(method: KNNEmbed, split: Split, depth: int) -> np.ndarray:
    """Return (U,) mean 1 - cosine between the items of each user's list of the test part."""
    queries, _ = split.queries("test")
    lists = method.recommend(queries.without_history(), depth)
    return intra_list_diversity(lists.rows, method.vectors_)


def distance_lead(distances: Mapping[str, np.ndarray], run: Run) -> dict[str, float]:
    differences = distances["KNNEmbed"] - distances["one query"]
    differences = differences[np.isfinite(differences)]
    return difference_interval(differences, run.seed)
