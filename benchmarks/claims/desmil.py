"""DESMIL: planted logs whose interests come in fixed pairs while learning, and part later.

In the first half of the time nine users of ten have interests in pairs, in the second half one of
twenty. Methods learn from the first half. They are judged on later events of the same half, and on
histories and events of the second half alone. With no steps DESMIL is ComiRec. Dependence is given
for all examples alike, and weighted. Settings were chosen on the validation part of another log.
"""

from typing import Any

import torch
from claim_tools import SEEDS, is_above, judge, seeded
from torch import Tensor

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.splits import Split, by_ratio
from tailor.papers.retrieval.desmil import DESMIL
from tailor.retrieval.popularity import Popularity
from tailor.worlds.interests import Interests, interests

WORLD = {
    "people": 1_200,
    "items": 600,
    "own": 2,
    "uneven": 0.9,
    "length": 60,
    "visits": 1,
    "slate": 1,
    "together": 0.9,
    "together_later": 0.05,
}
SETTINGS = {"width": 8, "epochs": 15, "lr": 0.01, "dropout": 0.1, "negatives": None}
METRIC = "recall@20"
LEADS = {
    "over ComiRec": ("DESMIL", "ComiRec"),
    "of shuffled weights over ComiRec": ("shuffled weights", "ComiRec"),
    "over popularity": ("DESMIL", "popularity"),
}
MOST_LOST = 0.03  # of recall where interests come in the pairs that were learned


class ShuffledDESMIL(DESMIL):
    """The same weights, given to other examples of the batch."""

    def _weigh(self, interests: Tensor) -> Tensor:
        weights = super()._weigh(interests)
        return weights[torch.randperm(len(weights))]


def measure(run: Run) -> Claim:
    """Planted logs of paired interests, three random states."""
    rows = [on_pairs(interests(**WORLD, seed=seed), seeded(run, seed)) for seed in SEEDS]
    later = [row["pairs apart"] for row in rows]
    checks = {
        "pairs apart: recall@20 above ComiRec": is_above(later, "over ComiRec"),
        "pairs apart: shuffled weights gain nothing": not is_above(
            later, "of shuffled weights over ComiRec"
        ),
        "pairs as learned: at most 3 % of recall@20 is lost": all(
            figure(row, "DESMIL") >= (1 - MOST_LOST) * figure(row, "ComiRec") for row in rows
        ),
        "weighted dependence in the end below that of ComiRec": all(
            row["dependence"]["DESMIL"]["end"][1] < row["dependence"]["ComiRec"]["end"][0]
            for row in rows
        ),
        "weighted dependence falls while it learns, that of ComiRec rises": all(
            has_fallen(row, "DESMIL") and not has_fallen(row, "ComiRec") for row in rows
        ),
    }
    return Claim(checks, {"planted": rows}, list(SEEDS), ["interests"])


def figure(row: dict[str, Any], name: str) -> float:
    """Return the recall of a method where interests come in the pairs that were learned."""
    value: float = row["pairs as learned"]["means"][name][METRIC]
    return value


def has_fallen(row: dict[str, Any], name: str) -> bool:
    """Say whether the weighted dependence is lower in the end than early in training."""
    dependence = row["dependence"][name]
    return bool(dependence["end"][1] < dependence["early"][1])


def on_pairs(world: Interests, run: Run) -> dict[str, Any]:
    """Fit on the first half of the time, and judge there and in the second."""
    early, late = halves(world)
    methods = {
        "DESMIL": DESMIL(**SETTINGS, patience=None),
        "ComiRec": DESMIL(**SETTINGS, patience=None, steps=0),
        "shuffled weights": ShuffledDESMIL(**SETTINGS, patience=None),
        "popularity": Popularity(),
    }
    for method in methods.values():
        method.fit(early.train, run)
    nets = {name: method for name, method in methods.items() if isinstance(method, DESMIL)}
    return {
        "pairs as learned": judge(methods, early, run, LEADS, METRIC),
        "pairs apart": judge(methods, late, run, LEADS, METRIC),
        "dependence": {
            name: dict(zip(("early", "end"), method.dependence_.round(6).tolist(), strict=True))
            for name, method in nets.items()
        },
        "least effective share": {
            name: method.fit_report_["least_effective_share"] for name, method in nets.items()
        },
        "most entangled": methods["DESMIL"].fit_report_["entangled"][0],
    }


def halves(world: Interests) -> tuple[Split, Split]:
    """Return the log's halves in time, each as a data set of its own that is split by ratio."""
    events = world.data.events
    middle = (events["time_ms"].min() + events["time_ms"].max()) // 2
    parts = []
    for name, mask in (
        ("early", events["time_ms"] < middle),
        ("late", events["time_ms"] >= middle),
    ):
        columns = events.filter(mask).select("user_id", "item_id", "time_ms")
        data = Dataset({"events": columns, "items": world.data.tables["items"]}, name)
        parts.append(by_ratio(data, valid=0.1, test=0.3))
    return parts[0], parts[1]
