"""UDITSR in a planted shop with searches: a session's demand, told by words or not, and a taste.

The last event of every user is judged: recommendation where nobody searched, search where words led
to it. Rivals are the same model without searches (their events count as browsed), without the loss
that teaches the generator, and, for search, one that learns from searched events alone. The shops
of the settings had other random states.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from claim_tools import SEEDS, difference_interval, seeded

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.event_columns import event_columns
from tailor.data.queries import Queries
from tailor.data.splits import TEST, Split, split_by
from tailor.metrics.ranking import hits, ndcg
from tailor.papers.ranking.uditsr import UDITSR
from tailor.worlds.searches import Searches, searches

K = 5
USERS = 500


def measure(run: Run) -> Claim:
    """Three planted shops, NDCG@5 over all items with repeats allowed."""
    rows = [on(searches(USERS, seed=seed), seeded(run, seed)) for seed in SEEDS]
    checks = {
        "recommendation above the model without searches": all(
            row["recommendation"]["over no searches"]["low"] > 0 for row in rows
        ),
        "recommendation above the model without taught demands": all(
            row["recommendation"]["over no teaching"]["low"] > 0 for row in rows
        ),
        "the generated demand is nearer to the true one than the mean of the user's queries": all(
            row["cosine with the true demand"]["generated less queries"]["low"] > 0 for row in rows
        ),
        "search is not worse than learned alone": all(
            row["search"]["over search alone"]["high"] >= 0 for row in rows
        ),
    }
    return Claim(checks, {"planted": rows}, list(SEEDS), ["worlds.searches"])


def on(world: Searches, run: Run) -> dict[str, Any]:
    split = split_by(world.data, "last")
    queries, targets, texts = asked(split)
    is_search = np.array([bool(text) for text in texts])
    variants = {
        "UDITSR": UDITSR(),
        "no searches": UDITSR(reads_searches=False),
        "no teaching": UDITSR(generation=0.0),
    }
    fitted = {name: method.fit(split.train, run, split) for name, method in variants.items()}
    alone = UDITSR().fit(searched_only(split.train), run)
    browsing = np.flatnonzero(~is_search)
    searching = np.flatnonzero(is_search)
    wanted = replace(queries.take(searching), texts=texts[searching])
    recommended = {
        name: gains(method, queries.take(browsing), targets.take(browsing))
        for name, method in fitted.items()
    }
    found = {
        name: gains(method, wanted, targets.take(searching))
        for name, method in {"UDITSR": fitted["UDITSR"], "search alone": alone}.items()
    }
    return {
        "seed": run.seed,
        "recommendation": compared(recommended, run.seed),
        "search": compared(found, run.seed),
        "cosine with the true demand": demands(
            fitted["UDITSR"], world, split, queries.take(browsing), targets.take(browsing), run.seed
        ),
        "best epochs": {name: method.fit_report_["best_epoch"] for name, method in fitted.items()},
    }


def asked(split: Split) -> tuple[Queries, Ragged, np.ndarray]:
    """Return test queries whose histories bring earlier searches, targets, and searches (U,)."""
    data = split.data
    queries, targets = split.queries("test")
    is_test = split.part[data.sequences.events] == TEST
    texts = data.sequences.rows.with_values(event_columns(data, ["texts"])["texts"])
    users = np.flatnonzero(texts.keep(is_test).lengths)
    histories = texts.keep(~is_test).take(users)
    wanted = np.array([text or "" for text in texts.keep(is_test).values], dtype=object)
    return replace(queries, columns={**queries.columns, "texts": histories}), targets, wanted


def searched_only(data: Dataset) -> Dataset:
    """Return the data with the searched events alone."""
    keys = data.tables["texts"].select("user_id", "item_id", "time_ms").with_columns(searched=True)
    events = data.events.join(keys, on=keys.columns[:3], how="left", maintain_order="left")
    return data.cut(events["searched"].fill_null(False).to_numpy())


def gains(method: UDITSR, queries: Queries, targets: Ragged) -> np.ndarray:
    """Return (U,) NDCG@5 over all items."""
    lists = method.recommend(queries, K).reindexed(queries.catalogue)
    is_hit = hits(lists.rows, targets.offsets, targets.values)
    return ndcg(is_hit, np.ones(len(queries), np.int64), K)


def compared(values: dict[str, np.ndarray], seed: int) -> dict[str, Any]:
    """Return means, and the leads of UDITSR over the others with their intervals."""
    row: dict[str, Any] = {"queries": len(values["UDITSR"])}
    row["NDCG@5"] = {name: round(float(part.mean()), 5) for name, part in values.items()}
    for name, part in values.items():
        if name != "UDITSR":
            row[f"over {name}"] = difference_interval(values["UDITSR"] - part, seed, 5)
    return row


def demands(
    method: UDITSR, world: Searches, split: Split, queries: Queries, targets: Ragged, seed: int
) -> dict[str, Any]:
    """Compare demands generated for targets, and means of users' queries, with the true demand.

    The true one is the mean vector of the words of the session's topic; users who have searched
    before count.
    """
    net = method._ready()
    codes = {word: code for code, word in enumerate(method.words_)}
    topics = [[codes[word] for word in words if word in codes] for words in world.words]
    data = split.data
    is_test = split.part[data.sequences.events] == TEST
    by_event = data.sequences.rows.with_values(world.demands[data.sequences.events])
    true_of_user = dict(
        zip(
            data.users.ids[by_event.row_ids[is_test]].tolist(),
            by_event.values[is_test].tolist(),
            strict=True,
        )
    )
    with torch.inference_mode():
        reindexed = queries.reindexed(method.items_)
        _, means_of, latest, _ = method._users(reindexed)
        rows = torch.from_numpy(targets.values.astype(np.int64))
        generated = net.generate(means_of, latest, rows)
        words = net.words.weight
        true = torch.stack(
            [words[topics[true_of_user[user]]].mean(dim=0) for user in queries.user_ids]
        )
        texts = queries.columns["texts"]
        typed = method._words_of([text or "" for text in texts.values])
        totals = Ragged(texts.offsets, np.arange(len(texts.values))).matrix(len(texts.values))
        own = torch.from_numpy((totals @ typed).toarray()) @ words
        has_queries = np.asarray((totals @ typed).sum(axis=1)).ravel() > 0
        cosine = torch.nn.functional.cosine_similarity
        near = cosine(generated, true).numpy()[has_queries]
        far = cosine(own, true).numpy()[has_queries]
    return {
        "generated": round(float(near.mean()), 4),
        "mean of queries": round(float(far.mean()), 4),
        "generated less queries": difference_interval(near - far, seed, 5),
    }
