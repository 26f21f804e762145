"""iHAS's claim: kinds of rows found by gates, and as good a net with fewer numbers.

The weight of open gates and the search's epochs were chosen on the validation part of the world of
seed 11.
"""

from typing import Any

import numpy as np
from claim_tools import SEEDS, seeded
from sklearn.metrics import adjusted_rand_score

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.examples import Outcome
from tailor.data.splits import Split, by_time
from tailor.evaluation.predictions import evaluate_predictions
from tailor.papers.ranking.ihas import IHAS
from tailor.ranking.deepfm import DeepFM
from tailor.worlds.tabular import Tabular, tabular

NOISE = tuple(f"user:noise_{number}" for number in range(3))
ACTING = tuple(f"{side}_{number}" for side in ("user:user", "item:item") for number in range(4))
SETTINGS = {
    "source": "label",
    "label": "liked",
    "fields": ("user:channel", *ACTING, *NOISE),
    "history": 0,
    "width": 16,
    "layers": (64,),
    "least": 20,
    "lr": 3e-3,
    "batch": 256,
    "epochs": 10,
    "patience": 2,
}
SEARCH = {"l1": 1.0, "search_epochs": 15}


def measure(run: Run) -> Claim:
    """Rows of two kinds, each with fields of its own, and three fields without effect."""
    rows = [on(seed, seeded(run, seed)) for seed in SEEDS]
    checks = {
        "clusters are the kinds (ARI above .6)": all(row["ARI"] > 0.6 for row in rows),
        "acting fields keep more dimensions than noise": all(
            row["dimensions"]["acting"] > row["dimensions"]["noise"] for row in rows
        ),
        "at most 60 % of the full net's numbers": all(
            share <= 0.6 for row in rows for share in row["shares of numbers"]
        ),
        "AUC not below the full net": all(row["over full"]["high"] >= 0 for row in rows),
        "AUC above one pruned net": all(row["over one pruned"]["low"] > 0 for row in rows),
    }
    return Claim(checks, {"planted": rows}, SEEDS, ["tabular"])


def on(seed: int, run: Run) -> dict[str, Any]:
    """Return clusters, dimensions and AUC in one world."""
    world = tabular(
        events=40_000,
        users=40_000,
        fields=4,
        values=10,
        linear=2.5,
        strength=0.0,
        kinds=2,
        noise=3,
        seed=seed,
    )
    split = by_time(world.data)
    methods = {
        "iHAS": IHAS(**SEARCH, **SETTINGS).fit(split.train, run, split),
        "one pruned": IHAS(clusters=1, **SEARCH, **SETTINGS).fit(split.train, run, split),
        "full": DeepFM(**SETTINGS).fit(split.train, run, split),
    }
    outcome = Outcome("label", "liked", length=0)
    predictions = evaluate_predictions(methods, split, outcome=outcome, run=run)
    report = methods["iHAS"].fit_report_
    row: dict[str, Any] = {
        "seed": seed,
        "ARI": round(agreement(methods["iHAS"], world, split, outcome), 4),
        "dimensions": mean_dimensions(report, world),
        "shares of numbers": [cluster["share of all numbers"] for cluster in report["clusters"]],
        "shares of rows": [cluster["share"] for cluster in report["clusters"]],
        "AUC": {name: round(predictions.overall(name, "AUC"), 5) for name in methods},
    }
    for name in ("full", "one pruned"):
        differences = {test.b: test.to_dict() for test in predictions.differences(name, seed)}
        row[f"over {name}"] = {
            key: round(value, 5) if isinstance(value, float) else value
            for key, value in differences["iHAS"].items()
        }
    return row


def agreement(method: IHAS, world: Tabular, split: Split, outcome: Outcome) -> float:
    """Return the adjusted Rand index of clusters and kinds of the rows learned from."""
    examples = outcome.learn(split.train, np.random.default_rng(0))
    order = np.argsort(np.argsort(examples.queries.now_ms))  # events stand in the order of time
    kinds = world.kinds[split.part == 0][order]
    return float(adjusted_rand_score(kinds, method.cluster_of(examples)))


def mean_dimensions(report: dict[str, Any], world: Tabular) -> dict[str, float]:
    """Return the mean dimensions of fields that act in some cluster, and of those that never do.

    An acting field counts with the cluster in which it has more.
    """
    clusters = [cluster["dimensions"] for cluster in report["clusters"]]
    most = {name: max(dimensions[name] for dimensions in clusters) for name in clusters[0]}
    return {
        "acting": round(float(np.mean([most[name] for name in ACTING])), 2),
        "noise": round(float(np.mean([most[name] for name in NOISE])), 2),
    }
