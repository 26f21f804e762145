"""SDIM: interests in a planted log of 500 events a person, of which the last 50 hold few.

Events come in bursts of one group, so that the latest ones tell of few of a person's interests.
Learning rate, batch and epochs were chosen on the validation part of other planted logs, for all
methods alike. The rivals are DIN's attention over the last 50 events and over all.
"""

import time
from typing import Any

from claim_tools import is_above, judge_predictions, seeded

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.splits import by_time
from tailor.papers.ranking.din import DIN
from tailor.papers.ranking.sdim import SDIM
from tailor.worlds.interests import Interests, interests

SEEDS = (0, 1)  # a fit of attention over all takes half a minute
WORLD = {"people": 300, "length": 500, "visits": 10, "own": 8, "uneven": 0.8, "burst": 25}
SHOWN = {"source": "shown", "width": 8, "epochs": 4, "lr": 1e-2, "batch": 256}
LEADS = {"over the last 50": ("SDIM", "last 50"), "over all": ("SDIM", "all")}


def measure(run: Run) -> Claim:
    """Planted logs of long histories, two random states."""
    planted = [on_interests(interests(**WORLD, seed=seed), seeded(run, seed)) for seed in SEEDS]
    checks = {
        "AUC above attention over the last 50 events": is_above(planted, "over the last 50"),
        "AUC at most .005 below attention over all": all(
            row["leads"]["over all"]["difference"] >= -0.005 for row in planted
        ),
        "a fit takes at most half the time of attention over all": all(
            row["seconds of a fit"]["SDIM"] <= 0.5 * row["seconds of a fit"]["all"]
            for row in planted
        ),
    }
    return Claim(checks, {"planted": planted}, list(SEEDS), ["interests"])


def on_interests(world: Interests, run: Run) -> dict[str, Any]:
    """Judge all methods, and the processor time of their fits."""
    split = by_time(world.data)
    methods = {
        "last 50": DIN(**SHOWN, history=50),
        "all": DIN(**SHOWN, history=500),
        "SDIM": SDIM(**SHOWN, history=500),
    }
    seconds = {}
    for name, method in methods.items():
        started = time.process_time()
        method.fit(split.train, run, split)
        seconds[name] = round(time.process_time() - started, 1)
    return judge_predictions(methods, split, run, LEADS) | {"seconds of a fit": seconds}
