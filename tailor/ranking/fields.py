"""Predictors over fields: training, early stopping, and calibration of probabilities.

Shapes: n examples, B examples of a batch, S slots.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from tailor.core.leave_one_out import by_cause, without_each_event
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.core.specs import check_settings
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.examples import Examples
from tailor.data.nouns import Explanation
from tailor.data.queries import Queries
from tailor.data.sampling import shuffled_batches
from tailor.data.splits import Split
from tailor.errors import DataError, ModelError
from tailor.metrics.recalibration import Isotonic, Platt, isotonic, platt
from tailor.nn.fields import FieldBatch, FieldLayout, FieldNet
from tailor.nn.fitting import Recipe
from tailor.ranking.encoding import Encoded
from tailor.ranking.features import Features
from tailor.ranking.outcomes import OutcomePredictor, goodness
from tailor.training.nets import NetMethod

# labels of each kind below which nothing is calibrated: parameters fitted to chance do harm
LABELS = 50
BATCH_PAIRS = 65_536  # pairs predicted at a time


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Judge of training by held-out examples, as `FieldPredictor._goodness` says."""

    split: Split | None
    labels: np.ndarray
    encoded: Encoded

    def value(self, method: "FieldPredictor") -> float:
        """Return how good the predictions are now; higher is better."""
        return method._goodness(self.labels, method._net_outputs(self.encoded))


@dataclass(eq=False)
class FieldPredictor(NetMethod, OutcomePredictor):
    """Predict the probability of an outcome from fields of item, user, time and history.

    With `user_ids` each user is a value of a field too, as in published models; then the model
    holds user ids and is saved with histories only. Without, a user is what they chose, so that
    cold users are served and nothing is learned about any user by id.
    """

    fields: tuple[str, ...] = ()
    """Names of fields, such as "item_id", "item:categories", "user:age"; none: all there are."""
    user_ids: bool = False
    """Whether each user is a value too, beside the chosen fields or all."""
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

    reads_behaviours: ClassVar[bool] = False
    """Whether the net reads the latest items one by one, in place of the field "history"."""
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

    def keeps_people(self) -> bool:
        return self.user_ids

    @abstractmethod
    def _make_field_net(self, layout: FieldLayout) -> nn.Module:
        """Return a net from a FieldBatch to logits (B,) or (B, C), and a penalty ().

        It has a parameter `intercept`.
        """

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        examples, held_out, source = self._split_examples(data, run, valid)
        fields_history = 0 if self.reads_behaviours else self.history
        features = Features.learned(
            data, examples, self.fields, fields_history, self.user_ids, self.least, self.bins
        )
        self.features_ = dict(features.about)
        self.item_codes_ = features.items
        self.__dict__.pop("_features", None)
        if self.reads_behaviours and not features.about["item_fields"]:
            raise DataError(
                f"{self.name} compares items by their fields, and `fields` names none of an item:"
                ' add "item_id"'
            )
        self._learn_more(data, examples, run)
        judge = HeldOut(valid, held_out.labels, self._encode_examples(held_out))
        report = self._train(data, run, examples, judge)
        self.calibration_ = self._fit_calibration(held_out.labels, judge.encoded)
        figure = "share of ones" if self._is_binary else "mean of the labels"
        calibrated = {"calibrated": bool(self.calibration_)} if self._is_binary else {}
        self.fit_report_ = {
            "examples": len(examples),
            figure: round(float(examples.labels.mean()), 4),
            "stopped by": source,
            **calibrated,
            "fields": dict(zip(features.about["names"], features.about["sizes"], strict=True)),
            **report,
        }

    def _learn_more(self, data: Dataset, examples: Examples, run: Run) -> None:
        """Learn what the net needs besides fields, before it is made; nothing by default."""

    def _train(self, data: Dataset, run: Run, examples: Examples, judge: HeldOut) -> dict[str, Any]:
        """Make the net, train it on examples, and return the report.

        A method with several stages overrides this, and calls `_train_stage` for each.
        """
        return self._train_stage(data, run, examples, judge)

    def _train_stage(
        self, data: Dataset, run: Run, examples: Examples, judge: HeldOut | None, stage: str = ""
    ) -> dict[str, Any]:
        """Make a new net, train it on examples, and return the report.

        `stage` names the training among several of one fit. Without a judge it takes all epochs.
        """
        self._start_net(run)
        if self._is_binary:
            nn.init.constant_(_intercept(self._net), _log_odds(examples.labels))
        encoded = self._encode_examples(examples)
        labels = torch.tensor(examples.labels)

        def loss(rows: np.ndarray, rng: np.random.Generator) -> Tensor:
            device = _intercept(self._net).device
            return self._loss(encoded.batch(rows).to(device), labels[rows].to(device), rows, rng)

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            return self._batches(examples, rng)

        return self._train_net(data, run, self._recipe(stage), batches, loss, judge, stage)

    def _recipe(self, stage: str) -> Recipe:
        """Return the settings of a stage of training."""
        return Recipe(self.epochs, self.lr, patience=self.patience)

    def _batches(self, examples: Examples, rng: np.random.Generator) -> list[np.ndarray]:
        """Return the rows of the examples of each step of an epoch."""
        return shuffled_batches(len(examples), self.batch, rng)

    def _loss(
        self, batch: FieldBatch, labels: Tensor, rows: np.ndarray, rng: np.random.Generator
    ) -> Tensor:
        """Return the mean loss of a batch with labels (B,); `rows` are the examples' numbers."""
        logits, penalty = self._net(batch)
        return binary_cross_entropy_with_logits(logits.float(), labels) + self.l2 * penalty

    _is_binary: ClassVar[bool] = True
    """Whether labels are 0 and 1, and the outputs calibrated probabilities."""

    def _goodness(self, labels: np.ndarray, outputs: np.ndarray) -> float:
        """Return how good outputs are for labels (n,); higher is better."""
        return goodness(labels, outputs)

    def _encode_examples(self, examples: Examples) -> Encoded:
        """Return examples as arrays, a history each."""
        return self._encode(examples.queries, examples.pairs())

    def _encode(self, queries: Queries, items: Ragged) -> Encoded:
        """Return the pairs of queries and items as arrays; pairs of a query share its history."""
        behaviours = self.history if self.reads_behaviours else 0
        return self._ready_features().encoded(queries, items, behaviours)

    def _fit_calibration(self, labels: np.ndarray, encoded: Encoded) -> dict[str, list[float]]:
        """Fit the calibration to held-out examples; return its arguments, none for too few."""
        if self.calibrate == "none" or not self._is_binary:
            return {}
        ones = int(labels.sum())
        if min(ones, len(labels) - ones) < LABELS:
            return {}
        probabilities = self._net_outputs(encoded)
        if self.calibrate == "platt":
            line = platt(labels, probabilities)
            # a negative slope would make likely examples unlikely
            return {"platt": list(line)} if line.slope > 0 else {}
        steps = isotonic(labels, probabilities)
        return {"at": steps.knots.tolist(), "values": steps.values.tolist()}

    def _net_outputs(self, encoded: Encoded) -> np.ndarray:
        """Return (n,) probabilities of the net, not calibrated; (n, C) shares of C outcomes."""
        net = self._ready()
        parts = self._in_blocks(encoded, lambda batch: self._outputs_of(net(batch)[0].double()))
        if not parts:
            outputs = net.outputs if isinstance(net, FieldNet) else 1
            return np.zeros(0 if outputs == 1 else (0, outputs))
        return np.concatenate(parts)

    def _outputs_of(self, logits: Tensor) -> Tensor:
        """Return probabilities of logits (B,), or shares of C outcomes of logits (B, C)."""
        return logits.sigmoid() if logits.ndim == 1 else logits.softmax(dim=1)

    def _in_blocks(self, encoded: Encoded, ask: Callable[[FieldBatch], Tensor]) -> list[np.ndarray]:
        """Return what is asked of the net for each block of examples."""
        device = _intercept(self._ready()).device
        with torch.inference_mode():
            return [
                ask(encoded.batch(block).to(device)).cpu().numpy()
                for block in self._blocks(encoded)
            ]

    def _blocks(self, encoded: Encoded) -> Iterator[slice]:
        """Yield the pairs predicted at a time: fewer where histories are long."""
        pairs = max(1, BATCH_PAIRS // (self.history + 1)) if self.reads_behaviours else BATCH_PAIRS
        yield from encoded.blocks(pairs, len(encoded))

    def hidden(self, queries: Queries, items: Ragged) -> np.ndarray:
        """Return (m, H) the last hidden layer for the m pairs of queries and their items.

        Raises ModelError for a method whose net has none.
        """
        net = self._ready()
        if not isinstance(net, FieldNet):
            raise ModelError(f"{self.name} has no hidden layer: take a net such as DeepFM()")
        parts = self._in_blocks(self._encode(queries, items), net.hidden_of)
        return np.concatenate(parts) if parts else np.zeros((0, net.head.in_features), np.float32)

    def _ready_features(self) -> Features:
        if "_features" not in self.__dict__:
            self._features = Features(self.features_, self.item_codes_)
        return self._features

    def _make_net(self) -> nn.Module:
        return self._make_field_net(self._ready_features().layout)

    def _predict(self, queries: Queries, items: Ragged) -> np.ndarray:
        outputs = self._net_outputs(self._encode(queries, items))
        calibration = self.calibration_
        if "platt" in calibration:
            return Platt(*calibration["platt"])(outputs)
        if "at" in calibration:
            steps = Isotonic(np.array(calibration["at"]), np.array(calibration["values"]))
            return steps(outputs)
        return outputs

    def _explain(
        self, queries: Queries, items: Ragged, item_ids: Sequence[str]
    ) -> list[Explanation]:
        """Explain each item by the events without which its number is lower.

        The latest events are left out one by one, and the item is asked about again.
        """
        explanations: list[Explanation] = []
        for i in range(len(queries)):
            ids = item_ids[items.offsets[i] : items.offsets[i + 1]]
            explanations += self._explain_query(queries[i : i + 1], items[i], ids)
        return explanations

    def _explain_query(
        self, query: Queries, rows: np.ndarray, item_ids: Sequence[str]
    ) -> list[Explanation]:
        variants, left_out = without_each_event(query, self.history)
        pairs = Ragged.of_lengths(np.full(len(variants), len(rows)), np.tile(rows, len(variants)))
        predicted = self._predict(variants, pairs)
        if predicted.ndim > 1:  # of several outcomes, that of the first
            predicted = predicted[:, 0]
        numbers = predicted.reshape(len(variants), len(rows))
        lost = np.maximum(numbers[0] - numbers[1:], 0)
        return by_cause(item_ids, self.items_.ids[left_out], lost)


def _intercept(net: nn.Module) -> nn.Parameter:
    """Return what is added to every logit."""
    parameters = net.named_parameters()
    return next(param for name, param in parameters if name.split(".")[-1] == "intercept")


def _log_odds(labels: np.ndarray) -> float:
    """Return the log-odds of a positive label."""
    share = (labels.sum() + 1) / (len(labels) + 2)
    return float(np.log(share / (1 - share)))
