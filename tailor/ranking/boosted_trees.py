"""Boosted trees on running statistics."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

import numpy as np

from tailor.core.run import Run
from tailor.core.search_space import Choices, Range
from tailor.core.specs import check_settings
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries
from tailor.data.splits import Split
from tailor.errors import DataError, MissingExtraError
from tailor.metrics.prediction import CLIP
from tailor.ranking.features import Features
from tailor.ranking.outcomes import OutcomePredictor
from tailor.ranking.pair_statistics import PairStatistics
from tailor.ranking.trees import Trees

QUERIES_AT_ONCE = 8_192
NAMED = 8  # numbers that the fit report names


@dataclass(eq=False)
class BoostedTrees(OutcomePredictor):
    """Predict an outcome by boosted trees on counts and means of what came before (Friedman 2001).

    For every value of every field there are its rows so far and their smoothed mean label; for the
    history its length, its events that share a value with the candidate, and how often its latest
    items were visited together with the candidate. All are as they were before the row, so no row
    sees its own label. With `source = "value"` the prediction is a number, else a probability.

    Grown by scikit-learn (`pip install 'tailor-engine[trees]'`), saved as arrays, and read without
    it.
    """

    history: Annotated[int, Choices(20, 50, 100)] = 50
    """Latest items of the history that are used; 0: none."""
    trees: int = 300
    """Trees, at most; held-out examples say how many are kept."""
    lr: Annotated[float, Range(0.01, 0.3, log=True)] = 0.05
    """Share of a tree's correction that is added."""
    leaves: Annotated[int, Choices(15, 31, 63)] = 31
    """Leaves of a tree, at most."""
    least_rows: int = 50
    """Rows of a leaf, at least."""
    smoothing: Annotated[float, Range(1.0, 100.0, log=True)] = 10.0
    """Rows of the overall mean that are added to the mean label of a value."""
    bins: int = 10
    """Bins of a numeric field, with about as many examples each."""

    features_: dict[str, Any] = field(init=False, repr=False)
    """`Features.about`."""
    item_codes_: np.ndarray = field(init=False, repr=False)
    """`Features.items`."""
    statistics_: dict[str, np.ndarray] = field(init=False, repr=False)
    """`PairStatistics.arrays`."""
    trees_: dict[str, np.ndarray] = field(init=False, repr=False)
    """`Trees.arrays`; empty where all labels are alike."""
    baseline_: float = field(init=False, repr=False)
    """The log-odds or number to which the trees add."""

    def __post_init__(self) -> None:
        check_settings(self)
        minima = {"history": 0, "trees": 1, "leaves": 2, "least_rows": 1, "bins": 2}
        for name, minimum in minima.items():
            if getattr(self, name) < minimum:
                raise DataError(f"{name} is {getattr(self, name)}: it must be at least {minimum}")
        if not self.lr > 0 or not self.smoothing > 0:
            raise DataError(f"lr is {self.lr}, smoothing {self.smoothing}: both above 0")
        self.outcome()

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        examples, held_out, source = self._split_examples(data, run, valid)
        features = Features.learned(data, examples, (), 0, False, 1, self.bins)
        self.features_ = dict(features.about)
        self.item_codes_ = features.items
        statistics, moments = PairStatistics.learned(
            data, examples, features, self.history, self.smoothing, run.rng("order of users")
        )
        self.statistics_ = statistics.arrays()
        self._ready_state = statistics
        rows = statistics.numbers(examples.queries, examples.pairs(), moments)
        grown = self._grow(rows, examples.labels, run)
        held_out_rows = statistics.numbers(held_out.queries, held_out.pairs())
        trees = self._cut(grown, held_out_rows, held_out.labels)
        self.trees_ = {} if trees is None else trees.arrays()
        self.fit_report_ = {
            "examples": len(examples),
            "mean of the labels": round(float(examples.labels.mean()), 4),
            "stopped by": source,
            "trees": 0 if trees is None else len(trees.roots),
            "largest gains": {} if trees is None else _largest_gains(trees, statistics.names),
        }

    def _grow(self, rows: np.ndarray, labels: np.ndarray, run: Run) -> Trees | None:
        """Set the baseline, and return trees grown on rows (n, F); None where labels are alike."""
        mean = float(labels.mean())
        self.baseline_ = mean
        if self.source != "value":
            share = min(max(mean, CLIP), 1 - CLIP)
            self.baseline_ = math.log(share / (1 - share))
        if np.ptp(labels) == 0:
            return None
        settings = {
            "max_iter": self.trees,
            "learning_rate": self.lr,
            "max_leaf_nodes": self.leaves,
            "min_samples_leaf": self.least_rows,
            "random_state": run.seed,
        }
        is_unknown = np.isnan(rows).all(axis=0)  # scikit-learn asks for one number a column
        rows = np.where(is_unknown, 0.0, rows)
        model = _fit_model(self.source == "value", settings, rows, labels, run.workers)
        self.baseline_ = float(np.ravel(model._baseline_prediction)[0])
        return Trees.of(model)

    def _cut(self, trees: Trees | None, rows: np.ndarray, labels: np.ndarray) -> Trees | None:
        """Return the first trees, as many as predict the labels of held-out rows best."""
        if trees is None:
            return None
        outputs = self.baseline_ + np.cumsum(trees.leaf_values(rows), axis=1)  # n, trees
        if self.source == "value":
            losses = (outputs - labels[:, None]) ** 2
        else:
            losses = np.logaddexp(0, outputs) - labels[:, None] * outputs
        return trees.first(int(losses.mean(axis=0).argmin()) + 1)

    def _predict(self, queries: Queries, items: Ragged) -> np.ndarray:
        statistics = self._ready_statistics()
        parts = []
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            stop = min(start + QUERIES_AT_ONCE, len(queries))
            rows = statistics.numbers(queries[start:stop], items.slice(start, stop))
            parts.append(self._outputs(rows))
        return np.concatenate(parts) if parts else np.zeros(0)

    def _outputs(self, rows: np.ndarray) -> np.ndarray:
        """Return (n,) probabilities or numbers for rows (n, F)."""
        outputs: np.ndarray = np.full(len(rows), self.baseline_)
        if self.trees_:
            outputs = outputs + Trees.from_arrays(self.trees_).leaf_values(rows).sum(axis=1)
        return outputs if self.source == "value" else 1 / (1 + np.exp(-outputs))

    def _ready_statistics(self) -> PairStatistics:
        if "_ready_state" not in self.__dict__:
            features = Features(self.features_, self.item_codes_)
            self._ready_state = PairStatistics.from_arrays(
                features, self.history, self.smoothing, self.statistics_
            )
        return self._ready_state

    @classmethod
    def tiny(cls) -> Self:
        return cls(history=8, trees=10, leaves=4, least_rows=5)


def _fit_model(
    is_number: bool,
    settings: Mapping[str, Any],
    rows: np.ndarray,
    labels: np.ndarray,
    threads: int,
) -> Any:
    """Return a fitted model of scikit-learn. Raises MissingExtraError where that is missing."""
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise MissingExtraError(
            "BoostedTrees grows its trees with scikit-learn: pip install 'tailor-engine[trees]'"
        ) from None
    model = HistGradientBoostingRegressor if is_number else HistGradientBoostingClassifier
    with threadpool_limits(threads, user_api="openmp"):
        return model(early_stopping=False, **settings).fit(rows, labels)


def _largest_gains(trees: Trees, names: list[str]) -> dict[str, float]:
    """Return the numbers that the trees gain most from, with their share of all gain."""
    gains = np.bincount(trees.features, trees.gains, len(names))
    shares = gains / max(gains.sum(), 1e-12)
    return {names[i]: round(float(shares[i]), 4) for i in np.argsort(-shares)[:NAMED]}
