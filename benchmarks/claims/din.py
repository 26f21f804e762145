"""DIN: people with several interests in a planted log; then Beauty against popular negatives.

Learning rates, epochs and shares as weights were chosen on the validation part of other planted
logs and of Beauty. The rival is the same net over the mean of the history; MeanInterest, with ReLU
and a penalty of its own, is printed beside it. Negatives of Beauty
are drawn by popularity, so that being popular does not tell a positive.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from claim_tools import (
    SEEDS,
    drawn_floors,
    fit_all,
    is_above,
    judge_predictions,
    judged_attention,
    seeded,
)
from shared_data import real, sample_users, with_attributes
from torch import nn

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.examples import Outcome
from tailor.data.splits import Split, by_time, split_by
from tailor.metrics.prediction import auc
from tailor.nn.fields import FieldLayout
from tailor.nn.interest import TargetAttention
from tailor.papers.ranking.din import DIN
from tailor.ranking.behaviours import BehaviourNet, MeanInterest
from tailor.worlds.interests import Interests, interests

PEOPLE = 6_000  # of Beauty
NEGATIVES = 9  # judged beside every last item
SHOWN = {"source": "shown", "width": 8, "history": 50, "epochs": 6, "lr": 3e-3}
DRAWN = {"width": 16, "history": 20, "epochs": 4, "lr": 3e-3}
TOWER = (80, 40)
OVER_MEAN = {"over mean": ("DIN", "mean")}


@dataclass(eq=False)
class MeanDIN(DIN):
    """DIN in all but its attention: every event counts the same."""

    def _make_field_net(self, layout: FieldLayout) -> nn.Module:
        attention = TargetAttention(layout.item_fields * self.width, "mean")
        return BehaviourNet(layout, self.width, self.layers, attention, "dice", self.dropout)


def measure(run: Run) -> Claim:
    """Three planted logs of interests, three random states; then 6,000 people of Beauty."""
    planted = [on_interests(interests(seed=seed), seeded(run, seed)) for seed in SEEDS]
    data = with_attributes(sample_users(real("beauty"), PEOPLE), "beauty")
    beauty = on_beauty(split_by(data, "last"), run)
    gaps = beauty["AUC on train less AUC on test"]
    checks = {
        "planted: AUC at least .02 above mean pooling": is_above(planted, "over mean")
        and all(row["leads"]["over mean"]["difference"] >= 0.02 for row in planted),
        "planted: over .7 of the attention on the candidate's own interest": all(
            row["attention on own interest"] > 0.7 for row in planted
        ),
        "Beauty: gAUC above mean pooling": beauty["leads of users"]["over mean"]["low"] > 0,
        "Beauty: the penalty of used vectors narrows the gap of train and test by .01": gaps["DIN"]
        < gaps["DIN without penalty"] - 0.01,
    }
    figures = {"planted": planted, "beauty": beauty}
    return Claim(checks, figures, list(SEEDS), ["interests", "beauty"])


def on_interests(world: Interests, run: Run) -> dict[str, Any]:
    """Judge both nets, and the attention of DIN."""
    split = by_time(world.data)
    methods = {
        "mean": MeanDIN(**SHOWN),
        "MeanInterest": MeanInterest(**SHOWN, layers=TOWER),
        "DIN": DIN(**SHOWN),
    }
    fit_all(methods, split, run)
    row = judge_predictions(methods, split, run, OVER_MEAN)
    own, chance = own_attention(methods["DIN"], world, split)
    return row | {"attention on own interest": own, "events of own interest": chance}


def own_attention(method: DIN, world: Interests, split: Split) -> tuple[float, float]:
    """Return the mean attention on events of the candidate's group, and the share of these events.

    Over judged items of whose group the history holds an event.
    """
    batch, weights, is_own = judged_attention(method, world, split, every=5)
    has_own = is_own.any(axis=1)
    share = is_own[has_own].sum(axis=1) / batch.is_real.numpy()[has_own].sum(axis=1)
    return round(float((weights * is_own)[has_own].sum(axis=1).mean()), 4), round(share.mean(), 4)


def on_beauty(split: Split, run: Run) -> dict[str, Any]:
    """Judge both nets and DIN without its penalty on the last item of everyone."""
    methods = {
        "mean": MeanDIN(**DRAWN),
        "MeanInterest": MeanInterest(**DRAWN, layers=TOWER),
        "DIN": DIN(**DRAWN),
        "DIN without penalty": DIN(**DRAWN, l2=0.0),
    }
    fit_all(methods, split, run)
    outcome = Outcome("drawn", negatives=NEGATIVES, length=DRAWN["history"])
    row = judge_predictions(methods, split, run, OVER_MEAN, outcome)
    learned = outcome.learn(split.train, run.rng("learned"))
    learned = learned.take(np.arange(0, len(learned), 4))
    ids = learned.queries.catalogue.named(learned.items)
    gaps = {
        name: round(
            auc(learned.labels, np.concatenate(method.predict(learned.queries, [[i] for i in ids])))
            - row["figures"][name]["AUC"],
            4,
        )
        for name, method in methods.items()
    }
    floors = drawn_floors(split, outcome, run)
    return row | {"floors, AUC": floors, "AUC on train less AUC on test": gaps}
