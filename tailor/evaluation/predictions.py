"""Evaluate predictors on the same labelled pairs of a query and an item."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from tailor.core.methods import Predictor
from tailor.core.run import Run
from tailor.data.examples import Examples, Outcome
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.evaluation.prediction_figures import Figures, figures_of
from tailor.evaluation.protocol import by_history, refuse_seen_targets, trained_on
from tailor.evaluation.report import GIVEN, Report, Result, add_intervals, without_nan

TAILS = (0.025, 0.975)  # quantiles of a 95 % interval


@runtime_checkable
class DeclaresOutcome(Protocol):
    """A predictor that declares what it predicts."""

    def outcome(self) -> Outcome: ...


@dataclass(frozen=True)
class Difference:
    """Main figure of b minus that of a over the same rows; users are drawn with all their rows."""

    a: str
    b: str
    difference: float
    low: float
    """95 % bootstrap interval over users."""
    high: float
    p: float
    """Two-sided: share of draws on the other side of 0; at least 1 / (draws + 1)."""

    @property
    def is_significant(self) -> bool:
        return self.p < 0.05

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of n pairs with their labels, and figures of both.

    The main figure, which has intervals and differences, is the AUC of labels 0 and 1, the RMSE of
    numbers, and the macro F1 of several outcomes.
    """

    report: Report
    """Figures per user, and over all pairs in `lists`; a user's is NaN where it is undefined.

    Of labels: AUC among the user's pairs ("user AUC"), log loss and Brier score; over all pairs
    AUC, gAUC, ECE, ... Of numbers RMSE and MAE, of several outcomes log loss and accuracy.
    """
    labels: np.ndarray
    """(n,) 0 or 1; numbers; or outcomes from 0."""
    users: np.ndarray
    """(n,) index in report.user_ids."""
    probabilities: dict[str, np.ndarray]
    """Method -> (n,) probabilities or predicted numbers; (n, C) for C outcomes."""
    figures: Figures
    """The kind of figures."""

    def overall(self, method: str, figure: str) -> float:
        """Return a figure over all pairs, such as "AUC"."""
        return self.report.results[method, GIVEN].lists[figure]

    def interval(self, method: str, seed: int = 0) -> tuple[float, float]:
        """Return the 95 % interval of the main figure; users are drawn with replacement."""
        predicted = [self.probabilities[method]]
        values = self.figures.drawn(self.labels, self.users, predicted, seed=seed)[:, 0]
        low, high = np.nanquantile(values, TAILS)
        return float(low), float(high)

    def differences(self, baseline: str, seed: int = 0) -> list[Difference]:
        """Return every other method's main figure minus the baseline's; all share their draws."""
        names = list(self.probabilities)
        if baseline not in names:
            raise DataError(f'no method "{baseline}" among {", ".join(names)}')
        predictions = list(self.probabilities.values())
        values = self.figures.drawn(self.labels, self.users, predictions, seed=seed)
        baseline_values = values[:, names.index(baseline)]  # draws
        main = self.figures.main
        differences = []
        for i, name in enumerate(names):
            if name == baseline:
                continue
            drawn = values[:, i] - baseline_values
            low, high = np.nanquantile(drawn, TAILS)
            opposite = min((drawn <= 0).sum(), (drawn >= 0).sum())
            p = min(1.0, float(2 * (opposite + 1) / (len(drawn) + 1)))
            difference = self.overall(name, main) - self.overall(baseline, main)
            differences.append(Difference(baseline, name, difference, float(low), float(high), p))
        return differences

    def auc_interval(self, method: str, seed: int = 0) -> tuple[float, float]:
        """Return the interval of the AUC. Raises DataError where labels are not 0 and 1."""
        self._check_has_auc()
        return self.interval(method, seed)

    def auc_differences(self, baseline: str, seed: int = 0) -> list[Difference]:
        """Return differences in AUC. Raises DataError where labels are not 0 and 1."""
        self._check_has_auc()
        return self.differences(baseline, seed)

    def _check_has_auc(self) -> None:
        if self.figures.main != "AUC":
            raise DataError(
                f"these predictions are judged by {self.figures.main}, and have no AUC: take"
                " interval(...) or differences(...)"
            )

    def to_dict(self, baseline: str | None = None) -> dict[str, Any]:
        """Return plain values: one entry per method, and differences to `baseline`."""
        main = self.figures.main
        rows = [
            {
                "method": name,
                **self.report.results[name, GIVEN].lists,
                f"{main}_interval": self.interval(name),
            }
            for name in self.probabilities
        ]
        differences: list[Difference] = []
        if baseline is not None and len(self.probabilities) > 1:
            differences = self.differences(baseline)
        content = {
            "pairs": len(self.labels),
            "users": len(self.report.user_ids),
            "what": self.report.ranked,
            "methods": rows,
            f"{main}_differences": [difference.to_dict() for difference in differences],
        }
        return cast(dict[str, Any], without_nan(content))


def evaluate_predictions(
    methods: Predictor | Mapping[str, Predictor],
    split: Split,
    part: str = "test",
    outcome: Outcome | None = None,
    run: Run = Run(),
) -> Predictions:
    """Evaluate fitted predictors on the pairs of a split's part.

    `part` is "test", or "valid" while settings are chosen. `outcome` defines the pairs; without it,
    all methods must predict the same. Negatives drawn at random are the same for all methods of a
    seed. Raises ModelError for a method that may have learned from the targets, DataError where
    outcomes differ or predictions do not fit the labels.
    """
    named_methods = {methods.name: methods} if isinstance(methods, Predictor) else dict(methods)
    if not named_methods:
        raise DataError("there is no method to evaluate")
    outcome = outcome or _common_outcome(named_methods)
    for method in named_methods.values():
        refuse_seen_targets(method, split, part)
    examples = outcome.judge(split, part, run.rng("judged", part))
    item_ids = examples.queries.catalogue.named(np.maximum(examples.items, 0))
    user_ids, users = examples.people()
    labels = examples.labels
    probabilities: dict[str, np.ndarray] = {}
    seconds = {}
    for name, method in run.progress(list(named_methods.items()), "evaluating", len(named_methods)):
        started = time.perf_counter()
        predicted = method.predict(examples.queries, [[i] for i in item_ids])
        probabilities[name] = np.concatenate(predicted)
        seconds[name] = time.perf_counter() - started
    figures = figures_of(outcome, labels, probabilities)
    results = {
        (name, GIVEN): Result(
            figures.per_user(labels, predicted, users, len(user_ids)),
            figures.overall(labels, predicted, users),
            seconds[name],
            trained_on(named_methods[name], split),
        )
        for name, predicted in probabilities.items()
    }
    report = Report(
        split={name: value for name, value in split.report.items() if name != "cuts_ms"},
        part=part,
        user_ids=user_ids.tolist(),
        strata=_strata(split, examples, users, len(user_ids)),
        results=results,
        repeat_targets=0.0,
        ranked=_outcome_text(outcome),
    )
    return Predictions(add_intervals(report, run.seed), labels, users, probabilities, figures)


def _common_outcome(methods: Mapping[str, Predictor]) -> Outcome:
    """Return the outcome that all methods predict, with the longest history that one reads."""
    outcomes = {}
    for name, method in methods.items():
        if not isinstance(method, DeclaresOutcome):
            raise DataError(f"{name} does not say what it predicts: pass outcome=Outcome(...)")
        outcomes[name] = method.outcome()
    longest = max(outcome.length for outcome in outcomes.values())
    distinct = {replace(outcome, length=longest) for outcome in outcomes.values()}
    if len(distinct) > 1:
        listing = "; ".join(f"{name}: {_outcome_text(entry)}" for name, entry in outcomes.items())
        raise DataError(
            f"these predict different things ({listing}): give outcome=Outcome(...), or judge them"
            " apart"
        )
    return distinct.pop()


def _outcome_text(outcome: Outcome) -> str:
    """Return a description of an outcome's pairs."""
    if outcome.source == "drawn":
        weighting = "by popularity" if outcome.drawn_by == "popularity" else "evenly"
        return f"events, and {outcome.negatives} items never chosen for each, drawn {weighting}"
    if outcome.source == "label":
        return f'events, 1 where "{outcome.label}"'
    if outcome.source == "value":
        return "events, and their values"
    if outcome.source == "listed":
        return "items of an earlier stage's lists, 1 where chosen next"
    condition = f' with "{outcome.label}"' if outcome.label else ""
    return "what was shown, 1 where chosen" + condition


def _strata(split: Split, examples: Examples, users: np.ndarray, n: int) -> dict[str, np.ndarray]:
    """Return (U,) masks of users by their number of training events."""
    user_rows = split.data.users.rows(examples.queries.user_ids.tolist())
    train_lengths = split.train.sequences.rows.lengths
    is_known = user_rows >= 0
    known_lengths = train_lengths[np.maximum(user_rows, 0)]
    lengths = np.zeros(n, dtype=np.int64)
    lengths[users] = np.where(is_known, known_lengths, 0)
    strata = by_history(lengths)
    return {name: mask for name, mask in strata.items() if mask.any()}
