"""LinkedIn's feed retriever on a planted feed, where what views are worth is known, and on Beauty;
three seeds, differences over the people of all three.

Feed: the same net on prompts that tell views as percentiles, as digits, and not at all, and with
and without negatives that were shown and passed over. How closely posts' mean scores follow the
true worth of their views is Spearman's correlation. Beauty: people with up to 5 events and the
others, against TwoTower, which knows items by id.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from claim_tools import fit_all, means, seeded
from remembering import Remembering
from scipy.stats import spearmanr
from shared_data import real

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.splits import last_out
from tailor.evaluation.protocol import evaluate
from tailor.evaluation.significance import bootstrap
from tailor.papers.retrieval.linkedin_feed import LinkedInFeed
from tailor.retrieval.two_tower import TwoTower
from tailor.worlds.feed import Feed, feed

SEEDS = [0, 1, 2]
MEMBERS = 1_000  # that posts' mean scores are taken over
PEOPLE = 4_000  # of Beauty
SHORT = "history 1-5"


def measure(run: Run) -> Claim:
    """A small planted feed, three seeds, judged by NDCG@100, which few users tell apart."""
    rows, users = zip(*(on_small_feed(seeded(run, seed)) for seed in SEEDS), strict=True)
    words = pooled([values["percentiles over digits"] for values in users])
    passed = pooled([values["with passed over"] for values in users])
    checks = {
        "percentiles are followed more closely than digits, every seed": all(
            row["follows views"]["percentiles"] > row["follows views"]["digits"] for row in rows
        ),
        "NDCG@100: percentiles find more than digits": words[1] > 0,
        "NDCG@100: with what was passed over as negatives, more is found": passed[1] > 0,
    }
    figures = {
        "members": int(sum(row["members"] for row in rows)),
        "NDCG@100, percentiles over digits": words,
        "NDCG@100, with passed over": passed,
        "feed": list(rows),
    }
    return Claim(checks, figures, SEEDS, ["worlds.feed"])


def on_small_feed(run: Run) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return a row of figures of three variants, and each member's differences."""
    world = feed(members=600, posts=600, seed=run.seed)
    split = last_out(world.data)
    settings = {"numbers": ("views",), "profile": ("headline",), "examples": 2}
    model = LinkedInFeed(encoder=Remembering(), **settings)
    variants = {
        "percentiles": model,
        "digits": replace(model, wording="digits"),
        "nothing passed over": replace(model, hard=0),
    }
    fitted = fit_all(variants, split, run)
    report = evaluate(fitted, split, k=(100,), metrics=("NDCG",), seen=("removed",), run=run)
    ndcg = {name: report.results[name, "removed"].per_user["NDCG@100"] for name in variants}
    differences = {
        "percentiles over digits": ndcg["percentiles"] - ndcg["digits"],
        "with passed over": ndcg["percentiles"] - ndcg["nothing passed over"],
    }
    views = {name: follows(fitted[name], world, run.seed) for name in ("percentiles", "digits")}
    row = {"seed": run.seed, "members": len(report.user_ids), "means": means(report)}
    return {**row, "follows views": views}, differences


def measure_long(run: Run) -> Claim:
    rows, ahead = zip(*(on_feed(seed, run) for seed in SEEDS), strict=True)
    people, gains = zip(*(on_beauty(seed, run) for seed in SEEDS), strict=True)
    words, passed = (
        pooled([one[name] for one in ahead])
        for name in ("HR@50, percentiles over digits", "HR@10, with passed over")
    )
    short, longer = (np.concatenate([one[at] for one in gains]) for at in (0, 1))
    gain = between(short, longer)
    checks = {
        "percentiles are followed more closely than digits": all(
            row["follows views"]["percentiles"] > row["follows views"]["digits"] for row in rows
        ),
        "percentiles find more in 50 than digits": words[1] > 0,
        "what was passed over finds more in 10": passed[1] > 0,
        "people with up to 5 events gain more over TwoTower": gain[1] > 0,
    }
    figures = {
        "HR@50, percentiles over digits, all seeds": words,
        "HR@10, with passed over, all seeds": passed,
        "gain over TwoTower, short less longer, all seeds": gain,
        "feed": rows,
        "beauty": people,
    }
    return Claim(checks, figures, SEEDS, ["worlds.feed", "beauty"])


def pooled(parts: list[np.ndarray]) -> list[float]:
    """Mean difference over the people of all seeds, with its 95 % interval."""
    values = np.concatenate(parts)[:, None]
    low, high = bootstrap(values)
    return [round(float(one), 5) for one in (values.mean(), low[0], high[0])]


def between(short: np.ndarray, longer: np.ndarray) -> list[float]:
    """Difference of two means, with its 95 % interval."""
    rng = np.random.default_rng(0)
    drawn = [
        rng.choice(short, len(short)).mean() - rng.choice(longer, len(longer)).mean()
        for _ in range(2_000)
    ]
    return [
        round(float(one), 5)
        for one in (short.mean() - longer.mean(), *np.quantile(drawn, [0.025, 0.975]))
    ]


def on_feed(seed: int, run: Run) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    world, per_seed = (
        feed(members=2_500, seed=seed),
        Run(seed=seed, workers=run.workers, progress=run.progress),
    )
    split = last_out(world.data)
    model = LinkedInFeed(
        encoder=Remembering(), numbers=("views",), profile=("headline",), examples=5
    )
    variants = {
        "percentiles": model,
        "digits": replace(model, wording="digits"),
        "none": replace(model, wording="none"),
        "nothing passed over": replace(model, hard=0),
    }
    fitted = {name: one.fit(split.train, per_seed, split) for name, one in variants.items()}
    report = evaluate(fitted, split, k=(10, 50), metrics=("HR",), run=per_seed)
    users = {name: report.results[name, "removed"].per_user for name in variants}
    ahead = {
        "HR@50, percentiles over digits": users["percentiles"]["HR@50"] - users["digits"]["HR@50"],
        "HR@10, with passed over": users["percentiles"]["HR@10"]
        - users["nothing passed over"]["HR@10"],
    }
    row = {
        "seed": seed,
        "means": means(report),
        "follows views": {name: follows(one, world, seed) for name, one in fitted.items()},
    }
    return {**row, **{name: round(float(one.mean()), 5) for name, one in ahead.items()}}, ahead


def follows(model: LinkedInFeed, world: Feed, seed: int) -> float:
    """Spearman's correlation of posts' mean scores over members with what their views are worth."""
    queries = world.data.queries()
    some = np.sort(np.random.default_rng(seed).permutation(len(queries))[:MEMBERS])
    scores = model._scores(queries.take(some).reindexed(model.items_))
    worth = world.views_worth[world.data.catalogue.rows(model.items_.ids.tolist())]
    return round(float(spearmanr(scores.mean(axis=0), worth).statistic), 4)


def on_beauty(seed: int, run: Run) -> tuple[dict[str, Any], tuple[np.ndarray, np.ndarray]]:
    whole, per_seed = real("beauty"), Run(seed=seed, workers=run.workers, progress=run.progress)
    some = np.random.default_rng(0).permutation(whole.users.ids)[
        :PEOPLE
    ]  # the same for all seeds: every prompt is encoded once
    split = last_out(whole.cut(whole.events["user_id"].is_in(some.tolist()).to_numpy()))
    methods = {
        "feed": LinkedInFeed(encoder=Remembering(), examples=2).fit(split.train, per_seed, split),
        "two tower": TwoTower().fit(split.train, per_seed, split),
    }
    report = evaluate(methods, split, seen=("removed",), run=per_seed)
    gain = (
        report.results["feed", "removed"].per_user["HR@10"]
        - report.results["two tower", "removed"].per_user["HR@10"]
    )
    short = report.strata[SHORT]
    row = {
        "seed": seed,
        "means": means(report),
        "people with up to 5": int(short.sum()),
        "gain": {
            "up to 5": round(float(gain[short].mean()), 5),
            "more": round(float(gain[~short].mean()), 5),
        },
    }
    return row, (gain[short], gain[~short])
