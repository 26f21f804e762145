"""LinkedIn's feed retriever on a planted feed, where what views are worth is known, and on Beauty; three seeds.

Feed: the same net on prompts that tell views as percentiles, as digits, and not at all, and with and without negatives that were shown and passed over. How closely posts' mean
scores follow the true worth of their views is Spearman's correlation. Beauty: people with up to 5 events and the others, against TwoTower, which knows items by id.
"""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from claim_tools import lead, means
from remembering import Remembering
from scipy.stats import spearmanr
from shared_data import real

from tailor.base import Run
from tailor.bench.claims import Claim
from tailor.data.splits import last_out
from tailor.evaluation.protocol import evaluate
from tailor.retrieval.linkedin_feed import LinkedInFeed
from tailor.retrieval.two_tower import TwoTower
from tailor.worlds.feed import Feed, feed

SEEDS = [0, 1, 2]
MEMBERS = 1_000  # that posts' mean scores are taken over
PEOPLE = 5_000  # of Beauty
SHORT = "history 1-5"


def measure(run: Run) -> Claim:
    rows = [on_feed(seed, run) for seed in SEEDS]
    people = [on_beauty(seed, run) for seed in SEEDS]
    checks = {
        "percentiles are followed more closely than digits": all(
            row["follows views"]["percentiles"] > row["follows views"]["digits"] for row in rows
        ),
        "percentiles find more in 50 than digits": all(row["HR@50, percentiles over digits"]["low"] > 0 for row in rows),
        "what was passed over finds more in 10": all(row["HR@10, with passed over"]["low"] > 0 for row in rows),
        "people with up to 5 events gain more over TwoTower": all(row["gain, short less longer"]["low"] > 0 for row in people),
    }
    return Claim(checks, {"feed": rows, "beauty": people}, SEEDS, ["worlds.feed", "beauty"])


def on_feed(seed: int, run: Run) -> dict[str, object]:
    world, per_seed = feed(members=3_000, seed=seed), Run(seed=seed, workers=run.workers, progress=run.progress)
    split = last_out(world.data)
    model = LinkedInFeed(encoder=Remembering(), numbers=("views",), profile=("headline",), examples=5)
    variants = {
        "percentiles": model,
        "digits": replace(model, wording="digits"),
        "none": replace(model, wording="none"),
        "nothing passed over": replace(model, hard=0),
    }
    fitted = {name: one.fit(split.train, per_seed, split) for name, one in variants.items()}
    report = evaluate(fitted, split, k=(10, 50), metrics=("HR",), run=per_seed)
    return {"seed": seed, "means": means(report), "follows views": {name: follows(one, world, seed) for name, one in fitted.items()},
            "HR@50, percentiles over digits": lead(report, "percentiles", "digits", "HR@50", seed),
            "HR@10, with passed over": lead(report, "percentiles", "nothing passed over", "HR@10", seed)}  # fmt: skip


def follows(model: LinkedInFeed, world: Feed, seed: int) -> float:
    """Spearman's correlation of posts' mean scores over members with what their views are worth."""
    queries = world.data.queries()
    some = np.sort(np.random.default_rng(seed).permutation(len(queries))[:MEMBERS])
    scores = model._scores(queries.take(some).over(model.items_))
    worth = world.views_worth[world.data.catalogue.rows(model.items_.ids.tolist())]
    return round(float(spearmanr(scores.mean(axis=0), worth).statistic), 4)


def on_beauty(seed: int, run: Run) -> dict[str, object]:
    whole, per_seed = real("beauty"), Run(seed=seed, workers=run.workers, progress=run.progress)
    some = np.random.default_rng(0).permutation(whole.users.ids)[
        :PEOPLE
    ]  # the same for all seeds: every prompt is read by the encoder once
    split = last_out(whole.cut(whole.events["user_id"].is_in(some.tolist()).to_numpy()))
    methods = {
        "feed": LinkedInFeed(encoder=Remembering(), examples=2).fit(split.train, per_seed, split),
        "two tower": TwoTower().fit(split.train, per_seed, split),
    }
    report = evaluate(methods, split, seen=("removed",), run=per_seed)
    gain = report.results["feed", "removed"].per_user["HR@10"] - report.results["two tower", "removed"].per_user["HR@10"]
    short = report.strata[SHORT]
    between = np.array([np.nanmean(gain[short]) - np.nanmean(gain[~short])])
    rng = np.random.default_rng(seed)
    drawn = [np.nanmean(rng.choice(gain[short], short.sum())) - np.nanmean(rng.choice(gain[~short], (~short).sum())) for _ in range(2_000)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"seed": seed, "means": means(report), "people with up to 5": int(short.sum()),
            "gain": {"up to 5": round(float(np.nanmean(gain[short])), 5), "more": round(float(np.nanmean(gain[~short])), 5)},
            "gain, short less longer": {"difference": round(float(between[0]), 5), "low": round(float(low), 5), "high": round(float(high), 5)}}  # fmt: skip
