"""MMHCL on Beauty: 3,000 users, the last tenth of each one's events judged, three random states.

Rivals: LightGCN of equal width, loss and epochs, and MMHCL whose descriptions (titles and
attributes) belong to other items, so that its graph of items has the same shape and says nothing.
Settings of all were chosen on the validation part of other users.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from claim_tools import (
    SEEDS,
    fit_all,
    recall_of_targets,
    seeded,
    targets_in_lists,
)
from remembering import Remembering
from shared_data import real, sample_users, with_attributes

from tailor.bench.claims import Claim
from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.splits import split_by
from tailor.papers.retrieval.mmhcl import MMHCL
from tailor.retrieval.lightgcn import LightGCN

USERS, K = 3_000, 20
FEW = 5  # events of an item in training, up to which it counts as rare
EPOCHS = 30  # of all methods, at most
SETTINGS: dict[str, Any] = {
    "encoder": Remembering(),
    "modalities": ("text", "attributes"),
    "epochs": EPOCHS,
}


def measure(run: Run) -> Claim:
    """Three draws of users and random states; recall of targets, seen items removed."""
    beauty = described(real("beauty"))
    rows = [on(sample_users(beauty, USERS, seed), seeded(run, seed)) for seed in SEEDS]
    checks = {
        "recall@20 above LightGCN": above(rows, "all", "over LightGCN"),
        "items of at most 5 events gain more than the others": all(
            row["of 1 to 5 events"]["over LightGCN"]["difference"]
            > row["of more events"]["over LightGCN"]["difference"]
            for row in rows
        ),
        "recall@20 above the same with descriptions of other items": above(
            rows, "all", "over others' descriptions"
        ),
    }
    return Claim(checks, {"beauty, 3,000 users": rows}, list(SEEDS), ["beauty"])


def above(rows: list[dict[str, Any]], stratum: str, label: str) -> bool:
    return all(row[stratum][label]["low"] > 0 for row in rows)


def described(data: Dataset) -> Dataset:
    """Return Beauty with the attributes of items in a column of their own."""
    attributes = with_attributes(data, "beauty").tables["items"]["categories"]
    items = data.tables["items"].with_columns(attributes.alias("attributes"))
    return Dataset({**data.tables, "items": items}, data.name)


def with_others_descriptions(data: Dataset, seed: int) -> Dataset:
    """Return the data with the descriptions of the items dealt out anew."""
    items = data.tables["items"]
    order = np.random.default_rng(seed).permutation(len(items))
    moved = items.drop("item_id")[order].with_columns(items["item_id"])
    return Dataset({**data.tables, "items": moved}, data.name)


def on(data: Dataset, run: Run) -> dict[str, Any]:
    split = split_by(data, "ratio")
    methods: dict[str, Recommender] = fit_all(
        {"MMHCL": MMHCL(**SETTINGS), "LightGCN": LightGCN(epochs=EPOCHS)}, split, run
    )
    other = split_by(with_others_descriptions(data, run.seed), "ratio")
    methods["others' descriptions"] = MMHCL(**SETTINGS).fit(other.train, run, other)
    in_lists = {name: targets_in_lists(method, split, K) for name, method in methods.items()}
    _, targets = split.queries("test")
    counts = np.bincount(split.train.sequences.rows.values, minlength=len(split.data.catalogue))
    events = counts[targets.values]
    strata = {
        "all": np.ones(len(events), dtype=bool),
        "of no event": events == 0,
        "of 1 to 5 events": (events > 0) & (events <= FEW),
        "of more events": events > FEW,
    }
    row: dict[str, Any] = {}
    for name, mask in strata.items():
        parts = {method: values[mask] for method, values in in_lists.items()}
        row[name] = recall_of_targets(parts, "MMHCL", targets.row_ids[mask], K, run.seed)
    epochs = {name: method.fit_report_["best_epoch"] for name, method in methods.items()}
    return {"seed": run.seed, "best epochs": epochs, **row}
