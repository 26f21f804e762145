"""Slate-Thompson in a planted world of slates, five seeds: played with its refits, and held out.

The world begins with five visits of random slates. Then each policy is fitted to all it was shown,
shows slates for five visits, and is fitted again, five times over.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import polars as pl
from claim_tools import mean_lead, seeded
from scipy.stats import spearmanr

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.shown import ShownLists
from tailor.metrics.lists import intra_list_diversity
from tailor.papers.ranking.slate_thompson import SlateThompson
from tailor.worlds.play import Played, play
from tailor.worlds.slates import Slates

SEEDS = [0, 1, 2, 3, 4]
ROUNDS = 5
VISITS = 5
LATER = 8  # visits with random slates that choices are held out from
METHOD = SlateThompson(epochs=20, draws=2)
POLICIES = ("greedy", "thompson", "in_slate")


def measure(run: Run) -> Claim:
    """Five worlds: clicks and diversity of three policies, and what likelihood is worth."""
    rows = [on_world(seeded(run, seed)) for seed in SEEDS]
    held_out = [on_held_out(seeded(run, seed)) for seed in SEEDS]
    clicks = over_seeds(rows, "clicks", "in_slate", "greedy")
    variety = over_seeds(rows, "diversity", "in_slate", "greedy")
    gain = over_seeds(held_out, "log-likelihood", "slate", "all")
    hits = over_seeds(held_out, "hit rate", "slate", "all")
    checks = {
        "clicks of in-slate draws are not below those of the means": clicks["difference"] >= 0,
        "slates of in-slate draws are more diverse": variety["low"] > 0,
        "held-out choices are likelier as made from the slate than from all items": gain["low"] > 0,
        "and met more often": hits["low"] > 0,
        "deviations fall with showings, Spearman below -.5, every seed": all(
            row["deviation by showings"] < -0.5 for row in rows
        ),
    }
    figures = {
        "in-slate less greedy, clicks a request": clicks,
        "in-slate less greedy, diversity": variety,
        "slate less all items, log-likelihood": gain,
        "slate less all items, hit rate": hits,
        "played": rows,
        "held out": held_out,
    }
    return Claim(checks, figures, SEEDS, ["worlds.slates"])


def on_world(run: Run) -> dict[str, Any]:
    """Return clicks a request and diversity of the slates of each policy, played alone."""
    played: dict[str, Played] = {}
    truth: dict[str, Slates] = {}
    for policy in POLICIES:
        truth[policy] = Slates(seed=run.seed)
        played[policy] = play(truth[policy], replace(METHOD, policy=policy), ROUNDS, run, VISITS)
    clicks = {name: round(float(p.rewards.mean()), 4) for name, p in played.items()}
    by_round = {name: by_rounds(p.rewards) for name, p in played.items()}
    variety = {name: round(diversity(p, truth[name]), 4) for name, p in played.items()}
    method = played["in_slate"].method
    world = truth["in_slate"]
    _, scales = method.posterior()
    fitted_to = world.warm + VISITS * (ROUNDS - 1)  # visits that the last fit knows
    showings = pl.concat(world.tables["impressions"][:fitted_to])["item_id"]
    counts = np.bincount(world.catalogue.codes(showings), minlength=world.items)
    rho = spearmanr(counts, scales.mean(axis=1)).statistic
    return {
        "seed": run.seed,
        "clicks": clicks,
        "clicks by round": by_round,
        "diversity": variety,
        "deviation by showings": round(float(rho), 3),
    }


def by_rounds(rewards: np.ndarray) -> list[float]:
    """Return the clicks a request of each round."""
    return [round(float(part.mean()), 4) for part in np.split(rewards, ROUNDS)]


def diversity(played: Played, world: Slates) -> float:
    """Return the mean over slates of 1 - cosine of the true places of their pairs of items."""
    unit = world.vectors / np.linalg.norm(world.vectors, axis=1, keepdims=True)
    values = [
        intra_list_diversity(lists.reindexed(world.catalogue).rows, unit) for lists in played.lists
    ]
    return float(np.nanmean(np.concatenate(values)))


def on_held_out(run: Run) -> dict[str, Any]:
    """Return the likelihood of later choices from random slates, learned in two ways."""
    world = Slates(seed=run.seed, warm=12)
    learned = world.log()
    for _ in range(LATER):
        world.step(world.random_slates())
    shown = ShownLists.of(world.log(), METHOD.length)
    is_later = np.arange(len(shown)) >= len(shown) - LATER * world.people  # oldest come first
    shown = shown.take(np.flatnonzero(is_later & shown.is_chosen.any(axis=1)))
    row: dict[str, Any] = {"seed": run.seed, "choices": len(shown)}
    likelihoods: dict[str, float] = {}
    hits: dict[str, float] = {}
    place = shown.is_chosen.argmax(axis=1)
    for name in ("slate", "all"):
        method = replace(METHOD, likelihood=name).fit(learned, run)
        values = method.choice_log_probabilities(shown)
        likelihoods[name] = round(float(values[np.arange(len(place)), place].mean()), 4)
        hits[name] = round(float((values.argmax(axis=1) == place).mean()), 4)
    return {**row, "log-likelihood": likelihoods, "hit rate": hits}


def over_seeds(rows: list[dict[str, Any]], figure: str, name: str, over: str) -> dict[str, float]:
    """Return the mean lead in a figure over seeds, with Student's 95 % interval."""
    return mean_lead([row[figure][name] - row[figure][over] for row in rows])
