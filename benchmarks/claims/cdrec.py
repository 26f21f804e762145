"""CDRec on ml-100k: 500 users, the last tenth of each one's ratings judged, three random states.

Rivals: LightGCN of the same settings with as many more epochs, and CDRec that hides by time alone.
Besides, hidden items of training are named, half of a set being hidden, against popularity.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from claim_tools import SEEDS, seeded
from shared_data import real, sample_users

from tailor.bench.claims import Claim
from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.splits import Split, split_by
from tailor.evaluation.significance import bootstrap
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
    found = {name: found_targets(method, split) for name, method in methods.items()}
    _, targets = split.queries("test")
    counts = np.bincount(split.train.sequences.rows.values, minlength=len(split.data.catalogue))
    ranks = np.argsort(np.argsort(counts[targets.values], kind="stable"), kind="stable")
    strata = {
        "all": np.ones(len(ranks), dtype=bool),
        "of the tail's third": ranks < len(ranks) / 3,
    }
    row: dict[str, Any] = {
        name: judged(found, mask, targets.row_ids[mask], run.seed) for name, mask in strata.items()
    }
    epochs = {name: method.fit_report_["best_epoch"] for name, method in methods.items()}
    restored = restoring(methods["CDRec"], split, run.seed)
    return {"seed": run.seed, "best epochs": epochs, **row, "restored": restored}


def found_targets(method: Recommender, split: Split) -> np.ndarray:
    """Return (T,) whether each target stands in the first K of its user's list."""
    queries, targets = split.queries("test")
    lists = method.recommend(queries.without_history(), K).reindexed(queries.catalogue)
    size = len(queries.catalogue)
    keys = np.arange(len(queries))[:, None] * size + lists.rows
    return np.isin(targets.row_ids * size + targets.values, keys[lists.rows >= 0])


def judged(
    found: dict[str, np.ndarray], mask: np.ndarray, users: np.ndarray, seed: int
) -> dict[str, Any]:
    """Return the share of targets found, and CDRec's leads, users drawn with all their targets."""
    shares = {name: round(float(values[mask].mean()), 5) for name, values in found.items()}
    row: dict[str, Any] = {"targets": int(mask.sum()), "recall@20": shares}
    for rival in ("by time alone", "LightGCN"):
        gains = found["CDRec"][mask].astype(float) - found[rival][mask]
        row[f"over {rival}"] = interval(gains, users, seed)
    return row


def interval(differences: np.ndarray, users: np.ndarray, seed: int) -> dict[str, float]:
    low, high = bootstrap(differences[:, None], seed=seed, clusters=users)
    return {
        "difference": round(float(differences.mean()), 5),
        "low": round(float(low[0]), 5),
        "high": round(float(high[0]), 5),
    }


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
        "less popularity": interval(hits[0].astype(float) - hits[1], user, seed),
    }
