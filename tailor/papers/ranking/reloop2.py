"""ReLoop2: a memory of recent errors corrects a predictor while it serves.

Shapes: m pairs of a query and an item, G hash tables of K buckets, D width of the hidden layer.
"""

from dataclasses import dataclass, field
from typing import Annotated, NamedTuple, Self

import numpy as np
import torch
from scipy.special import softmax

from tailor.core.methods import Paper, Predictor
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.core.specs import clone
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.examples import Examples, Outcome
from tailor.data.queries import Queries
from tailor.data.splits import Split
from tailor.errors import DataError, ModelError
from tailor.evaluation.prequential import stream_order
from tailor.metrics.prediction import log_loss
from tailor.nn.devices import computing
from tailor.nn.hashing import SimHash
from tailor.nn.weights import load_weights
from tailor.ranking.deepfm import DeepFM
from tailor.ranking.fields import FieldPredictor

PAPER = Paper(
    "reloop2",
    "ReLoop2: Building Self-Adaptive Recommendation Models via Responsive Error Compensation Loop",
    "https://arxiv.org/abs/2306.08808",
    "After items have changed, log loss recovers faster with the memory than for the frozen model"
    " and for gradient steps; on a stream without change nothing is lost",
)
WEIGHTS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # that are tried on the validation stream
PLAIN_WEIGHT = 0.5  # without a validation part
STEP = 100  # outcomes that arrive together on the validation stream
DECAY_ROWS = 100  # outcomes after which `decay` has worked once
TINY = 1e-12  # divisor of what is empty


class Pairs(NamedTuple):
    """Pairs as the memory sees them."""

    predictions: np.ndarray
    """(m,) what the base predicts."""
    buckets: np.ndarray
    """(m, G) int64 bucket of each table."""


@dataclass(eq=False)
class ReLoop2(Predictor):
    """Keeps a trained predictor as it is, and adds the error it made lately on similar pairs.

    The base's last hidden layer is hashed by the signs of random directions into a bucket of each
    of 16 tables. A bucket holds how many outcomes fell into it, their sum, and the sum of what the
    base had predicted. The means of a pair's buckets are averaged, buckets with like predictions
    more, and their distance from the base's prediction is added with a weight. `update` writes
    outcomes; the memory never grows. It starts empty at every fit.

    Differs from the paper: a bucket is as similar as its mean prediction is near this one; means of
    few outcomes are shrunk towards no error; hidden layers are centred before they are hashed.
    """

    base: FieldPredictor = field(default_factory=DeepFM)
    """The predictor that is corrected; its net must have a hidden layer."""
    weight: float | None = None
    """Share of the error that is added, 0 to 1; None: the best on the validation stream, or 0.5."""
    tables: int = 16
    """Number of hash tables."""
    bits: Annotated[int, Range(4, 14)] = 12
    """Sign bits of a hash; a table has 2^bits buckets."""
    blend: float = 1.0
    """Share of the error taken as mean outcome less this prediction, the remainder as mean outcome
    less the predictions of then.
    """
    strength: float = 2.0
    """Outcomes without error that a bucket counts beside its own."""
    tau: float = 0.1
    """Temperature of the average over buckets."""
    decay: Annotated[float, Range(0.9, 1.0)] = 1.0
    """Factor of all sums per 100 further outcomes; 1: nothing is forgotten."""

    base_: FieldPredictor = field(init=False, repr=False)
    weight_: float = field(init=False, repr=False)
    """Share of the error that is added."""
    centre_: np.ndarray = field(init=False, repr=False)
    """(D,) mean hidden layer of pairs that the base learned from."""
    directions_: np.ndarray = field(init=False, repr=False)
    """(G, bits, D) directions of the hashes."""
    counts_: np.ndarray = field(init=False, repr=False)
    """(G, K) number of outcomes of each bucket."""
    label_sums_: np.ndarray = field(init=False, repr=False)
    """(G, K) sum of outcomes."""
    prediction_sums_: np.ndarray = field(init=False, repr=False)
    """(G, K) sum of the base's predictions for them."""

    def __post_init__(self) -> None:
        if not isinstance(self.base, FieldPredictor):
            raise ModelError(f"ReLoop2.base is {self.base!r}: it must be a predictor over fields")
        if not self.base._is_binary:
            raise ModelError(
                f"ReLoop2.base is {self.base.name}, which predicts no probability: take one that"
                " does, such as DeepFM()"
            )
        if self.weight is not None and not 0 <= self.weight <= 1:
            raise DataError(f"weight is {self.weight}: from 0 to 1, or none")
        if min(self.tables, self.bits) < 1 or self.bits > 20:
            raise DataError(f"tables is {self.tables}, bits {self.bits}: from 1, bits up to 20")
        if not 0 <= self.blend <= 1 or not 0 < self.decay <= 1:
            raise DataError(f"blend is {self.blend}, decay {self.decay}: at most 1, and above 0")
        if self.strength < 0 or not self.tau > 0:
            raise DataError(f"strength is {self.strength}, tau {self.tau}: from 0, and above 0")

    def outcome(self) -> Outcome:
        """Return what the base predicts, and the source of its examples."""
        return self.base.outcome()

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.base_ = clone(self.base).fit(data, run, valid)
        self.items_ = self.base_.items_
        examples = self.outcome().learn(data, run.rng("examples"))
        hidden = self.base_.hidden(examples.queries, examples.pairs())
        self.centre_ = hidden.mean(axis=0)
        seed = int(run.rng("directions").integers(2**31))
        with computing(seed, run.workers):
            simhash = SimHash(len(self.centre_), self.tables, self.bits)
        self.directions_ = simhash.directions.numpy()
        self._forget()
        self.fit_report_ = {self.base_.name: self.base_.fit_report_}
        self.weight_ = PLAIN_WEIGHT if self.weight is None else self.weight
        if self.weight is None and valid is not None:
            stream = self.outcome().judge(valid, "valid", run.rng("validation"))
        if self.weight is None and valid is not None and stream.queries.now_ms is not None:
            losses = self._weight_losses(stream)
            self.weight_ = min(losses, key=lambda weight: losses[weight])
            self.fit_report_["log loss by weight"] = losses
        self.fit_report_["weight"] = self.weight_

    def _forget(self) -> None:
        """Empty the memory."""
        shape = (self.tables, 2**self.bits)
        self.counts_ = np.zeros(shape)
        self.label_sums_ = np.zeros(shape)
        self.prediction_sums_ = np.zeros(shape)

    def _weight_losses(self, stream: Examples) -> dict[float, float]:
        """Return weight -> log loss of a stream that is predicted and learned in steps."""
        order = stream_order(stream)
        learner = self._with_state()
        predictions, errors = [], []
        for start in range(0, len(order), STEP):
            part = stream.take(order[start : start + STEP])
            pairs = learner._pairs_seen(part.queries, part.pairs())
            predictions.append(pairs.predictions)
            errors.append(learner._errors(pairs))
            learner._write(pairs, part.labels)
        base = np.concatenate(predictions)
        error = np.concatenate(errors)
        labels = stream.labels[order]
        return {
            weight: round(log_loss(labels, np.clip(base + weight * error, 0, 1)), 6)
            for weight in WEIGHTS
        }

    def _predict(self, queries: Queries, items: Ragged) -> np.ndarray:
        pairs = self._pairs_seen(queries, items)
        return np.clip(pairs.predictions + self.weight_ * self._errors(pairs), 0, 1)

    def _update(self, queries: Queries, items: Ragged, labels: np.ndarray, run: Run) -> None:
        self._write(self._pairs_seen(queries, items), labels)

    def _pairs_seen(self, queries: Queries, items: Ragged) -> Pairs:
        """Return the base's predictions of pairs, and their buckets."""
        hidden = self.base_.hidden(queries, items) - self.centre_
        buckets = self._ready_hash()(torch.from_numpy(hidden)).numpy()
        return Pairs(self.base_._predict(queries, items), buckets)

    def _errors(self, pairs: Pairs) -> np.ndarray:
        """Return (m,) the error of like pairs: how far outcomes lay above predictions."""
        cells = (np.arange(self.tables), pairs.buckets)
        predictions = pairs.predictions[:, None]  # m, 1
        counts = self.counts_[cells]  # m, G
        # each bucket counts `strength` outcomes more, without error
        totals = np.maximum(counts + self.strength, TINY)
        without_error = self.strength * predictions
        labels = (self.label_sums_[cells] + without_error) / totals
        earlier = (self.prediction_sums_[cells] + without_error) / totals
        distances = np.abs(earlier - predictions)
        shares = softmax(-distances / self.tau, axis=1)
        expected = self.blend * predictions + (1 - self.blend) * earlier
        errors = labels - expected
        errors[counts == 0] = 0.0
        return np.asarray((shares * errors).sum(axis=1))

    def _write(self, pairs: Pairs, labels: np.ndarray) -> None:
        """Add outcomes (m,) to the buckets of their pairs, in new arrays."""
        fading = self.decay ** (len(labels) / DECAY_ROWS)
        table = np.arange(self.tables)
        for name, amounts in (
            ("counts_", np.ones(len(labels))),
            ("label_sums_", labels),
            ("prediction_sums_", pairs.predictions),
        ):
            sums = getattr(self, name) * fading
            np.add.at(sums, (table, pairs.buckets), amounts[:, None])
            setattr(self, name, sums)

    def _ready_hash(self) -> SimHash:
        """Return the hash with its learned directions."""
        if "_hash" not in self.__dict__:
            with torch.device("meta"):  # draw nothing
                simhash = SimHash(len(self.centre_), self.tables, self.bits)
            load_weights(simhash, {"directions": self.directions_}, assign=True)
            self._hash = simhash
        return self._hash

    @classmethod
    def tiny(cls) -> Self:
        return cls(DeepFM.tiny(), tables=4, bits=4)
