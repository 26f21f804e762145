"""The table of generative methods at equal budget, on planted facets or on Beauty.

    python benchmarks/generative_table.py [facets | beauty] [METHOD ...]

Leave-last-out, full ranking, seen items removed, one random state, one thread, settings of each
class. Prints HR@10, NDCG@10, answers that are no item of the catalogue or are doubled, seconds to
fit, and milliseconds an answer in batches. Methods that need more than a log (wishes, reviews,
visits, candidates) stand in their records.

Facets: 1,500 people, 720 items; a net stops after 60 seconds of the processor. "cold": a twentieth
of the items is learned from by nobody, and the people who end with one are asked over the whole
catalogue. Beauty: 6,000 people, all items; a net stops after 120 seconds.
"""

import json
import sys
import time
from typing import Any

import torch
from claim_tools import timed_fits
from clocks import count_processor_seconds
from shared_data import real, sample_users
from writing import write_sections

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.core.specs import build
from tailor.data.splits import Split, last_out, new_items
from tailor.errors import TailorError
from tailor.evaluation.protocol import evaluate
from tailor.worlds.facets import facets

BUDGETS_S = {"facets": 60.0, "beauty": 120.0}
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


def splits(name: str) -> dict[str, Split]:
    """Return the split of last events, and of planted data the one of new items."""
    if name == "beauty":
        return {"plain": last_out(sample_users(real("beauty"), 6_000))}
    data = facets(1_500, 10, seed=0, wished=()).data
    return {"plain": last_out(data), "cold": new_items(data, 0.05, 0.05)}


def row(name: str, of: dict[str, Split], budget_s: float) -> dict[str, Any]:
    """Return the figures of one method."""
    settings = {"class": name, **SETTINGS.get(name, {})}
    figures: dict[str, Any] = {}
    for kind, split in of.items():
        method = build(settings, Recommender)
        run = Run(seed=0, workers=1, deadline_s=budget_s)
        took = timed_fits({name: method}, split.train, run, split)[name]
        started = time.process_time()
        report = evaluate({name: method}, split, k=(K,), seen=("removed",))
        answered = time.process_time() - started
        prefix = "" if kind == "plain" else "cold "
        figures[f"{prefix}HR@10"] = round(report.mean(name, "HR@10"), 4)
        if kind == "plain":
            queries = split.queries("test")[0]
            figures["NDCG@10"] = round(report.mean(name, "NDCG@10"), 4)
            figures["invalid"] = invalid(method, split)
            figures["fit, s"] = took
            figures["ms an answer"] = round(1_000 * answered / len(queries), 2)
    return figures


def invalid(method: Recommender, split: Split) -> int:
    """Return the number of answers that are unknown, or twice in a list, over all test people."""
    known = set(split.train.catalogue.ids.tolist())
    lists = method.recommend(split.queries("test")[0], K)
    return sum(
        len(set(ranking.ids) - known) + len(ranking.ids) - len(set(ranking.ids))
        for ranking in lists
    )


def main(arguments: list[str]) -> None:
    """Print a row a method, and write all of them beside the other data set."""
    torch.set_num_threads(1)
    count_processor_seconds()
    data = arguments[0] if arguments else "facets"
    of = splits(data)
    figures: dict[str, Any] = {}
    for name in arguments[1:] or METHODS:
        try:
            figures[name] = row(name, of, BUDGETS_S[data])
        except TailorError as error:
            figures[name] = {"not measured": str(error)[:200]}
        print(data, name, json.dumps(figures[name]), flush=True)
    if not arguments[1:]:
        command = f"python benchmarks/generative_table.py {data}"
        print(write_sections("generative-table", 0, command, {data: figures}))


if __name__ == "__main__":
    main(sys.argv[1:])
