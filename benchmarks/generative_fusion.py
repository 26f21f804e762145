"""A generative model as one more part of the default pipeline, on Beauty.

    python benchmarks/generative_fusion.py

Leave-last-out, fitted on train with the validation part; the fusion chooses parts and weights on
validation. Prints HR@10 and NDCG@10 of the default pipeline without and with TIGER on the test
part, their difference with its 95 % interval paired by user, and the weights of the parts.
"""

from typing import Any

import torch
from claim_tools import difference_interval, timed_fits
from shared_data import real_split
from writing import write_result

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.core.specs import build
from tailor.evaluation.protocol import evaluate
from tailor.evaluation.significance import paired_test
from tailor.pipeline.default import default_pipeline

METRICS = ("HR@10", "NDCG@10")
SEEN = ("removed", "kept")


def main() -> None:
    """Print both pipelines' figures and what the further part is worth, and write them."""
    torch.set_num_threads(1)
    split = real_split("beauty")
    methods: dict[str, Recommender] = {
        "default": default_pipeline(),
        "with TIGER": default_pipeline(),
    }
    fused = methods["with TIGER"].inner.parts[0]
    fused.parts = [*fused.parts, build("TIGER", Recommender)]
    figures: dict[str, Any] = {}
    for name, method in methods.items():
        took = timed_fits({name: method}, split.train, Run(seed=0, workers=1), split)[name]
        told = method.inner_.parts_[0].fit_report_
        figures[name] = {
            "fit, s": took,
            "chosen": {key: value for key, value in told.items() if key != "parts"},
        }
        print(name, figures[name], flush=True)
    report = evaluate(methods, split, seen=SEEN)
    for seen in SEEN:
        for name in methods:
            figures[name][seen] = {
                metric: round(report.mean(name, metric, seen), 4) for metric in METRICS
            }
        values = [report.results[name, seen].per_user["NDCG@10"] for name in methods]
        figures[f"lead, {seen}"] = {
            **difference_interval(values[1] - values[0], 0, digits=5),
            "p": paired_test(values[1], values[0]),
        }
        print(seen, figures["default"][seen], figures["with TIGER"][seen], figures[f"lead, {seen}"])
    print(write_result("generative-fusion", 0, "python benchmarks/generative_fusion.py", figures))


if __name__ == "__main__":
    main()
