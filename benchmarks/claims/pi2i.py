"""PI2I on Beauty and Sports against its own lists ranked by their counts, three seeds; on Beauty
against TwoTower and against random negatives alone.

Settings were chosen on Beauty's validation part with one seed; the test parts are looked at once.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import polars as pl
from claim_tools import dataset, fit_all, is_above, judge, seeded
from shared_data import real, real_split, sample_users

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.splits import split_by
from tailor.evaluation.protocol import compare, evaluate
from tailor.papers.retrieval.pi2i import PI2I
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.two_tower import TwoTower

SEEDS = [0, 1, 2]


THEMES, BRANDS, COPIES = 12, 10, 10  # of the planted catalogue, so that counts are small


def measure(run: Run) -> Claim:
    """A planted log of themes in turn and loyal brands; then 4,000 users of Beauty."""
    planted = [on_brands(seeded(run, seed)) for seed in SEEDS]
    split = split_by(sample_users(real("beauty"), 4_000), "last")
    methods = {
        "PI2I": PI2I(),
        "random": PI2I(from_lists=0, from_all=60),
        "lists": CoVisitation(history_length=PI2I().history_length),
        "TwoTower": TwoTower(),
    }
    leads = {f"over {name}": ("PI2I", name) for name in ("lists", "TwoTower", "random")}
    beauty = judge(fit_all(methods, split, run), split, run, leads, "HR@50")
    checks = {
        "planted: HR@10 is above that of the lists": is_above(planted, "over lists"),
        "Beauty: HR@50 is above that of the lists": is_above([beauty], "over lists"),
        "Beauty: HR@50 is above TwoTower's": is_above([beauty], "over TwoTower"),
        "Beauty: random negatives alone are lower": is_above([beauty], "over random"),
    }
    figures = {"planted": planted, "beauty, 4,000 users": beauty}
    return Claim(checks, figures, SEEDS, ["planted brands", "beauty"])


def on_brands(run: Run, users: int = 1_200, events: int = 7) -> dict:
    """Judge PI2I and its lists where the next item has the next theme and the user's brand."""
    rng = np.random.default_rng(run.seed)
    theme = (rng.integers(THEMES, size=(users, 1)) + np.arange(events)) % THEMES
    loyal = rng.random((users, events)) < 0.8
    brand = np.where(
        loyal, rng.integers(BRANDS, size=(users, 1)), rng.integers(BRANDS, size=(users, events))
    )
    rows = (theme * BRANDS + brand) * COPIES + rng.integers(COPIES, size=(users, events))
    ids = np.array([f"item-{number:04d}" for number in range(THEMES * BRANDS * COPIES)])
    data = dataset("brands", ids[rows].tolist(), pl.DataFrame({"item_id": ids}))
    split = split_by(data, "last")
    methods = {"PI2I": PI2I(), "lists": CoVisitation(history_length=PI2I().history_length)}
    return judge(fit_all(methods, split, run), split, run, {"over lists": ("PI2I", "lists")})


def measure_long(run: Run) -> Claim:
    figures, checks = {}, {}
    for name in ("beauty", "sports"):
        split = real_split(name)
        lists = CoVisitation(history_length=PI2I().history_length).fit(split.train, run)
        rows = []
        for seed in SEEDS:
            per_seed = Run(seed=seed, workers=run.workers, progress=run.progress)
            methods = {"lists": lists, "PI2I": PI2I().fit(split.train, per_seed, split)}
            if name == "beauty" and seed == SEEDS[0]:
                methods["random negatives"] = PI2I(from_lists=0, from_all=60).fit(
                    split.train, per_seed, split
                )
                methods["TwoTower"] = TwoTower().fit(split.train, per_seed, split)
            report = evaluate(methods, split, k=(10, 50), seen=("removed",), run=per_seed)
            tests = {(one.b, one.metric): one for one in compare(report, "lists")}
            gain = tests["PI2I", "HR@50"]
            rows.append(
                {
                    "seed": seed,
                    "test": {
                        one: {
                            metric: round(report.mean(one, metric, "removed"), 5)
                            for metric in report.metrics
                        }
                        for one in methods
                    },
                    "HR@50 above the lists": [
                        round(value, 5) for value in (gain.difference, gain.low, gain.high)
                    ],
                    "p, Holm": round(gain.p_holm, 4),
                }
            )
        figures[name] = rows
        checks[f"{name}: HR@50 is above that of the lists, every seed, by a paired test"] = all(
            row["HR@50 above the lists"][1] > 0 for row in rows
        )
    first = figures["beauty"][0]["test"]
    checks["beauty: HR@50 is above TwoTower's"] = (
        first["PI2I"]["HR@50"] > first["TwoTower"]["HR@50"]
    )
    checks["beauty: random negatives alone are lower"] = (
        first["PI2I"]["HR@50"] > first["random negatives"]["HR@50"]
    )
    means = {
        name: {
            method: {
                metric: round(float(np.mean([row["test"][method][metric] for row in rows])), 5)
                for metric in ("HR@10", "NDCG@10", "HR@50")
            }
            for method in ("lists", "PI2I")
        }
        for name, rows in figures.items()
    }
    return Claim(checks, {"means of seeds": means, "runs": figures}, SEEDS, ["beauty", "sports"])
