"""Accuracy of the sequence nets on Beauty and Sports: several seeds, fitted on train only, the best
weights by validation, both treatments of seen items.

    python benchmarks/sequences.py [beauty sports] [--methods pipelines HSTU] [--seeds 0 1 2]
    [--threads 2]

Every run is written into benchmarks/results/sequences.json as it ends, and is not repeated unless
--again is given. What was learned from is the same for all: `fit(split.train, valid=split)`. The
default pipeline is compared with the one without a net, user by user.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path

from shared_data import real_split
from tables import net_table
from writing import ROOT

from tailor.bench.claims import environment
from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.core.specs import spec
from tailor.data.splits import Split
from tailor.evaluation.protocol import compare, evaluate
from tailor.pipeline.default import counting_pipeline, default_pipeline
from tailor.pipeline.fuse import Fuse
from tailor.progress import terminal
from tailor.retrieval.bert4rec import BERT4Rec
from tailor.retrieval.gru4rec import GRU4Rec
from tailor.retrieval.hstu import HSTU
from tailor.retrieval.sasrec import SASRec
from tailor.retrieval.two_tower import TwoTower

METHODS = {
    "pipelines": default_pipeline,
    "HSTU": HSTU,
    "GRU4Rec": GRU4Rec,
    "BERT4Rec": BERT4Rec,
    "TwoTower": TwoTower,
    "SASRec, gated blocks": lambda: SASRec(gated=True),
    "SASRec, all negatives": lambda: SASRec(negatives=None),
}
RESULTS = ROOT / "benchmarks" / "results" / "sequences.json"


def measure(label: str, split: Split, run: Run) -> dict[str, dict]:
    """Figures by method; "pipelines" are the default one, its SASRec (fitted as it would be alone:
    same data, seed and validation) and the counting one.
    """
    method = METHODS[label]()
    started = time.perf_counter()
    method.fit(split.train, run, split)
    seconds = {label: time.perf_counter() - started}
    named: dict[str, Recommender] = {label: method}
    if label == "pipelines":
        net = next(part for part in fuse_of(method).parts_ if isinstance(part, SASRec))
        started = time.perf_counter()
        counting = counting_pipeline().fit(split.train, run, split)
        named = {"default pipeline": method, "SASRec": net, "counting pipeline": counting}
        seconds = {
            "default pipeline": seconds[label],
            "SASRec": net.fit_report_["seconds"],
            "counting pipeline": time.perf_counter() - started,
        }
    report = evaluate(named, split, run=run)
    out = {}
    for name, one in named.items():
        figures = {
            f"{metric}, seen {seen}": {
                "mean": report.mean(name, metric, seen),
                "interval": report.interval[name, seen][metric],
            }
            for seen in ("removed", "kept")
            for metric in report.metrics
        }
        out[name] = {
            "seconds to fit": round(seconds[name], 1),
            "threads": run.workers,
            "settings": spec(one),
            "figures": figures,
            "fit": one.fit_report_,
        }
    if label == "pipelines":
        out["default pipeline"]["weights"] = fuse_of(method).fit_report_
        out["default pipeline"]["against the counting pipeline"] = [
            dataclasses.asdict(one)
            for seen in ("removed", "kept")
            for one in compare(report, "counting pipeline", seen=seen)
        ]
    return out


def fuse_of(pipeline: Recommender) -> Fuse:
    """The fusion in a fitted default pipeline: Filter(Fallback[Fuse, Popularity])."""
    return pipeline.inner_.parts_[0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="*", default=["beauty", "sports"])
    parser.add_argument(
        "--methods", nargs="+", default=["pipelines", "HSTU"], choices=list(METHODS)
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--again", action="store_true")
    given = parser.parse_args()
    for name in given.data:
        split = real_split(name)
        for label in given.methods:
            for seed in given.seeds:
                if (
                    f"{name} | {'SASRec' if label == 'pipelines' else label} | {seed}" in runs()
                    and not given.again
                ):
                    continue
                run = Run(seed=seed, workers=given.threads, progress=terminal)
                for method, found in measure(label, split, run).items():
                    keep(f"{name} | {method} | {seed}", found)
                    print(
                        name,
                        method,
                        seed,
                        {which: round(one["mean"], 4) for which, one in found["figures"].items()},
                        found["seconds to fit"],
                        "s",
                        flush=True,
                    )
    print(*net_table(), sep="\n")


def runs() -> dict:
    return json.loads(RESULTS.read_text(encoding="utf-8"))["runs"] if RESULTS.exists() else {}


def keep(key: str, found: dict) -> None:
    """Written aside and renamed, with the machine and commit of this run."""
    every = runs() | {key: {**found, **environment(ROOT)}}
    aside = Path(f"{RESULTS}.new")
    aside.write_text(
        json.dumps({"command": "python benchmarks/sequences.py", "runs": every}, indent=1) + "\n",
        encoding="utf-8",
    )
    aside.replace(RESULTS)


if __name__ == "__main__":
    main()
