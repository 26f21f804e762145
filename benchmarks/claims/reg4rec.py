"""REG4Rec on planted items with facets, of which each kind has three makers of five.

Three random states. A person keeps to a kind and walks along makers; colours and shapes are drawn
by chance. Titles name all four facets. Events of items that do not exist are dropped. The order of
confidence is held against the same net that learns and answers in the books' order, with as many
weights and steps. The settings were tried on a state that is not among the three.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from claim_tools import SEEDS, difference_interval, judge, parameters, seeded, timed_fits

from tailor.bench.claims import Claim
from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.splits import Split, split_by
from tailor.generative.tiger import TIGER
from tailor.papers.generative.reg4rec import REG4Rec
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.popularity import Popularity
from tailor.worlds.facets import Facets, facets

PEOPLE = 500
LENGTH = 10
MAKERS_OF_KIND = 3
WORDS = 8  # near the facets' 6, 5, 6 and 4 values
FREE = 20  # free codes of a query
CONFIDENT = REG4Rec(
    words=WORDS,
    width=32,
    length=10,
    blocks=1,
    epochs=25,
    patience=None,
    batch_places=512,
    dropout=0.1,
    lr=5e-3,
)
RESIDUAL = TIGER(
    levels=4,
    width=32,
    length=10,
    blocks=1,
    epochs=25,
    patience=None,
    batch_places=512,
    dropout=0.1,
    lr=5e-3,
)
LEADS = {
    "confident over fixed": ("confident", "fixed"),
    "confident over TIGER": ("confident", "TIGER"),
    "confident over co-visitation": ("confident", "co-visitation"),
}


def measure(run: Run) -> Claim:
    """500 people, 432 items, three random states."""
    rows = [on_world(seeded(run, seed)) for seed in SEEDS]
    lead = float(np.mean([row["leads"]["confident over fixed"]["difference"] for row in rows]))
    checks = {
        "books and facets: shared information at least .6 for 3 of 4, every state": all(
            sorted(row["shared information"].values())[1] >= 0.6 for row in rows
        ),
        "order of confidence: HR@10 at least that of the fixed order, mean of states": lead >= 0,
        "the cut raises the share of free codes that are an item's, every state": all(
            row["free codes"]["gain"]["low"] > 0 for row in rows
        ),
        "the cut alone leaves an item to all whose free codes hold one, every state": all(
            row["free codes"]["users left without an item"] == 0 for row in rows
        ),
    }
    figures = {"facets": rows, "confident over fixed, mean of states": round(lead, 5)}
    return Claim(checks, figures, list(SEEDS), ["facets"])


def on_world(run: Run) -> dict[str, Any]:
    """Fit and judge all methods on one world."""
    world, data = some_makers(run.seed)
    split = split_by(data, "last")
    methods: dict[str, Recommender] = {
        "confident": replace(CONFIDENT),
        "fixed": replace(CONFIDENT, order="fixed"),
        "TIGER": replace(RESIDUAL),
        "co-visitation": CoVisitation(),
        "popularity": Popularity(),
    }
    seconds = timed_fits(methods, split.train, run, split)
    confident = methods["confident"]
    judged = judge(methods, split, run, LEADS)
    return judged | {
        "items": len(data.catalogue),
        "weights": {n: parameters(methods[n]) for n in ("confident", "fixed", "TIGER")},
        "shared information": shared_with_facets(confident, world),
        "items sharing all books": confident.fit_report_["items_sharing_all_books"],
        "free codes": judge_free_codes(confident, split, run.seed),
        "seconds of a fit": seconds,
    }


def some_makers(seed: int) -> tuple[Facets, Dataset]:
    """Return a world, and its data without items of a kind by makers that do not make it."""
    world = facets(PEOPLE, LENGTH, seed, kept=("kind",), walked=("maker",), wished=())
    codes = world.truth.items.codes
    exists = (codes[:, 1] - codes[:, 0]) % 5 < MAKERS_OF_KIND
    ids = world.truth.items.catalogue.ids[exists].tolist()
    tables = {
        name: world.data.tables[name].filter(pl.col("item_id").is_in(ids))
        for name in ("events", "items")
    }
    return world, Dataset(tables, f"some makers {seed}")


def shared_with_facets(method: REG4Rec, world: Facets) -> dict[str, float]:
    """Return per facet the normalised mutual information with the book that shares most."""
    items = world.truth.items
    values = items.codes[items.catalogue.rows(method.items_.ids.tolist())]
    books = method.codes_[:, :-1]
    return {
        facet: round(
            max(shared_information(books[:, b], values[:, column]) for b in range(books.shape[1])),
            3,
        )
        for column, facet in enumerate(items.facets)
    }


def shared_information(left: np.ndarray, right: np.ndarray) -> float:
    """Return the mutual information of two partitions over the root of their entropies."""
    table = np.zeros((left.max() + 1, right.max() + 1))
    np.add.at(table, (left, right), 1 / len(left))
    bits = [entropy(part) for part in (table.sum(axis=1), table.sum(axis=0), table.ravel())]
    return float((bits[0] + bits[1] - bits[2]) / max(np.sqrt(bits[0] * bits[1]), 1e-9))


def entropy(shares: np.ndarray) -> float:
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum())


def judge_free_codes(method: REG4Rec, split: Split, seed: int) -> dict[str, Any]:
    """Return the share of free codes that are an item's, of all and of those left by the cut."""
    queries, targets = split.queries("test")
    ids = queries.catalogue.ids[targets.values[targets.offsets[:-1]]].tolist()
    answers = method.free_codes(list(queries), FREE)
    every, kept, hits, kept_hits, is_emptied = [], [], [], [], []
    for answer, target in zip(answers, ids, strict=True):
        is_item = np.array([item is not None for item in answer.item_ids])
        is_hit = np.array([item == target for item in answer.item_ids])
        fits = np.array(answer.is_consistent)
        if not len(fits):
            continue
        is_emptied.append(is_item.any() and not is_item[fits].any())
        fits = fits if fits.any() else np.ones_like(fits)
        every.append(is_item.mean())
        kept.append(is_item[fits].mean())
        hits.append(is_hit.mean())
        kept_hits.append(is_hit[fits].mean())
    return {
        "of all": round(float(np.mean(every)), 4),
        "of those left": round(float(np.mean(kept)), 4),
        "gain": difference_interval(np.array(kept) - np.array(every), seed),
        "users left without an item": int(np.sum(is_emptied)),
        "hits per code, all and left": [round(float(np.mean(v)), 4) for v in (hits, kept_hits)],
    }
