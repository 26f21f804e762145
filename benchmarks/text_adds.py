"""Do texts add to the default pipeline? The same fusion without the parts that read texts, with
them, and with AlphaRec and HLLM beside them; paired over users.

    python benchmarks/text_adds.py [beauty sports]

Every part is fitted once on train, the weights of each fusion are learned on validation, and the
test part is asked once. Needs `tailor models pull minilm`; 40 minutes of a core.
"""

import argparse
import dataclasses
import time

from shared_data import real_split
from writing import write_result

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.splits import Split
from tailor.evaluation.comparing import compare
from tailor.evaluation.protocol import evaluate
from tailor.papers.retrieval.alpharec import AlphaRec
from tailor.papers.retrieval.hllm import HLLM
from tailor.pipeline.fuse import Fuse
from tailor.progress import terminal
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.ease import EASE
from tailor.retrieval.sasrec import SASRec
from tailor.retrieval.text_neighbours import TextNeighbours
from tailor.retrieval.two_step import TwoStep

PARTS: dict[str, Recommender] = {
    "co-visitation": CoVisitation(),
    "EASE": EASE(),
    "two steps": TwoStep(),
    "SASRec": SASRec(),
    "text neighbours": TextNeighbours(),
    "two steps by texts": TwoStep(first="texts"),
    "AlphaRec": AlphaRec(),
    "HLLM": HLLM(epochs=30),
}
# so many of the parts
FUSIONS = {
    "without texts": 4,
    "default": 6,
    "default and AlphaRec": 7,
    "default, AlphaRec and HLLM": 8,
}


def fused(parts: list[Recommender], split: Split, run: Run) -> Fuse:
    """A fusion of fitted parts, its weights learned on validation."""
    fuse = Fuse(parts)
    fuse.parts_ = parts
    queries, targets = split.queries("valid")
    choice = fuse._choice(parts, queries, targets.distinct(), "removed", run)
    fuse._set_weights(choice.weights)
    fuse.fit_report_ = {"validation_ndcg@10": choice.ndcg}
    fuse.trained_on_ = split.train.provenance
    return fuse


def measure(name: str, run: Run) -> dict:
    split, started, seconds = real_split(name), time.perf_counter(), {}
    fitted = {}
    for part, method in PARTS.items():
        began = time.perf_counter()
        fitted[part] = type(method)(**method.params()).fit(split.train, run, split)
        seconds[part] = round(time.perf_counter() - began, 1)
    fusions = {
        label: fused(list(fitted.values())[:many], split, run) for label, many in FUSIONS.items()
    }
    report = evaluate({**fitted, **fusions}, split, seen=("removed",), run=run)
    against = {
        base: [dataclasses.asdict(one) for one in compare(report, base) if one.b in FUSIONS]
        for base in ("without texts", "default")
    }
    return {
        "means": {
            label: {metric: round(report.mean(label, metric), 5) for metric in report.metrics}
            for label in report.methods
        },
        "weights": {
            label: dict(zip(PARTS, one.weights_, strict=False)) for label, one in fusions.items()
        },
        "fit seconds": seconds,
        "against": against,
        "seconds": round(time.perf_counter() - started, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=["beauty", "sports"])
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    run = Run(seed=given.seed, progress=terminal)
    for name in given.names:
        print(
            write_result(
                f"text-adds-{name}",
                given.seed,
                f"python benchmarks/text_adds.py {name}",
                {name: measure(name, run)},
            )
        )


if __name__ == "__main__":
    main()
