"""GenPAS on Beauty: one GRU4Rec, the same number of steps, trained on windows drawn in different
ways; settings chosen on validation, test looked at once.

Three seeds of each preset, and of the way that GenPAS chooses. A net learns from the drawn target
only, never from every place of a window.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import polars as pl
from claim_tools import dataset, fit_all, is_above, is_not_below, lead, means, seeded
from shared_data import real, real_split, sample_users

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.splits import Split, split_by
from tailor.evaluation.protocol import evaluate
from tailor.papers.retrieval.genpas import GenPAS
from tailor.retrieval.gru4rec import GRU4Rec

SEEDS = [0, 1, 2]
PRESETS = ("last", "prefix", "window")
EPOCHS = 6


LATE = 4  # last events of a planted history, whose steps differ where taste drifts


def measure(run: Run) -> Claim:
    """Two planted logs, of steps that stay and of steps that drift; then 3,000 users of Beauty."""
    planted = {
        name: [on_steps(late, seeded(run, seed)) for seed in SEEDS]
        for name, late in (("steps stay", 1), ("steps drift", 5))
    }
    split = split_by(sample_users(real("beauty"), 3_000), "last")
    beauty = presets(split, run)
    rows = [row for world in planted.values() for row in world]
    checks = {
        "planted: the best preset is above the worst, every seed and world": is_above(
            rows, "best over worst"
        ),
        "planted: the chosen way is not below the best preset": is_not_below(
            rows, "chosen over best"
        ),
        "Beauty: the best preset is above the worst": is_above([beauty], "best over worst"),
        "Beauty: the chosen way is not below the best preset": is_not_below(
            [beauty], "chosen over best"
        ),
        "Beauty: learning from last events only is worst": beauty["worst"] == "last",
    }
    figures = {"planted": planted, "beauty, 3,000 users": beauty}
    return Claim(checks, figures, SEEDS, ["planted steps", "beauty"])


def presets(split: Split, run: Run) -> dict[str, object]:
    """Judge one net trained on windows of each preset, and of the way that GenPAS chooses."""
    nets = {name: GRU4Rec(epochs=EPOCHS, patience=None, sampler=name) for name in PRESETS}
    fitted = fit_all(nets, split, run)
    fitted["chosen"] = GenPAS(GRU4Rec(epochs=EPOCHS, patience=None)).fit(split.train, run, split)
    report = evaluate(fitted, split, seen=("removed",), run=run)
    ndcg = {name: report.mean(name, "NDCG@10", "removed") for name in PRESETS}
    best = max(PRESETS, key=lambda name: ndcg[name])
    worst = min(PRESETS, key=lambda name: ndcg[name])
    pairs = {"best over worst": (best, worst), "chosen over best": ("chosen", best)}
    leads = {label: lead(report, *pair, "NDCG@10", run.seed) for label, pair in pairs.items()}
    chosen = fitted["chosen"].fit_report_
    return {
        "seed": run.seed,
        "best": best,
        "worst": worst,
        "means": means(report),
        "leads": leads,
        "chosen": chosen,
    }


def on_steps(
    late: int, run: Run, users: int = 600, items: int = 150, events: int = 10
) -> dict[str, object]:
    """Judge the presets where an item is followed by the next one, at the end by a further one."""
    rng = np.random.default_rng(run.seed)
    steps = np.where(np.arange(events) < events - LATE, 1, late)
    moves = np.where(
        rng.random((users, events)) < 0.8, steps, rng.integers(items, size=(users, events))
    )
    rows = (rng.integers(items, size=(users, 1)) + moves.cumsum(axis=1)) % items
    ids = np.array([f"item-{number:04d}" for number in range(items)])
    data = dataset("steps", ids[rows].tolist(), pl.DataFrame({"item_id": ids}))
    return presets(split_by(data, "last"), run)


def measure_long(run: Run) -> Claim:
    split = real_split("beauty")
    model = GRU4Rec(epochs=EPOCHS, patience=None)
    rows = []
    for seed in SEEDS:
        per_seed = Run(seed=seed, workers=run.workers, progress=run.progress)
        methods = {
            preset: GRU4Rec(epochs=EPOCHS, patience=None, sampler=preset).fit(
                split.train, per_seed, split
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
        "the chosen way is not below the best preset by more than seeds differ": means["chosen"]
        >= means[best] - spread,
        "learning from last events only is worst": means["last"]
        == min(means[name] for name in PRESETS),
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
