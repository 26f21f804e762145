"""TIGER on Beauty beside what it must be seen beside: accuracy, what the beam loses against scoring
every item, answers that are none, codes dealt out anew.

    OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/tiger.py [beauty] [--seed 0]

Fitted on train only, the best weights by validation, settings chosen on validation; all test users,
the whole catalogue, seen items removed and kept.
"""

import argparse
import time

import numpy as np
from shared_data import real_split
from writing import write_result

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.splits import Split
from tailor.evaluation.protocol import compare, evaluate
from tailor.generative.tiger import TIGER
from tailor.papers.retrieval.graph_heuristic import GraphHeuristic
from tailor.progress import terminal
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.retrieval.sasrec import SASRec

EXACT = 2_000  # people whose every item is scored
RIVALS = {
    "popularity": Popularity,
    "co-visitation": CoVisitation,
    "graph heuristic": GraphHeuristic,
    "SASRec": SASRec,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", default="beauty")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    split, run = real_split(given.data), Run(seed=given.seed, workers=1, progress=terminal)
    fitted, seconds = dict[str, Recommender](), dict[str, float]()
    for name, make in {**RIVALS, "TIGER": TIGER, "TIGER, shuffled codes": shuffled}.items():
        started = time.process_time()
        fitted[name] = make().fit(split.train, run, split)
        seconds[name] = round(time.process_time() - started, 1)
        print(name, seconds[name], "processor seconds", fitted[name].fit_report_, flush=True)
        if name == "TIGER, shuffled codes":
            TIGER._encode_items = ENCODED
    report = evaluate(fitted, split, k=(5, 10), run=run)
    figures = {
        "processor seconds to fit": seconds,
        "fit": {name: one.fit_report_ for name, one in fitted.items() if name.startswith("TIGER")},
        "accuracy": report.to_dict()["metrics"],
        "TIGER against": [one.to_dict() for one in compare(report, "TIGER", ["HR@10", "NDCG@10"])],
        "beam": beam_and_exact(fitted["TIGER"], split, run),
        "answers": answers(fitted["TIGER"], split),
        "lost by shuffled codes": {
            metric: round(
                1 - report.mean("TIGER, shuffled codes", metric) / report.mean("TIGER", metric), 4
            )
            for metric in report.metrics
        },
    }
    for row in figures["accuracy"]:
        print(row["method"], row["seen"], row["metric"], round(row["mean"], 4))
    print(figures["beam"], figures["answers"], figures["lost by shuffled codes"])
    write_result(
        f"tiger-{given.data}",
        given.seed,
        f"python benchmarks/tiger.py {given.data} --seed {given.seed}",
        figures,
    )


ENCODED = TIGER._encode_items


def shuffled() -> TIGER:
    """The same codes, dealt out to the items by chance: a code then tells nothing of its item."""

    def dealt(self: TIGER, vectors: np.ndarray, rng: np.random.Generator) -> tuple:
        codes, report = ENCODED(self, vectors, rng)
        return codes[rng.permutation(len(codes))], report

    TIGER._encode_items = dealt
    return TIGER()


def beam_and_exact(method: TIGER, split: Split, run: Run) -> dict[str, float]:
    """Hits among the ten best of all items, and how many of those the beam finds; milliseconds of
    processor a person for each way.
    """
    queries, targets = split.queries("test")
    some = np.sort(run.rng("exact").permutation(len(queries))[:EXACT])
    asked, wanted = queries.take(some).without_history(), targets.take(some)
    lists, spent = {}, {}
    for exact in (False, True):
        method.exact = exact
        started = time.process_time()
        lists[exact] = method.recommend(asked, 10).reindexed(queries.catalogue).rows
        spent[exact] = 1000 * (time.process_time() - started) / len(some)
    method.exact = False
    hit = {
        exact: (rows == wanted.values[wanted.offsets[:-1], None]).any(axis=1)
        for exact, rows in lists.items()
    }
    shared = (
        np.mean([len(np.intersect1d(a, b)) for a, b in zip(lists[False], lists[True], strict=True)])
        / 10
    )
    return {
        "people": len(some),
        "exact hits": int(hit[True].sum()),
        "found by the beam": int((hit[True] & hit[False]).sum()),
        "share found": round(float((hit[True] & hit[False]).sum() / max(hit[True].sum(), 1)), 4),
        "beam's own hits": int(hit[False].sum()),
        "share of the ten alike": round(float(shared), 4),
        "beam_ms": round(spent[False], 2),
        "exact_ms": round(spent[True], 2),
    }


def answers(method: TIGER, split: Split) -> dict[str, int]:
    """How many answers name no item of the catalogue, an item twice, or one that was excluded; and
    how many lists are short.
    """
    queries = split.queries("test")[0].without_history()
    rows = method.recommend(queries, 10).reindexed(queries.catalogue).rows
    n, given = len(queries.catalogue), rows >= 0
    keys = (np.arange(len(rows))[:, None] * n + rows)[given]
    barred = queries.exclude.row_ids * n + queries.exclude.values
    return {
        "answers": int(given.sum()),
        "no item": int((rows >= n).sum()),
        "twice": int(len(keys) - len(np.unique(keys))),
        "excluded": int(np.isin(keys, barred).sum()),
        "short lists": int((~given).any(axis=1).sum()),
    }


if __name__ == "__main__":
    main()
