"""Evaluate predictors on the same labelled pairs of a query and an item."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from tailor.core.methods import Predictor
from tailor.core.run import Run
from tailor.data.examples import Examples, Outcome
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.evaluation.protocol import by_history, refuse_seen_targets, trained_on
from tailor.evaluation.report import GIVEN, Report, Result, add_intervals, without_nan
from tailor.evaluation.significance import draw_counts
from tailor.metrics.calibration import clicks_over_predicted, expected_calibration_error
from tailor.metrics.prediction import (
    CLIP,
    auc,
    average_precision_of_scores,
    grouped_auc,
    log_loss,
    normalised_entropy,
)

CELLS = 2**21  # numbers of one block of draws
DRAWS = 1000
TAILS = (0.025, 0.975)  # quantiles of a 95 % interval


@runtime_checkable
class DeclaresOutcome(Protocol):
    """A predictor that declares what it predicts."""

    def outcome(self) -> Outcome: ...


@dataclass(frozen=True)
class Difference:
    """AUC of b minus that of a over the same rows; users are drawn with all their rows."""

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
    """Predicted probabilities of n pairs with their labels, and figures of both."""

    report: Report
    """Per user: AUC among the user's pairs ("user AUC", NaN where all labels are equal), log loss,
    Brier score; over all pairs, in `lists`: AUC, gAUC, ECE, ...
    """
    labels: np.ndarray
    """(n,) 0 or 1."""
    users: np.ndarray
    """(n,) index in report.user_ids."""
    probabilities: dict[str, np.ndarray]
    """Method -> (n,)."""

    def overall(self, method: str, figure: str) -> float:
        """Return a figure over all pairs, such as "AUC"."""
        return self.report.results[method, GIVEN].lists[figure]

    def auc_interval(self, method: str, seed: int = 0) -> tuple[float, float]:
        """Return the 95 % interval of the AUC over all pairs; users are drawn with replacement."""
        scores = [self.probabilities[method]]
        aucs = bootstrap_aucs(self.labels, self.users, scores, seed=seed)[:, 0]
        low, high = np.nanquantile(aucs, TAILS)
        return float(low), float(high)

    def auc_differences(self, baseline: str, seed: int = 0) -> list[Difference]:
        """Return every other method's AUC minus the baseline's; all share their draws."""
        names = list(self.probabilities)
        if baseline not in names:
            raise DataError(f'no method "{baseline}" among {", ".join(names)}')
        scores = list(self.probabilities.values())
        aucs = bootstrap_aucs(self.labels, self.users, scores, seed=seed)  # draws, methods
        baseline_aucs = aucs[:, names.index(baseline)]
        differences = []
        for i, name in enumerate(names):
            if name == baseline:
                continue
            drawn = aucs[:, i] - baseline_aucs
            low, high = np.nanquantile(drawn, TAILS)
            opposite = min((drawn <= 0).sum(), (drawn >= 0).sum())
            p = min(1.0, float(2 * (opposite + 1) / (len(drawn) + 1)))
            difference = self.overall(name, "AUC") - self.overall(baseline, "AUC")
            differences.append(Difference(baseline, name, difference, float(low), float(high), p))
        return differences

    def to_dict(self, baseline: str | None = None) -> dict[str, Any]:
        """Return plain values: one entry per method, and differences to `baseline`."""
        rows = [
            {
                "method": name,
                **self.report.results[name, GIVEN].lists,
                "AUC_interval": self.auc_interval(name),
            }
            for name in self.probabilities
        ]
        differences: list[Difference] = []
        if baseline is not None and len(self.probabilities) > 1:
            differences = self.auc_differences(baseline)
        content = {
            "pairs": len(self.labels),
            "users": len(self.report.user_ids),
            "what": self.report.ranked,
            "methods": rows,
            "AUC_differences": [difference.to_dict() for difference in differences],
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
    outcomes differ.
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
    results = {}
    for name, method in run.progress(list(named_methods.items()), "evaluating", len(named_methods)):
        started = time.perf_counter()
        predicted = np.concatenate(method.predict(examples.queries, [[i] for i in item_ids]))
        seconds = time.perf_counter() - started
        per_user = _per_user(labels, predicted, users, len(user_ids))
        figures = _overall_figures(labels, predicted, users)
        probabilities[name] = predicted
        results[name, GIVEN] = Result(per_user, figures, seconds, trained_on(method, split))
    report = Report(
        split={name: value for name, value in split.report.items() if name != "cuts_ms"},
        part=part,
        user_ids=user_ids.tolist(),
        strata=_strata(split, examples, users, len(user_ids)),
        results=results,
        repeat_targets=0.0,
        ranked=_outcome_text(outcome),
    )
    return Predictions(add_intervals(report, run.seed), labels, users, probabilities)


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


def _per_user(
    labels: np.ndarray, predicted: np.ndarray, users: np.ndarray, n: int
) -> dict[str, np.ndarray]:
    """Return (U,) AUC among a user's pairs, mean log loss and Brier score."""
    p = np.clip(predicted, CLIP, 1 - CLIP)
    counts = np.bincount(users, minlength=n)
    log_losses = -np.where(labels == 1, np.log(p), np.log1p(-p))
    squared_errors = (labels - predicted) ** 2
    order = np.argsort(users, kind="stable")
    rows_by_user = np.split(order, np.cumsum(counts)[:-1])
    return {
        "user AUC": np.array([auc(labels[rows], predicted[rows]) for rows in rows_by_user]),
        "log loss": np.bincount(users, log_losses, n) / np.maximum(counts, 1),
        "Brier": np.bincount(users, squared_errors, n) / np.maximum(counts, 1),
    }


def _overall_figures(
    labels: np.ndarray, predicted: np.ndarray, users: np.ndarray
) -> dict[str, float]:
    """Return the figures over all pairs (n,)."""
    grouped = grouped_auc(labels, predicted, users)
    return {
        "AUC": auc(labels, predicted),
        "gAUC": grouped.value,
        "gAUC_users": grouped.included / max(grouped.included + grouped.left_out, 1),
        "PR-AUC": average_precision_of_scores(labels, predicted),
        "log_loss": log_loss(labels, predicted),
        "normalised_entropy": normalised_entropy(labels, predicted),
        "ECE": expected_calibration_error(labels, predicted),
        "COPC": clicks_over_predicted(labels, predicted),
        "share_of_ones": float(labels.mean()),
    }


def _strata(split: Split, examples: Examples, users: np.ndarray, n: int) -> dict[str, np.ndarray]:
    """Return (U,) masks of users by their number of training events."""
    user_rows = split.data.users.rows(examples.queries.user_ids.tolist())
    train_lengths = split.train.sequences.rows.lengths
    known_rows = np.maximum(user_rows, 0)
    lengths = np.zeros(n, dtype=np.int64)
    lengths[users] = np.where(user_rows >= 0, train_lengths[known_rows], 0)
    masks = by_history(lengths)
    return {name: mask for name, mask in masks.items() if mask.any()}


def bootstrap_aucs(
    labels: np.ndarray,
    users: np.ndarray,
    scores: Sequence[np.ndarray],
    draws: int = DRAWS,
    seed: int = 0,
) -> np.ndarray:
    """Return (draws, M) AUCs of M methods' scores (n,) over users drawn with replacement.

    All methods share the draws. Rows count as often as their user was drawn; tied scores count
    half. NaN where a draw lacks one label.
    """
    orders = [np.argsort(column, kind="stable") for column in scores]
    tie_starts = [
        np.flatnonzero(np.r_[True, np.diff(column[order]) != 0])
        for column, order in zip(scores, orders, strict=True)
    ]
    n_users = int(users.max(initial=0)) + 1
    max_block = max(1, CELLS // max(len(labels), 1))
    blocks = []
    for counts in draw_counts(n_users, draws, seed, None, max_block):
        weights = counts[:, users]  # b, n
        ones = weights * labels
        zeros = weights * (1 - labels)
        pairs = ones.sum(axis=1) * zeros.sum(axis=1)
        aucs = np.empty((len(counts), len(scores)))
        for i, (order, starts) in enumerate(zip(orders, tie_starts, strict=True)):
            tied_ones = np.add.reduceat(ones[:, order], starts, axis=1)
            tied_zeros = np.add.reduceat(zeros[:, order], starts, axis=1)
            zeros_below = np.cumsum(tied_zeros, axis=1) - tied_zeros / 2
            ordered_pairs = (tied_ones * zeros_below).sum(axis=1)
            aucs[:, i] = ordered_pairs / np.where(pairs > 0, pairs, np.nan)
        blocks.append(aucs)
    return np.concatenate(blocks)
