"""Settings chosen on validation: fit each, keep the best, say how many were tried."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tailor.base import Recommender, Run
from tailor.data.splits import Split
from tailor.evaluation.protocol import evaluate
from tailor.specs import clone, spec


@dataclass(frozen=True)
class Choice:
    """The best of several settings on validation, fitted on train, and what each of them reached."""

    best: Recommender
    tried: list[dict[str, Any]]  # settings and validation figure, in the order given


def choose(
    options: Sequence[Recommender], split: Split, metric: str = "NDCG@10", seen: str = "removed", run: Run = Run()  # noqa: B008
) -> Choice:  # fmt: skip
    """Fit every option on the split's train part and compare them on its validation part; the first of equals wins."""
    name, _, k = metric.partition("@")
    tried: list[dict[str, Any]] = []
    fitted = []
    for option in run.progress(options, "choosing settings", len(options)):
        method = clone(option).fit(split.train, run, split)
        assert isinstance(method, Recommender)
        figure = evaluate(method, split, "valid", (int(k),), (name,), (seen,), run).mean(method.name, metric, seen)
        fitted.append(method)
        tried.append({"settings": spec(option), metric: round(figure, 5)})
    best = int(np.argmax([float(one[metric]) for one in tried]))
    return Choice(fitted[best], tried)
