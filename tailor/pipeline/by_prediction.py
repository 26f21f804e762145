"""ByPrediction: rank items by a predictor's probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import scipy.sparse as sp

from tailor.core.costs import Cost, stand_in
from tailor.core.methods import Predictor, Recommender, blocks, short_notes
from tailor.core.run import Run
from tailor.core.specs import build, clone
from tailor.data.arrays import Ragged, top_k
from tailor.data.dataset import Dataset, Lists
from tailor.data.nouns import Explanation, Query, Ranking
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split
from tailor.errors import ModelError
from tailor.metrics.prediction import CLIP
from tailor.metrics.recalibration import logistic

APART = 4  # one list of so many is kept from the predictor, and decides on the weights
LABELS = 50  # next items in those lists below which no weights are fitted


@dataclass(eq=False)
class ByPrediction(Recommender):
    """Orders items by the probability that a predictor gives each of them.

    As the second stage of a `Cascade` it orders what the first stage found, by the log-odds of the
    prediction and the first stage's score, with weights that are learned from lists which the
    predictor has not seen. A prediction alone spoils a good list. Alone, without a
    first stage, it predicts for the whole catalogue, one value an item.
    """

    predictor: Predictor
    """Fitted on the same data; one with source "listed" learns from the first stage's lists."""
    keep_first: bool = True
    """As a second stage: whether the first stage's score counts beside the prediction."""

    predictor_: Predictor = field(init=False, repr=False)
    weights_: np.ndarray = field(init=False, repr=False)
    """(3,) of log-odds, first score and 1; empty where the prediction alone counts."""

    def __post_init__(self) -> None:
        if not isinstance(self.predictor, Predictor):
            raise ModelError(
                f"ByPrediction.predictor is {self.predictor!r}: it must be a predictor, such as"
                " FactorizationMachine()"
            )

    @classmethod
    def tiny(cls) -> Self:
        return build(
            {"class": "ByPrediction", "predictor": {"class": "LogisticRegression", "epochs": 2}},
            cls,
        )

    @property
    def trains_on_candidates(self) -> bool:  # type: ignore[override]
        return self.keep_first or getattr(self.predictor, "source", "") == "listed"

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.weights_ = np.zeros(0)
        lists = data.lists
        if lists is None or not self.keep_first:
            self.predictor_ = clone(self.predictor).fit(data, run, valid)
            self.fit_report_ = {self.predictor_.name: self.predictor_.fit_report_}
            return
        is_apart = run.rng("lists apart").integers(APART, size=len(lists.queries)) == 0
        learned = lists.take(np.flatnonzero(~is_apart))
        self.predictor_ = clone(self.predictor).fit(data.with_lists(learned), run, valid)
        self.weights_ = self._fit_weights(lists.take(np.flatnonzero(is_apart)))
        names = ("log-odds", "first score", "shift")
        weights = {name: round(float(w), 4) for name, w in zip(names, self.weights_, strict=False)}
        self.fit_report_ = {
            self.predictor_.name: self.predictor_.fit_report_,
            "weights": weights or "too few lists: the prediction alone",
        }

    def _fit_weights(self, lists: Lists) -> np.ndarray:
        """Return the weights (3,) fitted to lists that the predictor has not seen; none for few."""
        items = self.predictor_.items_
        queries = lists.queries.reindexed(items)
        rankings = lists.rankings.reindexed(items)
        pairs = rankings.ragged()
        target_rows = lists.queries.catalogue.mapping_to(items)
        targets = lists.targets.values if target_rows is None else target_rows[lists.targets.values]
        target_keys = lists.targets.row_ids * len(items) + targets
        labels = np.isin(pairs.row_ids * len(items) + pairs.values, target_keys[targets >= 0])
        if labels.sum() < LABELS:
            return np.zeros(0)
        values = self._predict_numbers(queries, pairs)
        return logistic(labels.astype(float), _inputs(values, rankings))

    def _estimate_cost(self, data: Dataset, run: Run, valid: Split | None) -> Cost:
        self.predictor_, cost = stand_in(clone(self.predictor), data, run, valid)
        return cost

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        items = self.predictor_.items_
        queries = queries.reindexed(items)
        lists = None if candidates is None else candidates.reindexed(items)
        parts = []
        for start, stop in blocks(len(queries), len(items)):
            batch = queries[start:stop]
            block_lists = None if lists is None else lists.take(np.arange(start, stop))
            parts.append(self._ranked(batch, block_lists, k))
        return Rankings.stack(parts) if parts else Rankings.empty(items, 0, k)

    def _ranked(self, queries: Queries, lists: Rankings | None, k: int) -> Rankings:
        """Return the k best of the items of each query's list, or of the whole catalogue."""
        items = self.predictor_.items_
        pairs = _all_pairs(len(queries), len(items)) if lists is None else lists.ragged()
        values = self._predict_numbers(queries, pairs)
        if lists is not None and len(self.weights_):
            values = 1 / (1 + np.exp(-_inputs(values, lists) @ self.weights_))
        shape = (len(queries), len(items))
        scores = sp.csr_matrix((values.astype(np.float32), pairs.values, pairs.offsets), shape)
        rows, best = top_k(scores, k, queries.exclude, queries.blocked_rows)
        notes = short_notes(self.name, queries, rows, k)
        return Rankings(items, rows, best, "probability", notes=notes)

    def _predict_numbers(self, queries: Queries, pairs: Ragged) -> np.ndarray:
        """Return (m,) predictions of the item rows that each query is paired with."""
        values = self.predictor_._predict(queries, pairs)
        if values.ndim > 1:
            raise ModelError(
                f"{self.predictor_.name} predicts {values.shape[1]} numbers an item: a list needs"
                " one"
            )
        return values

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Explain each item as its predictor does. Raises ModelError for one that cannot."""
        self._check_fitted()
        return self.predictor_.explain(queries, [ranking.ids for ranking in rankings])


def _inputs(values: np.ndarray, lists: Rankings) -> np.ndarray:
    """Return (m, 3) the inputs of the weights for the m items of lists with predictions (m,).

    Log-odds of the prediction, the first score in standard deviations of its list, and 1.
    """
    p = np.clip(values.astype(np.float64), CLIP, 1 - CLIP)
    is_item = lists.rows >= 0
    is_scored = is_item & np.isfinite(lists.scores)
    scores = np.where(is_scored, lists.scores, 0.0).astype(np.float64)
    counts = np.maximum(is_scored.sum(axis=1, keepdims=True), 1)
    means = scores.sum(axis=1, keepdims=True) / counts
    centred = np.where(is_scored, scores - means, 0.0)
    variances = (centred**2).sum(axis=1, keepdims=True) / counts
    spread = np.sqrt(variances)
    standard = centred / np.where(spread > 0, spread, 1)
    log_odds = np.log(p / (1 - p))
    ones = np.ones(len(p))
    return np.column_stack([log_odds, standard[is_item], ones])


def _all_pairs(queries: int, items: int) -> Ragged:
    """Return every item row for every query."""
    rows = np.tile(np.arange(items, dtype=np.int32), queries)
    return Ragged.of_lengths(np.full(queries, items), rows)
