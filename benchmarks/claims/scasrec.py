"""SCASRec on planted maps: lists of routes against a ranking with a rule against overlap.

Three random states. Rivals have the same lists, the same net and as many passes: a ranking that
learns the first pick alone and leaves out what overlaps too much, cut at the same mean length; and
the same method with equal weights of all steps. The settings were chosen on other random states.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from claim_tools import SEEDS, difference_interval, parameters, seeded
from scipy.stats import spearmanr

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.queries import Queries, Rankings
from tailor.papers.generative.scasrec import SCASRec
from tailor.worlds.routes import ALIKE, Routes, routes

METHOD = SCASRec(parts="segments", redundancy=1.0, cost=0.2, lr=3e-3, epochs=12)
REQUESTS = 2_000
MOST = 5  # routes of a list
Lists = Sequence[Sequence[str]]


def measure(run: Run) -> Claim:
    """Planted maps, three random states."""
    rows = [on_map(seeded(run, seed)) for seed in SEEDS]
    checks = {
        "covers the route taken more often than the ranking with a rule, every state": all(
            row["over the rule"]["coverage"]["low"] > 0 for row in rows
        ),
        "with less overlap, every state": all(
            row["over the rule"]["overlap"]["high"] < 0 for row in rows
        ),
        "length follows the number of useful routes (Spearman >= .4), every state": all(
            row["length and useful routes"] >= 0.4 for row in rows
        ),
        "lists are worth more than with equal weights of the steps, every state": all(
            row["over equal weights"]["worth"]["low"] > 0 for row in rows
        ),
    }
    return Claim(checks, {"maps": rows}, list(SEEDS), ["routes"])


def on_map(run: Run) -> dict[str, Any]:
    """Judge lists of all methods on one map."""
    world = routes(REQUESTS, 600, seed=run.seed)
    ours, seconds = fitted(METHOD, world, run)
    equal, equal_seconds = fitted(replace(METHOD, weights="uniform"), world, run)
    ranking, rule_seconds = fitted(replace(METHOD, steps=1, stop="never"), world, run)
    lists = {
        "SCASRec": answers(ours, world),
        "equal weights": answers(equal, world),
        "never stops": answers(replace_stop(ours), world),
    }
    ranked, shares = first_picks(ranking, world)
    lengths = np.array([len(ids) for ids in lists["SCASRec"]])
    mean = float(lengths.mean())
    places = without_overlap(ranked, world)
    every_place = [np.arange(len(ids)) for ids in ranked]
    lists["ranking"] = cut_at_mean(ranked, every_place, mean, run)
    lists["ranking with a rule"] = cut_at_mean(ranked, places, mean, run)
    lists["the same, cut by probability"] = cut_by_share(ranked, places, shares, mean)
    figures = {name: per_request(of_method, world) for name, of_method in lists.items()}
    useful = [world.different(routes_of) for routes_of in world.useful]
    return {
        "seed": run.seed,
        "means": {
            name: {figure: round(float(np.nanmean(v)), 4) for figure, v in of_method.items()}
            for name, of_method in figures.items()
        },
        "over the rule": leads(figures, "ranking with a rule", run.seed),
        "over the rule cut by probability": leads(
            figures, "the same, cut by probability", run.seed
        ),
        "over equal weights": leads(figures, "equal weights", run.seed),
        "length and useful routes": round(float(spearmanr(lengths, useful).statistic), 3),
        "end threshold": round(ours.end_threshold_, 3),
        "weights of a net": parameters(ours),
        "seconds of a fit": {"SCASRec": seconds, "equal": equal_seconds, "rule": rule_seconds},
    }


def fitted(method: SCASRec, world: Routes, run: Run) -> tuple[SCASRec, float]:
    """Return a fitted copy of the method, and the processor seconds that it took."""
    started = time.process_time()
    copy = replace(method)
    copy.fit(world.data, run)
    return copy, round(time.process_time() - started, 1)


def answers(method: SCASRec, world: Routes) -> Lists:
    """Return the lists of routes for the later requests."""
    return [
        ranking.ids
        for ranking in method.recommend(world.queries, MOST, candidates=world.candidates)
    ]


def replace_stop(method: SCASRec) -> SCASRec:
    """Return the same fitted method, which fills every list."""
    full = replace(method, stop="never")
    full.__dict__ |= method.state()
    return full


@torch.inference_mode()
def first_picks(method: SCASRec, world: Routes) -> tuple[Lists, np.ndarray]:
    """Return all candidates by the probability of being picked first, and these (R, K)."""
    queries = Queries.of(world.queries).reindexed(method.items_)
    candidates = Rankings.of(world.candidates).reindexed(method.items_)
    net = method._ready()
    lists = method._lists(queries, candidates)
    encoded, request = net.encode(lists)
    no_picks = torch.zeros(len(queries), 0, dtype=torch.long)
    shares = net.logits(lists, encoded, request, no_picks)[:, 0, :-1].softmax(dim=1).numpy()
    order = np.argsort(-shares, axis=1, kind="stable")
    ranked = [method.items_.named(candidates.rows[i][places]) for i, places in enumerate(order)]
    return ranked, np.take_along_axis(shares, order, axis=1)


def without_overlap(ranked: Lists, world: Routes) -> list[np.ndarray]:
    """Return places of each ranking: those that overlap with none before by more than ALIKE."""
    kept_places = []
    for ids in ranked:
        places: list[int] = []
        for place, route in enumerate(ids):
            if all(world.overlap(route, ids[other]) <= ALIKE for other in places):
                places.append(place)
        kept_places.append(np.array(places))
    return kept_places


def cut_at_mean(ranked: Lists, places: Sequence[np.ndarray], mean: float, run: Run) -> Lists:
    """Return lists of the first places, of a mean length: one more in some, drawn by chance."""
    is_longer = run.rng("longer lists").random(len(ranked)) < mean % 1
    lengths = int(mean) + is_longer
    pairs = zip(ranked, places, lengths.tolist(), strict=True)
    return [[ids[place] for place in first[:length]] for ids, first, length in pairs]


def cut_by_share(
    ranked: Lists, places: Sequence[np.ndarray], shares: np.ndarray, mean: float
) -> Lists:
    """Return lists that end once their probabilities add up to a share, of that mean length."""
    sums = [shares[i][first].cumsum() for i, first in enumerate(places)]

    def lengths(share: float) -> np.ndarray:
        return np.array([1 + int((total[: MOST - 1] < share).sum()) for total in sums])

    share = min(np.linspace(0, 1, 401), key=lambda share: abs(lengths(share).mean() - mean))
    pairs = zip(ranked, places, lengths(share).tolist(), strict=True)
    return [[ids[place] for place in first[:length]] for ids, first, length in pairs]


def per_request(lists: Lists, world: Routes) -> dict[str, np.ndarray]:
    """Return figures (R,) of lists; the overlap of a list of one route is NaN."""
    rows = []
    for ids, taken in zip(lists, world.taken, strict=True):
        covers = any(world.overlap(route, taken) >= ALIKE for route in ids)
        pairs = [world.overlap(a, b) for i, a in enumerate(ids) for b in ids[:i]]
        overlap = float(np.mean(pairs)) if pairs else np.nan
        rows.append((covers, taken in ids, overlap, len(ids), covers - METHOD.cost * len(ids)))
    names = ("coverage", "has the route", "overlap", "length", "worth")
    return dict(zip(names, np.array(rows, dtype=float).T, strict=True))


def leads(figures: dict[str, dict[str, np.ndarray]], over: str, seed: int) -> dict[str, Any]:
    """Return by how much SCASRec's lists are above those of a rival, paired over requests."""
    rows = {}
    for name in ("coverage", "overlap", "worth"):
        differences = figures["SCASRec"][name] - figures[over][name]
        rows[name] = difference_interval(differences[np.isfinite(differences)], seed)
    return rows
