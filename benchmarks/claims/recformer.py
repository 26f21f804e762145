"""RecFormer on Beauty: items without any event, and few people to learn from; three seeds, paired differences over users.

Cold: a tenth of the items is learned from by nobody (another tenth is for validation), and every user who ends with one is asked, over the whole catalogue.
Few: a tenth of the people is learned from and validated on, everybody whose last item one of them has chosen is asked, with all of their own history. SASRec trains until its own
validation stops it, for no more seconds than RecFormer took.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from claim_tools import lead, means
from shared_data import real

from tailor.base import Run
from tailor.bench.claims import Claim
from tailor.data.dataset import Dataset
from tailor.data.splits import CONTEXT, DROPPED, TEST, TRAIN, Split, split_by
from tailor.evaluation.protocol import evaluate
from tailor.retrieval.recformer import RecFormer
from tailor.retrieval.sasrec import SASRec
from tailor.retrieval.text_match import TextMatch

SEEDS = [0, 1, 2]
COLD = RecFormer()
FEW = RecFormer(pretraining=16, epochs=6)  # epochs of a tenth of the windows
SHARE = 0.1  # of the people


def few_people(data: Dataset, seed: int) -> Split:
    """Leave-last-out of which only SHARE of the people is learned from; the others' events are known when they ask, targets are items that the few have chosen."""
    whole = split_by(data, "last")
    codes = np.random.default_rng(seed).permutation(len(data.users)) < SHARE * len(data.users)
    few = codes[data.users.rows(data.events["user_id"].to_list())]
    part = np.where(few | (whole.part == TEST), whole.part, CONTEXT).astype(np.int8)
    items = data.events["item_id"].to_numpy()
    part[(part == TEST) & ~np.isin(items, np.unique(items[part == TRAIN]))] = DROPPED
    return Split(data, "few people", {"share": SHARE, "seed": seed}, part)


def measure(run: Run) -> Claim:
    data, rows = real("beauty"), []
    for seed in SEEDS:
        per_seed = Run(seed=seed, workers=run.workers, progress=run.progress)
        row = {"seed": seed}
        for name, split, settings in (("cold", split_by(data, "new-items", seed=seed), COLD), ("few", few_people(data, seed), FEW)):
            model = replace(settings).fit(split.train, per_seed, split)
            seconds = model.fit_report_["seconds"]
            rivals = {"SASRec": SASRec().fit(split.train, replace(per_seed, deadline_s=seconds), split), "BM25": TextMatch().fit(split.train, per_seed)}
            report = evaluate({"RecFormer": model, "first stage": model.first_stage(), **rivals}, split, seen=("removed",), run=per_seed)
            over = {other: lead(report, "RecFormer", other, "HR@10", seed) for other in ("SASRec", "BM25", "first stage")}
            row[name] = {"users": len(report.user_ids), "means": means(report), "HR@10 over": over, "fit": model.fit_report_, "SASRec seconds": rivals["SASRec"].fit_report_.get("seconds")}
        rows.append(row)
    checks = {
        "new items are found above SASRec": all(row["cold"]["HR@10 over"]["SASRec"]["low"] > 0 for row in rows),
        "new items are found above BM25 by titles": all(row["cold"]["HR@10 over"]["BM25"]["low"] > 0 for row in rows),
        "with a tenth of the people, more is found than by SASRec": all(row["few"]["HR@10 over"]["SASRec"]["low"] > 0 for row in rows),
        "the second stage does not lose what the first found": all(row[name]["HR@10 over"]["first stage"]["high"] >= 0 for row in rows for name in ("cold", "few")),
    }  # fmt: skip
    return Claim(checks, {"seen": "removed", "runs": rows}, SEEDS, ["beauty"])
