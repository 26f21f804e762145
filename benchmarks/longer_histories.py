"""Sequence nets beside counting by the length of histories: where nets pay.

    python benchmarks/longer_histories.py [DATA ...]

MovieLens: 100,000 ratings of 943 users, and those of 1,000 users of the log of a million, as they
are and cut to the last 20 events of each user (the latter comes in three files, taken in the order
of training, validation and test). Leave-last-out, full ranking, seen items removed,
settings of each class, one random state, one thread; a net reads the last 50 events (the longest
history of its class) and stops after 120 seconds of the processor. Prints HR@10 and NDCG@10, with
half the width of the 95 % interval over users, and seconds to fit.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from claim_tools import timed_fits
from clocks import count_processor_seconds
from shared_data import data_folder, real
from writing import write_sections

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.core.specs import build
from tailor.data.dataset import Dataset
from tailor.data.importers.importing import import_data
from tailor.data.splits import Split, last_out
from tailor.evaluation.protocol import evaluate
from tailor.evaluation.significance import mean_interval
from tailor.pipeline.default import counting_pipeline

BUDGET_S = 120.0
METHODS: dict[str, Any] = {
    "Popularity": "Popularity",
    "ItemKNN": "ItemKNN",
    "EASE": "EASE",
    "CoVisitation": "CoVisitation",
    "counting pipeline": None,
    "GRU4Rec": "GRU4Rec",
    "HSTU": "HSTU",
    "SASRec": "SASRec",
    "SASRec, 200 events": {"class": "SASRec", "length": 200},
}
METRICS = ("HR@10", "NDCG@10")
LENGTHS = {"all": None, "last 20": 20}


def log_of(name: str) -> Dataset:
    """Return a log of MovieLens."""
    if name != "ml-1m-1000users":
        return real(name)
    folder = data_folder() / "movielens" / name
    events: dict[str, list[str]] = {}
    for part in ("train", "valid", "test"):
        for line in (folder / f"{part}.txt").read_text(encoding="utf-8").splitlines():
            user, *items = line.split()
            events.setdefault(user, []).extend(items)
    with tempfile.TemporaryDirectory() as out:
        path = Path(out) / "sequences.txt"
        path.write_text("".join(f"{user} {' '.join(row)}\n" for user, row in events.items()))
        import_data(path, Path(out) / "data", format="sequences", columns={}, name=name)
        return Dataset(dict(Dataset.open(Path(out) / "data").tables), name)


def last_events(data: Dataset, n: int) -> Dataset:
    """Return the last n events of each user; the catalogue stays whole."""
    sequences = data.sequences
    kept = np.zeros(len(data.events), dtype=bool)
    kept[sequences.events[sequences.rows.from_end < n]] = True
    return data.cut(kept)


def row(name: str, split: Split) -> dict[str, Any]:
    """Return the figures of one method."""
    given = METHODS[name]
    method = counting_pipeline() if given is None else build(given, Recommender)
    run = Run(seed=0, workers=1, deadline_s=BUDGET_S)
    took = timed_fits({name: method}, split.train, run, split)[name]
    report = evaluate({name: method}, split, k=(10,), seen=("removed",))
    figures: dict[str, Any] = {}
    for metric in METRICS:
        values = report.results[name, "removed"].per_user[metric]
        low, high = mean_interval(values)
        figures[metric] = round(float(values.mean()), 4)
        figures[f"{metric}, half"] = round((high - low) / 2, 4)
    return {**figures, "fit, s": took}


def main(names: list[str]) -> None:
    """Print a row a log, length and method; write each log and length beside the others."""
    torch.set_num_threads(1)
    count_processor_seconds()
    command = "python benchmarks/longer_histories.py"
    for data in names or ("ml-100k", "ml-1m-1000users"):
        for length, last in LENGTHS.items():
            whole = log_of(data)
            split = last_out(whole if last is None else last_events(whole, last))
            label = f"{data}, {length}"
            figures = {}
            for name in METHODS:
                if last is not None and name.endswith("200 events"):
                    continue
                figures[name] = row(name, split)
                print(label, name, json.dumps(figures[name]), flush=True)
            print(write_sections("longer-histories", 0, command, {label: figures}))


if __name__ == "__main__":
    main(sys.argv[1:])
