"""Figures of predictions: of labels 0 and 1, of numbers, and of one of several outcomes.

Shapes: n pairs of a query and an item, U users, C outcomes, M methods.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np

from tailor.data.examples import Outcome
from tailor.errors import DataError
from tailor.evaluation.significance import draw_counts
from tailor.metrics.calibration import clicks_over_predicted, expected_calibration_error
from tailor.metrics.prediction import (
    CLIP,
    accuracy,
    auc,
    average_precision_of_scores,
    class_log_loss,
    grouped_auc,
    log_loss,
    macro_f1,
    macro_f1_of_tables,
    mean_absolute_error,
    normalised_entropy,
    r_squared,
    root_mean_squared_error,
)

CELLS = 2**21  # numbers of one block of draws
DRAWS = 1000
SUM_ERROR = 1e-3  # distance from 1 that the probabilities of all outcomes may have together


class Figures(ABC):
    """Figures that one kind of prediction is judged by."""

    main: ClassVar[str]
    """The figure over all pairs that has an interval, and by which methods are compared."""
    columns: ClassVar[tuple[str, ...]]
    """The figures over all pairs that a terminal shows, the main one first."""
    lower_is_better: ClassVar[bool] = False
    """Whether a lower main figure is better."""

    @abstractmethod
    def check(self, name: str, labels: np.ndarray, predicted: np.ndarray) -> None:
        """Raise DataError where what a method predicts does not fit the labels (n,)."""

    @abstractmethod
    def per_user(
        self, labels: np.ndarray, predicted: np.ndarray, users: np.ndarray, n: int
    ) -> dict[str, np.ndarray]:
        """Return figures of each of n users, (n,); `users` are those of the pairs."""

    @abstractmethod
    def overall(
        self, labels: np.ndarray, predicted: np.ndarray, users: np.ndarray
    ) -> dict[str, float]:
        """Return the figures over all pairs."""

    @abstractmethod
    def drawn(
        self,
        labels: np.ndarray,
        users: np.ndarray,
        predictions: Sequence[np.ndarray],
        draws: int = DRAWS,
        seed: int = 0,
    ) -> np.ndarray:
        """Return (draws, M) main figures over users drawn with replacement.

        All methods share the draws. Pairs count as often as their user was drawn.
        """

    @abstractmethod
    def summary(self, labels: np.ndarray) -> str:
        """Return a clause on the labels, such as "12 % of them are a 1"."""


class LabelFigures(Figures):
    """Figures of probabilities (n,) of a label 1."""

    main = "AUC"
    columns = ("AUC", "gAUC", "log_loss", "normalised_entropy", "ECE")

    def check(self, name: str, labels: np.ndarray, predicted: np.ndarray) -> None:
        if len(predicted) and (predicted.min() < 0 or predicted.max() > 1):
            raise DataError(
                f"{name} predicts numbers from {predicted.min():g} to {predicted.max():g}, and"
                " these pairs have labels 0 and 1, which ask for probabilities: judge it by"
                ' outcome=Outcome("value")'
            )

    def per_user(
        self, labels: np.ndarray, predicted: np.ndarray, users: np.ndarray, n: int
    ) -> dict[str, np.ndarray]:
        p = np.clip(predicted, CLIP, 1 - CLIP)
        log_losses = -np.where(labels == 1, np.log(p), np.log1p(-p))
        order = np.argsort(users, kind="stable")
        rows_by_user = np.split(order, np.cumsum(np.bincount(users, minlength=n))[:-1])
        return {
            "user AUC": np.array([auc(labels[rows], predicted[rows]) for rows in rows_by_user]),
            "log loss": _user_means(log_losses, users, n),
            "Brier": _user_means((labels - predicted) ** 2, users, n),
        }

    def overall(
        self, labels: np.ndarray, predicted: np.ndarray, users: np.ndarray
    ) -> dict[str, float]:
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

    def drawn(
        self,
        labels: np.ndarray,
        users: np.ndarray,
        predictions: Sequence[np.ndarray],
        draws: int = DRAWS,
        seed: int = 0,
    ) -> np.ndarray:
        """Return (draws, M) AUCs; tied scores count half. NaN where a draw lacks one label."""
        orders = [np.argsort(column, kind="stable") for column in predictions]
        tie_starts = [
            np.flatnonzero(np.r_[True, np.diff(column[order]) != 0])
            for column, order in zip(predictions, orders, strict=True)
        ]
        blocks = []
        for counts in _drawn_users(users, draws, seed, len(labels)):
            weights = counts[:, users]  # b, n
            ones = weights * labels
            zeros = weights * (1 - labels)
            pairs = ones.sum(axis=1) * zeros.sum(axis=1)
            aucs = np.empty((len(counts), len(predictions)))
            for i, (order, starts) in enumerate(zip(orders, tie_starts, strict=True)):
                tied_ones = np.add.reduceat(ones[:, order], starts, axis=1)
                tied_zeros = np.add.reduceat(zeros[:, order], starts, axis=1)
                zeros_below = np.cumsum(tied_zeros, axis=1) - tied_zeros / 2
                ordered_pairs = (tied_ones * zeros_below).sum(axis=1)
                aucs[:, i] = ordered_pairs / np.where(pairs > 0, pairs, np.nan)
            blocks.append(aucs)
        return np.concatenate(blocks)

    def summary(self, labels: np.ndarray) -> str:
        return f"{labels.mean():.1%} of them are a 1"


class NumberFigures(Figures):
    """Figures of numbers (n,), such as ratings."""

    main = "RMSE"
    columns = ("RMSE", "MAE", "R2")
    lower_is_better = True

    def check(self, name: str, labels: np.ndarray, predicted: np.ndarray) -> None:
        """Accept any numbers."""

    def per_user(
        self, labels: np.ndarray, predicted: np.ndarray, users: np.ndarray, n: int
    ) -> dict[str, np.ndarray]:
        errors = labels - predicted
        return {
            "RMSE": np.sqrt(_user_means(errors**2, users, n)),
            "MAE": _user_means(np.abs(errors), users, n),
        }

    def overall(
        self, labels: np.ndarray, predicted: np.ndarray, users: np.ndarray
    ) -> dict[str, float]:
        return {
            "RMSE": root_mean_squared_error(labels, predicted),
            "MAE": mean_absolute_error(labels, predicted),
            "R2": r_squared(labels, predicted),
            "mean_value": float(labels.mean()),
            "mean_predicted": float(predicted.mean()),
        }

    def drawn(
        self,
        labels: np.ndarray,
        users: np.ndarray,
        predictions: Sequence[np.ndarray],
        draws: int = DRAWS,
        seed: int = 0,
    ) -> np.ndarray:
        """Return (draws, M) roots of mean squared errors."""
        n = int(users.max(initial=0)) + 1
        sums = [np.bincount(users, (labels - column) ** 2, n) for column in predictions]
        totals = np.stack([*sums, np.bincount(users, minlength=n)], axis=1)  # U, M + 1
        drawn = [counts @ totals for counts in _drawn_users(users, draws, seed, n)]
        by_draw = np.concatenate(drawn)
        return np.asarray(np.sqrt(by_draw[:, :-1] / by_draw[:, -1:]))

    def summary(self, labels: np.ndarray) -> str:
        return f"their values go from {labels.min():g} to {labels.max():g}, mean {labels.mean():g}"


class ClassFigures(Figures):
    """Figures of probabilities (n, C) of one of several outcomes."""

    main = "macro_F1"
    columns = ("macro_F1", "accuracy", "log_loss")

    def __init__(self, outcomes: int) -> None:
        self.outcomes = outcomes

    def check(self, name: str, labels: np.ndarray, predicted: np.ndarray) -> None:
        is_outcome = np.isin(labels, np.arange(self.outcomes))
        if not is_outcome.all():
            raise DataError(
                f"{name} predicts {self.outcomes} outcomes, 0 to {self.outcomes - 1}, and the value"
                f" of a pair is {labels[~is_outcome][0]:g}: number the outcomes from 0"
            )
        if (predicted < 0).any() or (np.abs(predicted.sum(axis=1) - 1) > SUM_ERROR).any():
            raise DataError(
                f"{name} predicts numbers for {self.outcomes} outcomes that are no probabilities:"
                " none is below 0, and those of a pair have the sum 1"
            )

    def per_user(
        self, labels: np.ndarray, predicted: np.ndarray, users: np.ndarray, n: int
    ) -> dict[str, np.ndarray]:
        true = predicted[np.arange(len(labels)), labels.astype(int)]
        is_right = predicted.argmax(axis=1) == labels
        return {
            "log loss": _user_means(-np.log(np.maximum(true, CLIP)), users, n),
            "accuracy": _user_means(is_right.astype(np.float64), users, n),
        }

    def overall(
        self, labels: np.ndarray, predicted: np.ndarray, users: np.ndarray
    ) -> dict[str, float]:
        likeliest = predicted.argmax(axis=1)
        shares = np.bincount(labels.astype(int), minlength=self.outcomes) / max(len(labels), 1)
        return {
            "macro_F1": macro_f1(labels, likeliest),
            "accuracy": accuracy(labels, likeliest),
            "log_loss": class_log_loss(labels, predicted),
            **{f"share_of_{outcome}": float(share) for outcome, share in enumerate(shares)},
        }

    def drawn(
        self,
        labels: np.ndarray,
        users: np.ndarray,
        predictions: Sequence[np.ndarray],
        draws: int = DRAWS,
        seed: int = 0,
    ) -> np.ndarray:
        """Return (draws, M) macro F1 scores."""
        n = int(users.max(initial=0)) + 1
        cells = self.outcomes**2
        by_user = []
        for predicted in predictions:
            cell = labels.astype(int) * self.outcomes + predicted.argmax(axis=1)
            by_user.append(np.bincount(users * cells + cell, minlength=n * cells))
        counted = np.stack(by_user).reshape(len(predictions), n, cells)  # M, U, C * C
        blocks = []
        for counts in _drawn_users(users, draws, seed, n):
            tables = (counts @ counted).reshape(len(predictions), -1, self.outcomes, self.outcomes)
            blocks.append(macro_f1_of_tables(tables).T)
        return np.concatenate(blocks)

    def summary(self, labels: np.ndarray) -> str:
        outcome, count = max(zip(*np.unique(labels, return_counts=True), strict=True), key=_second)
        return f"{count / len(labels):.1%} of them have the outcome {outcome:g}"


def figures_of(
    outcome: Outcome, labels: np.ndarray, predictions: Mapping[str, np.ndarray]
) -> Figures:
    """Return the figures that fit what methods predict for pairs with labels (n,).

    Predictions (n, C) are of C outcomes; (n,) are numbers where the outcome's source is "value",
    else probabilities. Raises DataError where a method's predictions fit neither the labels nor the
    other methods.
    """
    shapes = {name: predicted.shape[1:] for name, predicted in predictions.items()}
    if len(set(shapes.values())) > 1:
        listing = ", ".join(
            f"{name} {shape[0] if shape else 'one number'}" for name, shape in shapes.items()
        )
        raise DataError(f"these predict different things for a pair ({listing}): judge them apart")
    shape = next(iter(shapes.values()))
    figures: Figures = LabelFigures()
    if shape:
        figures = ClassFigures(shape[0])
    elif outcome.source == "value":
        figures = NumberFigures()
    for name, predicted in predictions.items():
        if not np.isfinite(predicted).all():
            raise DataError(f"{name} predicts what is no number for a pair: fit it anew")
        figures.check(name, labels, predicted)
    return figures


def _user_means(values: np.ndarray, users: np.ndarray, n: int) -> np.ndarray:
    """Return (n,) the mean of the values of each user's pairs."""
    counts = np.bincount(users, minlength=n)
    return np.asarray(np.bincount(users, values, n) / np.maximum(counts, 1))


def _drawn_users(users: np.ndarray, draws: int, seed: int, columns: int) -> Iterator[np.ndarray]:
    """Yield blocks (b, U) of how often each user is drawn, for work on b rows of `columns`."""
    n_users = int(users.max(initial=0)) + 1
    return draw_counts(n_users, draws, seed, None, max(1, CELLS // max(columns, 1)))


def _second(pair: tuple[float, int]) -> int:
    return pair[1]
