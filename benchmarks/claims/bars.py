"""The claim of `bars`: cards can be made again to the bit, notice every change, and tell a
factorization machine from logistic regression where pairs decide.

Five planted logs of 50,000 rows, each with a random state of its own, judge the two methods (paired
over people); on the first, cards are made, made again twice, and spoilt. A quarter of an hour of a
core.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
from claim_tools import SEEDS, seeded
from shared_data import real

from tailor.bench.cards import id_of, read_card
from tailor.bench.claims import Claim
from tailor.bench.verifying import verify
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.splits import by_ratio, by_time
from tailor.evaluation.predictions import evaluate_predictions
from tailor.papers.evaluation.bars import OpenBenchmark
from tailor.ranking.factorization_machine import FactorizationMachine
from tailor.ranking.logistic_regression import LogisticRegression
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.item_knn import ItemKNN
from tailor.retrieval.popularity import Popularity
from tailor.testing.data import tiny_data
from tailor.worlds.crossed import crossed

REPEATS = 5
LIKED = {"source": "label", "label": "liked"}


def measure(run: Run) -> Claim:
    """Three smaller planted logs, cards that are made again and spoilt, cards of ml-100k."""
    repeats = [planted_small(seed, run) for seed in SEEDS]
    cards = spoilt(run)
    systems = {"co-visitation": CoVisitation(), "item-knn": ItemKNN()}
    matching = OpenBenchmark(seeds=(run.seed,)).run(real("ml-100k"), systems, run)
    checks = {
        "a factorization machine is above logistic regression by AUC on every planted log": all(
            row["difference"]["low"] > 0 for row in repeats
        ),
        "cards made again twice have the same values to the bit": cards["made again"] == [[], []],
        "a setting, a byte of the data and the random state each change the id": all(
            cards["other id"].values()
        ),
        "a changed results.csv is noticed and named": any(
            "results.csv" in line for line in cards["tampered"]
        ),
        "cards of matching on ml-100k are the same when made again": matching.holds,
    }
    return Claim(checks, {"planted": repeats, "cards": cards}, list(SEEDS), ["crossed", "ml-100k"])


def planted_small(seed: int, run: Run) -> dict:
    """Judge both predictors on a log of 20,000 rows whose labels pairs of values decide."""
    split = by_time(crossed(events=20_000, users=1_000, items=300, seed=seed).data)
    predictors = {"LR": LogisticRegression(**LIKED), "FM": FactorizationMachine(**LIKED)}
    fitted = {
        name: predictor.fit(split.train, seeded(run, seed), split)
        for name, predictor in predictors.items()
    }
    predictions = evaluate_predictions(fitted, split, run=seeded(run, seed))
    difference = predictions.auc_differences("LR")[0].to_dict()
    aucs = {name: round(predictions.of_all(name, "AUC"), 5) for name in fitted}
    return {"seed": seed, **aucs, "difference": difference}


def behave(run: Run) -> dict[str, float | str]:
    """Return the boards of two methods' cards on tiny data, and what differs when made again."""
    methods = {"co-visitation": CoVisitation(), "popularity": Popularity()}
    benchmarked = OpenBenchmark(seeds=(run.seed,), k=(5,)).run(tiny_data(), methods, run)
    figures: dict[str, float | str] = {
        f"{row.metric} of {row.method}, seen {row.seen}": row.mean
        for board in benchmarked.boards
        for row in board.rows
    }
    return figures | {"problems": "; ".join(benchmarked.problems) or "none"}


def measure_long(run: Run) -> Claim:
    repeats = [planted(run.seed + at, run) for at in range(REPEATS)]
    cards = spoilt(run)
    matching = OpenBenchmark(seeds=(run.seed,)).run(
        real("beauty"), {"co-visitation": CoVisitation(), "item-knn": ItemKNN()}, run
    )
    checks = {
        "a factorization machine is above logistic regression by AUC on every planted log (95 % interval over people)": all(
            one["difference"]["low"] > 0 for one in repeats
        ),
        "cards made again twice have the same values to the bit": cards["made again"] == [[], []],
        "a setting, a byte of the data and the random state each change the id": all(
            cards["other id"].values()
        ),
        "a changed results.csv is noticed and named": any(
            "results.csv" in line for line in cards["tampered"]
        ),
        "cards of matching on Beauty are the same when made again": matching.holds,
    }
    ratings = {
        "where": "ml-100k, rating of 4 and more, the last tenth of each person's",
        **rated(run),
    }
    table = {
        row.method: {row.metric: round(row.mean, 5)}
        for board in matching.boards
        for row in board.rows
        if row.metric == "recall@20" and row.seen == "removed"
    }
    return Claim(
        checks,
        {"planted": repeats, "cards": cards, "beauty, recall@20": table, "ratings": ratings},
        [run.seed + at for at in range(REPEATS)],
        ["crossed", "beauty", "ml-100k"],
    )


def planted(seed: int, run: Run) -> dict:
    split = by_time(crossed(seed=seed).data)
    own = Run(seed=seed, workers=run.workers, progress=run.progress)
    fitted = {
        "LR": LogisticRegression(**LIKED).fit(split.train, own, split),
        "FM": FactorizationMachine(**LIKED).fit(split.train, own, split),
    }
    found = evaluate_predictions(fitted, split, run=own)
    return {
        "seed": seed,
        **{name: round(found.overall(name, "AUC"), 5) for name in fitted},
        "difference": found.auc_differences("LR")[0].to_dict(),
    }


def spoilt(run: Run) -> dict:
    """Cards of a small planted log: made again, and what happens to them when something is changed."""
    data = crossed(events=6_000, users=300, items=60, seed=run.seed).data
    with tempfile.TemporaryDirectory() as out:
        made = OpenBenchmark(by="time", seeds=(run.seed,), out=out, again=False).run(
            data, {"FM": FactorizationMachine(**LIKED, epochs=5)}, run
        )
        card = made.cards[0]
        again = [verify(card), verify(card)]
        frame = data.events
        moved = frame.with_columns(
            time_ms=frame["time_ms"] + (np.arange(len(frame)) == len(frame) - 1)
        )
        other = Dataset({**dict(data.tables), "events": moved}, data.name, data.labels)
        inputs = card.inputs
        changed = {
            "setting": {**inputs, "method": {**inputs["method"], "width": 8}},
            "data": {**inputs, "data": {**inputs["data"], "content_hash": other.content_hash}},
            "random state": {**inputs, "seed": inputs["seed"] + 1},
        }
        path = card.folder / "results.csv"
        path.write_text(path.read_text().replace("0.", "0.9", 1))
        told = verify(read_card(card.folder))
        return {
            "made again": again,
            "other id": {
                what: id_of(json.loads(json.dumps(one))) != card.id for what, one in changed.items()
            },
            "tampered": [line.replace(str(Path(out)), "CARDS") for line in told],
        }


def rated(run: Run) -> dict:
    """Real ratings, where five architectures lie within .005: for the record, no check."""
    split = by_ratio(real("ml-100k"))
    settings = {"source": "label", "label": "value >= 4", "user_ids": True, "history": 0}
    fitted = {
        "LR": LogisticRegression(**settings).fit(split.train, run, split),
        "FM": FactorizationMachine(**settings, width=10).fit(split.train, run, split),
    }
    found = evaluate_predictions(fitted, split, run=run)
    return {
        **{
            name: {
                figure: round(found.overall(name, figure), 5)
                for figure in ("AUC", "gAUC", "log_loss", "ECE")
            }
            for name in fitted
        },
        "difference": found.auc_differences("LR")[0].to_dict(),
    }
