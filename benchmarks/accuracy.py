"""Accuracy on real data: every part, the counting pipeline, popularity; settings chosen on
validation, fitted on train only.

python benchmarks/accuracy.py [beauty sports ml-100k ml-latest-small] [--seed 0]
"""

import argparse
import dataclasses
import itertools
import time

from shared_data import SOURCES, real, real_split
from writing import write_result

from tailor.bench.choose import choose
from tailor.core.run import Run
from tailor.core.specs import clone, spec
from tailor.data.splits import last_out
from tailor.evaluation.protocol import compare, evaluate
from tailor.pipeline.default import counting_pipeline
from tailor.pipeline.fallback import Fallback
from tailor.pipeline.filter import Filter
from tailor.pipeline.fuse import Fuse
from tailor.progress import terminal
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.ease import EASE
from tailor.retrieval.popularity import Popularity
from tailor.retrieval.text_neighbours import TextNeighbours
from tailor.retrieval.two_step import TwoStep

GRID = {
    "CoVisitation": [
        CoVisitation(distance_power=power, reverse=reverse, history_decay=decay)
        for power, reverse, decay in itertools.product(
            (0.0, 1.0), (0.0, 0.3, 1.0), (0.3, 0.5, 0.7, 0.9)
        )
    ],
    "TextNeighbours": [TextNeighbours(history_decay=decay) for decay in (0.5, 0.7, 0.9)],
    "EASE": [
        EASE(l2=l2, history_decay=decay)
        for l2, decay in itertools.product((250.0, 1000.0), (0.5, 0.8, 0.95))
    ],
}


def measure(name: str, run: Run) -> dict:
    split = real_split(name)
    started = time.perf_counter()
    choices = {part: choose(options, split, run=run) for part, options in GRID.items()}
    chosen = {part: choice.best for part, choice in choices.items()}
    visits = spec(chosen["CoVisitation"])
    walks = [
        TwoStep(history_decay=visits["history_decay"], first=first) for first in ("visits", "texts")
    ]
    fuse = Fuse([*(clone(part) for part in chosen.values()), *walks])
    tuned = Filter(Fallback([fuse, Popularity()])).fit(split.train, run, split)
    methods = {
        "counting pipeline, settings chosen": tuned,
        "counting pipeline": counting_pipeline().fit(split.train, run, split),
        **chosen,
        "TwoStep": TwoStep().fit(split.train, run),
        "CoVisitation, plain counts": plain().fit(split.train, run),
        "Popularity": Popularity().fit(split.train, run),
    }
    report = evaluate(methods, split, k=(10,), run=run)
    best = max((*chosen, "TwoStep", "Popularity"), key=lambda part: report.mean(part, "NDCG@10"))
    tests = [one for seen in ("removed", "kept") for one in compare(report, best, seen=seen)]
    return {
        **report.to_dict(),
        "best_part": best,
        "comparisons": [dataclasses.asdict(one) for one in tests],
        "fit_reports": {label: method.fit_report_ for label, method in methods.items()},
        "chosen": {part: spec(method) for part, method in chosen.items()},
        "trials": {part: choice.tried for part, choice in choices.items()},
        "seconds": round(time.perf_counter() - started, 1),
    }


def plain() -> CoVisitation:
    """The setting of the floors: directed pairs within window 5, weight 1, history decay .5,
    nothing cut off.
    """
    return CoVisitation(distance_power=0.0, reverse=0.0, history_decay=0.5, top_n=None)


def floors(name: str, run: Run) -> dict:
    """Leave-last-out, where the floors of the shared data are stated: popularity and plain
    co-visitation.
    """
    split = last_out(real(name))
    out = {}
    for part in ("train", "train+valid"):
        data = split.learn_from(part)
        methods = {
            "popularity": Popularity().fit(data, run),
            "co-visitation": plain().fit(data, run),
        }
        if SOURCES[name][4] != "last":  # elsewhere the main table says it
            methods["counting pipeline"] = counting_pipeline().fit(
                data, run, split if part == "train" else None
            )
        report = evaluate(methods, split, seen=("removed",), run=run)
        out[part] = {
            method: {metric: round(report.mean(method, metric), 4) for metric in report.metrics}
            for method in methods
        }
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(SOURCES))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    run = Run(seed=given.seed, progress=terminal)
    for name in given.names:
        figures = {"floors": floors(name, run), **measure(name, run)}
        path = write_result(
            f"accuracy-{name}", given.seed, f"python benchmarks/accuracy.py {name}", figures
        )
        print(path, figures["seconds"], "s")


if __name__ == "__main__":
    main()
