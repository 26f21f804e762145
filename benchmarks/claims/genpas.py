"""GenPAS on Beauty: one GRU4Rec, the same number of steps, trained on windows drawn in different
ways; settings chosen on validation, test looked at once.

Three seeds of each preset, and of the way that GenPAS chooses. A net learns from the drawn target
only, never from every place of a window.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from shared_data import real_split

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.evaluation.protocol import evaluate
from tailor.papers.retrieval.genpas import GenPAS
from tailor.retrieval.gru4rec import GRU4Rec

SEEDS = [0, 1, 2]
PRESETS = ("last", "prefix", "window")
EPOCHS = 6


def measure_long(run: Run) -> Claim:
    split = real_split("beauty")
    model = GRU4Rec(epochs=EPOCHS, patience=None)
    rows = []
    for seed in SEEDS:
        per_seed = Run(seed=seed, workers=run.workers, progress=run.progress)
        methods = {
            preset: (
                GRU4Rec(epochs=EPOCHS, patience=None, sampler=preset).fit(
                    split.train, per_seed, split
                )
            )
            for preset in PRESETS
        }
        methods["chosen"] = GenPAS(model).fit(split.train, per_seed, split)
        report = evaluate(methods, split, seen=("removed", "kept"), run=per_seed)
        steps = {
            name: (one.model_ if name == "chosen" else one).fit_report_["steps"]
            for name, one in methods.items()
        }
        rows.append(
            {
                "seed": seed,
                "steps": steps,
                "chosen": methods["chosen"].fit_report_,
                "test": {
                    f"{name}, seen {seen}": {
                        metric: round(report.mean(name, metric, seen), 5)
                        for metric in report.metrics
                    }
                    for name in methods
                    for seen in ("removed", "kept")
                },
                "interval": {
                    name: [round(one, 5) for one in report.interval[name, "removed"]["NDCG@10"]]
                    for name in methods
                },
            }
        )
    ndcg = {
        name: np.array([row["test"][f"{name}, seen removed"]["NDCG@10"] for row in rows])
        for name in (*PRESETS, "chosen")
    }
    means = {name: float(values.mean()) for name, values in ndcg.items()}
    spread = float(max(np.ptp(ndcg[name]) for name in PRESETS))
    between = max(means[name] for name in PRESETS) - min(means[name] for name in PRESETS)
    best = max(PRESETS, key=lambda name: means[name])
    checks = {
        "the same number of steps for all": all(
            len(set(row["steps"].values())) == 1 for row in rows
        ),
        "presets differ by more than seeds do": between > spread,
        "the chosen way is not below the best preset by more than seeds differ": (
            means["chosen"] >= means[best] - spread
        ),
        "learning from last events only is worst": (
            means["last"] == min(means[name] for name in PRESETS)
        ),
    }
    figures = {
        "NDCG@10, seen removed, mean of seeds": {
            name: round(value, 5) for name, value in means.items()
        },
        "largest spread of seeds": round(spread, 5),
        "spread of presets": round(between, 5),
        "best preset": best,
        "runs": rows,
    }
    return Claim(checks, figures, SEEDS, ["beauty"])
