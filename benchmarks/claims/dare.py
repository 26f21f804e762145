"""DARE: planted logs in which an item's sign counts beside its group.

Whether an item is chosen depends on the signs of the earlier items of its group: attention has to
find the group, and what is summed up has to tell the sign. The rival has one table of the same
total width. Learning rate, batch and epochs were chosen on the validation part of another log, for
all alike.
"""

from typing import Any

import numpy as np
from claim_tools import SEEDS, fit_all, is_above, judge_predictions, judged_attention, seeded

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.splits import Split, by_time
from tailor.papers.ranking.dare import DARE
from tailor.worlds.interests import Interests, interests

WORLD = {"people": 600, "length": 60, "own": 4, "worth": 1.0}
SHOWN = {"source": "shown", "history": 60, "epochs": 5, "lr": 1e-2, "batch": 512, "width": 4}
TOP = 20
LEADS = {"over one table": ("4 and 4", "one of 8"), "half the attention": ("4 and 4", "4 and 8")}


def measure(run: Run) -> Claim:
    """Planted logs of signed items, three random states."""
    planted = [on_interests(interests(**WORLD, seed=seed), seeded(run, seed)) for seed in SEEDS]
    checks = {
        "AUC above one table of the same total width": is_above(planted, "over one table"),
        "the search orders events of the candidate's group better": all(
            row["NDCG@20 of the search"]["4 and 4"] > row["NDCG@20 of the search"]["one of 8"]
            for row in planted
        ),
        "half the width of attention costs at most .002 AUC": all(
            row["leads"]["half the attention"]["difference"] >= -0.002 for row in planted
        ),
    }
    return Claim(checks, {"planted": planted}, list(SEEDS), ["interests"])


def on_interests(world: Interests, run: Run) -> dict[str, Any]:
    """Judge two tables and one, and the order in which each finds events."""
    split = by_time(world.data)
    methods = {
        "4 and 4": DARE(**SHOWN, attention_width=4),
        "4 and 8": DARE(**SHOWN, attention_width=8),
        "one of 8": DARE(**{**SHOWN, "width": 8}, attention_width=None),
    }
    fit_all(methods, split, run)
    search = {name: search_ndcg(method, world, split) for name, method in methods.items()}
    return judge_predictions(methods, split, run, LEADS) | {"NDCG@20 of the search": search}


def search_ndcg(method: DARE, world: Interests, split: Split) -> float:
    """Return the mean NDCG@20 of the search; events of the candidate's group are relevant.

    Over judged items of whose group the history holds an event.
    """
    _, weights, is_own = judged_attention(method, world, split, every=5)
    order = np.argsort(-weights, axis=1, kind="stable")[:, :TOP]
    found = np.take_along_axis(is_own, order, axis=1)
    discounts = 1 / np.log2(np.arange(TOP) + 2)
    most = np.minimum(is_own.sum(axis=1), TOP)
    ideal = np.concatenate([[0.0], discounts.cumsum()])[most]
    return round(float(((found @ discounts)[most > 0] / ideal[most > 0]).mean()), 4)
