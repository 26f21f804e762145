"""A recommender's score of an item as a probability.

Shapes: B queries, m pairs of a query and an item, N items.
"""

from dataclasses import dataclass, field, replace
from typing import Literal, Self

import numpy as np

from tailor.core.costs import Cost, stand_in
from tailor.core.methods import Predictor, Recommender
from tailor.core.run import Run
from tailor.core.specs import build, clone
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.examples import Outcome
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split, inner_cut
from tailor.errors import ModelError
from tailor.metrics.recalibration import logistic
from tailor.nn.packing import pad_rows

LENGTH = 50  # latest events of a history that the recommender gets while it is calibrated
OWN_TARGETS = 2_000  # users whose last event calibrates, without a validation part
SMALLEST_SCORE = 1e-9  # smaller scores count as this before a logarithm is taken


@dataclass(eq=False)
class CalibratedScore(Predictor):
    """Predict how likely an item is chosen rather than a negative drawn instead.

    Log-odds are a weighted sum of the recommender's score (its logarithm, where scores are shares
    or counts), the logarithm of the item's count, and a constant; the three weights are fitted to
    validation pairs (Platt 1999, with a second input). An item without a score gets the lowest
    score of those pairs.
    """

    recommender: Recommender
    """Recommender whose scores are calibrated."""
    negatives: int = 1
    """Items never chosen that are drawn per chosen item."""
    drawn_by: Literal["popularity", "uniform"] = "popularity"
    """How negatives are drawn: in proportion to their events, or all as often."""

    recommender_: Recommender = field(init=False, repr=False)
    """The fitted recommender."""
    counts_: np.ndarray = field(init=False, repr=False)
    """(N,) number of events per item."""
    weights_: np.ndarray = field(init=False, repr=False)
    """(3,) weights of score, popularity, and constant."""
    lowest_: float = field(init=False, repr=False)
    """Lowest score of the validation pairs."""
    logarithm_: bool = field(init=False, repr=False)
    """Whether the logarithm of scores is used."""

    def __post_init__(self) -> None:
        if not isinstance(self.recommender, Recommender):
            raise ModelError(
                f"CalibratedScore.recommender is {self.recommender!r}: it must be a recommender,"
                " such as SASRec()"
            )
        self.outcome()

    @classmethod
    def tiny(cls) -> Self:
        return build({"class": "CalibratedScore", "recommender": {"class": "CoVisitation"}}, cls)

    def outcome(self) -> Outcome:
        """Return what is predicted."""
        return Outcome("drawn", negatives=self.negatives, drawn_by=self.drawn_by, length=LENGTH)

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        split = valid or inner_cut(data, run.seed, OWN_TARGETS)
        learned = data if valid is not None or split is None else split.train
        self._calibrate(clone(self.recommender).fit(learned, run, valid), learned, split, run)

    @classmethod
    def of(cls, recommender: Recommender, split: Split, run: Run = Run()) -> Self:
        """Return the calibration of a recommender that is fitted on the split's training part."""
        calibrated = cls(recommender)
        calibrated.fit_report_ = {}
        calibrated._calibrate(recommender, split.train, split, run)
        calibrated.trained_on_ = recommender.trained_on_
        return calibrated

    def _calibrate(
        self, recommender: Recommender, learned: Dataset, split: Split | None, run: Run
    ) -> None:
        """Fit the three weights to the validation pairs of a split; zeros without one."""
        self.recommender_ = recommender
        self.items_ = learned.catalogue
        self.counts_ = np.bincount(learned.sequences.rows.values, minlength=len(learned.catalogue))
        self.weights_ = np.zeros(3)
        self.lowest_ = 0.0
        self.logarithm_ = False
        if split is not None:
            pairs = self.outcome().judge(split, "valid", run.rng("calibration"))
            rows = self.items_.rows(pairs.queries.catalogue.named(pairs.items))
            items = Ragged.of_lengths(np.ones(len(rows), np.int64), rows)
            scores = self._raw_scores(pairs.queries.reindexed(self.items_), items)
            finite = scores[np.isfinite(scores)]
            self.logarithm_ = bool((finite >= 0).all())
            self.lowest_ = float(self._transform(finite).min(initial=0.0))
            self.weights_ = logistic(pairs.labels, self._inputs(scores, rows))
        self.fit_report_ = {
            recommender.name: recommender.fit_report_,
            "weights of score, popularity, constant": self.weights_.round(4).tolist(),
        }

    def _estimate_cost(self, data: Dataset, run: Run, valid: Split | None) -> Cost:
        """Return the cost of the recommender; calibration takes next to nothing."""
        split = valid or inner_cut(data, run.seed, OWN_TARGETS)
        learned = data if valid is not None or split is None else split.train
        recommender, cost = stand_in(clone(self.recommender), learned, run, valid)
        self._calibrate(recommender, learned, split, run)
        return cost

    def _predict(self, queries: Queries, items: Ragged) -> np.ndarray:
        scores = self._raw_scores(queries, items)
        log_odds = self._inputs(scores, items.values) @ self.weights_
        probabilities: np.ndarray = 1 / (1 + np.exp(-log_odds))
        return probabilities

    def _raw_scores(self, queries: Queries, items: Ragged) -> np.ndarray:
        """Return (m,) the recommender's scores of `items`; minus infinity for no score.

        Exclusions of the queries do not count.
        """
        n = len(self.items_)
        keys = items.row_ids * n + items.values  # one number per query and item
        distinct = np.unique(keys[items.values >= 0])
        lists = Ragged.of_lengths(
            np.bincount(distinct // max(n, 1), minlength=len(queries)),
            (distinct % max(n, 1)).astype(np.int32),
        )
        if not len(lists.values):
            return np.full(len(keys), -np.inf)
        rankings = self._rank_lists(queries, lists)
        is_item = rankings.rows >= 0
        query = np.broadcast_to(np.arange(len(queries))[:, None], rankings.rows.shape)
        ranked_keys = (query * n + rankings.rows)[is_item]
        scores = _look_up(keys, ranked_keys, rankings.scores[is_item])
        return np.where(items.values >= 0, scores, -np.inf)

    def _rank_lists(self, queries: Queries, lists: Ragged) -> Rankings:
        """Return the recommender's rankings of lists of items, without exclusions."""
        rows, mask = pad_rows(lists.values, lists.offsets[:-1], lists.lengths)
        rows = np.where(mask, rows, -1).astype(np.int32)
        candidates = Rankings(self.items_, rows, np.zeros(rows.shape, np.float32))
        unrestricted = replace(queries, exclude=None, blocked=())
        rankings = self.recommender_._recommend(unrestricted, rows.shape[1], candidates)
        return rankings.reindexed(self.items_)

    def _transform(self, scores: np.ndarray) -> np.ndarray:
        """Return scores, or their logarithm."""
        return np.log(np.maximum(scores, SMALLEST_SCORE)) if self.logarithm_ else scores

    def _inputs(self, raw_scores: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return inputs (m, 3) of scores (m,) and item rows (m,); -1: unknown."""
        is_finite = np.isfinite(raw_scores)
        scores = np.full(len(raw_scores), self.lowest_)
        scores[is_finite] = np.maximum(self._transform(raw_scores[is_finite]), self.lowest_)
        counts = np.zeros(len(raw_scores))
        if len(self.counts_):
            counts = np.where(rows >= 0, self.counts_[np.maximum(rows, 0)], 0)
        return np.column_stack([scores, np.log1p(counts), np.ones(len(raw_scores))])


def _look_up(keys: np.ndarray, table_keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return (m,) the values of keys in a table; minus infinity for others."""
    if not len(table_keys):
        return np.full(len(keys), -np.inf)
    order = np.argsort(table_keys)
    position = np.minimum(np.searchsorted(table_keys[order], keys), len(order) - 1)
    return np.where(table_keys[order][position] == keys, values[order][position], -np.inf)
