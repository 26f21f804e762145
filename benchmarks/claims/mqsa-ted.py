"""MQSATED on Beauty: the same net with and without the distillation, and with one stack alone.

Three random states, each with another sample of users; as many steps for all, and one net without
distillation that takes more steps, for as long as the distillation costs. The weight of the
distillation was chosen on the validation part of another sample. SASRec, popularity and
co-visitation, which counts the same transitions, stand beside them. Sports is not measured.
"""

import time
from dataclasses import replace
from typing import Any

from claim_tools import SEEDS, is_above, judge, parameters, seeded
from shared_data import real, sample_users

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.splits import split_by
from tailor.papers.retrieval.mqsa_ted import MQSATED
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.retrieval.sasrec import SASRec

USERS = 2_000
FULL = MQSATED(epochs=14, patience=None, ted=0.3)
LONG_EPOCHS = 19  # without distillation, as long as 14 epochs with it
LEADS = {
    "over no distillation": ("full", "no distillation"),
    "over no distillation, as long": ("full", "no distillation, as long"),
    "over SASRec": ("full", "SASRec"),
    "over the short stack": ("full", "short stack"),
    "over the long stack": ("full", "long stack"),
    "over co-visitation": ("full", "co-visitation"),
}


def measure(run: Run) -> Claim:
    """2,000 users of Beauty, three random states."""
    beauty = real("beauty")
    rows = [on_users(beauty, seeded(run, seed)) for seed in SEEDS]
    checks = {
        f"above {label.removeprefix('over ')}, every state": is_above(rows, label)
        for label in ("over no distillation", "over no distillation, as long", "over SASRec")
    }
    for stack in ("short", "long"):
        leads = [row["leads"][f"over the {stack} stack"]["difference"] for row in rows]
        is_ahead = sum(lead >= 0 for lead in leads) >= 2
        checks[f"at least as good as the {stack} stack alone in two of three states"] = is_ahead
    figures = {"beauty": rows, "above co-visitation": is_above(rows, "over co-visitation")}
    return Claim(checks, figures, list(SEEDS), ["beauty"])


def on_users(data: Dataset, run: Run) -> dict[str, Any]:
    """Judge all methods on some users, with seconds of the processor and numbers of weights."""
    split = split_by(sample_users(data, USERS, run.seed), "last")
    nets = {
        "full": replace(FULL),
        "no distillation": replace(FULL, ted=0.0),
        "no distillation, as long": replace(FULL, ted=0.0, epochs=LONG_EPOCHS),
        "short stack": replace(FULL, alpha=1.0),
        "long stack": replace(FULL, alpha=0.0),
        "SASRec": SASRec(epochs=FULL.epochs, patience=None),
    }
    seconds = {}
    for name, net in nets.items():
        started = time.process_time()
        net.fit(split.train, run, split)
        seconds[name] = round(time.process_time() - started, 1)
    counts = {"popularity": Popularity(), "co-visitation": CoVisitation()}
    for count in counts.values():
        count.fit(split.train, run, split)
    judged = judge(nets | counts, split, run, LEADS, "NDCG@10")
    weights = {name: parameters(net) for name, net in nets.items()}
    return judged | {"seconds of a fit": seconds, "weights": weights}
