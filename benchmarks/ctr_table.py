"""The table of predictors at equal budget: quality, seconds to fit, and time of 500 candidates.

    python benchmarks/ctr_table.py [DATA ...]

Vectors of 16 numbers, at most 8 epochs, the one with the best validation AUC; learning rate 3e-3,
histories of 20 events; one thread. MovieLens-100k cut in time (rating of 4 and more), 4,000 people
of Beauty (an item among 9 popular ones that they never had, when learning too), planted interests
(what was chosen of what was shown) and a planted table with pairs, triples and groups.
"""

import json
import sys
import time
from typing import Any

import numpy as np
import torch
from claim_tools import drawn_floors, judge_predictions, timed_fits
from shared_data import real, sample_users, with_attributes
from writing import write_sections

from tailor.core.methods import Predictor
from tailor.core.run import Run
from tailor.core.specs import build
from tailor.data.examples import Outcome
from tailor.data.nouns import History, Query
from tailor.data.splits import Split, by_time, split_by
from tailor.worlds.interests import interests
from tailor.worlds.tabular import tabular

CANDIDATES = 500
NETS = {"lr": 3e-3, "epochs": 8, "patience": 2}
DEEP = {**NETS, "width": 16}
METHODS: dict[str, dict[str, Any]] = {
    "LogisticRegression": {"class": "LogisticRegression", **NETS},
    "FactorizationMachine": {"class": "FactorizationMachine", **NETS},
    "BoostedTrees": {"class": "BoostedTrees"},
    "DeepFM": {"class": "DeepFM", **DEEP},
    "DCNV2": {"class": "DCNV2", **DEEP},
    "MeanInterest": {"class": "MeanInterest", **DEEP, "history": 20},
    "DIN": {"class": "DIN", **DEEP, "history": 20},
    "DARE": {"class": "DARE", **DEEP, "history": 20},
    "SDIM": {"class": "SDIM", **DEEP, "history": 20},
    "QIN": {"class": "QIN", **DEEP, "history": 20},
    "AWMoE": {"class": "AWMoE", **DEEP, "history": 20},
    "OptInter": {"class": "OptInter", **DEEP},
    "IHAS": {"class": "IHAS", **DEEP},
}


def case(name: str) -> tuple[Split, dict[str, Any], Outcome]:
    """Return a split, the source of its labels, and the outcome that is judged."""
    if name == "beauty":
        data = with_attributes(sample_users(real("beauty"), 4_000), "beauty")
        return split_by(data, "last"), {"negatives": 9}, Outcome("drawn", negatives=9, length=20)
    if name == "interests":
        return by_time(interests().data), {"source": "shown"}, Outcome("shown", length=20)
    label = "value >= 4" if name == "ml-100k" else "liked"
    data = real("ml-100k") if name == "ml-100k" else tabular(**TABLE).data
    return by_time(data), {"source": "label", "label": label}, Outcome("label", label, length=20)


def row(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of one predictor on one data set."""
    split, source, outcome = CASES[name]
    method = build({**settings, **source}, Predictor)
    run = Run(seed=0, workers=1)
    took = timed_fits({"it": method}, split.train, run, split)["it"]
    judged = judge_predictions({"it": method}, split, run, {}, outcome)
    return {
        **judged["figures"]["it"],
        "fit, s": took,
        f"{CANDIDATES} candidates, ms": candidates_ms(method, split),
    }


def candidates_ms(method: Predictor, split: Split) -> float:
    """Return the least time of a prediction for a user, of five, in milliseconds."""
    ids = split.data.catalogue.ids
    rng = np.random.default_rng(0)
    query = Query(history=History.of(*ids[rng.integers(len(ids), size=20)].tolist()))
    candidates = ids[rng.integers(len(ids), size=CANDIDATES)].tolist()
    times = []
    for _ in range(6):
        started = time.process_time()
        method.predict([query], [candidates])
        times.append(time.process_time() - started)
    return round(1000 * min(times[1:]), 1)


TABLE = {
    "events": 40_000,
    "users": 4_000,
    "fields": 3,
    "tables": 2,
    "products": 2,
    "triples": 1,
    "groups": 2,
}
SETS = ("ml-100k", "beauty", "interests", "tabular")
CASES: dict[str, tuple[Split, dict[str, Any], Outcome]] = {}


def main(names: list[str]) -> None:
    """Print a row a data set and predictor, and write them beside other data sets."""
    torch.set_num_threads(1)
    figures: dict[str, dict[str, Any]] = {}
    for name in names or SETS:
        CASES[name] = case(name)
        figures[name] = {}
        for label, settings in METHODS.items():
            figures[name][label] = row(name, settings)
            print(name, label, json.dumps(figures[name][label]), flush=True)
        if name == "beauty":
            split, _, outcome = CASES[name]
            figures[name]["floors, AUC"] = drawn_floors(split, outcome, Run(seed=0))
            print(figures[name]["floors, AUC"])
    print(write_sections("ctr-table", 0, "python benchmarks/ctr_table.py", figures))


if __name__ == "__main__":
    main(sys.argv[1:])
