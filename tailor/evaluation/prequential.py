"""Judge predictors on a stream: every outcome is predicted before it is learned from."""

import copy

import numpy as np

from tailor.core.methods import Predictor
from tailor.core.run import Run
from tailor.data.examples import Examples
from tailor.data.queries import NO_TIME
from tailor.errors import DataError


def stream_order(examples: Examples) -> np.ndarray:
    """Return (n,) the examples' positions, oldest request first; ties keep their order.

    Raises DataError where a request has no time.
    """
    now_ms = examples.queries.now_ms
    if now_ms is None or (now_ms == NO_TIME).any():
        raise DataError("a stream needs the time of every request, and some have none")
    return np.argsort(now_ms, kind="stable")


def prequential(
    method: Predictor, examples: Examples, step: int = 100, late: int = 0, run: Run = Run()
) -> np.ndarray:
    """Predict a stream of examples in steps, and learn from each step after it was predicted.

    Returns (n,) predictions in the order of `examples`, each made before its own outcome and those
    of the last `late` steps were known. The method itself stays as it is; one that has no `update`
    only predicts. Late outcomes come with the queries as they were asked. Raises DataError for
    requests without a time.
    """
    if step < 1 or late < 0:
        raise DataError(f"step is {step}, late {late}: at least 1 and 0")
    order = stream_order(examples)
    learner = copy.copy(method)  # an update replaces its state, and leaves that of `method`
    ids = examples.queries.catalogue.named(examples.items)
    predicted = np.empty(len(examples))
    parts = [order[start : start + step] for start in range(0, len(order), step)]
    for number, part in enumerate(run.progress(parts, "predicting a stream", len(parts))):
        queries = examples.queries.take(part)
        answers = learner.predict(queries, [[ids[i]] for i in part])
        predicted[part] = np.concatenate(answers)
        if method.updates() and number >= late:
            outcomes = parts[number - late]
            queries = examples.queries.take(outcomes)
            labels = [[float(examples.labels[i])] for i in outcomes]
            learner.update(queries, [[ids[i]] for i in outcomes], labels, run)
    return predicted
