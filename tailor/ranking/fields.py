"""What predictors over fields share: how they learn, when they stop, and how their numbers become
probabilities.

Shapes: B examples, S slots.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

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

HELD_BACK = 10  # without a validation part, one person of so many says when to stop, and calibrates
# of each kind, below which nothing is calibrated: two numbers fitted to chance are worse than none
LABELS = 50
ANSWERED = 65_536  # pairs answered at a time


@dataclass(frozen=True, eq=False)
class _HeldOut:
    """Judge of training by held-out examples: their AUC, or minus log loss if all labels agree."""

    split: Split | None
    labels: np.ndarray
    encoded: tuple[np.ndarray, np.ndarray]

    def value(self, method: "FieldPredictor") -> float:
        """Return how good the predictions are now; higher is better."""
        probabilities = method._said(*self.encoded)
        if 0 < self.labels.sum() < len(self.labels):
            return auc(self.labels, probabilities)
        return -log_loss(self.labels, probabilities)


@dataclass(eq=False)
class FieldPredictor(NetMethod, Predictor):
    """The probability of an outcome from fields: the item and what its table says, who asks, when,
    and the latest items of the history.

    With `user_ids` each person has a field value too, as published models do; then the model holds
    people's ids and is saved with histories only. Without, a person is what they chose, so that
    strangers are served and nothing is learned about anybody by name.
    """

    source: Source = "drawn"
    """Of examples: "label" (events by `label`), "shown" (impressions), "drawn" (events, and items
    never chosen).
    """
    label: str | None = None
    """Which events are a 1: a condition such as "value >= 4", or its name in dataset.toml."""
    negatives: int = 1
    """With "drawn": items never chosen for each that was."""
    drawn_by: Literal["popularity", "uniform"] = "popularity"
    """How those are drawn."""
    fields: tuple[str, ...] = ()
    """Names of fields, such as "item_id", "item:categories", "user:age"; none: all there are."""
    history: int = 10
    """Latest items of the history that count; 0: none."""
    user_ids: bool = False
    """Whether each person is a value too."""
    least: int = 2
    """Examples that a value must have to be known."""
    bins: int = 10
    """Of numbers, each as full."""
    lr: Annotated[float, Range(1e-4, 3e-2, log=True)] = 1e-3
    """Highest step."""
    l2: Annotated[float, Range(1e-7, 1e-2, log=True)] = 1e-5
    """Of what an example uses."""
    batch: int = 1024
    """Examples a step."""
    epochs: int = 30
    """At most."""
    patience: int = 4
    """Validations without a better AUC before training stops."""
    calibrate: Literal["platt", "isotonic", "none"] = "platt"
    """On validation."""

    features_: dict[str, Any] = field(init=False, repr=False)
    """Of `Features`."""
    item_codes_: np.ndarray = field(init=False, repr=False)
    """Of `Features`."""
    calibration_: dict[str, list[float]] = field(init=False, repr=False)
    """Arguments of Platt or Isotonic."""

    renamed_state: ClassVar[Mapping[str, str]] = {"weights_": "net_weights_"}

    def __post_init__(self) -> None:
        check_settings(self)
        for name, least in {
            "history": 0,
            "least": 1,
            "bins": 2,
            "batch": 1,
            "epochs": 1,
            "patience": 1,
        }.items():
            if getattr(self, name) < least:
                raise DataError(f"{name} is {getattr(self, name)}: it must be at least {least}")
        if not self.lr > 0 or self.l2 < 0:
            raise DataError(f"lr is {self.lr}, l2 {self.l2}: above 0, and at least 0")
        self.outcome()

    def outcome(self) -> Outcome:
        """What it predicts, and where examples of that come from."""
        return Outcome(self.source, self.label, self.negatives, self.drawn_by, self.history)

    def keeps_people(self) -> bool:
        return self.user_ids

    def learns_from_impressions(self) -> bool:
        return self.source == "shown"

    @abstractmethod
    def _make_field_net(self, codes: int, field_of: list[int]) -> nn.Module:
        """Maps (B, S) codes and weights to (B,) logits and the size of what it used."""

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        examples, judged, how = self._examples(data, run, valid)
        features = Features.learned(
            data, examples, self.fields, self.history, self.user_ids, self.least, self.bins
        )
        self.features_, self.item_codes_ = dict(features.about), features.items
        self._start_net(run)
        nn.init.constant_(_shift(self._net), _log_odds(examples.labels))
        codes, weights = map(torch.from_numpy, features.encoded(examples.queries, examples.items))
        asked = features.encoded(judged.queries, judged.items)
        labels = torch.from_numpy(examples.labels)

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            return np.array_split(rng.permutation(len(labels)), -(-len(labels) // self.batch))

        def loss(some: np.ndarray, rng: np.random.Generator) -> Tensor:
            to = _shift(self._net).device
            logits, size = self._net(codes[some].to(to), weights[some].to(to))
            return (
                nn.functional.binary_cross_entropy_with_logits(logits.float(), labels[some].to(to))
                + self.l2 * size
            )

        recipe = Recipe(self.epochs, self.lr, patience=self.patience)
        judge = _HeldOut(valid, judged.labels, asked)
        report = self._train_net(data, run, recipe, batches, loss, judge)
        self.calibration_ = self._calibrated(judged.labels, asked)
        self.fit_report_ = {
            "examples": len(examples),
            "share of ones": round(float(examples.labels.mean()), 4),
            "stopped by": how,
            "calibrated": bool(self.calibration_),
            "fields": dict(zip(features.about["names"], features.about["sizes"], strict=True)),
            **report,
        }

    def _examples(
        self, data: Dataset, run: Run, valid: Split | None
    ) -> tuple[Examples, Examples, str]:
        """What is learned from, what says when to stop, and where that comes from."""
        examples = self.outcome().learn(data, run.rng("examples"))
        if valid is not None and (self.source != "shown" or valid.kind == "time"):
            return (
                examples,
                self.outcome().judge(valid, "valid", run.rng("validation")),
                "the validation part",
            )
        ids, who = examples.people()
        apart = (run.rng("apart").integers(HELD_BACK, size=len(ids)) == 0)[who]
        if not apart.any() or apart.all():
            return examples, examples, "what was learned from, for want of people"
        return (
            examples.take(np.flatnonzero(~apart)),
            examples.take(np.flatnonzero(apart)),
            f"one person of {HELD_BACK}",
        )

    def _calibrated(
        self, labels: np.ndarray, asked: tuple[np.ndarray, np.ndarray]
    ) -> dict[str, list[float]]:
        ones = int(labels.sum())
        if self.calibrate == "none" or min(ones, len(labels) - ones) < LABELS:
            return {}
        said = self._said(*asked)
        if self.calibrate == "platt":
            found = platt(labels, said)
            # else what was likely would become unlikely
            return {"platt": list(found)} if found.slope > 0 else {}
        steps = isotonic(labels, said)
        return {"at": steps.knots.tolist(), "values": steps.values.tolist()}

    def _said(self, codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(n,) probabilities as the net has them."""
        net, to = self._ready(), _shift(self._ready()).device
        with torch.inference_mode():
            parts = [
                net(
                    torch.from_numpy(codes[at : at + ANSWERED]).to(to),
                    torch.from_numpy(weights[at : at + ANSWERED]).to(to),
                )[0]
                .double()
                .sigmoid()
                .cpu()
                .numpy()
                for at in range(0, len(codes), ANSWERED)
            ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _ready_features(self) -> Features:
        if "_features" not in self.__dict__:
            self._features = Features(self.features_, self.item_codes_)
        return self._features

    def _make_net(self) -> nn.Module:
        features = self._ready_features()
        return self._make_field_net(features.codes, features.field_of)

    def _predict(self, queries: Queries, items: Ragged) -> np.ndarray:
        asked = queries.take(items.row_ids)
        said = self._said(*self._ready_features().encoded(asked, items.values))
        if "platt" in self.calibration_:
            return Platt(*self.calibration_["platt"])(said)
        if "at" in self.calibration_:
            return Isotonic(
                np.array(self.calibration_["at"]), np.array(self.calibration_["values"])
            )(said)
        return said


def _shift(net: nn.Module) -> nn.Parameter:
    """The number that every logit begins with."""
    return next(
        param for name, param in net.named_parameters() if name.split(".")[-1] == "intercept"
    )


def _log_odds(labels: np.ndarray) -> float:
    share = (labels.sum() + 1) / (len(labels) + 2)
    return float(np.log(share / (1 - share)))
