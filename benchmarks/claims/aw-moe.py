"""AW-MoE: planted logs of four groups of people, each with rules of its own.

Nothing shows a person's group but the sections of the items in the history; 40 % of the people have
at most 5 events. Learning rate, epochs, penalty and the weight of the contrast were chosen on the
validation part of another log, 0 among its values. DIN has as many numbers.
"""

from typing import Any

import numpy as np
from claim_tools import (
    SEEDS,
    auc_lead,
    fit_all,
    is_above,
    judge_predictions,
    pairs_only,
    parameters,
    seeded,
)
from sklearn.metrics import mutual_info_score

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.examples import Examples
from tailor.data.splits import by_time
from tailor.evaluation.predictions import evaluate_predictions
from tailor.papers.ranking.aw_moe import AWMoE
from tailor.papers.ranking.din import DIN
from tailor.ranking.fields import FieldPredictor
from tailor.worlds.tabular import Tabular, tabular

WORLD = {"events": 40_000, "users": 2_000, "items": 500, "fields": 2, "values": 8, "tables": 2}
WORLD |= {"groups": 4, "short": 0.4, "linear": 0.3, "strength": 2.5}
LABEL = {"source": "label", "label": "liked", "width": 8, "history": 20, "epochs": 7}
LABEL |= {"lr": 1e-2, "batch": 512}
SHORT = 5  # events of a short history, at most
DRAWS = 200  # of a permutation test
LEADS = {"over DIN": ("AW-MoE", "DIN"), "over no contrast": ("AW-MoE", "no contrast")}


def measure(run: Run) -> Claim:
    """Planted logs of groups, three random states."""
    planted = [on_groups(seeded(run, seed)) for seed in SEEDS]
    short = [row["short histories"] for row in planted]
    checks = {
        "AUC above DIN with as many numbers": is_above(planted, "over DIN"),
        "people with at most 5 events gain at least as much as others": all(
            row["over DIN"]["difference"] >= row["others over DIN"]["difference"] for row in short
        ),
        "without the contrast AUC on short histories is lower": all(
            row["over no contrast"]["low"] > 0 for row in short
        ),
        "the largest share tells the group": all(row["p of groups"] < 0.05 for row in planted),
    }
    return Claim(checks, {"planted": planted}, list(SEEDS), ["tabular"])


def on_groups(run: Run) -> dict[str, Any]:
    """Judge all methods, on all pairs and on those of short histories; compare gates and groups."""
    world = tabular(**WORLD, seed=run.seed)
    split = by_time(world.data)
    methods: dict[str, FieldPredictor] = {
        "AW-MoE": AWMoE(**LABEL),
        "no contrast": AWMoE(**LABEL, contrast=0.0),
        "DIN": DIN(**LABEL, layers=(112, 40)),
    }
    fit_all(methods, split, run)
    row = judge_predictions(methods, split, run, LEADS)
    predictions = evaluate_predictions(methods, split, run=run)
    examples = methods["DIN"].outcome().judge(split, "test", run.rng("judged", "test"))
    is_short = examples.queries.histories.lengths <= SHORT
    few, many = pairs_only(predictions, is_short), pairs_only(predictions, ~is_short)
    parts = {label: auc_lead(few, *pair, run.seed) for label, pair in LEADS.items()}
    parts["others over DIN"] = auc_lead(many, *LEADS["over DIN"], run.seed)
    gates = methods["AW-MoE"]
    assert isinstance(gates, AWMoE)
    return row | {
        "short histories": {"pairs": int(is_short.sum()), **parts},
        "mean shares": gates.fit_report_["mean shares of the experts"],
        "parameters": {name: parameters(method) for name, method in methods.items()},
        **groups_told(gates, world, examples, run.seed),
    }


def groups_told(method: AWMoE, world: Tabular, examples: Examples, seed: int) -> dict[str, float]:
    """Return the mutual information of group and best expert of people, and p by permutation."""
    group_of = dict(zip(world.data.events["user_id"].to_list(), world.groups, strict=True))
    user_ids, users = examples.people()
    gates = method._gates(method._encode_examples(examples))
    sums = np.zeros((len(user_ids), gates.shape[1]))
    np.add.at(sums, users, gates)
    best = sums.argmax(axis=1)
    groups = np.array([group_of[user_id] for user_id in user_ids.tolist()])
    rng = np.random.default_rng(seed)
    information = mutual_info_score(groups, best)
    by_chance = [mutual_info_score(rng.permutation(groups), best) for _ in range(DRAWS)]
    exceeding = sum(value >= information for value in by_chance)
    return {
        "information, nats": round(float(information), 4),
        "p of groups": round((exceeding + 1) / (DRAWS + 1), 4),
    }
