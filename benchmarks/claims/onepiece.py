"""OnePiece on a planted shop: hidden steps against none, anchors against none and wrong ones.

Three random states. All nets of a comparison have the same requests, weights (but for the vectors
of the steps) and steps of training. The settings were chosen on other random states.
"""

import time
from dataclasses import replace
from typing import Any

import numpy as np
from claim_tools import SEEDS, difference_interval, parameters, seeded

from tailor.bench.claims import Claim
from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.queries import Queries
from tailor.papers.generative.onepiece import OnePiece
from tailor.retrieval.covisitation import CoVisitation
from tailor.text.hashing import HashingEncoder
from tailor.worlds.hops import Hops, hops

METHOD = OnePiece(
    encoder=HashingEncoder(256),
    anchors=0,
    length=20,
    dropout=0.0,
    lr=3e-3,
    batch=128,
    epochs=30,
)
# an encoder too small to tell rare words apart, as any encoder is with words that it never read
WITH_ANCHORS = replace(METHOD, encoder=HashingEncoder(32), anchors=5, epochs=10)
PEOPLE, VALUES, EVENTS = 3_000, (4, 4, 4), 6  # values of genre, maker, colour
RARE_WORDS = 40  # of a genre


class ShuffledAnchors(OnePiece):
    """Reads the anchors of another search."""

    def _learn_anchors(self, requests):  # type: ignore[no-untyped-def]
        return self._other(super()._learn_anchors(requests))

    def anchors_of(self, queries: Queries) -> Ragged:
        return self._other(super().anchors_of(queries))

    def _other(self, anchors: Ragged) -> Ragged:
        return anchors.take(np.random.default_rng(0).permutation(len(anchors)))


def measure(run: Run) -> Claim:
    """Two look-ups, and rare words, three random states each."""
    steps = [two_look_ups(seeded(run, seed)) for seed in SEEDS]
    words = [rare_words(seeded(run, seed)) for seed in SEEDS]
    checks = {
        "two steps find orders more often than none, every state": all(
            row["two steps over"]["none"]["low"] > 0 for row in steps
        ),
        "and than none with orders alone, every state": all(
            row["two steps over"]["none, orders alone"]["low"] > 0 for row in steps
        ),
        "rare words: anchors find more than none, every state": all(
            row["anchors over"]["none"]["low"] > 0 for row in words
        ),
        "rare words: anchors of other searches do not, every state": all(
            row["others over none"]["low"] <= 0 for row in words
        ),
    }
    figures = {"two look-ups": steps, "rare words": words}
    return Claim(checks, figures, list(SEEDS), ["hops"])


def two_look_ups(run: Run) -> dict[str, Any]:
    """Judge nets with and without steps by the share of orders that they put first."""
    world = hops(PEOPLE, 300, VALUES, EVENTS, run.seed)
    methods = {
        "two steps": replace(METHOD),
        "none": replace(METHOD, reason_steps=0),
        "none, orders alone": replace(METHOD, reason_steps=0, supervision="final"),
    }
    if run.seed == SEEDS[0]:  # printed, not judged
        methods["none, three blocks"] = replace(METHOD, reason_steps=0, blocks=3)
    hits, seconds = {}, {}
    for name, method in methods.items():
        started = time.process_time()
        method.fit(world.data, run)
        seconds[name] = round(time.process_time() - started, 1)
        hits[name] = is_found(method, world, 1)
    counts = CoVisitation().fit(world.data, run)
    hits["co-visitation"] = is_found(counts, world, 1)
    rivals = [name for name in hits if name != "two steps"]
    return {
        "seed": run.seed,
        "HR@1 of orders": {name: round(float(found.mean()), 4) for name, found in hits.items()},
        "two steps over": {
            name: difference_interval(hits["two steps"] - hits[name], run.seed) for name in rivals
        },
        "weights": {name: parameters(method) for name, method in methods.items()},
        "seconds of a fit": seconds,
        "ms of a request": {name: milliseconds(method, world) for name, method in methods.items()},
    }


def rare_words(run: Run) -> dict[str, Any]:
    """Judge anchors where half of the searches name a genre by a rare word."""
    world = hops(PEOPLE, 600, VALUES, EVENTS, run.seed, rare=0.5, rare_words=RARE_WORDS)
    settings = WITH_ANCHORS.params()
    methods = {
        "anchors": replace(WITH_ANCHORS),
        "none": replace(WITH_ANCHORS, anchors=0),
        "of other searches": ShuffledAnchors(**settings),
    }
    hits = {}
    for name, method in methods.items():
        method.fit(world.data, run)
        hits[name] = is_found(method, world, 5)[world.is_rare]
    return {
        "seed": run.seed,
        "requests with a rare word": int(world.is_rare.sum()),
        "HR@5 of their orders": {
            name: round(float(found.mean()), 4) for name, found in hits.items()
        },
        "anchors over": {
            name: difference_interval(hits["anchors"] - hits[name], run.seed)
            for name in ("none", "of other searches")
        },
        "others over none": difference_interval(hits["of other searches"] - hits["none"], run.seed),
    }


def is_found(method: Recommender, world: Hops, k: int) -> np.ndarray:
    """Return (requests,) 1 where the order stands among the first k."""
    lists = method.recommend(world.queries, k)
    found = [order in ranking.ids for order, ranking in zip(world.orders, lists, strict=True)]
    return np.array(found, dtype=float)


def milliseconds(method: OnePiece, world: Hops) -> float:
    """Return the processor time of a request in a batch of a hundred, the least of five times."""
    times = []
    for _ in range(5):
        started = time.process_time()
        method.recommend(world.queries[:100], 10)
        times.append(time.process_time() - started)
    return round(10 * min(times), 3)
