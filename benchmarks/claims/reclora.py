"""RecLoRA: planted logs of styles that respond oppositely to a topic; ml-100k with times.

The reader learns from a tenth of the rows, the classical model from all. Rivals have the same rows,
texts and total rank: one adapter for all users, and a mixture for all users alike. The scale of the
one adapter was chosen on the validation part of another log; all else is the same for all. The
classical model itself, which reads no text, stands beside them.
"""

import time
from typing import Any

import numpy as np
from claim_tools import (
    SEEDS,
    fit_all,
    is_above,
    judge_predictions,
    parameters,
    seeded,
)
from remembering import Remembering
from shared_data import real
from sklearn.metrics import adjusted_rand_score

from tailor.bench.claims import Claim
from tailor.core.methods import Predictor
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.splits import by_ratio, by_time
from tailor.papers.ranking.reclora import RecLoRA
from tailor.ranking.behaviours import MeanInterest
from tailor.worlds.styles import responses

CLASSICAL: dict[str, Any] = {"history": 50, "width": 8, "layers": (32, 16), "batch": 512}
SHOWN = MeanInterest(source="shown", epochs=6, lr=5e-3, **CLASSICAL)
RATED = MeanInterest(source="label", label="value >= 4", epochs=4, lr=3e-3, **CLASSICAL)
ADAPTERS, RANK = 4, 4
OVER = {
    "over one adapter": ("RecLoRA", "one adapter"),
    "over one mixture": ("RecLoRA", "one mixture"),
    "over the classical model": ("RecLoRA", "classical"),
}
ONE_SCALE = 0.5  # of the additions of one adapter
TELLING = 0.3  # adjusted Rand index of mixtures and styles
LOSS = 0.002  # of AUC
REQUESTS, CANDIDATES = 200, 50
LONGER = 1.2  # time of a request that the mixture may take, of that with one adapter


def measure(run: Run) -> Claim:
    """Planted logs, three random states; ml-100k once."""
    planted = [on_responses(seeded(run, seed)) for seed in SEEDS]
    rated = on_ratings(real("ml-100k"), run)
    checks = {
        "planted: AUC above one adapter of the same total rank": is_above(
            planted, "over one adapter"
        ),
        "planted: AUC above one mixture for all": is_above(planted, "over one mixture"),
        f"planted: mixtures tell the styles apart, index above {TELLING}": all(
            row["Rand index"] > TELLING for row in planted
        ),
        f"ml-100k: AUC at most {LOSS} below one adapter's": (
            rated["leads"]["over one adapter"]["difference"] >= -LOSS
        ),
        "ml-100k: a request takes at most 20 % longer": rated["time of a request"] <= LONGER,
    }
    figures = {"planted": planted, "ml-100k": rated}
    return Claim(checks, figures, list(SEEDS), ["responses", "ml-100k"])


def rivals(classical: MeanInterest, **settings: Any) -> dict[str, RecLoRA]:
    """Return the method and its rivals, of the same total rank."""
    common: dict[str, Any] = {"encoder": Remembering(), "epochs": 20, **settings}
    return {
        "RecLoRA": RecLoRA(classical, adapters=ADAPTERS, rank=RANK, **common),
        "one mixture": RecLoRA(classical, adapters=ADAPTERS, rank=RANK, personal=False, **common),
        "one adapter": RecLoRA(
            classical, adapters=1, rank=ADAPTERS * RANK, **{**common, "scale": ONE_SCALE}
        ),
    }


def judged(
    methods: dict[str, RecLoRA], leads: dict[str, tuple[str, str]], split: Any, run: Run
) -> dict[str, Any]:
    """Fit and judge methods, the classical model of the first among them."""
    fit_all(methods, split, run)
    named: dict[str, Predictor] = {**methods, "classical": methods["RecLoRA"].classical_}
    numbers = {name: parameters(method) for name, method in methods.items()}
    return judge_predictions(named, split, run, leads) | {"parameters": numbers}


def on_responses(run: Run) -> dict[str, Any]:
    """Judge on a planted log, and compare the users' mixtures with their styles."""
    world = responses(seed=run.seed)
    split = by_time(world.data)
    methods = rivals(SHOWN)
    row = judged(methods, OVER, split, run)
    user_ids = split.train.users.ids.tolist()
    mixtures = methods["RecLoRA"].mixtures(split.train.queries())
    styles = world.styles[world.data.users.rows(user_ids)]
    index = adjusted_rand_score(styles, mixtures.argmax(axis=1))
    return row | {"Rand index": round(float(index), 4)}


def on_ratings(data: Dataset, run: Run) -> dict[str, Any]:
    """Judge on ratings of ml-100k, and time requests."""
    split = by_ratio(data)
    methods = rivals(RATED)
    row = judged(methods, OVER, split, run)
    queries = split.queries("test")[0][:REQUESTS]
    item_ids = data.catalogue.ids[:CANDIDATES].tolist()
    times: dict[str, list[float]] = {"RecLoRA": [], "one adapter": []}
    for i in range(len(queries)):
        for name, requests in times.items():
            started = time.perf_counter()
            methods[name].predict(queries[i : i + 1], [item_ids])
            requests.append(1000 * (time.perf_counter() - started))
    ms = {name: float(np.median(requests)) for name, requests in times.items()}
    return row | {
        "ms": {name: round(value, 2) for name, value in ms.items()},
        "time of a request": round(ms["RecLoRA"] / ms["one adapter"], 3),
    }
