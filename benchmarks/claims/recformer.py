"""RecFormer on Beauty: items without any event, and few people to learn from; three seeds, paired
differences over users.

Cold: a tenth of the items is learned from by nobody (another tenth is for validation), and every
user who ends with one is asked, over the whole catalogue. Few: a tenth of the people is learned
from and validated on, everybody whose last item one of them has chosen is asked, with all of their
own history. SASRec trains until its own validation stops it, for no more seconds than RecFormer
took. 45 minutes of a core.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from claim_tools import is_above, is_not_below, judge, lead, means, seeded, topic_world
from shared_data import real, sample_users

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.splits import CONTEXT, DROPPED, TEST, TRAIN, Split, split_by
from tailor.evaluation.protocol import evaluate
from tailor.papers.retrieval.recformer import RecFormer
from tailor.retrieval.sasrec import SASRec
from tailor.retrieval.text_match import TextMatch

SEEDS = [0, 1, 2]
COLD, BY_ID = (
    RecFormer(pretraining=2, epochs=1, second=1),
    SASRec(epochs=10),
)  # SASRec finds no such item however long it trains
FEW = RecFormer(pretraining=4, epochs=2, second=1)  # epochs of a tenth of the windows
SHARE = 0.1  # of the people
ASKED = 5_000  # of the people whose last item one of the few has chosen


def few_people(data: Dataset, seed: int) -> Split:
    """Leave-last-out of which only SHARE of the people is learned from; the others' events are
    known when they ask, targets are items that the few have chosen.
    """
    whole = split_by(data, "last")
    codes = np.random.default_rng(seed).permutation(len(data.users)) < SHARE * len(data.users)
    few = codes[data.users.rows(data.events["user_id"].to_list())]
    part = np.where(few | (whole.part == TEST), whole.part, CONTEXT).astype(np.int8)
    items = data.events["item_id"].to_numpy()
    asked = np.flatnonzero((part == TEST) & np.isin(items, np.unique(items[part == TRAIN])))
    part[part == TEST] = DROPPED
    part[np.random.default_rng(seed).permutation(asked)[:ASKED]] = TEST
    return Split(data, "few people", {"share": SHARE, "asked": ASKED, "seed": seed}, part)


def one(split: Split, settings: RecFormer, rival: SASRec, run: Run) -> dict:
    """RecFormer, its first stage, SASRec and BM25 on the targets of a split."""
    model = replace(settings).fit(split.train, run, split)
    by_id = replace(rival).fit(
        split.train, replace(run, deadline_s=model.fit_report_["seconds"]), split
    )
    named = {
        "RecFormer": model,
        "first stage": model.first_stage(),
        "SASRec": by_id,
        "BM25": TextMatch().fit(split.train, run),
    }
    report = evaluate(named, split, seen=("removed",), run=run)
    over = {
        other: lead(report, "RecFormer", other, "HR@10", run.seed)
        for other in ("SASRec", "BM25", "first stage")
    }
    return {
        "users": len(report.user_ids),
        "means": means(report),
        "HR@10 over": over,
        "fit": model.fit_report_,
        "SASRec seconds": by_id.fit_report_["seconds"],
    }


def measure(run: Run) -> Claim:
    """New items of a planted log and of Beauty, and few users of Beauty; one seed of each."""
    planted = [
        compare_forms(
            split_by(topic_world(seed, users=4_000), "new-items", seed=seed),
            COLD,
            seeded(run, seed),
        )
        for seed in SEEDS
    ]
    beauty = real("beauty")
    cold = split_by(sample_users(beauty, 4_000), "new-items", seed=run.seed)
    by_title = compare_forms(cold, COLD, run)
    few = compare_forms(few_people(beauty, run.seed), FEW, run)
    checks = {
        "planted: new items are found above SASRec": is_above(planted, "over SASRec"),
        "planted: new items are found above BM25 by titles": is_above(planted, "over BM25"),
        "Beauty: new items are found above SASRec": is_above([by_title], "over SASRec"),
        "Beauty: new items are found above BM25 by titles": is_above([by_title], "over BM25"),
        "Beauty: with a tenth of the people, more is found than by SASRec": is_above(
            [few], "over SASRec"
        ),
        "Beauty: the second stage does not lose what the first found": is_not_below(
            [by_title, few], "over first stage"
        ),
    }
    figures = {"planted": planted, "new items, 4,000 users of Beauty": by_title, "few": few}
    return Claim(checks, figures, SEEDS, ["planted topics", "beauty"])


def compare_forms(split: Split, model: RecFormer, run: Run) -> dict:
    """Judge RecFormer, its first stage, SASRec within the same seconds, and BM25 by titles."""
    fitted = replace(model).fit(split.train, run, split)
    limited = replace(run, deadline_s=fitted.fit_report_["seconds"])
    methods = {
        "RecFormer": fitted,
        "first stage": fitted.first_stage(),
        "SASRec": SASRec().fit(split.train, limited, split),
        "BM25": TextMatch().fit(split.train, run),
    }
    leads = {f"over {name}": ("RecFormer", name) for name in ("SASRec", "BM25", "first stage")}
    return judge(methods, split, run, leads)


def measure_long(run: Run) -> Claim:
    data, rows = real("beauty"), []
    for seed in SEEDS:
        per_seed = replace(run, seed=seed)
        cold, few = split_by(data, "new-items", seed=seed), few_people(data, seed)
        rows.append(
            {
                "seed": seed,
                "cold": one(cold, COLD, BY_ID, per_seed),
                "few": one(few, FEW, SASRec(), per_seed),
            }
        )
        print(
            {
                name: {method: found["HR@10"] for method, found in rows[-1][name]["means"].items()}
                for name in ("cold", "few")
            },
            flush=True,
        )
    checks = {
        "new items are found above SASRec": all(
            row["cold"]["HR@10 over"]["SASRec"]["low"] > 0 for row in rows
        ),
        "new items are found above BM25 by titles": all(
            row["cold"]["HR@10 over"]["BM25"]["low"] > 0 for row in rows
        ),
        "with a tenth of the people, more is found than by SASRec": all(
            row["few"]["HR@10 over"]["SASRec"]["low"] > 0 for row in rows
        ),
        "the second stage does not lose what the first found": all(
            row[name]["HR@10 over"]["first stage"]["high"] >= 0
            for row in rows
            for name in ("cold", "few")
        ),
    }
    return Claim(checks, {"seen": "removed", "runs": rows}, SEEDS, ["beauty"])
