"""SDIM: interests in a planted log of 500 events a person, of which the last 50 hold few.

Events come in bursts of one group, so that the latest ones tell of few of a person's interests.
Learning rate, batch and epochs were chosen on the validation part of other planted logs, for all
methods alike. The rivals are the same net without its hashing: attention over the last 50 events,
and over all.
"""

import time
from dataclasses import dataclass
from typing import Any

from claim_tools import is_above, judge_predictions, seeded
from long_histories import CANDIDATES, milliseconds
from torch import nn

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.nouns import History, Query
from tailor.data.splits import by_time
from tailor.nn.fields import FieldLayout
from tailor.nn.interest import TargetAttention
from tailor.papers.ranking.sdim import SDIM
from tailor.ranking.behaviours import BehaviourNet, BehaviourPredictor
from tailor.worlds.interests import Interests, interests

SEEDS = (0, 1)  # a fit of attention over all takes half a minute
WORLD = {"people": 300, "length": 500, "visits": 10, "own": 8, "uneven": 0.8, "burst": 25}
SHOWN = {"source": "shown", "width": 8, "epochs": 4, "lr": 1e-2, "batch": 256}
LENGTH = 4_096  # events of a long history
LEADS = {"over the last 50": ("SDIM", "last 50"), "over all": ("SDIM", "all")}


@dataclass(eq=False)
class Attention(BehaviourPredictor):
    """The tower of SDIM over the attention that it gives the latest events, and nothing else."""

    def _make_field_net(self, layout: FieldLayout) -> nn.Module:
        attention = TargetAttention(layout.item_fields * self.width, "unit", normalise=True)
        return BehaviourNet(layout, self.width, self.layers, attention, dropout=self.dropout)


def measure(run: Run) -> Claim:
    """Planted logs of long histories, two random states."""
    planted = [on_interests(interests(**WORLD, seed=seed), seeded(run, seed)) for seed in SEEDS]
    checks = {
        "AUC above attention over the last 50 events": is_above(planted, "over the last 50"),
        "AUC at most .005 below attention over all": all(
            row["leads"]["over all"]["difference"] >= -0.005 for row in planted
        ),
    }
    speed = of_long_histories(run)
    checks["500 candidates at 4,096 events at least 5 times faster than by attention"] = (
        speed["attention, ms"] >= 5 * speed["SDIM, ms"]
    )
    figures = {"planted": planted, "500 candidates at 4,096 events": speed}
    return Claim(checks, figures, list(SEEDS), ["interests"])


def of_long_histories(run: Run) -> dict[str, float]:
    """Return processor milliseconds of a prediction for one user with 4,096 events."""
    data = interests(people=50, length=100, visits=4).data
    rng = run.rng("long history")
    ids = data.catalogue.ids
    candidates = ids[rng.choice(len(ids), CANDIDATES, replace=False)].tolist()
    query = Query(history=History.of(*ids[rng.integers(len(ids), size=LENGTH)].tolist()))
    times: dict[str, float] = {}
    for name, cls in {"attention": Attention, "SDIM": SDIM}.items():
        method = cls(source="shown", width=16, epochs=1, history=LENGTH).fit(data, run)
        times |= milliseconds(method, name, query, candidates)
    return {name: round(value, 2) for name, value in times.items()}


def on_interests(world: Interests, run: Run) -> dict[str, Any]:
    """Judge all methods, and the processor time of their fits."""
    split = by_time(world.data)
    methods = {
        "last 50": Attention(**SHOWN, history=50),
        "all": Attention(**SHOWN, history=500),
        "SDIM": SDIM(**SHOWN, history=500),
    }
    seconds = {}
    for name, method in methods.items():
        started = time.process_time()
        method.fit(split.train, run, split)
        seconds[name] = round(time.process_time() - started, 1)
    return judge_predictions(methods, split, run, LEADS) | {"seconds of a fit": seconds}
