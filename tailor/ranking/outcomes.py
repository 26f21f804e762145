"""Settings that predictors of labelled examples share, and the examples they learn from."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from tailor.core.methods import Predictor
from tailor.core.run import Run
from tailor.data.dataset import Dataset
from tailor.data.examples import Examples, Outcome, Source
from tailor.data.splits import Split
from tailor.metrics.prediction import auc, log_loss

HELD_OUT = 10  # without a validation part, one user of so many stops training and calibrates


class ExampleParts(NamedTuple):
    """Examples to learn from, and examples that stop training and calibrate."""

    learned: Examples
    held_out: Examples
    source: str
    """Where the held-out examples come from, for the report."""


@dataclass(eq=False)
class OutcomePredictor(Predictor):
    """A predictor that learns from pairs of a query and an item with their outcome."""

    source: Source = "drawn"
    """Source of examples: "label" (events by `label`), "shown" (impressions), "drawn" (events, and
    items never chosen), "listed" (lists of an earlier stage), "value" (events and their values).
    """
    label: str | None = None
    """Condition for a positive event, such as "value >= 4", or its name in dataset.toml."""
    negatives: int = 1
    """With "drawn" and "listed": items never chosen per chosen item."""
    drawn_by: Literal["popularity", "uniform"] = "popularity"
    """How negatives are drawn: in proportion to their events, or all as often."""
    history: int = 10
    """Latest items of the history that are used; 0: none."""

    def outcome(self) -> Outcome:
        """Return what is predicted, and the source of its examples."""
        return Outcome(self.source, self.label, self.negatives, self.drawn_by, self.history)

    def learns_from_impressions(self) -> bool:
        return self.source == "shown"

    def _split_examples(self, data: Dataset, run: Run, valid: Split | None) -> ExampleParts:
        """Return examples to learn from, and held-out examples."""
        return split_examples(self.outcome(), data, run, valid)


def goodness(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return how good probabilities are for labels (n,); higher is better.

    AUC, or minus log loss where all labels agree.
    """
    if 0 < labels.sum() < len(labels):
        return auc(labels, probabilities)
    return -log_loss(labels, probabilities)


def split_examples(outcome: Outcome, data: Dataset, run: Run, valid: Split | None) -> ExampleParts:
    """Return an outcome's examples to learn from, and held-out examples."""
    examples = outcome.learn(data, run.rng("examples"))
    if valid is not None and (outcome.source != "shown" or valid.kind == "time"):
        held_out = outcome.judge(valid, "valid", run.rng("validation"))
        return ExampleParts(examples, held_out, "the validation part")
    ids, user = examples.people()
    is_held_out = (run.rng("apart").integers(HELD_OUT, size=len(ids)) == 0)[user]
    if not is_held_out.any() or is_held_out.all():
        return ExampleParts(examples, examples, "what was learned from, for want of people")
    return ExampleParts(
        examples.take(np.flatnonzero(~is_held_out)),
        examples.take(np.flatnonzero(is_held_out)),
        f"one person of {HELD_OUT}",
    )
