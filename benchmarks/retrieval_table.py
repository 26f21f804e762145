"""The table of recommenders at equal budget: HR@10, NDCG@10, recall@50 and seconds to fit.

    python benchmarks/retrieval_table.py [DATA ...]

Leave-last-out, full ranking, seen items removed, fitted on the training part with the validation
part for choices; settings are those of each class, and a net stops after 60 seconds of the
processor. One thread, one random state. 6,000 people of Beauty, ml-100k, and planted interests;
nets read the last 50 events. Methods beside a rival of their own (SEAGET, IDNP, TwoTowerHGNN,
MovieMetricLearning, UDITSR) stand in their records.
"""

import json
import sys
from typing import Any

import torch
from claim_tools import timed_fits
from clocks import count_processor_seconds
from shared_data import real, sample_users
from writing import write_sections

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.core.specs import build
from tailor.data.splits import Split, last_out
from tailor.evaluation.protocol import evaluate
from tailor.pipeline.default import counting_pipeline
from tailor.worlds.interests import interests

BUDGET_S = 60.0
METHODS = (
    "Popularity",
    "CoVisitation",
    "counting pipeline",
    "SASRec",
    "ComiRec",
    "LightGCN",
    "MQSATED",
    "ICSRec",
    "AdaRetrieval",
    "HCN",
    "DESMIL",
    "KNNEmbed",
    "MMHCL",
    "CDRec",
    "NBPO",
)
METRICS = ("HR@10", "NDCG@10", "recall@50")


def split_of(name: str) -> Split:
    """Return the split of a data set."""
    if name == "beauty":
        return last_out(sample_users(real("beauty"), 6_000))
    return last_out(interests().data if name == "interests" else real(name))


def row(name: str, split: Split) -> dict[str, Any]:
    """Return the figures of one method."""
    method = counting_pipeline() if name == "counting pipeline" else build(name, Recommender)
    run = Run(seed=0, workers=1, deadline_s=BUDGET_S)
    took = timed_fits({name: method}, split.train, run, split)[name]
    report = evaluate(
        {name: method}, split, k=(10, 50), metrics=("HR", "NDCG", "recall"), seen=("removed",)
    )
    figures = {metric: round(report.mean(name, metric), 4) for metric in METRICS}
    return {**figures, "fit, s": took}


def main(names: list[str]) -> None:
    """Print a row a data set and method, and write them beside other data sets."""
    torch.set_num_threads(1)
    count_processor_seconds()
    figures: dict[str, dict[str, Any]] = {}
    for data in names or ("ml-100k", "beauty", "interests"):
        split = split_of(data)
        figures[data] = {}
        for name in METHODS:
            figures[data][name] = row(name, split)
            print(data, name, json.dumps(figures[data][name]), flush=True)
    print(write_sections("retrieval-table", 0, "python benchmarks/retrieval_table.py", figures))


if __name__ == "__main__":
    main(sys.argv[1:])
