"""HLLM on Beauty: items without any event, and what pretraining and the projection are worth; three
seeds, paired differences over users.

Cold: a tenth of the items is learned from by nobody (another tenth is for validation), and every
user who ends with one is asked, over the whole catalogue. Warm: everybody's last event, the same
net on MiniLM's vectors, on hashed words of the same width, and on MiniLM's vectors as they are. All
train for as many epochs.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from claim_tools import fit_all, is_above, judge, lead, means, seeded, topic_world
from remembering import Remembering
from shared_data import real, sample_users

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.splits import split_by
from tailor.evaluation.protocol import evaluate
from tailor.papers.retrieval.hllm import HLLM
from tailor.retrieval.popularity import Popularity
from tailor.retrieval.sasrec import SASRec
from tailor.text.hashing import HashingEncoder

SEEDS = [0, 1, 2]
EPOCHS = 20
DIMS = 384  # of MiniLM's vectors


QUICK_EPOCHS = 10


def measure(run: Run) -> Claim:
    """New items of a planted log whose themes are words; then 3,000 users of Beauty."""
    planted = [new_items(seeded(run, seed)) for seed in SEEDS]
    split = split_by(sample_users(real("beauty"), 3_000), "last")
    encoder, hashed = Remembering(), HashingEncoder(DIMS)
    variants = {
        "HLLM": HLLM(encoder=encoder, epochs=QUICK_EPOCHS),
        "hashed": HLLM(encoder=hashed, epochs=QUICK_EPOCHS),
        "as they are": HLLM(encoder=encoder, projection="none", width=DIMS, epochs=QUICK_EPOCHS),
    }
    leads = {"over hashed words": ("HLLM", "hashed"), "over none": ("HLLM", "as they are")}
    beauty = judge(fit_all(variants, split, run), split, run, leads)
    checks = {
        "planted: new items are found above SASRec": is_above(planted, "over SASRec"),
        "planted: new items are found above popularity": is_above(planted, "over popularity"),
        "Beauty: pretrained vectors beat hashed words": is_above([beauty], "over hashed words"),
        "Beauty: a learned projection beats none": is_above([beauty], "over none"),
    }
    figures = {"planted": planted, "beauty, 3,000 users": beauty, "epochs": QUICK_EPOCHS}
    return Claim(checks, figures, SEEDS, ["planted topics", "beauty"])


def new_items(run: Run) -> dict[str, object]:
    """Judge HLLM, SASRec and popularity on users whose next item nobody had chosen."""
    split = split_by(topic_world(run.seed), "new-items", seed=run.seed)
    methods = {
        "HLLM": HLLM(encoder=Remembering(), epochs=QUICK_EPOCHS),
        "SASRec": SASRec(epochs=QUICK_EPOCHS),
        "popularity": Popularity(),
    }
    leads = {f"over {name}": ("HLLM", name) for name in ("SASRec", "popularity")}
    return judge(fit_all(methods, split, run), split, run, leads)


def measure_long(run: Run) -> Claim:
    data = real("beauty")
    warm = split_by(data, "last")
    rows = []
    for seed in SEEDS:
        per_seed = Run(seed=seed, workers=run.workers, progress=run.progress)
        cold = split_by(data, "new-items", seed=seed)
        known = {"HLLM": HLLM(epochs=EPOCHS), "SASRec": SASRec(), "Popularity": Popularity()}
        first = evaluate(
            {name: one.fit(cold.train, per_seed, cold) for name, one in known.items()},
            cold,
            run=per_seed,
        )
        variants = {
            "HLLM": HLLM(epochs=EPOCHS),
            "hashed words": HLLM(encoder=HashingEncoder(DIMS), epochs=EPOCHS),
            "no projection": HLLM(projection="none", width=DIMS, epochs=EPOCHS),
        }
        second = evaluate(
            {name: one.fit(warm.train, per_seed, warm) for name, one in variants.items()},
            warm,
            run=per_seed,
        )
        rows.append(
            {
                "seed": seed,
                "cold users": len(first.user_ids),
                "cold": means(first),
                "warm": means(second),
                "cold HR@10 over": {
                    name: lead(first, "HLLM", name, "HR@10", seed)
                    for name in ("SASRec", "Popularity")
                },
                "warm HR@10 over": {
                    name: lead(second, "HLLM", name, "HR@10", seed)
                    for name in ("hashed words", "no projection")
                },
            }
        )
    checks = {
        "new items are found above SASRec": all(
            row["cold HR@10 over"]["SASRec"]["low"] > 0 for row in rows
        ),
        "new items are found above popularity": all(
            row["cold HR@10 over"]["Popularity"]["low"] > 0 for row in rows
        ),
        "pretrained vectors beat hashed words": all(
            row["warm HR@10 over"]["hashed words"]["low"] > 0 for row in rows
        ),
        "a learned projection beats none": all(
            row["warm HR@10 over"]["no projection"]["low"] > 0 for row in rows
        ),
    }
    return Claim(checks, {"seen": "removed", "epochs": EPOCHS, "runs": rows}, SEEDS, ["beauty"])
