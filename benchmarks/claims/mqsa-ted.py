"""MQSATED on Beauty: the same net with and without the distillation, and with one stack alone.

Three random states, each with other users; as many steps for all. The weight of the distillation
was chosen on the validation part of further users. Co-visitation by its defaults stands
beside them, since it counts the same transitions.
"""

from dataclasses import replace
from typing import Any

from claim_tools import SEEDS, fit_all, is_above, is_not_below, judge, seeded
from shared_data import real, sample_users

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.splits import split_by
from tailor.papers.retrieval.mqsa_ted import MQSATED
from tailor.retrieval.covisitation import CoVisitation

USERS = 3_000
FULL = MQSATED(epochs=14, patience=None, ted=0.3)
LEADS = {
    "over no distillation": ("full", "no distillation"),
    "over the short stack": ("full", "short stack"),
    "over the long stack": ("full", "long stack"),
    "over co-visitation": ("full", "co-visitation"),
}


def measure(run: Run) -> Claim:
    """3,000 users of Beauty, three random states."""
    beauty = real("beauty")
    rows = [on_users(beauty, seeded(run, seed)) for seed in SEEDS]
    checks = {
        "Beauty: above the same net without distillation, every state": is_above(
            rows, "over no distillation"
        ),
        "Beauty: not below the short stack alone": is_not_below(rows, "over the short stack"),
        "Beauty: not below the long stack alone": is_not_below(rows, "over the long stack"),
    }
    figures = {"beauty": rows, "above co-visitation": is_above(rows, "over co-visitation")}
    return Claim(checks, figures, list(SEEDS), ["beauty"])


def on_users(data: Dataset, run: Run) -> dict[str, Any]:
    """Judge all methods on some users."""
    split = split_by(sample_users(data, USERS, run.seed), "last")
    methods = {
        "full": replace(FULL),
        "no distillation": replace(FULL, ted=0.0),
        "short stack": replace(FULL, alpha=1.0),
        "long stack": replace(FULL, alpha=0.0),
        "co-visitation": CoVisitation(),
    }
    fitted = fit_all(methods, split, run)
    return judge(fitted, split, run, LEADS, "NDCG@10")
