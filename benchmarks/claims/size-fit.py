"""The claim of size and fit: what earlier reviews of a product add to the same net without them.

Settings were chosen on the validation parts of the worlds of seeds 11 and 12.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from claim_tools import seeded

from tailor.bench.claims import Claim
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.examples import Outcome
from tailor.data.splits import Split, by_time
from tailor.evaluation.prediction_figures import ClassFigures
from tailor.evaluation.predictions import Predictions, evaluate_predictions
from tailor.papers.ranking.size_fit import SizeFit
from tailor.text.hashing import HashingEncoder
from tailor.worlds.garments import CENTIMETRES, EASE, garments

SEEDS = (0, 1, 2, 3, 4)
FIELDS = (
    "item:product",
    "item:size",
    "item:category",
    "item:brand",
    "user:chest_cm",
    "user:waist_cm",
    "user:height_cm",
)
SETTINGS = {
    "encoder": HashingEncoder(256),
    "fields": FIELDS,
    "epochs": 15,
    "lr": 2e-3,
    "l2": 1e-3,
    "batch": 256,
    "id_dropout": 0.0,
}
OUTCOME = Outcome("value", length=10)
MANY = 5  # reviews of a product from which on it has many
FIGURES = ClassFigures(3)


def measure(run: Run) -> Claim:
    """Planted purchases of 3,000 products, a third with a known outcome, five seeds."""
    worlds = [on(seed, seeded(run, seed)) for seed in SEEDS]
    judged = pooled(worlds)
    rows = {
        "over no reviews": difference(judged, "reviews", "no reviews"),
        "shuffled over no reviews": difference(judged, "shuffled", "no reviews"),
        "over no reviews, an id for every product": difference(judged, "reviews", "every id"),
        "products of many reviews": difference(judged, "reviews", "no reviews", "many"),
        "products of few reviews": difference(judged, "reviews", "no reviews", "few"),
        "new customers": difference(judged, "reviews", "no reviews", "new"),
        "known customers": difference(judged, "reviews", "no reviews", "known"),
    }
    means = {name: score(judged, name) for name in METHODS}
    gains = {name: row["difference"] for name, row in rows.items()}
    checks = {
        "above no reviews": rows["over no reviews"]["low"] > 0,
        "more for products of many reviews": gains["products of many reviews"]
        > gains["products of few reviews"],
        "more for new customers": gains["new customers"] > gains["known customers"],
        "shuffled reviews add nothing": rows["shuffled over no reviews"]["low"] <= 0,
        "above the majority and a size chart": means["reviews"]
        > max(means["majority"], means["size chart"]),
    }
    by_seed = [{name: score(world, name) for name in METHODS} for world in worlds]
    return Claim(
        checks, {"macro F1": means, "by seed": by_seed, "differences": rows}, SEEDS, ["garments"]
    )


METHODS = ("reviews", "no reviews", "shuffled", "every id", "majority", "size chart")


def on(seed: int, run: Run) -> dict[str, Any]:
    """Return labels, users, strata and what each method predicts for the test part of a world."""
    data = garments(seed=seed).data
    split = by_time(data)
    methods = {
        "reviews": SizeFit(**SETTINGS).fit(split.train, run, split),
        "no reviews": SizeFit(reviews=0, **SETTINGS).fit(split.train, run, split),
        "every id": SizeFit(reviews=0, least=1, **SETTINGS).fit(split.train, run, split),
    }
    judged = evaluate_predictions(methods, split, outcome=OUTCOME, run=run)
    mixed = by_time(shuffled(data, run.rng("shuffle")))
    control = SizeFit(**SETTINGS).fit(mixed.train, run, mixed)
    shares = evaluate_predictions(control, mixed, outcome=OUTCOME, run=run).probabilities
    answers = {**judged.probabilities, "shuffled": shares["SizeFit"]}
    rows = test_rows(split, run)
    answers["majority"] = one_hot(np.full(len(rows), 1))
    answers["size chart"] = one_hot(size_chart(rows))
    has_many = reviews_before(rows, split) >= MANY
    is_new = rows["earlier"].to_numpy() == 0
    strata = {"many": has_many, "few": ~has_many, "new": is_new, "known": ~is_new}
    check_same_rows(judged, rows)
    return {"labels": judged.labels, "users": judged.users, "answers": answers, "strata": strata}


def shuffled(data: Dataset, rng: np.random.Generator) -> Dataset:
    """Return the data with the texts of reviews in another order."""
    reviews = data.tables["texts"]
    order = rng.permutation(len(reviews))
    tables = {**data.tables, "texts": reviews.with_columns(text=reviews["text"].gather(order))}
    return Dataset(tables, f"{data.name}-shuffled")


def test_rows(split: Split, run: Run) -> pl.DataFrame:
    """Return the judged purchases with the columns of customer and item, in the judged order."""
    examples = OUTCOME.judge(split, "test", run.rng("judged", "test"))
    rows = pl.DataFrame(
        {
            "user_id": examples.queries.user_ids.tolist(),
            "item_id": examples.queries.catalogue.named(examples.items),
            "time_ms": examples.queries.now_ms,
            "earlier": examples.queries.histories.lengths,
            "value": examples.labels,
        }
    )
    for table, key in (("users", "user_id"), ("items", "item_id")):
        rows = rows.join(split.data.tables[table], on=key, how="left", maintain_order="left")
    return rows


def check_same_rows(judged: Predictions, rows: pl.DataFrame) -> None:
    if not np.array_equal(judged.labels, rows["value"].to_numpy()):
        raise ValueError("the rules are judged on other rows than the methods")


def reviews_before(rows: pl.DataFrame, split: Split) -> np.ndarray:
    """Return (n,) the number of reviews of each row's product that the methods learned."""
    items = split.data.tables["items"].select("item_id", "product")
    counts = split.train.tables["texts"].join(items, on="item_id").group_by("product").len()
    joined = rows.join(counts, on="product", how="left", maintain_order="left")
    return joined["len"].fill_null(0).to_numpy()


def size_chart(rows: pl.DataFrame) -> np.ndarray:
    """Return (n,) outcomes by measurements and the size alone; fits where not measured."""
    above = (rows["chest_cm"].to_numpy() - 90) / CENTIMETRES
    below = (rows["waist_cm"].to_numpy() - 74) / CENTIMETRES
    category = rows["category"].to_numpy()
    body = np.select(
        [category == "top", category == "trousers"], [above, below], (above + below) / 2
    )
    gap = body - rows["size"].str.strip_prefix("size ").cast(pl.Float64).to_numpy()
    codes = np.select([gap > EASE, gap < -EASE], [0, 2], 1)
    return np.where(np.isnan(gap), 1, codes)


def one_hot(codes: np.ndarray) -> np.ndarray:
    """Return (n, 3) shares that are sure of codes (n,)."""
    return np.eye(3)[codes]


def pooled(worlds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the rows of all worlds as one; users of two worlds are not the same."""
    shift = np.cumsum([0, *(world["users"].max() + 1 for world in worlds)])
    users = [world["users"] + start for world, start in zip(worlds, shift, strict=False)]
    return {
        "labels": np.concatenate([world["labels"] for world in worlds]),
        "users": np.concatenate(users),
        "answers": {
            name: np.concatenate([world["answers"][name] for world in worlds]) for name in METHODS
        },
        "strata": {
            name: np.concatenate([world["strata"][name] for world in worlds])
            for name in worlds[0]["strata"]
        },
    }


def score(judged: Mapping[str, Any], name: str) -> float:
    """Return a method's macro F1."""
    figures = FIGURES.overall(judged["labels"], judged["answers"][name], judged["users"])
    return round(figures["macro_F1"], 4)


def difference(
    judged: Mapping[str, Any], name: str, other: str, stratum: str | None = None
) -> dict[str, float]:
    """Return by how much a method's macro F1 is above another's; users keep all their rows."""
    rows = slice(None) if stratum is None else judged["strata"][stratum]
    labels = judged["labels"][rows]
    users = np.unique(judged["users"][rows], return_inverse=True)[1]
    answers = [judged["answers"][method][rows] for method in (name, other)]
    drawn = np.diff(FIGURES.drawn(labels, users, answers)[:, ::-1], axis=1)[:, 0]
    low, high = np.quantile(drawn, [0.025, 0.975])
    scores = [FIGURES.overall(labels, column, users)["macro_F1"] for column in answers]
    return {
        "difference": round(scores[0] - scores[1], 5),
        "low": round(float(low), 5),
        "high": round(float(high), 5),
        "pairs": len(labels),
    }
