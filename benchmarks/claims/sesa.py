"""SESA on Beauty with the catalogue's attributes as concepts: pairs of items that followed each
other, of which one item was never learned from; three seeds.

A tenth of the items has no events and no attributes while learning. Pairs of its items are told
from random ones (share of right orders, AUC), by TF-IDF cosines of the titles, by SESA, and by the
same net in a space without names. Attributes of the hidden items are read off their titles, against
the best set of common ones for all.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import polars as pl
from claim_tools import seeded, topic_world
from shared_data import data_folder, real, sample_users

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.evaluation.significance import bootstrap
from tailor.papers.retrieval.sesa import SESA
from tailor.text.tfidf import tfidf

SEEDS = [0, 1, 2]
HIDDEN = 0.1  # of the items
OTHERS = 20  # random items that a pair's right one is compared with
DELETED = 3  # concepts


def measure(run: Run) -> Claim:
    """Planted themes, whose items need not share words; then 5,000 users of Beauty."""
    planted = [on_topics(seeded(run, seed)) for seed in SEEDS]
    data, listed = with_attributes()
    beauty = one_seed(sample_users(data, 5_000), listed, run)
    rows = [*planted, beauty]
    checks = {
        "pairs are told apart better than by words, planted and on Beauty": all(
            row["AUC over TF-IDF"][1] > 0 for row in rows
        ),
        "and within .02 of a space without names": all(
            row["AUC"]["SESA"] > row["AUC"]["without names"] - 0.02 for row in rows
        ),
        "attributes are read off titles above the best common set": all(
            row["micro F1"]["SESA"] > row["micro F1"]["common ones for all"] for row in rows
        ),
        "Beauty: the named concepts carry the score in nine pairs of ten": (
            beauty["top concepts matter more"] >= 0.9
        ),
    }
    figures = {"hidden": HIDDEN, "planted": planted, "beauty, 5,000 users": beauty}
    return Claim(checks, figures, SEEDS, ["planted topics", "beauty"])


def on_topics(run: Run) -> dict[str, object]:
    """Hide a tenth of a planted catalogue, whose themes are the concepts."""
    data = topic_world(run.seed, users=6_000, items=960)
    themes = data.tables["items"].select("item_id", "categories").rows()
    by_item = {item_id: list(categories) for item_id, categories in themes}
    return one_seed(data, [by_item[item_id] for item_id in data.catalogue.ids.tolist()], run)


def measure_long(run: Run) -> Claim:
    data, listed = with_attributes()
    rows = [
        one_seed(data, listed, Run(seed=seed, workers=run.workers, progress=run.progress))
        for seed in SEEDS
    ]
    checks = {
        "pairs are told apart better than by words": all(
            row["AUC over TF-IDF"][1] > 0 for row in rows
        ),
        "and within .02 of a space without names": all(
            row["AUC"]["SESA"] > row["AUC"]["without names"] - 0.02 for row in rows
        ),
        "attributes are read off titles above the best common set": all(
            row["micro F1"]["SESA"] > row["micro F1"]["common ones for all"] for row in rows
        ),
        "the named concepts carry the score in nine pairs of ten": all(
            row["top concepts matter more"] >= 0.9 for row in rows
        ),
    }
    return Claim(checks, {"hidden": HIDDEN, "runs": rows}, SEEDS, ["beauty"])


def with_attributes() -> tuple[Dataset, list[list[str]]]:
    """Beauty with its numbered attributes as categories, and those by row."""
    data = real("beauty")
    known = json.loads(
        (data_folder() / "amazon/beauty/item2attributes.json").read_text(encoding="utf-8")
    )
    of = {item: [f"attribute {one}" for one in values] for item, values in known.items()}
    items = data.tables["items"].with_columns(
        categories=pl.Series(
            [of.get(one, []) for one in data.tables["items"]["item_id"].to_list()],
            dtype=pl.List(pl.String),
        )
    )
    data = Dataset({**data.tables, "items": items}, "beauty")
    return data, [of.get(one, []) for one in data.catalogue.ids.tolist()]


def one_seed(data: Dataset, listed: list[list[str]], run: Run) -> dict[str, object]:
    rng = np.random.default_rng(run.seed)
    items = len(data.catalogue)
    hidden = rng.random(items) < HIDDEN
    ids = data.catalogue.ids[hidden].tolist()
    shown = data.tables["items"].with_columns(
        categories=pl.when(pl.col("item_id").is_in(ids)).then(None).otherwise(pl.col("categories"))
    )
    learned = Dataset(
        {"events": data.events.filter(~pl.col("item_id").is_in(ids)), "items": shown},
        "beauty, some items hidden",
    )
    named, free = SESA().fit(learned, run), SESA(free=True).fit(learned, run)
    pairs = hidden_pairs(data, hidden, rng)
    others = rng.integers(items, size=(len(pairs), OTHERS))
    words = tfidf(data.texts_of("title", "text"))
    order = data.catalogue.rows(named.items_.ids.tolist())
    by = {
        "SESA": named.amounts()[np.argsort(order)],
        "without names": free.amounts()[np.argsort(order)],
        "TF-IDF": np.asarray(words.todense(), dtype=np.float32),
    }
    right = {name: told(vectors, pairs, others) for name, vectors in by.items()}
    low, high = bootstrap((right["SESA"] - right["TF-IDF"])[:, None], seed=run.seed)
    logits = named.logits(named.vectors_)[np.argsort(order)][hidden]
    column = {name: i for i, name in enumerate(named.concepts_)}
    truth = np.zeros((items, len(column)), dtype=bool)
    for row, mine in enumerate(listed):
        truth[row, [column[one] for one in mine if one in column]] = True
    counts = np.argsort(-truth[~hidden].sum(axis=0))
    common = max(
        range(1, 11),
        key=lambda n: micro_f1(np.isin(np.arange(len(column)), counts[:n])[None], truth[~hidden]),
    )
    return {
        "seed": run.seed,
        "pairs": len(pairs),
        "concepts": len(column),
        "AUC": {name: round(float(one.mean()), 5) for name, one in right.items()},
        "AUC over TF-IDF": [
            round(float(one), 5)
            for one in ((right["SESA"] - right["TF-IDF"]).mean(), low[0], high[0])
        ],
        "micro F1": {
            "SESA": round(micro_f1(logits > 0, truth[hidden]), 4),
            "common ones for all": round(
                micro_f1(np.isin(np.arange(len(column)), counts[:common])[None], truth[hidden]), 4
            ),
        },
        "top concepts matter more": round(deleted(by["SESA"], pairs, rng), 4),
        "epochs": named.fit_report_["epochs"],
    }


def hidden_pairs(data: Dataset, hidden: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(P, 2) items that followed each other, one at least hidden, each pair once."""
    rows = data.sequences.rows
    at = np.flatnonzero(rows.from_end > 0)
    pairs = np.unique(np.stack([rows.values[at], rows.values[at + 1]], axis=1), axis=0)
    pairs = pairs[(hidden[pairs].any(axis=1)) & (pairs[:, 0] != pairs[:, 1])]
    return pairs[rng.permutation(len(pairs))[:5_000]]


def told(vectors: np.ndarray, pairs: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(P,) share of the others that a pair's right item stands before, ties half."""
    left = vectors[pairs[:, 0]]
    own = (left * vectors[pairs[:, 1]]).sum(axis=1)
    scores = np.stack(
        [(left * vectors[others[:, i]]).sum(axis=1) for i in range(others.shape[1])], axis=1
    )
    return (own[:, None] > scores).mean(axis=1) + 0.5 * (own[:, None] == scores).mean(axis=1)


def micro_f1(said: np.ndarray, truth: np.ndarray) -> float:
    hit = (said & truth).sum()
    return float(2 * hit / max(np.broadcast_to(said, truth.shape).sum() + truth.sum(), 1))


def deleted(amounts: np.ndarray, pairs: np.ndarray, rng: np.random.Generator) -> float:
    """Share of pairs whose score falls further without its three largest concepts than without
    three others that both have, lengths made whole again.
    """
    falls = []
    read = amounts[pairs].any(axis=2).all(axis=1)  # a few items have no title
    for a, b in amounts[pairs[read][:1_000]]:
        parts = a * b
        best = np.argsort(-parts)[:DELETED]
        rest = rng.choice(np.setdiff1d(np.flatnonzero(parts > 0), best), DELETED, replace=False)
        falls.append(without(a, b, best) < without(a, b, rest))
    return float(np.mean(falls))


def without(a: np.ndarray, b: np.ndarray, concepts: np.ndarray) -> float:
    kept = np.ones(len(a), dtype=bool)
    kept[concepts] = False
    return float((a * kept / np.linalg.norm(a * kept)) @ (b * kept / np.linalg.norm(b * kept)))
