"""Choose among a few settings on validation."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.core.specs import clone, spec
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.evaluation.protocol import evaluate


@dataclass(frozen=True, eq=False)
class Attempt:
    """One setting, fitted on train and measured on validation."""

    fitted: Recommender
    value: float
    low: float
    """95 % interval over users."""
    high: float
    seconds: float
    """Time of fitting and measuring."""


def attempt(option: Recommender, split: Split, metric: str, seen: str, run: Run) -> Attempt:
    """Fit an option on the split's train part and measure it on its validation part.

    The test part is not read. Raises DataError where the figure is undefined for every user.
    """
    name, _, k = metric.partition("@")
    if not k.isdigit():
        raise DataError(f'the metric is "{metric}": write it with its depth, as in "NDCG@10"')
    started = time.perf_counter()
    fitted = clone(option).fit(split.train, run, split)
    assert isinstance(fitted, Recommender)
    report = evaluate(fitted, split, "valid", (int(k),), (name,), (seen,), run)
    value = report.mean(fitted.name, metric, seen)
    low, high = report.interval[fitted.name, seen][metric]
    if not math.isfinite(value):
        raise DataError(f"{metric} is undefined for every user of the validation part")
    return Attempt(fitted, value, low, high, time.perf_counter() - started)


@dataclass(frozen=True)
class Choice:
    """The best of several settings on validation, fitted on train, with the figures of all."""

    best: Recommender
    tried: list[dict[str, Any]]
    """Settings, validation figure with its interval, seconds; in the order of the options."""


def choose(
    options: Sequence[Recommender],
    split: Split,
    metric: str = "NDCG@10",
    seen: str = "removed",
    run: Run = Run(),
) -> Choice:
    """Fit every option on train and compare them on validation; the first of equals wins.

    For a few settings named by hand; `tailor.bench.tune` searches ranges by the same measure.
    """
    attempts = [
        attempt(option, split, metric, seen, run)
        for option in run.progress(options, "choosing settings", len(options))
    ]
    tried = [
        {
            "settings": spec(option),
            metric: round(result.value, 5),
            "low": round(result.low, 5),
            "high": round(result.high, 5),
            "seconds": round(result.seconds, 2),
        }
        for option, result in zip(options, attempts, strict=True)
    ]
    best = int(np.argmax([result.value for result in attempts]))
    return Choice(attempts[best].fitted, tried)
