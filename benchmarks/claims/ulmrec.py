"""ULMRec on users whose taste reviews alone tell: the same net with and without their codes.

Items have a kind, a maker and a colour. In the log that is learned from, the first half of a user's
events shows any colour, and the reviews of them tell which one the user likes; the second half has
that colour. Users who are asked about are strangers at the end of their first half: their events
say nothing of the colour, and they are encoded, never learned from. All forms learn from as many records.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from claim_tools import SEEDS, Remembering, difference_interval, seeded

from tailor.bench.claims import Claim
from tailor.core.defaults import DEFAULT, encoder
from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.queries import Queries
from tailor.data.splits import split_by
from tailor.generative.tiger import TIGER
from tailor.papers.generative.ulmrec import ULMRec
from tailor.retrieval.covisitation import CoVisitation
from tailor.worlds.facets import facets

PEOPLE, KNOWN, COLOUR = 560, 4, 2
SETTINGS = ULMRec(levels=2, user_words=8, epochs=24, batch_places=1024, lr=6e-3)
GAIN = 1.5


def measure(run: Run) -> Claim:
    """Four tastes told in reviews alone, three random states; other rows in the first one."""
    rows = [on_world(seeded(run, seed), seed == SEEDS[0]) for seed in SEEDS]
    checks = {
        "hit@1 at least 1.5 x that without code, every state": all(
            row["hit@1"]["reviews"] >= GAIN * row["hit@1"]["none"] for row in rows
        ),
        "above that without code, every state": all(
            row["reviews over none"]["low"] > 0 for row in rows
        ),
        "with the reviews of a user of another taste below none, every state": all(
            row["stranger over none"]["high"] < 0 for row in rows
        ),
    }
    return Claim(checks, {"facets": rows}, SEEDS, ["facets"])


def on_world(run: Run, with_others: bool) -> dict[str, Any]:
    """Return hits at 1 with and without codes, or of all forms, and leads with their intervals."""
    world = facets(
        PEOPLE,
        2 * KNOWN,
        seed=run.seed,
        values=(4, 3, 4),
        kept=("kind",),
        walked=("maker",),
        wished=("colour",),
        noise=0.1,
        lasting=1.0,
        late=KNOWN,
    )
    split = split_by(world.data, "cold-start", known=KNOWN, valid=0.1, test=0.5, seed=run.seed)
    queries, targets = split.queries("test", columns=["texts"])
    users = world.data.users.rows(queries.user_ids.tolist())
    tastes = world.truth.tastes[users, COLOUR]
    texts = Remembering(encoder(DEFAULT))  # forms share the vectors of reviews
    names = ("reviews", "none", "random", "words") if with_others else ("reviews", "none")
    methods: dict[str, Recommender] = {
        name: replace(SETTINGS, encoder=texts, index=name) for name in names
    }
    if with_others:
        methods["TIGER"] = TIGER(encoder=texts, levels=2, epochs=20, patience=None)
        methods["co-visitation"] = CoVisitation()
    fitted = {name: method.fit(split.train, run) for name, method in methods.items()}
    hits = {name: hits_of(method, queries, targets) for name, method in fitted.items()}
    strangers = with_reviews_of_others(queries, tastes, run.rng("strangers"))
    hits["stranger"] = hits_of(fitted["reviews"], strangers, targets)
    best = world.truth.chances(users, KNOWN).argmax(axis=1)
    return {
        "seed": run.seed,
        "users": len(queries),
        "hit@1": {name: round(float(values.mean()), 4) for name, values in hits.items()},
        "hit@1 of the truth": round(float((best == targets.values).mean()), 4),
        **{
            f"{name} over none": difference_interval(hits[name] - hits["none"], run.seed)
            for name in hits
            if name != "none"
        },
        "codes": fitted["reviews"].fit_report_["users"],
        "steps": {name: fitted[name].fit_report_["steps"] for name in names},
    }


def hits_of(method: Recommender, queries: Queries, targets: Ragged) -> np.ndarray:
    """Return (U,) 1.0 where the target is first among the items not seen."""
    lists = method.recommend(queries.without_history(), 1).reindexed(queries.catalogue)
    return (lists.rows[:, 0] == targets.values).astype(float)


def with_reviews_of_others(
    queries: Queries, tastes: Sequence[int], rng: np.random.Generator
) -> Queries:
    """Return the queries with the reviews of a user of another taste each."""
    others = [rng.choice(np.flatnonzero(np.asarray(tastes) != taste)) for taste in tastes]
    texts = queries.columns["texts"].take(np.array(others))
    if not (texts.lengths == queries.histories.lengths).all():
        raise ValueError("histories differ in length: a stranger's reviews do not fit")
    return replace(queries, columns={**queries.columns, "texts": texts})
