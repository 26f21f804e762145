"""Parts that claim programs share: fitting and judging per seed, leads with intervals, worlds."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import polars as pl

from tailor.core.methods import Method, Predictor, Recommender
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.examples import Outcome
from tailor.data.splits import Split
from tailor.evaluation.comparing import compare
from tailor.evaluation.prediction_figures import LabelFigures
from tailor.evaluation.predictions import Predictions, evaluate_predictions
from tailor.evaluation.protocol import evaluate
from tailor.evaluation.report import GIVEN, Report
from tailor.evaluation.significance import bootstrap, mean_interval
from tailor.metrics.prediction import auc
from tailor.nn.fields import FieldBatch
from tailor.ports.base import Encoder
from tailor.ranking.fields import FieldPredictor
from tailor.retrieval.covisitation import CoVisitation
from tailor.training.nets import NetMethod
from tailor.worlds.interests import Interests
from tailor.worlds.styles import TOPICS

SEEDS = (0, 1, 2)  # of planted worlds
THEMES = TOPICS[:16]
ADJECTIVES = [
    "small",
    "large",
    "plain",
    "fine",
    "old",
    "new",
    "blue",
    "green",
    "grey",
    "white",
    "cheap",
    "solid",
    "light",
    "heavy",
]
DAY_MS = 86_400_000
M = TypeVar("M", bound=Method)


def lead(report: Report, method: str, over: str, metric: str, seed: int = 0) -> dict[str, float]:
    """Return by how much a method is above another, paired over users, seen removed.

    Difference, 95 % interval, p after Holm.
    """
    tests = compare(report, over, [metric], seed=seed)
    test = next(test for test in tests if test.b == method)
    return {
        "difference": round(test.difference, 5),
        "low": round(test.low, 5),
        "high": round(test.high, 5),
        "p": round(test.p_holm, 4),
    }


def means(report: Report) -> dict[str, dict[str, float]]:
    """Return method -> metric -> mean, seen removed."""
    return {
        name: {metric: round(report.mean(name, metric, "removed"), 5) for metric in report.metrics}
        for name in report.methods
    }


def fit_all(methods: Mapping[str, M], split: Split, run: Run) -> dict[str, M]:
    """Fit every method on the training part, the validation part at hand."""
    return {name: method.fit(split.train, run, split) for name, method in methods.items()}


def timed_fits(
    methods: Mapping[str, Method], data: Dataset, run: Run, valid: Split | None = None
) -> dict[str, float]:
    """Fit every method one after another; return their processor seconds."""
    seconds = {}
    for name, method in methods.items():
        started = time.process_time()
        method.fit(data, run, valid)
        seconds[name] = round(time.process_time() - started, 1)
    return seconds


def judge(
    methods: Mapping[str, Recommender],
    split: Split,
    run: Run,
    leads: Mapping[str, tuple[str, str]],
    metric: str = "HR@10",
) -> dict[str, Any]:
    """Return means of fitted methods and the leads asked for: label -> (method, over which)."""
    name, _, depth = metric.partition("@")
    k = sorted({10, int(depth)})
    metrics = list(dict.fromkeys(["HR", "NDCG", name]))
    report = evaluate(dict(methods), split, k=k, metrics=metrics, seen=("removed",), run=run)
    return {
        "seed": run.seed,
        "users": len(report.user_ids),
        "means": means(report),
        "leads": {
            label: lead(report, method, over, metric, run.seed)
            for label, (method, over) in leads.items()
        },
    }


def judge_predictions(
    methods: Mapping[str, Predictor],
    split: Split,
    run: Run,
    leads: Mapping[str, tuple[str, str]],
    outcome: Outcome | None = None,
) -> dict[str, Any]:
    """Return figures of fitted predictors and the leads asked for: label -> (method, over which).

    Leads are of AUC over all pairs and of the mean AUC of a user, with their 95 % intervals over
    users.
    """
    predictions = evaluate_predictions(methods, split, outcome=outcome, run=run)
    figures = ("AUC", "gAUC", "log_loss", "ECE")
    return {
        "seed": run.seed,
        "users": len(predictions.report.user_ids),
        "pairs": len(predictions.labels),
        "figures": {
            name: {figure: round(predictions.overall(name, figure), 5) for figure in figures}
            for name in methods
        },
        "leads": {
            label: auc_lead(predictions, method, over, run.seed)
            for label, (method, over) in leads.items()
        },
        "leads of users": {
            label: user_auc_lead(predictions, method, over, run.seed)
            for label, (method, over) in leads.items()
        },
    }


def auc_lead(predictions: Predictions, method: str, over: str, seed: int) -> dict[str, float]:
    """Return by how much a predictor's AUC is above another's, users drawn with all their pairs."""
    scores = [predictions.probabilities[name] for name in (method, over)]
    labels = predictions.labels
    drawn = LabelFigures().drawn(labels, predictions.users, scores, draws=300, seed=seed)
    low, high = np.nanquantile(drawn[:, 0] - drawn[:, 1], (0.025, 0.975))
    ours, theirs = (auc(predictions.labels, values) for values in scores)
    return {
        "AUC": round(ours, 5),
        "difference": round(ours - theirs, 5),
        "low": round(float(low), 5),
        "high": round(float(high), 5),
    }


def user_auc_lead(predictions: Predictions, method: str, over: str, seed: int) -> dict[str, float]:
    """Return by how much the mean AUC of a user is above another predictor's."""
    ours, theirs = (
        predictions.report.results[name, GIVEN].per_user["user AUC"] for name in (method, over)
    )
    differences = ours - theirs
    differences = differences[np.isfinite(differences)]
    if not len(differences):  # nobody has pairs of both kinds
        return {}
    return difference_interval(differences, seed, digits=5)


def difference_interval(
    differences: np.ndarray, seed: int, digits: int = 4, clusters: np.ndarray | None = None
) -> dict[str, float]:
    """Return the mean of differences (n,) with its 95 % interval.

    Rows are drawn, or with `clusters` (n,) users with all their rows.
    """
    low, high = bootstrap(differences[:, None], seed=seed, clusters=clusters)
    return {
        "difference": round(float(differences.mean()), digits),
        "low": round(float(low[0]), digits),
        "high": round(float(high[0]), digits),
    }


def targets_in_lists(method: Recommender, split: Split, k: int) -> np.ndarray:
    """Return (T,) bool: whether each target stands in the first k of its user's list."""
    queries, targets = split.queries("test")
    lists = method.recommend(queries.without_history(), k).reindexed(queries.catalogue)
    size = len(queries.catalogue)
    keys = np.arange(len(queries))[:, None] * size + lists.rows
    return np.isin(targets.row_ids * size + targets.values, keys[lists.rows >= 0])


def recall_of_targets(
    in_lists: Mapping[str, np.ndarray], method: str, users: np.ndarray, k: int, seed: int
) -> dict[str, Any]:
    """Return the share of targets in lists of k, and a method's leads over all others.

    `in_lists` hold (T,) answers of `targets_in_lists`; `users` (T,) are drawn with all their
    targets.
    """
    shares = {name: round(float(values.mean()), 5) for name, values in in_lists.items()}
    row: dict[str, Any] = {"targets": len(users), f"recall@{k}": shares}
    for rival in in_lists:
        if rival != method:
            gains = in_lists[method].astype(float) - in_lists[rival]
            row[f"over {rival}"] = difference_interval(gains, seed, 5, users)
    return row


def mean_lead(values: Sequence[float]) -> dict[str, float]:
    """Return the mean of leads, one a seed, with Student's 95 % interval over seeds."""
    leads = np.array(values)
    low, high = mean_interval(leads)
    return {
        "difference": round(float(leads.mean()), 4),
        "low": round(low, 4),
        "high": round(high, 4),
    }


def parameters(method: NetMethod) -> int:
    """Return the number of learned numbers."""
    return sum(int(weights.numel()) for weights in method._ready().parameters())


def judged_attention(
    method: FieldPredictor, world: Interests, split: Split, every: int = 1
) -> tuple[FieldBatch, np.ndarray, np.ndarray]:
    """Return judged examples, attention (B, T), and which events are of the candidate's group.

    One of `every` examples is taken.
    """
    examples = method.outcome().judge(split, "test", np.random.default_rng(0))
    examples = examples.take(np.arange(0, len(examples), every))
    batch = method._encode_examples(examples).batch(np.arange(len(examples)))
    weights = method._ready().attention_of(batch).detach().numpy()
    groups = np.append(world.groups, -1)[batch.behaviours.numpy()]
    return batch, weights, groups == world.groups[examples.items][:, None]


def pairs_only(predictions: Predictions, mask: np.ndarray) -> Predictions:
    """Return some pairs (n,) of predictions, for leads over them; figures of users stay."""
    return replace(
        predictions,
        labels=predictions.labels[mask],
        users=predictions.users[mask],
        probabilities={name: rows[mask] for name, rows in predictions.probabilities.items()},
    )


def drawn_floors(split: Split, outcome: Outcome, run: Run) -> dict[str, float]:
    """Return the AUC of counts alone on the pairs that `judge_predictions` judges.

    Popularity, and co-visitation with the items of the history.
    """
    examples = outcome.judge(split, "test", run.rng("judged", "test"))
    neighbours = CoVisitation().fit(split.train, run)
    histories = examples.queries.reindexed(neighbours.items_).histories
    item_ids = examples.queries.catalogue.named(examples.items)
    rows = np.maximum(neighbours.items_.rows(item_ids), 0)  # an unknown item has no neighbour
    weights = np.asarray(neighbours.weights_[histories.values, rows[histories.row_ids]]).ravel()
    counts = Counter(split.train.events["item_id"].to_list())
    scores = {
        "popularity": np.array([counts[item_id] for item_id in item_ids], dtype=float),
        "co-visitation": np.bincount(histories.row_ids, weights, len(examples)),
    }
    return {name: round(auc(examples.labels, values), 4) for name, values in scores.items()}


def seeded(run: Run, seed: int) -> Run:
    return replace(run, seed=seed)


def is_above(rows: Sequence[Mapping[str, Any]], label: str) -> bool:
    """Say whether the interval of a lead lies above 0 in every row."""
    return all(row["leads"][label]["low"] > 0 for row in rows)


def is_not_below(rows: Sequence[Mapping[str, Any]], label: str) -> bool:
    """Say whether the interval of a lead reaches 0 or more in every row."""
    return all(row["leads"][label]["high"] >= 0 for row in rows)


VECTORS: dict[tuple[str, str], np.ndarray] = {}
"""Vector of every text that `Remembering` has encoded, by vector space and text."""


@dataclass(frozen=True)
class Remembering(Encoder):
    """Encodes every text once a run, users' words too: methods of a program share vectors."""

    inner: Encoder

    @property
    def space(self) -> str:
        return self.inner.space

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        space = self.space
        fresh = [text for text in dict.fromkeys(texts) if (space, text) not in VECTORS]
        fresh.sort(key=len)  # texts of a batch are of like length
        for text, vector in zip(fresh, self.inner.encode(fresh), strict=True):
            VECTORS[space, text] = vector
        if not len(texts):
            return self.inner.encode([])
        return np.stack([VECTORS[space, text] for text in texts])


# ---- planted worlds


def dataset(name: str, sequences: Sequence[Sequence[str]], items: pl.DataFrame) -> Dataset:
    """Return the events of users who chose these items, a day apart."""
    lengths = [len(sequence) for sequence in sequences]
    days = np.concatenate([np.arange(length) for length in lengths])
    users = np.repeat([f"user-{number:05d}" for number in range(len(sequences))], lengths)
    events = pl.DataFrame(
        {
            "user_id": users,
            "item_id": [item for sequence in sequences for item in sequence],
            "time_ms": 1_600_000_000_000 + DAY_MS * days,
        }
    )
    return Dataset({"events": events, "items": items}, name)


def topic_world(
    seed: int,
    users: int = 1_500,
    items: int = 480,
    events: int = 6,
    prefix: str = "item",
    stay: float = 0.8,
) -> Dataset:
    """Return a log of users who mostly stay within a theme, told by title words.

    A title is an adjective and one word of four of its theme: two items of a theme need not share
    a word. `prefix` stands before item ids, so that two worlds can share words and no items.
    """
    rng = np.random.default_rng(seed)
    theme = np.arange(items) % len(THEMES)
    words = [str(rng.choice(THEMES[number].split())) for number in theme]
    titles = [f"{rng.choice(ADJECTIVES)} {word}" for word in words]
    ids = np.array([f"{prefix}-{number:04d}" for number in range(items)])
    by_theme = [np.flatnonzero(theme == number) for number in range(len(THEMES))]
    sequences = []
    for _ in range(users):
        favourites = by_theme[rng.integers(len(THEMES))]
        stays = rng.random(events) < stay
        chosen = np.where(stays, rng.choice(favourites, events), rng.integers(items, size=events))
        sequences.append(ids[chosen].tolist())
    categories = [[THEMES[number].split()[0]] for number in theme]
    table = pl.DataFrame({"item_id": ids, "title": titles, "categories": categories})
    return dataset(f"topics {seed}", sequences, table)
