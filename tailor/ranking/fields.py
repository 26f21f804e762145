"""Predictors over fields: training, early stopping, and calibration of probabilities.

Shapes: n examples, B examples of a batch, S slots.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from tailor.core.methods import Predictor
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.core.specs import check_settings
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.examples import Examples, Outcome, Source
from tailor.data.queries import Queries
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.metrics.prediction import auc, log_loss
from tailor.metrics.recalibration import Isotonic, Platt, isotonic, platt
from tailor.nn.fitting import Recipe
from tailor.ranking.features import Features
from tailor.training.nets import NetMethod

HELD_OUT = 10  # without a validation part, one user of so many stops training and calibrates
# labels of each kind below which nothing is calibrated: parameters fitted to chance do harm
LABELS = 50
BATCH_PAIRS = 65_536  # pairs predicted at a time


class _Encoded(NamedTuple):
    """Examples as codes and weights of their slots."""

    codes: np.ndarray
    """(n, S) int64."""
    weights: np.ndarray
    """(n, S) float32."""


class _Parts(NamedTuple):
    """Examples to learn from, and examples that stop training and calibrate."""

    learned: Examples
    held_out: Examples
    source: str
    """Where the held-out examples come from, for the report."""


@dataclass(frozen=True, eq=False)
class _HeldOut:
    """Judge of training by held-out examples: their AUC, or minus log loss if all labels agree."""

    split: Split | None
    labels: np.ndarray
    encoded: _Encoded

    def value(self, method: "FieldPredictor") -> float:
        """Return how good the predictions are now; higher is better."""
        probabilities = method._net_probabilities(self.encoded)
        if 0 < self.labels.sum() < len(self.labels):
            return auc(self.labels, probabilities)
        return -log_loss(self.labels, probabilities)


@dataclass(eq=False)
class FieldPredictor(NetMethod, Predictor):
    """Predict the probability of an outcome from fields of item, user, time and history.

    With `user_ids` each user is a value of a field too, as in published models; then the model
    holds user ids and is saved with histories only. Without, a user is what they chose, so that
    cold users are served and nothing is learned about any user by id.
    """

    source: Source = "drawn"
    """Source of examples: "label" (events by `label`), "shown" (impressions), "drawn" (events, and
    items never chosen).
    """
    label: str | None = None
    """Condition for a positive event, such as "value >= 4", or its name in dataset.toml."""
    negatives: int = 1
    """With "drawn": items never chosen per chosen item."""
    drawn_by: Literal["popularity", "uniform"] = "popularity"
    """How negatives are drawn: in proportion to their events, or all as often."""
    fields: tuple[str, ...] = ()
    """Names of fields, such as "item_id", "item:categories", "user:age"; none: all there are."""
    history: int = 10
    """Latest items of the history that are used; 0: none."""
    user_ids: bool = False
    """Whether each user is a value too."""
    least: int = 2
    """Examples that a value must have to get a code of its own."""
    bins: int = 10
    """Bins of a numeric field, with about as many examples each."""
    lr: Annotated[float, Range(1e-4, 3e-2, log=True)] = 1e-3
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""
    l2: Annotated[float, Range(1e-7, 1e-2, log=True)] = 1e-5
    """Weight of the penalty: the squares of the numbers that an example uses."""
    batch: int = 1024
    """Examples per step."""
    epochs: int = 30
    """Passes over the data, at most."""
    patience: int = 4
    """Validations (every epoch) without a better AUC before training stops."""
    calibrate: Literal["platt", "isotonic", "none"] = "platt"
    """Calibration of probabilities on held-out examples."""

    features_: dict[str, Any] = field(init=False, repr=False)
    """`Features.about`."""
    item_codes_: np.ndarray = field(init=False, repr=False)
    """`Features.items`."""
    calibration_: dict[str, list[float]] = field(init=False, repr=False)
    """Arguments of Platt or Isotonic; empty for no calibration."""

    renamed_state: ClassVar[Mapping[str, str]] = {"weights_": "net_weights_"}

    def __post_init__(self) -> None:
        check_settings(self)
        minima = {"history": 0, "least": 1, "bins": 2, "batch": 1, "epochs": 1, "patience": 1}
        for name, minimum in minima.items():
            if getattr(self, name) < minimum:
                raise DataError(f"{name} is {getattr(self, name)}: it must be at least {minimum}")
        if not self.lr > 0 or self.l2 < 0:
            raise DataError(f"lr is {self.lr}, l2 {self.l2}: above 0, and at least 0")
        self.outcome()

    def outcome(self) -> Outcome:
        """Return what is predicted, and the source of its examples."""
        return Outcome(self.source, self.label, self.negatives, self.drawn_by, self.history)

    def keeps_people(self) -> bool:
        return self.user_ids

    def learns_from_impressions(self) -> bool:
        return self.source == "shown"

    @abstractmethod
    def _make_field_net(self, codes: int, field_of: list[int]) -> nn.Module:
        """Return a net from codes and weights (B, S) to logits (B,) and penalty ()."""

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        examples, held_out, source = self._split_examples(data, run, valid)
        features = Features.learned(
            data, examples, self.fields, self.history, self.user_ids, self.least, self.bins
        )
        self.features_ = dict(features.about)
        self.item_codes_ = features.items
        self._start_net(run)
        nn.init.constant_(_intercept(self._net), _log_odds(examples.labels))
        encoded = _Encoded(*features.encoded(held_out.queries, held_out.items))
        judge = _HeldOut(valid, held_out.labels, encoded)
        report = self._train(data, run, features, examples, judge)
        self.calibration_ = self._fit_calibration(held_out.labels, encoded)
        self.fit_report_ = {
            "examples": len(examples),
            "share of ones": round(float(examples.labels.mean()), 4),
            "stopped by": source,
            "calibrated": bool(self.calibration_),
            "fields": dict(zip(features.about["names"], features.about["sizes"], strict=True)),
            **report,
        }

    def _train(
        self, data: Dataset, run: Run, features: Features, examples: Examples, judge: _HeldOut
    ) -> dict[str, Any]:
        """Train the net on examples, and return the report."""
        encoded = features.encoded(examples.queries, examples.items)
        codes, weights = map(torch.from_numpy, encoded)
        labels = torch.from_numpy(examples.labels)

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            return np.array_split(rng.permutation(len(labels)), -(-len(labels) // self.batch))

        def loss(rows: np.ndarray, rng: np.random.Generator) -> Tensor:
            device = _intercept(self._net).device
            logits, penalty = self._net(codes[rows].to(device), weights[rows].to(device))
            entropy = binary_cross_entropy_with_logits(logits.float(), labels[rows].to(device))
            return entropy + self.l2 * penalty

        recipe = Recipe(self.epochs, self.lr, patience=self.patience)
        return self._train_net(data, run, recipe, batches, loss, judge)

    def _split_examples(self, data: Dataset, run: Run, valid: Split | None) -> _Parts:
        """Return examples to learn from, and held-out examples."""
        examples = self.outcome().learn(data, run.rng("examples"))
        if valid is not None and (self.source != "shown" or valid.kind == "time"):
            held_out = self.outcome().judge(valid, "valid", run.rng("validation"))
            return _Parts(examples, held_out, "the validation part")
        ids, user = examples.people()
        is_held_out = (run.rng("apart").integers(HELD_OUT, size=len(ids)) == 0)[user]
        if not is_held_out.any() or is_held_out.all():
            return _Parts(examples, examples, "what was learned from, for want of people")
        return _Parts(
            examples.take(np.flatnonzero(~is_held_out)),
            examples.take(np.flatnonzero(is_held_out)),
            f"one person of {HELD_OUT}",
        )

    def _fit_calibration(self, labels: np.ndarray, encoded: _Encoded) -> dict[str, list[float]]:
        """Fit the calibration to held-out examples; return its arguments, none for too few."""
        ones = int(labels.sum())
        if self.calibrate == "none" or min(ones, len(labels) - ones) < LABELS:
            return {}
        probabilities = self._net_probabilities(encoded)
        if self.calibrate == "platt":
            line = platt(labels, probabilities)
            # a negative slope would make likely examples unlikely
            return {"platt": list(line)} if line.slope > 0 else {}
        steps = isotonic(labels, probabilities)
        return {"at": steps.knots.tolist(), "values": steps.values.tolist()}

    def _net_probabilities(self, encoded: _Encoded) -> np.ndarray:
        """Return (n,) probabilities of the net, not calibrated."""
        net = self._ready()
        device = _intercept(net).device
        probabilities = np.zeros(len(encoded.codes))
        with torch.inference_mode():
            for start in range(0, len(encoded.codes), BATCH_PAIRS):
                block = slice(start, start + BATCH_PAIRS)
                codes = torch.from_numpy(encoded.codes[block]).to(device)
                weights = torch.from_numpy(encoded.weights[block]).to(device)
                logits, _ = net(codes, weights)
                probabilities[block] = logits.double().sigmoid().cpu().numpy()
        return probabilities

    def _ready_features(self) -> Features:
        if "_features" not in self.__dict__:
            self._features = Features(self.features_, self.item_codes_)
        return self._features

    def _make_net(self) -> nn.Module:
        features = self._ready_features()
        return self._make_field_net(features.codes, features.field_of)

    def _predict(self, queries: Queries, items: Ragged) -> np.ndarray:
        pair_queries = queries.take(items.row_ids)
        encoded = self._ready_features().encoded(pair_queries, items.values)
        probabilities = self._net_probabilities(_Encoded(*encoded))
        calibration = self.calibration_
        if "platt" in calibration:
            return Platt(*calibration["platt"])(probabilities)
        if "at" in calibration:
            steps = Isotonic(np.array(calibration["at"]), np.array(calibration["values"]))
            return steps(probabilities)
        return probabilities


def _intercept(net: nn.Module) -> nn.Parameter:
    """Return the number that is added to every logit."""
    parameters = net.named_parameters()
    return next(param for name, param in parameters if name.split(".")[-1] == "intercept")


def _log_odds(labels: np.ndarray) -> float:
    """Return the log-odds of a positive label."""
    share = (labels.sum() + 1) / (len(labels) + 2)
    return float(np.log(share / (1 - share)))
