"""ICSRec on Beauty: the same net over the same windows, with and without its contrasts.

Three random states, each with another sample of users; as many steps for all. The temperature of
the contrasts was chosen on the validation part of another sample. A contrast reads two windows
where the plain net reads one: seconds are in the figures.
"""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from claim_tools import SEEDS, fit_all, is_above, judge, seeded
from shared_data import real, sample_users
from torch.nn.functional import normalize

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.splits import Split, split_by
from tailor.papers.retrieval.icsrec import ICSRec
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity

USERS = 2_000
COARSE = ICSRec(epochs=8, patience=None, coarse=0.3, fine=0.0, contrast_temperature=0.1)
MARGIN = 0.02  # of cosines
LEADS = {
    "coarse over no contrast": ("coarse", "no contrast"),
    "fine over no contrast": ("fine", "no contrast"),
    "both over no contrast": ("both", "no contrast"),
    "both over coarse": ("both", "coarse"),
    "coarse over co-visitation": ("coarse", "co-visitation"),
}


def measure(run: Run) -> Claim:
    """2,000 users of Beauty, three random states."""
    beauty = real("beauty")
    rows = [on_users(beauty, seeded(run, seed)) for seed in SEEDS]
    checks = {
        "Beauty: coarse above no contrast, every state": is_above(rows, "coarse over no contrast"),
        "Beauty: states that lead to one item are nearer than random ones, every state": all(
            row["cosines"]["coarse"]["lead"] > 0 for row in rows
        ),
        "Beauty: by more than without contrast, every state": all(
            row["cosines"]["coarse"]["lead"] > row["cosines"]["no contrast"]["lead"] for row in rows
        ),
    }
    figures = {
        "beauty": rows,
        "fine alone above no contrast": is_above(rows, "fine over no contrast"),
        "both above coarse": is_above(rows, "both over coarse"),
    }
    return Claim(checks, figures, list(SEEDS), ["beauty"])


def on_users(data: Dataset, run: Run) -> dict[str, Any]:
    """Judge all methods on some users."""
    split = split_by(sample_users(data, USERS, run.seed), "last")
    nets = {
        "no contrast": replace(COARSE, coarse=0.0),
        "coarse": replace(COARSE),
        "fine": replace(COARSE, coarse=0.0, fine=0.1),
        "both": replace(COARSE, fine=0.1),
    }
    seconds = {}
    for name, net in nets.items():
        started = time.process_time()
        net.fit(split.train, run, split)
        seconds[name] = round(time.process_time() - started, 1)
    counts = fit_all({"popularity": Popularity(), "co-visitation": CoVisitation()}, split, run)
    judged = judge(nets | counts, split, run, LEADS, "NDCG@10")
    cosines = {name: target_cosines(nets[name], split) for name in ("no contrast", "coarse")}
    return judged | {"cosines": cosines, "seconds of a fit": seconds}


def target_cosines(method: ICSRec, split: Split) -> dict[str, float]:
    """Return mean cosines of test states that lead to one item, and of all other pairs."""
    queries, targets = split.queries("test")
    queries = queries.reindexed(method.items_)
    states = np.zeros((len(queries), method.width), dtype=np.float32)
    with torch.inference_mode():
        for numbers, windows in method._query_batches(queries):
            states[numbers] = normalize(method._last_states(windows), dim=-1).numpy()
    asked = np.flatnonzero(queries.histories.lengths > 0)
    cosines = states[asked] @ states[asked].T
    items = targets.values[targets.offsets[:-1]][asked]
    is_same = items[:, None] == items
    is_pair = ~np.eye(len(asked), dtype=bool)
    same = float(cosines[is_same & is_pair].mean())
    other = float(cosines[~is_same].mean())
    return {"one item": round(same, 4), "others": round(other, 4), "lead": round(same - other, 4)}
