"""OptInter's claim: the operation of every planted pair, and AUC with half of the numbers.

Epochs, learning rates and cooling were chosen on the validation part of the world of seed 11.
"""

from typing import Any

from claim_tools import SEEDS, seeded

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.splits import by_time
from tailor.evaluation.predictions import evaluate_predictions
from tailor.papers.ranking.optinter import OptInter
from tailor.worlds.tabular import tabular

FIELDS = tuple(f"{side}_{number}" for side in ("user:user", "item:item") for number in range(3))
RIVALS = {"tables": ("table",), "products": ("product",), "no pairs": ("none",)}
SETTINGS = {
    "source": "label",
    "label": "liked",
    "fields": FIELDS,
    "layers": (64,),
    "lr": 3e-3,
    "epochs": 6,
    "patience": 2,
    "search_epochs": 2,
    "cooling": 2e-3,
}


def measure(run: Run) -> Claim:
    """Three tables and three products among 15 pairs of fields of 40 values, three seeds."""
    rows = [on(seed, seeded(run, seed)) for seed in SEEDS]
    checks = {
        "80 % of the pairs get back their operation": all(row["recovered"] >= 0.8 for row in rows),
        "AUC above all products": all(row["over products"]["low"] > 0 for row in rows),
        "AUC above no pairs": all(row["over no pairs"]["low"] > 0 for row in rows),
        "AUC within .002 of all tables": all(
            row["over tables"]["difference"] > -0.002 for row in rows
        ),
        "at most half of the tables' vectors": all(row["share of vectors"] <= 0.5 for row in rows),
    }
    return Claim(checks, {"planted": rows}, SEEDS, ["tabular"])


def on(seed: int, run: Run) -> dict[str, Any]:
    """Return what is recovered in one world, and the AUC beside that of its rivals."""
    world = tabular(
        events=80_000, users=80_000, values=40, tables=3, products=3, strength=3.0, seed=seed
    )
    split = by_time(world.data)
    methods = {"OptInter": OptInter(**SETTINGS).fit(split.train, run, split)}
    for name, operations in RIVALS.items():
        rival = OptInter(operations=operations, **SETTINGS)
        methods[name] = rival.fit(split.train, run, split)
    predictions = evaluate_predictions(methods, split, run=run)
    report = methods["OptInter"].fit_report_
    chosen = {
        frozenset(name.split(":")[1] for name in row["pair"]): row["operation"]
        for row in report["pairs"]
    }
    planted = {frozenset(pair): name for pair, name in world.operations.items()}
    hits = [name == planted.get(pair, "none") for pair, name in chosen.items()]
    row: dict[str, Any] = {
        "seed": seed,
        "recovered": round(sum(hits) / len(hits), 3),
        "planted and chosen": confusion(planted, chosen),
        "share of vectors": report["share of cross vectors"],
        "AUC": {name: round(predictions.overall(name, "AUC"), 5) for name in methods},
    }
    for name in RIVALS:
        differences = {test.b: test for test in predictions.differences(name, seed)}
        row[f"over {name}"] = rounded(differences["OptInter"].to_dict())
    return row


def confusion(
    planted: dict[frozenset[str], str], chosen: dict[frozenset[str], str]
) -> dict[str, int]:
    """Return how many pairs of each planted operation got each chosen one."""
    counts: dict[str, int] = {}
    for pair, operation in chosen.items():
        key = f"{planted.get(pair, 'none')}, read as {operation}"
        counts[key] = counts.get(key, 0) + 1
    return dict(sorted(counts.items()))


def rounded(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose numbers have five decimals."""
    return {
        key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()
    }
