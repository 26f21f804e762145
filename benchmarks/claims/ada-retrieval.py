"""AdaRetrieval on Beauty: three rounds, and one list of the same length from the same backbone.

Three random states, each with another sample of users. Both begin with the same trained backbone;
the rival is tuned for as many steps over the same kind of windows, but retrieves all at once. The
rate of tuning and the discount were chosen on the validation part of another sample.
"""

import time
from dataclasses import replace
from typing import Any

import numpy as np
from claim_tools import SEEDS, difference_interval, is_above, judge, seeded
from shared_data import real, sample_users

from tailor.bench.claims import Claim
from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries
from tailor.data.splits import split_by
from tailor.papers.retrieval.ada_retrieval import AdaRetrieval
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.sasrec import SASRec

USERS = 1_500
K = 50
ROUNDS = AdaRetrieval(
    SASRec(epochs=20, patience=None), rounds=3, per_round=17, epochs=4, patience=None
)
LEADS = {
    "over the backbone": ("three rounds", "backbone"),
    "over one round": ("three rounds", "one round"),
    "over co-visitation": ("three rounds", "co-visitation"),
}


def measure(run: Run) -> Claim:
    """1,500 users of Beauty, three random states."""
    beauty = real("beauty")
    rows = [on_users(beauty, seeded(run, seed)) for seed in SEEDS]
    checks = {
        "HR@50 above the backbone's list, every state": is_above(rows, "over the backbone"),
        "HR@50 above the backbone tuned for as many steps, every state": is_above(
            rows, "over one round"
        ),
        "lists are more varied than the tuned backbone's, every state": all(
            row["distance over one round"]["low"] > 0 for row in rows
        ),
    }
    figures = {"beauty": rows, "above co-visitation": is_above(rows, "over co-visitation")}
    return Claim(checks, figures, list(SEEDS), ["beauty"])


def on_users(data: Dataset, run: Run) -> dict[str, Any]:
    """Judge all methods on some users."""
    split = split_by(sample_users(data, USERS, run.seed), "last")
    rounds = replace(ROUNDS).fit(split.train, run, split)
    single = replace(ROUNDS, rounds=1, per_round=K).fit(split.train, run, split)
    methods: dict[str, Recommender] = {
        "three rounds": rounds,
        "one round": single,
        "backbone": rounds.backbone_,
        "co-visitation": CoVisitation().fit(split.train, run, split),
    }
    queries = split.queries("test")[0].without_history()
    distances = {}
    milliseconds = {}
    for name in ("three rounds", "one round"):
        started = time.process_time()
        distances[name] = list_distances(methods[name], rounds.backbone_, queries)
        spent = time.process_time() - started
        milliseconds[name] = round(1000 * spent / len(queries), 3)
    difference = distances["three rounds"] - distances["one round"]
    return judge(methods, split, run, LEADS, f"HR@{K}") | {
        "mean distance in a list": {
            name: round(float(values.mean()), 4) for name, values in distances.items()
        },
        "distance over one round": difference_interval(difference, run.seed, 5),
        "milliseconds a list": milliseconds,
    }


def list_distances(method: Recommender, backbone: SASRec, queries: Queries) -> np.ndarray:
    """Return the mean 1 - cosine (B,) of two items of a list, by the backbone's vectors."""
    vectors = backbone._ready().catalogue().detach().numpy()
    lists = method.recommend(queries, K).reindexed(backbone.items_)
    distances = np.zeros(len(lists))
    for i, rows in enumerate(lists.rows):
        items = vectors[rows[rows >= 0]]
        pairs = len(items) * (len(items) - 1)
        same = (items @ items.T).sum() - len(items)
        distances[i] = 1 - same / max(pairs, 1)
    return distances
