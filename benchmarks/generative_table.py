"""The table of generative methods at equal budget, on planted facets, with new items.

    python benchmarks/generative_table.py [METHOD ...]

Leave-last-out, full ranking, seen items removed, 1,500 people, 720 items, one random state, one
thread; settings are those of each class, and a net stops after 60 seconds of the processor. "cold":
a twentieth of the items is learned from by nobody, and the people who end with one are asked over
the whole catalogue. Prints HR@10, NDCG@10, cold HR@10, answers that are no item of the catalogue,
seconds to fit, and milliseconds an answer in batches. Methods that need more than a log (wishes,
reviews, visits, candidates) stand in their records.
"""

import json
import sys
import time
from typing import Any

import torch
from clocks import count_processor_seconds
from writing import write_result

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.core.specs import build
from tailor.data.splits import Split, last_out, new_items
from tailor.errors import TailorError
from tailor.evaluation.protocol import evaluate
from tailor.worlds.facets import facets

BUDGET_S = 60.0
K = 10
METHODS = (
    "Popularity",
    "CoVisitation",
    "TextNeighbours",
    "SASRec",
    "TIGER",
    "SETRec",
    "REG4Rec",
    "P5",
    "OneRec",
    "OneRecReport",
)
# every word of this catalogue is in more than a tenth of its titles
SETTINGS: dict[str, dict[str, Any]] = {"TextNeighbours": {"max_share": 1.0}}


def splits() -> dict[str, Split]:
    """Return the split of last events, and the one of new items."""
    data = facets(1_500, 10, seed=0, wished=()).data
    return {"plain": last_out(data), "cold": new_items(data, 0.05, 0.05)}


def row(name: str, of: dict[str, Split]) -> dict[str, Any]:
    """Return the figures of one method."""
    figures: dict[str, Any] = {}
    for kind, split in of.items():
        method = build({"class": name, **SETTINGS.get(name, {})}, Recommender)
        started = time.process_time()
        method.fit(split.train, Run(seed=0, workers=1, deadline_s=BUDGET_S), split)
        took = time.process_time() - started
        started = time.process_time()
        report = evaluate({name: method}, split, k=(K,), seen=("removed",))
        answered = time.process_time() - started
        prefix = "" if kind == "plain" else "cold "
        figures[f"{prefix}HR@10"] = round(report.mean(name, "HR@10"), 4)
        if kind == "plain":
            queries = split.queries("test")[0]
            lists = method.recommend(queries[:500], K)
            known = set(split.train.catalogue.ids.tolist())
            figures["NDCG@10"] = round(report.mean(name, "NDCG@10"), 4)
            figures["invalid"] = sum(
                len(set(ranking.ids) - known) + len(ranking.ids) - len(set(ranking.ids))
                for ranking in lists
            )
            figures["fit, s"] = round(took, 1)
            figures["ms an answer"] = round(1_000 * answered / len(queries), 2)
    return figures


def main(names: list[str]) -> None:
    """Print a row a method, and write them all."""
    torch.set_num_threads(1)
    count_processor_seconds()
    of = splits()
    figures: dict[str, Any] = {}
    for name in names or METHODS:
        try:
            figures[name] = row(name, of)
        except TailorError as error:
            figures[name] = {"not measured": str(error)[:200]}
        print(name, json.dumps(figures[name]), flush=True)
    if not names:
        print(write_result("generative-table", 0, "python benchmarks/generative_table.py", figures))


if __name__ == "__main__":
    main(sys.argv[1:])
