"""The protocol for predictors: the same labelled pairs for all, probabilities held against what
happened, paired over people.
"""

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

CELLS = 2**21  # of rows drawn at a time
DRAWS = 1000


@runtime_checkable
class DeclaresOutcome(Protocol):
    """A predictor that says what it predicts."""

    def outcome(self) -> Outcome: ...


@dataclass(frozen=True)
class Difference:
    """How much more b's AUC is than a's over the same rows; people are drawn with replacement, each
    with all rows.
    """

    a: str
    b: str
    difference: float
    low: float
    """95 %."""
    high: float
    p: float
    """two-sided: how often draws lie on the other side of 0; at least 1 / (draws + 1)."""

    @property
    def is_significant(self) -> bool:
        return self.p < 0.05

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Predictions:
    """What predictors said of n pairs, and what came of them; `report` has each person's figures
    and those over all pairs.
    """

    report: Report
    """Per person: AUC among a person's pairs ("user AUC", NaN where all came out alike), log loss,
    Brier; over all, in `lists`: AUC, gAUC, ECE, ...
    """
    labels: np.ndarray
    """(n,) 0 or 1."""
    users: np.ndarray
    """(n,) places in report.user_ids."""
    said: dict[str, np.ndarray]
    """Method -> (n,) probabilities."""

    def of_all(self, method: str, figure: str) -> float:
        """A figure over all pairs, such as "AUC"."""
        return self.report.results[method, GIVEN].lists[figure]

    def auc_interval(self, method: str, seed: int = 0) -> tuple[float, float]:
        """The 95 % interval of the AUC over all pairs, people drawn with replacement."""
        low, high = np.nanquantile(
            bootstrap_aucs(self.labels, self.users, [self.said[method]], seed=seed)[:, 0],
            [0.025, 0.975],
        )
        return float(low), float(high)

    def auc_differences(self, baseline: str, seed: int = 0) -> list[Difference]:
        """Every other method's AUC less the baseline's; all share their draws."""
        if baseline not in self.said:
            raise DataError(f'no method "{baseline}" among {", ".join(self.said)}')
        drawn = bootstrap_aucs(self.labels, self.users, list(self.said.values()), seed=seed)
        own = dict(
            zip(self.said, (drawn - drawn[:, [list(self.said).index(baseline)]]).T, strict=True)
        )
        out = []
        for name, values in own.items():
            if name != baseline:
                low, high = np.nanquantile(values, [0.025, 0.975])
                p = 2 * (min((values <= 0).sum(), (values >= 0).sum()) + 1) / (len(values) + 1)
                whole = self.of_all(name, "AUC") - self.of_all(baseline, "AUC")
                out.append(
                    Difference(baseline, name, whole, float(low), float(high), min(1.0, float(p)))
                )
        return out

    def to_dict(self, baseline: str | None = None) -> dict[str, Any]:
        """Plain values: one entry a method, the differences to `baseline` where given, and the
        report's.
        """
        rows = [
            {
                "method": name,
                **self.report.results[name, GIVEN].lists,
                "AUC_interval": self.auc_interval(name),
            }
            for name in self.said
        ]
        tests = (
            []
            if baseline is None or len(self.said) < 2
            else [one.to_dict() for one in self.auc_differences(baseline)]
        )
        about = {
            "pairs": len(self.labels),
            "users": len(self.report.user_ids),
            "what": self.report.ranked,
            "methods": rows,
            "AUC_differences": tests,
        }
        return cast(dict[str, Any], without_nan(about))


def evaluate_predictions(
    methods: Predictor | Mapping[str, Predictor],
    split: Split,
    part: str = "test",
    outcome: Outcome | None = None,
    run: Run = Run(),
) -> Predictions:
    """Judge fitted predictors on the pairs of a split's part ("test", or "valid" while settings are
    chosen).

    `outcome` says what the pairs are; left out, all methods must predict the same. Drawn items are
    the same for all methods of a seed. Raises ModelError for a method that learned from what it
    would be judged by, DataError where outcomes differ.
    """
    named = {methods.name: methods} if isinstance(methods, Predictor) else dict(methods)
    if not named:
        raise DataError("there is no method to evaluate")
    outcome = outcome or _common(named)
    for method in named.values():
        refuse_seen_targets(method, split, part)
    examples = outcome.judge(split, part, run.rng("judged", part))
    ids = examples.queries.catalogue.named(np.maximum(examples.items, 0))
    user_ids, users = examples.people()
    said, results = {}, {}
    for name, method in run.progress(list(named.items()), "evaluating", len(named)):
        started = time.perf_counter()
        said[name] = np.concatenate(method.predict(examples.queries, [[one] for one in ids]))
        seconds = time.perf_counter() - started
        per_user = _per_user(examples.labels, said[name], users, len(user_ids))
        results[name, GIVEN] = Result(
            per_user,
            _over_all(examples.labels, said[name], users),
            seconds,
            trained_on(method, split),
        )
    report = Report(
        {name: value for name, value in split.report.items() if name != "cuts_ms"},
        part,
        user_ids.tolist(),
        _strata(split, examples, users, len(user_ids)),
        results,
        0.0,
        _described(outcome),
    )
    return Predictions(add_intervals(report, run.seed), examples.labels, users, said)


def _common(named: Mapping[str, Predictor]) -> Outcome:
    """What all methods predict, with the longest history that one of them reads."""
    found = {}
    for name, method in named.items():
        if not isinstance(method, DeclaresOutcome):
            raise DataError(f"{name} does not say what it predicts: pass outcome=Outcome(...)")
        found[name] = method.outcome()
    longest = max(one.length for one in found.values())
    alike = {replace(one, length=longest) for one in found.values()}
    if len(alike) > 1:
        told = "; ".join(f"{name}: {_described(one)}" for name, one in found.items())
        raise DataError(
            f"these predict different things ({told}): give outcome=Outcome(...), or judge them"
            " apart"
        )
    return alike.pop()


def _described(outcome: Outcome) -> str:
    if outcome.source == "drawn":
        return (
            f"events, and {outcome.negatives} items never chosen for each, drawn"
            f" {'by popularity' if outcome.by == 'popularity' else 'evenly'}"
        )
    if outcome.source == "label":
        return f'events, 1 where "{outcome.label}"'
    return "what was shown, 1 where chosen" + (f' with "{outcome.label}"' if outcome.label else "")


def _per_user(
    labels: np.ndarray, said: np.ndarray, users: np.ndarray, n: int
) -> dict[str, np.ndarray]:
    """(U,) each: AUC among a person's pairs, mean log loss and Brier score."""
    p = np.clip(said, CLIP, 1 - CLIP)
    rows = np.maximum(np.bincount(users, minlength=n), 1)
    losses = {
        "log loss": -np.where(labels == 1, np.log(p), np.log1p(-p)),
        "Brier": (labels - said) ** 2,
    }
    order = np.argsort(users, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(users, minlength=n))[:-1])
    within = np.array([auc(labels[some], said[some]) for some in parts])
    return {
        "user AUC": within,
        **{name: np.bincount(users, values, n) / rows for name, values in losses.items()},
    }


def _over_all(labels: np.ndarray, said: np.ndarray, users: np.ndarray) -> dict[str, float]:
    grouped = grouped_auc(labels, said, users)
    return {
        "AUC": auc(labels, said),
        "gAUC": grouped.value,
        "gAUC_users": grouped.included / max(grouped.included + grouped.left_out, 1),
        "PR-AUC": average_precision_of_scores(labels, said),
        "log_loss": log_loss(labels, said),
        "normalised_entropy": normalised_entropy(labels, said),
        "ECE": expected_calibration_error(labels, said),
        "COPC": clicks_over_predicted(labels, said),
        "share_of_ones": float(labels.mean()),
    }


def _strata(split: Split, examples: Examples, users: np.ndarray, n: int) -> dict[str, np.ndarray]:
    """(U,) masks of people by the events they have in the training part."""
    rows = split.data.users.rows(examples.queries.user_ids.tolist())
    events = np.where(rows >= 0, split.train.sequences.rows.lengths[np.maximum(rows, 0)], 0)
    lengths = np.zeros(n, dtype=np.int64)
    lengths[users] = events
    return {name: mask for name, mask in by_history(lengths).items() if mask.any()}


def bootstrap_aucs(
    labels: np.ndarray,
    users: np.ndarray,
    scores: Sequence[np.ndarray],
    draws: int = DRAWS,
    seed: int = 0,
) -> np.ndarray:
    """(draws, M) AUCs of M methods' scores (n,) over people drawn with replacement, the same people
    for all; NaN where one label is missing.

    Rows count as often as their person was drawn; tied scores count half.
    """
    orders = [np.argsort(one, kind="stable") for one in scores]
    starts = [
        np.flatnonzero(np.r_[True, np.diff(one[order]) != 0])
        for one, order in zip(scores, orders, strict=True)
    ]
    parts = []
    for times in draw_counts(
        int(users.max(initial=0)) + 1, draws, seed, None, max(1, CELLS // max(len(labels), 1))
    ):
        weights = times[:, users]  # b, n
        ones, zeros = weights * labels, weights * (1 - labels)
        total = ones.sum(axis=1) * zeros.sum(axis=1)
        found = np.empty((len(times), len(scores)))
        for at, (order, start) in enumerate(zip(orders, starts, strict=True)):
            tied_ones, tied_zeros = (
                np.add.reduceat(one[:, order], start, axis=1) for one in (ones, zeros)
            )
            below = np.cumsum(tied_zeros, axis=1) - tied_zeros / 2
            found[:, at] = (tied_ones * below).sum(axis=1) / np.where(total > 0, total, np.nan)
        parts.append(found)
    return np.concatenate(parts)
