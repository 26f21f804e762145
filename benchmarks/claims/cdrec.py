"""CDRec on ml-100k: 500 users, the last tenth of each one's ratings judged, three random states.

Rivals: LightGCN of the same settings with as many more epochs, and CDRec that hides by time alone.
Besides, hidden items of training are named, half of a set being hidden, against popularity.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from claim_tools import SEEDS, difference_interval, recall_of_targets, seeded, targets_in_lists
from shared_data import real, sample_users

from tailor.bench.claims import Claim
from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.splits import Split, split_by
from tailor.papers.retrieval.cdrec import CDRec, history_draws, padded
from tailor.retrieval.lightgcn import LightGCN

USERS, K = 500, 20
EPOCHS, MORE = 30, 50
WIDTH = 32


def measure(run: Run) -> Claim:
    """Three draws of users and random states; recall of targets, seen items removed."""
    data = real("ml-100k")
    rows = [on(sample_users(data, USERS, seed), seeded(run, seed)) for seed in SEEDS]
    tails = np.array(
        [row["of the tail's third"]["over by time alone"]["difference"] for row in rows]
    )
    checks = {
        "recall@20 above LightGCN with as many more epochs": all(
            row["all"]["over LightGCN"]["low"] > 0 for row in rows
        ),
        "recall@20 of the tail's third above hiding by time alone": bool((tails > 0).all()),
        "hidden items are restored better than by popularity": all(
            row["restored"]["less popularity"]["low"] > 0 for row in rows
        ),
    }
    return Claim(checks, {"ml-100k, 500 users": rows}, list(SEEDS), ["ml-100k"])


def on(data: Dataset, run: Run) -> dict[str, Any]:
    split = split_by(data, "ratio")
    base = LightGCN(width=WIDTH, epochs=EPOCHS)
    methods: dict[str, Recommender] = {
        "CDRec": CDRec(base, epochs=MORE),
        "by time alone": CDRec(base, epochs=MORE, popularity=0.0),
        "LightGCN": LightGCN(width=WIDTH, epochs=EPOCHS + MORE),
    }
    for method in methods.values():
        method.fit(split.train, run, split)
    in_lists = {name: targets_in_lists(method, split, K) for name, method in methods.items()}
    _, targets = split.queries("test")
    counts = np.bincount(split.train.sequences.rows.values, minlength=len(split.data.catalogue))
    ranks = np.argsort(np.argsort(counts[targets.values], kind="stable"), kind="stable")
    strata = {
        "all": np.ones(len(ranks), dtype=bool),
        "of the tail's third": ranks < len(ranks) / 3,
    }
    row: dict[str, Any] = {}
    for name, mask in strata.items():
        parts = {method: values[mask] for method, values in in_lists.items()}
        row[name] = recall_of_targets(parts, "CDRec", targets.row_ids[mask], K, run.seed)
    epochs = {name: method.fit_report_["best_epoch"] for name, method in methods.items()}
    restored = restoring(methods["CDRec"], split, run.seed)
    return {"seed": run.seed, "best epochs": epochs, **row, "restored": restored}


def restoring(method: CDRec, split: Split, seed: int) -> dict[str, Any]:
    """Return recall@20 of hidden training items, by the net and by popularity.

    Sets are the latest items of users, about half of each hidden by time alone.
    """
    rows = padded(split.train.sequences.rows.last(method.length).distinct())
    is_hidden = (history_draws(rows, seed + 1) < 0.5) & (rows >= 0)
    is_hidden[:, 0] = False
    user, place = np.nonzero(is_hidden)
    step = method.noise_steps // 2
    named = method._best_items(rows, is_hidden, step, K)
    visible = np.where(is_hidden, -1, rows)
    by_popularity = np.argsort(-method.degrees_, kind="stable")
    popular = np.stack([by_popularity[~np.isin(by_popularity, row)][:K] for row in visible])
    hidden_rows = rows[user, place]
    hits = [(lists[user] == hidden_rows[:, None]).any(axis=1) for lists in (named, popular)]
    return {
        "hidden": len(user),
        "recall@20": [round(float(values.mean()), 4) for values in hits],
        "less popularity": difference_interval(hits[0].astype(float) - hits[1], seed, 5, user),
    }
