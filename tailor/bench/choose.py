"""Settings chosen on validation: fit each, keep the best, say how many were tried."""

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
    """Of the 95 % interval over users."""
    high: float
    seconds: float
    """Of fitting and measuring."""


def attempt(option: Recommender, split: Split, metric: str, seen: str, run: Run) -> Attempt:
    """Fit an option on the split's train part and measure it on its validation part; the test part
    is not asked for.

    Raises DataError where the figure is undefined for every user.
    """
    name, _, k = metric.partition("@")
    if not k.isdigit():
        raise DataError(f'the metric is "{metric}": write it with its depth, as in "NDCG@10"')
    started = time.perf_counter()
    fitted = clone(option).fit(split.train, run, split)
    assert isinstance(fitted, Recommender)
    report = evaluate(fitted, split, "valid", (int(k),), (name,), (seen,), run)
    value, (low, high) = (
        report.mean(fitted.name, metric, seen),
        report.interval[fitted.name, seen][metric],
    )
    if not math.isfinite(value):
        raise DataError(f"{metric} is undefined for every user of the validation part")
    return Attempt(fitted, value, low, high, time.perf_counter() - started)


@dataclass(frozen=True)
class Choice:
    """The best of several settings on validation, fitted on train, and what each of them reached."""

    best: Recommender
    tried: list[dict[str, Any]]
    """Settings, validation figure with its interval, seconds; in the order given."""


def choose(
    options: Sequence[Recommender],
    split: Split,
    metric: str = "NDCG@10",
    seen: str = "removed",
    run: Run = Run(),
) -> Choice:
    """Fit every option on the split's train part and compare them on its validation part; the first
    of equals wins.

    For a few settings named by hand; `tailor.bench.tune` searches ranges of them by the same
    measure.
    """
    attempts = [
        attempt(option, split, metric, seen, run)
        for option in run.progress(options, "choosing settings", len(options))
    ]
    tried = [
        {
            "settings": spec(option),
            metric: round(one.value, 5),
            "low": round(one.low, 5),
            "high": round(one.high, 5),
            "seconds": round(one.seconds, 2),
        }
        for option, one in zip(options, attempts, strict=True)
    ]
    return Choice(attempts[int(np.argmax([one.value for one in attempts]))].fitted, tried)
