"""QIN: products of three fields and interests in planted logs; then texts of Beauty.

Learning rates, epochs and the number of layers were chosen on the validation part of other planted
logs, for all methods alike. The rivals on products are DCN-V2 and a tower, with as many numbers as
QIN has. Of Beauty, items with at most 5 training events are judged, with the vectors of titles and
without.
"""

from typing import Any

import numpy as np
from claim_tools import (
    SEEDS,
    auc_lead,
    fit_all,
    is_above,
    judge_predictions,
    judged_attention,
    pairs_only,
    parameters,
    seeded,
)
from remembering import Remembering
from shared_data import real, sample_users, with_attributes

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.examples import Outcome
from tailor.data.splits import Split, by_time, split_by
from tailor.evaluation.predictions import evaluate_predictions
from tailor.papers.ranking.qin import QIN
from tailor.ranking.behaviours import MeanInterest
from tailor.ranking.dcn import DCNV2
from tailor.ranking.fields import FieldPredictor
from tailor.worlds.interests import Interests, interests
from tailor.worlds.tabular import tabular

PEOPLE = 3_000  # of Beauty
RARE = 5  # training events of an item, at most
NEGATIVES = 9  # judged beside every last item
FIELDS = tuple(f"{owner}:{owner}_{i}" for owner in ("user", "item") for i in range(3))
LABEL = {"source": "label", "label": "liked", "fields": FIELDS, "width": 8, "lr": 5e-3}
LABEL |= {"epochs": 8, "batch": 512}
SHOWN = {"source": "shown", "width": 8, "history": 40, "epochs": 4, "lr": 5e-3, "batch": 512}
DRAWN = {"width": 8, "history": 20, "epochs": 4, "lr": 3e-3, "quadratic_layers": 2}
PRODUCTS = {"events": 30_000, "users": 30_000, "items": 1_000, "fields": 3, "values": 10}
PRODUCTS |= {"triples": 2, "linear": 0.3, "strength": 2.5}
OVER = {"over DCN-V2": ("QIN", "DCN-V2"), "over a tower": ("QIN", "tower")}


def measure(run: Run) -> Claim:
    """Planted products and interests, three random states each; then 3,000 people of Beauty."""
    products = [on_products(seeded(run, seed)) for seed in SEEDS]
    attention = [
        on_interests(interests(people=500, seed=seed), seeded(run, seed)) for seed in SEEDS
    ]
    data = with_attributes(sample_users(real("beauty"), PEOPLE), "beauty")
    beauty = on_beauty(split_by(data, "last"), run)
    checks = {
        "planted: AUC above DCN-V2": is_above(products, "over DCN-V2"),
        "planted: AUC above a tower": is_above(products, "over a tower"),
        "planted: over 30 % of the attention weights are 0, and more than before training": all(
            row["share of zeros"] > max(0.3, row["share of zeros before training"])
            for row in attention
        ),
        "planted: the others lie on the candidate's interest, three times as often as events do": (
            all(row["weight on own"] > 3 * row["events of own"] for row in attention)
        ),
        "Beauty: text vectors raise AUC for items of at most 5 events": beauty["rare items"][
            "lead"
        ]["low"]
        > 0,
    }
    figures = {"products": products, "interests": attention, "beauty": beauty}
    return Claim(checks, figures, list(SEEDS), ["tabular", "interests", "beauty"])


def on_products(run: Run) -> dict[str, Any]:
    """Judge QIN and its rivals where products of three fields decide."""
    split = by_time(tabular(**PRODUCTS, seed=run.seed).data)
    methods: dict[str, FieldPredictor] = {
        "QIN": QIN(**LABEL, history=1, quadratic_layers=2),
        "DCN-V2": DCNV2(**LABEL, history=0, crosses=3, layers=(190, 100), dropout=0.1),
        "tower": MeanInterest(**LABEL, history=1, layers=(180, 100), dropout=0.1),
    }
    fit_all(methods, split, run)
    numbers = {name: parameters(method) for name, method in methods.items()}
    return judge_predictions(methods, split, run, OVER) | {"parameters": numbers}


def on_interests(world: Interests, run: Run) -> dict[str, Any]:
    """Return the share of attention weights that are 0, and on which events the others lie."""
    split = by_time(world.data)
    method = QIN(**SHOWN, quadratic_layers=2).fit(split.train, run, split)
    batch, weights, is_own = judged_attention(method, world, split)
    method._start_net(run)
    untrained = method._net.eval().attention_of(batch).detach().numpy()
    is_real = batch.is_real.numpy()
    return {
        "seed": run.seed,
        "share of zeros": round(float((weights[is_real] == 0).mean()), 4),
        "share of zeros before training": round(float((untrained[is_real] == 0).mean()), 4),
        "weight on own": round(float(weights[is_own].sum() / weights.sum()), 4),
        "events of own": round(float(is_own.sum() / is_real.sum()), 4),
    }


def on_beauty(split: Split, run: Run) -> dict[str, Any]:
    """Judge QIN with vectors of titles and without, on all pairs and on those of rare items."""
    methods = {"texts": QIN(**DRAWN, encoder=Remembering()), "no texts": QIN(**DRAWN)}
    fit_all(methods, split, run)
    outcome = Outcome("drawn", negatives=NEGATIVES, length=DRAWN["history"])
    row = judge_predictions(methods, split, run, {"texts": ("texts", "no texts")}, outcome)
    predictions = evaluate_predictions(methods, split, outcome=outcome, run=run)
    examples = outcome.judge(split, "test", run.rng("judged", "test"))
    train_events = split.train.events["item_id"].value_counts()
    events_of = dict(train_events.iter_rows())
    ids = examples.queries.catalogue.named(examples.items)
    is_rare = np.array([events_of.get(item_id, 0) <= RARE for item_id in ids])
    rare = pairs_only(predictions, is_rare)
    lead = auc_lead(rare, "texts", "no texts", run.seed)
    return row | {
        "rare items": {"pairs": len(rare.labels), "ones": int(rare.labels.sum()), "lead": lead}
    }
