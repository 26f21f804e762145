"""REGEN and LUMEN on planted logs of facets: critiques, and the narratives of what is answered.

Three random states. A critique leads from the last event to the target by one word to add and one
to drop; a random one leads to any item of the target's kind. LUMEN with and without narratives, and
the hybrid, have the same epochs over the same histories; an epoch of LUMEN tells each history up to
an event drawn by chance, one of the hybrid and of TIGER all of it. With narratives LUMEN takes more
steps, but as many that learn items. Settings were chosen on another state.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from claim_tools import SEEDS, difference_interval, is_above, seeded, timed_fits

from tailor.bench.claims import Claim
from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.queries import Queries
from tailor.data.splits import Split, last_out
from tailor.evaluation.steering import hit_users
from tailor.generative.regen import with_critiques
from tailor.generative.tiger import TIGER
from tailor.papers.generative.regen_lumen import LUMEN, HybridLUMEN
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.text.words import words
from tailor.worlds.facets import Facets, facets

PEOPLE, LENGTH, VALUES = 200, 8, (4, 4, 4, 3)
NET: dict[str, Any] = {
    "width": 64,
    "length": 10,
    "epochs": 45,
    "lr": 0.005,
    "batch_places": 768,
    "patience": None,
}
K = 10
OBEYED, KEPT, NAMED = 0.8, 0.95, 0.9
TOLD = 100  # users whose narratives are read
STRANGE = "{added} instead of {dropped}"


def measure(run: Run) -> Claim:
    """200 people of a planted log, three random states."""
    rows = [on(facets(PEOPLE, LENGTH, seed, values=VALUES), seeded(run, seed)) for seed in SEEDS]
    hits = [row["HR@10"] for row in rows]
    checks = {
        "LUMEN: the true critique above none, every state": is_above(rows, "LUMEN: true over none"),
        "hybrid: the true critique above none, every state": is_above(
            rows, "hybrid: true over none"
        ),
        "a random critique does not help either, every state": all(
            row["leads"][f"{name}: random over none"]["low"] <= 0
            for row in rows
            for name in ("LUMEN", "hybrid")
        ),
        "hybrid: critiques against the history obeyed in at least .8, every state": all(
            row["obeyed"]["hybrid"]["mean"] >= OBEYED for row in rows
        ),
        "LUMEN: critiques against the history obeyed in at least .8, every state": all(
            row["obeyed"]["LUMEN"]["mean"] >= OBEYED for row in rows
        ),
        "with narratives at least .95 of HR@10 without, mean of the states": np.mean(
            [row["LUMEN"]["true"] for row in hits]
        )
        >= KEPT * np.mean([row["no narratives"]["true"] for row in hits]),
        "narratives name a word of the emitted item in at least .9, every state": all(
            row["narratives"]["name a word of the item"] >= NAMED for row in rows
        ),
    }
    return Claim(checks, {"facets": rows}, list(SEEDS), ["worlds.facets"])


def on(world: Facets, run: Run) -> dict[str, Any]:
    """Measure all methods on one planted log."""
    split = last_out(world.data)
    methods: dict[str, Recommender] = {
        "popularity": Popularity(),
        "co-visitation": CoVisitation(),
        "TIGER": TIGER(**NET),
        "hybrid": HybridLUMEN(**NET),
        "LUMEN": LUMEN(**NET),
        "no narratives": LUMEN(**NET, narratives=0.0),
    }
    seconds = timed_fits(methods, split.train, run, split)
    asked, targets = queries_of(world, split, run)
    hits = {
        name: {kind: hit_users(method, asked[kind], targets, K) for kind in asked}
        for name, method in methods.items()
    }
    leads = {
        f"{name}: {kind} over none": difference_interval(
            hits[name][kind].astype(float) - hits[name]["none"], run.seed
        )
        for name in ("LUMEN", "hybrid", "no narratives")
        for kind in ("true", "random")
    }
    return {
        "seed": run.seed,
        "HR@10": {
            name: {kind: round(float(values.mean()), 4) for kind, values in of_method.items()}
            for name, of_method in hits.items()
        },
        "leads": leads,
        "obeyed": {
            name: obeyed(methods[name], world, asked["none"], run)
            for name in ("TIGER", "hybrid", "LUMEN")
        },
        "narratives": narratives(methods["LUMEN"], world, asked["true"]),
        "seconds of a fit": seconds,
    }


def queries_of(world: Facets, split: Split, run: Run) -> tuple[dict[str, Queries], np.ndarray]:
    """Return test queries without a critique, with the true and with a random one; targets."""
    rng = run.rng("critiques")
    queries, of_user = split.queries("test")
    targets = of_user.values[of_user.offsets[:-1]]
    kinds = world.truth.items.codes[:, 0]
    others = np.array([rng.choice(np.flatnonzero(kinds == kinds[row])) for row in targets])
    critiques = {
        "none": queries,
        "true": with_critiques(queries, of_user, world.data, rng),
        "random": with_critiques(queries, of_user.with_values(others), world.data, rng),
    }
    return critiques, targets


def obeyed(method: Recommender, world: Facets, queries: Queries, run: Run) -> dict[str, float]:
    """Return how often the first answer has the value asked for in place of the last item's.

    It is any other value of a facet; of makers, along which histories walk, not the next one.
    """
    rng = run.rng("obeyed")
    items = world.truth.items
    last = items.codes[[int(queries.histories[i][-1]) for i in range(len(queries))]]
    shares = {}
    for column, facet in enumerate(items.facets):
        first_step = 2 if facet == "maker" else 1
        steps = rng.integers(first_step, items.sizes[column], size=len(last))
        values = (last[:, column] + steps) % items.sizes[column]
        said = items.words[column]
        texts = [
            STRANGE.format(added=said[value], dropped=said[old])
            for value, old in zip(values.tolist(), last[:, column].tolist(), strict=True)
        ]
        asked = replace(queries, texts=np.array(texts, dtype=object))
        first = method.recommend(asked, 1).reindexed(queries.catalogue).rows[:, 0]
        shares[facet] = round(float((items.codes[first, column] == values).mean()), 4)
    return {**shares, "mean": round(float(np.mean([*shares.values()])), 4)}


def narratives(method: Recommender, world: Facets, queries: Queries) -> dict[str, float]:
    """Return what narratives of first answers name: words of the item, of other items."""
    asked = [queries[i] for i in range(TOLD)]
    rankings = method.recommend(asked, 1)
    explanations = method.explain(asked, [rankings[i] for i in range(TOLD)])
    texts = world.data.item_texts
    lexicon = {word for text in texts for word in words(text)}
    own, named = [], []
    for (explanation,) in explanations:
        row = int(world.data.catalogue.rows([explanation.item_id])[0])
        named_words = set(words(explanation.text)) & lexicon
        own.append(len(named_words & set(words(texts[row]))))
        named.append(len(named_words))
    return {
        "name a word of the item": round(float(np.mean(np.array(own) > 0)), 4),
        "share of the item's words": round(float(np.mean(own)) / len(world.truth.items.facets), 4),
        "words of titles in a narrative": round(float(np.mean(named)), 2),
    }
