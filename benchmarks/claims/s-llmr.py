"""S-LLMR: planted logs with scores of known accuracy; Beauty with cosines of titles.

The scores order a user's items rightly with a chance of .6 or .8 where an item is rare, and by
chance elsewhere. Rivals are the same ranker without scores, on the same rows in as many steps, and
with every pair counted alike; the weight of each was chosen among three on the validation part of
another planted log. On Beauty QIN with and without vectors of titles as inputs stands beside them:
what texts bring without any scores.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from claim_tools import SEEDS, auc_lead, fit_all, is_above, judge_predictions, pairs_only, seeded
from remembering import Remembering
from shared_data import real, sample_users

from tailor.bench.claims import Claim
from tailor.core.methods import Predictor
from tailor.core.run import Run
from tailor.data.examples import Examples, Outcome
from tailor.data.splits import Split, by_time, split_by
from tailor.evaluation.predictions import evaluate_predictions
from tailor.papers.ranking.qin import QIN
from tailor.papers.ranking.s_llmr import SLLMR
from tailor.worlds.styles import responses

COLD = 3  # events of a history, at most; of whom there is none, no method can know anything
RARE = 5  # training events of an item of Beauty, at most
PEOPLE = 3_000  # of Beauty
LOSS = 0.002  # of AUC that frequent items may lose
ACCURACIES = (0.8, 0.6)
WORLD: dict[str, Any] = {"users": 700, "items": 2_000, "cold": 0.3, "worth": 0.7, "topics": 12}
WORLD |= {"styles": 2}
RANKER: dict[str, Any] = {"width": 8, "layers": (32, 16), "attention": "mean", "batch": 512}
SHOWN = RANKER | {"source": "shown", "history": 30, "epochs": 10, "lr": 1e-2, "patience": 3}
DRAWN = RANKER | {"history": 20, "epochs": 5, "lr": 3e-3, "encoder": Remembering()}
OF_QIN: dict[str, Any] = {"width": 8, "history": 20, "epochs": 5, "lr": 3e-3}
OF_QIN |= {"quadratic_layers": 2}
GATED, UNGATED = 0.3, 0.1  # weights of the loss
BASE = "ranker alone"


def measure(run: Run) -> Claim:
    """Planted logs, three random states and three accuracies; Beauty once."""
    planted = {
        accuracy: [on_responses(accuracy, seeded(run, seed)) for seed in SEEDS]
        for accuracy in (*ACCURACIES, 0.5)
    }
    beauty = on_beauty(split_by(sample_users(real("beauty"), PEOPLE), "last"), run)
    checks = {}
    for accuracy in ACCURACIES:
        rows = planted[accuracy]
        for stratum in ("cold users", "rare items"):
            for rival in (BASE, "ungated"):
                parts = [row["strata"][stratum] for row in rows]
                checks[f"accuracy {accuracy}: {stratum}, AUC above {rival}"] = is_above(
                    parts, f"over {rival}"
                )
        checks[f"accuracy {accuracy}: frequent items lose at most {LOSS}"] = all(
            row["strata"]["frequent items"]["leads"][f"over {BASE}"]["difference"] >= -LOSS
            for row in rows
        )
    checks["accuracy 0.5: no significant change"] = all(
        row["leads"][f"over {BASE}"]["low"] <= 0 <= row["leads"][f"over {BASE}"]["high"]
        for row in planted[0.5]
    )
    figures = {f"accuracy {name}": rows for name, rows in planted.items()} | {"beauty": beauty}
    return Claim(checks, figures, list(SEEDS), ["responses", "beauty"])


def on_responses(accuracy: float, run: Run) -> dict[str, Any]:
    """Judge on a planted log, in all and by strata."""
    world = responses(**WORLD, seed=run.seed)
    split = by_time(world.data, test=0.25)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.parquet"
        world.oracle(accuracy, seed=run.seed).write_parquet(path)
        settings = SHOWN | {"scores": str(path)}
        methods: dict[str, Predictor] = {
            BASE: SLLMR(**settings, weight=0.0),
            "SLLMR": SLLMR(**settings, weight=GATED),
        }
        if accuracy in ACCURACIES:
            methods["ungated"] = SLLMR(**settings, weight=UNGATED, gated=False)
        fit_all(methods, split, run)
    outcome = Outcome("shown", length=SHOWN["history"])
    examples = outcome.judge(split, "test", run.rng("judged", "test"))
    is_rare = world.is_tail[examples.items]
    strata = {"rare items": is_rare, "frequent items": ~is_rare, "cold users": cold(examples)}
    gate = methods["SLLMR"].fit_report_["gate"]
    return by_strata(methods, strata, split, outcome, run) | {"gate": gate}


def on_beauty(split: Split, run: Run) -> dict[str, Any]:
    """Judge on Beauty with cosines of titles, and QIN with and without their vectors."""
    methods: dict[str, Predictor] = {
        BASE: SLLMR(**DRAWN, weight=0.0),
        "SLLMR": SLLMR(**DRAWN, weight=GATED),
        "ungated": SLLMR(**DRAWN, weight=UNGATED, gated=False),
        "QIN": QIN(**OF_QIN),
        "QIN with vectors": QIN(**OF_QIN, encoder=Remembering()),
    }
    fit_all(methods, split, run)
    outcome = Outcome("drawn", negatives=9, length=DRAWN["history"])
    examples = outcome.judge(split, "test", run.rng("judged", "test"))
    counts = dict(split.train.events["item_id"].value_counts().iter_rows())
    ids = examples.queries.catalogue.named(examples.items)
    is_rare = np.array([counts.get(item_id, 0) <= RARE for item_id in ids])
    strata = {"rare items": is_rare, "frequent items": ~is_rare, "cold users": cold(examples)}
    return by_strata(methods, strata, split, outcome, run)


def cold(examples: Examples) -> np.ndarray:
    """Return (n,) bool: whether the user has few events, but some."""
    lengths = examples.queries.histories.lengths
    return (lengths > 0) & (lengths <= COLD)


def by_strata(
    methods: dict[str, Predictor],
    strata: dict[str, np.ndarray],
    split: Split,
    outcome: Outcome,
    run: Run,
) -> dict[str, Any]:
    """Return figures of methods, and the leads of SLLMR over each other in all and by strata."""
    leads = {f"over {name}": ("SLLMR", name) for name in methods if name != "SLLMR"}
    row = judge_predictions(methods, split, run, leads, outcome)
    predictions = evaluate_predictions(methods, split, outcome=outcome, run=run)
    row["strata"] = {}
    for name, mask in strata.items():
        part = pairs_only(predictions, mask)
        if len(np.unique(part.labels)) < 2:  # nobody on Beauty has so few events
            continue
        row["strata"][name] = {
            "pairs": len(part.labels),
            "leads": {
                label: auc_lead(part, method, over, run.seed)
                for label, (method, over) in leads.items()
            },
        }
    return row
