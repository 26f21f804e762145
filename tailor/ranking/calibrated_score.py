"""Any recommender's score of an item as a probability."""

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

LENGTH = 50  # latest events of a history that a recommender is asked with while it is calibrated
OWN_TARGETS = 2_000  # people whose last event calibrates, where no validation part is given
LEAST_SHARE = 1e-9  # whose logarithm stands for an item without any score


@dataclass(eq=False)
class CalibratedScore(Predictor):
    """How likely an item is chosen rather than one drawn in its place, from what a recommender says
    of it and how often it is chosen at all.

    Log-odds are a sum of the score (its logarithm, where scores are shares or counts), the
    logarithm of the item's count, and a constant; the three weights are fitted to validation pairs
    (Platt 1999, with a second input). An item without a score stands at the lowest one of those
    pairs.
    """

    recommender: Recommender
    negatives: int = 1
    """Items never chosen that are drawn for each that was."""
    drawn_by: Literal["popularity", "uniform"] = "popularity"

    recommender_: Recommender = field(init=False, repr=False)
    counts_: np.ndarray = field(init=False, repr=False)
    """(N,) how often each item was chosen."""
    weights_: np.ndarray = field(init=False, repr=False)
    """(3,) of score, popularity, and the constant."""
    lowest_: float = field(init=False, repr=False)
    logarithm_: bool = field(init=False, repr=False)
    """Whether scores are read as logarithms."""

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
        """What it predicts."""
        return Outcome("drawn", negatives=self.negatives, drawn_by=self.drawn_by, length=LENGTH)

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        split = valid or inner_cut(data, run.seed, OWN_TARGETS)
        learned = data if valid is not None or split is None else split.train
        self._calibrate(clone(self.recommender).fit(learned, run, valid), learned, split, run)

    @classmethod
    def of(cls, recommender: Recommender, split: Split, run: Run = Run()) -> Self:
        """The same of a recommender that is fitted on the split's training part already."""
        made = cls(recommender)
        made.fit_report_ = {}
        made._calibrate(recommender, split.train, split, run)
        made.trained_on_ = recommender.trained_on_
        return made

    def _calibrate(
        self, recommender: Recommender, learned: Dataset, split: Split | None, run: Run
    ) -> None:
        self.recommender_, self.items_ = recommender, learned.catalogue
        self.counts_ = np.bincount(learned.sequences.rows.values, minlength=len(learned.catalogue))
        self.weights_, self.lowest_, self.logarithm_ = np.zeros(3), 0.0, False
        if split is not None:
            pairs = self.outcome().judge(split, "valid", run.rng("calibration"))
            rows = self.items_.rows(pairs.queries.catalogue.named(pairs.items))
            raw = self._raw(
                pairs.queries.reindexed(self.items_),
                Ragged.of_lengths(np.ones(len(rows), np.int64), rows),
            )
            known = raw[np.isfinite(raw)]
            self.logarithm_ = bool((known >= 0).all())
            self.lowest_ = float(self._read(known).min(initial=0.0))
            self.weights_ = logistic(pairs.labels, self._inputs(raw, rows))
        self.fit_report_ = {
            recommender.name: recommender.fit_report_,
            "weights of score, popularity, constant": self.weights_.round(4).tolist(),
        }

    def _estimate_cost(self, data: Dataset, run: Run, valid: Split | None) -> Cost:
        split = valid or inner_cut(data, run.seed, OWN_TARGETS)
        learned = data if valid is not None or split is None else split.train
        recommender, cost = stand_in(clone(self.recommender), learned, run, valid)
        self._calibrate(recommender, learned, split, run)
        return cost

    def _predict(self, queries: Queries, items: Ragged) -> np.ndarray:
        raw = self._raw(queries, items)
        out: np.ndarray = 1 / (1 + np.exp(-self._inputs(raw, items.values) @ self.weights_))
        return out

    def _raw(self, queries: Queries, items: Ragged) -> np.ndarray:
        """(m,) what the recommender says of each of `items`, whatever the query excludes; minus
        infinity where it says nothing.
        """
        n = len(self.items_)
        asked = items.row_ids * n + items.values
        keys = np.unique(asked[items.values >= 0])
        lists = Ragged.of_lengths(
            np.bincount(keys // max(n, 1), minlength=len(queries)),
            (keys % max(n, 1)).astype(np.int32),
        )
        width = int(lists.lengths.max(initial=0))
        if not width:
            return np.full(len(asked), -np.inf)
        rows, real = pad_rows(lists.values, lists.offsets[:-1], lists.lengths)
        candidates = Rankings(
            self.items_, np.where(real, rows, -1).astype(np.int32), np.zeros(rows.shape, np.float32)
        )
        found = self.recommender_._recommend(
            replace(queries, exclude=None, blocked=()), width, candidates
        ).reindexed(self.items_)
        owner = np.broadcast_to(np.arange(len(queries))[:, None], found.rows.shape)
        named, scores = (owner * n + found.rows)[found.rows >= 0], found.scores[found.rows >= 0]
        order = np.argsort(named)
        place = np.minimum(np.searchsorted(named[order], asked), max(len(named) - 1, 0))
        there = (
            (named[order][place] == asked) & (items.values >= 0)
            if len(named)
            else np.zeros(len(asked), dtype=bool)
        )
        return np.where(there, scores[order][place] if len(named) else 0.0, -np.inf)

    def _read(self, scores: np.ndarray) -> np.ndarray:
        return np.log(np.maximum(scores, LEAST_SHARE)) if self.logarithm_ else scores

    def _inputs(self, raw: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(m, 3) of scores (m,) and item rows (m,), -1 for an item that is not known."""
        scores = np.full(len(raw), self.lowest_)
        scores[np.isfinite(raw)] = np.maximum(self._read(raw[np.isfinite(raw)]), self.lowest_)
        counts = (
            np.where(rows >= 0, self.counts_[np.maximum(rows, 0)], 0)
            if len(self.counts_)
            else np.zeros(len(raw))
        )
        return np.column_stack([scores, np.log1p(counts), np.ones(len(raw))])
