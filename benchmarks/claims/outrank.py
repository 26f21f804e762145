"""OutRank: planted tables with columns of many values without information; ml-100k by an LR.

The defaults were set before, on a planted table of random state 100. The rivals see the same codes:
plain mutual information, and the importances of a random forest of 50 trees.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from claim_tools import seeded
from shared_data import real
from sklearn.ensemble import RandomForestClassifier

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.splits import by_ratio
from tailor.evaluation.predictions import evaluate_predictions
from tailor.papers.ranking.outrank import ColumnReport, OutRank
from tailor.ranking.logistic_regression import LogisticRegression
from tailor.testing.data import tiny_data
from tailor.worlds.tabular import Tabular, tabular

SEEDS = (0, 1, 2, 3, 4)
TREES = 50
FIRST = 5  # crosses among which the XOR must be
LOSS = 0.002  # of AUC that half of the columns may cost


def measure(run: Run) -> Claim:
    """Five planted tables, then ml-100k once."""
    planted = [ranked(seeded(run, seed)) for seed in SEEDS]
    rated = halved(run)
    ours = [row["precision"]["OutRank"] for row in planted]
    checks = {
        f"planted: precision above {rival}": all(
            mine > row["precision"][rival] for mine, row in zip(ours, planted, strict=True)
        )
        for rival in ("mutual information", "forest")
    }
    checks |= {
        "planted: in less time than the forest": all(
            row["seconds"]["OutRank"] < row["seconds"]["forest"] for row in planted
        ),
        f"planted: the XOR among the first {FIRST} crosses": all(
            row["place of the XOR"] <= FIRST for row in planted
        ),
        "planted: fewer columns beside their copy than by score alone": (
            sum(row["copies beside their source"]["as listed"] for row in planted)
            < sum(row["copies beside their source"]["by score"] for row in planted)
        ),
        f"ml-100k: half of the columns cost at most {LOSS} of AUC": rated["difference"] > -LOSS,
    }
    return Claim(
        checks, {"planted": planted, "ml-100k": rated}, list(SEEDS), ["tabular", "ml-100k"]
    )


def world_of(seed: int) -> Tabular:
    """Return rows with 6 informative columns, 3 copies, a XOR, and 8 columns of noise."""
    return tabular(linear=1.0, tables=1, xor=1, copies=3, noise=8, seed=seed)


def ranked(run: Run) -> dict[str, Any]:
    """Rank the columns of a planted table by three methods; copies count as informative."""
    world = world_of(run.seed)
    names = column_names(world)
    started = time.perf_counter()
    report = OutRank(label="liked", columns=tuple(names)).run(world.data, {}, run)
    seconds = {"OutRank": round(time.perf_counter() - started, 2)}
    by_information = sorted(report.columns, key=lambda column: -column.mutual_information)
    started = time.perf_counter()
    by_forest = forest_order(world, names, run.seed)
    seconds["forest"] = round(time.perf_counter() - started, 2)
    sources = {name for name in names if name.split(":")[1].startswith(("user_", "item_"))}
    informative = sources | {f"user:{copy}" for copy in world.copies}
    orders = {
        "OutRank": report.by_score(),
        "mutual information": [column.name for column in by_information],
        "forest": by_forest,
    }
    return {
        "seed": run.seed,
        "informative": len(informative),
        "precision": {name: precision(order, informative) for name, order in orders.items()},
        "seconds": seconds,
        "place of the XOR": place_of_xor(report),
        "copies beside their source": {
            "as listed": copies_in(report.best(len(informative)), world),
            "by score": copies_in(report.by_score()[: len(informative)], world),
        },
    }


def column_names(world: Tabular) -> list[str]:
    tables = world.data.tables
    users = [f"user:{name}" for name in tables["users"].columns if name != "user_id"]
    return users + [f"item:{name}" for name in tables["items"].columns if name != "item_id"]


def precision(order: Sequence[str], informative: set[str]) -> float:
    """Return the share of informative columns among as many first ones."""
    first = order[: len(informative)]
    return round(sum(name in informative for name in first) / len(first), 4)


def place_of_xor(report: ColumnReport) -> int:
    """Return the place of the planted XOR among the crosses, from 1; beyond all if it is not there."""
    crosses = [cross.names for cross in report.crosses]
    pair = ("user:xor_user_0", "item:xor_item_0")
    return crosses.index(pair) + 1 if pair in crosses else len(crosses) + 1


def copies_in(first: Sequence[str], world: Tabular) -> int:
    """Return how many pairs of a column and its copy are both among these columns."""
    return sum(
        f"user:{copy}" in first and f"user:{source}" in first
        for copy, source in world.copies.items()
    )


def forest_order(world: Tabular, names: Sequence[str], seed: int) -> list[str]:
    """Return the columns by the importances of a random forest on their codes."""
    frame = world.data.events
    for table, key, prefix in (("users", "user_id", "user"), ("items", "item_id", "item")):
        about = world.data.tables[table]
        about = about.rename({name: f"{prefix}:{name}" for name in about.columns if name != key})
        frame = frame.join(about, on=key, how="left", maintain_order="left")
    codes = np.column_stack([frame[name].rank("dense").to_numpy() for name in names])
    forest = RandomForestClassifier(TREES, random_state=seed, n_jobs=1)
    forest.fit(codes, frame["value"].to_numpy())
    return [names[i] for i in np.argsort(-forest.feature_importances_)]


def halved(run: Run) -> dict[str, Any]:
    """Compare a logistic regression on the better half of the columns with one on all."""
    split = by_ratio(real("ml-100k"))
    report = OutRank(label="value >= 4").run(split.train, {}, run)
    settings = {"source": "label", "label": "value >= 4", "user_ids": True, "history": 0}
    whole = LogisticRegression(**settings).fit(split.train, run, split)
    names = whole.features_["names"]
    half = [name for name in report.best(len(report.columns)) if name in names]
    half = half[: (len(names) + 1) // 2]
    fewer = LogisticRegression(**settings, fields=tuple(half)).fit(split.train, run, split)
    judged = evaluate_predictions({"all": whole, "half": fewer}, split, run=run)
    lead = judged.auc_differences("all")[0]
    return {
        "columns": names,
        "half": half,
        "AUC": {name: round(judged.overall(name, "AUC"), 5) for name in ("all", "half")},
        "difference": round(lead.difference, 5),
        "low": round(lead.low, 5),
        "high": round(lead.high, 5),
    }


def behave(run: Run) -> dict[str, float | str]:
    """Return scores of the columns and crosses of tiny data."""
    report = OutRank(label="value >= 4", batch=128, listed=5).run(tiny_data(), {}, run)
    figures: dict[str, float | str] = {column.name: column.score for column in report.columns}
    figures["order"] = ", ".join(report.best(9))
    return figures | {" x ".join(cross.names): cross.gain for cross in report.crosses}
