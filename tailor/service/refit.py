"""Refit: learn from the store again, and let the new model answer unless it is worse."""

import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import sqlalchemy as sa

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.core.saving import load
from tailor.core.specs import build
from tailor.data.dataset import Dataset
from tailor.data.splits import Split, by_time
from tailor.errors import ModelError
from tailor.evaluation.protocol import compare, evaluate
from tailor.service.batcher import any_error_named, check_model
from tailor.store.datasets import TrainingData, training_dataset
from tailor.store.engine import now_ms, reading, writing
from tailor.store.feedback import ONLY, CountingRule, write_rule
from tailor.store.keys import check_tenant
from tailor.store.models import add_model, current_model, list_models, serve_model

LEAST_USERS = 50  # with fresh events, below which a comparison says nothing
MOST_FRESH = 0.2  # share of events that a comparison may hold back from the new model
METRIC = "NDCG@10"
NOTE = "refit on "  # start of the note of a model that a refit made


@dataclass(frozen=True)
class Outcome:
    """The result of a refit."""

    swapped: bool
    """True if the new model answers."""
    version: int | None
    """Of the new model, where there is one."""
    why: str
    events: int
    """Learned from."""
    left_out: int = 0
    """Events that do not count: against their item, endless repeats, from the future."""
    comparison: Mapping[str, Any] | None = None
    """New against running model, on events that neither had learned from."""
    notes: tuple[str, ...] = ()
    """Values of items and users that were left out."""


def refit(
    engine: sa.Engine,
    tenant: str,
    pipeline: Mapping[str, Any],
    folder: Path,
    run: Run = Run(),
    force: bool = False,
    only: str | None = None,
    together: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Outcome:
    """Learn from the stored events; swap unless the running model is significantly better.

    The two are compared on the events since the running model was made, which the new one does not
    learn from for that. The model that answers in the end has learned from everything. `force`
    swaps without comparing. So does a tenant's first refit where there is nothing to compare by:
    the models before it were given, and had parts of the events at most.

    `only` is a condition that events must meet to count. It is kept for the histories that the
    service hands to the model and for later refits, until an empty one. Without one, events that
    speak against their item do not count. Saving and registering are done within `together`.
    Raises DataError where no event counts, ModelError for a pipeline that cannot be built.
    """
    started_ms = now_ms()
    method, rule = check_refit(pipeline, tenant, only)
    training = training_dataset(engine, tenant, method.learns_from_impressions(), rule)
    events = len(training.data.events)
    left_out = training.left_out
    with reading(engine) as connection:
        running = current_model(connection, tenant)
        is_first = not has_refit(connection, tenant)
    split = None
    if running is not None and not force:
        split = fresh_split(training.data, running["made_ms"])
        if split is None and not is_first:
            why = (
                f"fewer than {LEAST_USERS} people did anything since version {running['version']}"
                " was made: nothing to compare by; --force swaps all the same"
            )
            return Outcome(False, None, why, events, left_out, notes=training.notes)
    comparison = None
    if running is not None and split is not None:
        comparison = _compare(method, _load_running(running), split, run)
        if comparison["is_worse"]:
            why = (
                f"version {running['version']} stays: the new model's {METRIC} is"
                f" {-comparison['difference']:.4f} lower on fresh events"
                f" (p {comparison['p']:.3g})"
            )
            return Outcome(False, None, why, events, left_out, comparison, training.notes)
    target = folder / tenant / str(started_ms)
    method.fit(training.data, run)
    with together():
        version = _save_and_serve(engine, tenant, method, training, target, started_ms)
    why = _reason(running, comparison, force)
    return Outcome(True, version, why, events, left_out, comparison, training.notes)


def check_refit(
    pipeline: Mapping[str, Any], tenant: str, only: str | None
) -> tuple[Recommender, CountingRule | None]:
    """Return the method of a pipeline and the rule of a condition.

    Raises ModelError for a pipeline that does not recommend, DataError for a condition that cannot
    be read, StoreError for an impossible tenant.
    """
    check_tenant(tenant)
    method = build(pipeline)
    if not isinstance(method, Recommender):
        raise ModelError(
            f"{method.name} does not recommend: refit learns pipelines that do. Fit it with `tailor"
            " fit`, then POST its folder to /v1/models"
        )
    if method.keeps_people():
        raise ModelError(
            f"{method.name} holds people's events, which no erasure would reach: the service serves"
            " no such model. Refit another method"
        )
    if only is None:
        return method, None
    return method, CountingRule(ONLY + only if only.strip() else "")


def _load_running(row: Mapping[str, Any]) -> Recommender:
    """Return the running model. Raises ModelError where it cannot be loaded."""
    try:
        with any_error_named(row["folder"]):
            return cast(Recommender, load(row["folder"]))
    except ModelError as error:
        raise ModelError(
            f"version {row['version']}, which should answer, cannot be compared with: {error}."
            " --force swaps without comparing"
        ) from error


def has_refit(connection: sa.Connection, tenant: str) -> bool:
    """Return whether a refit has made a model of the tenant."""
    return any(row["note"].startswith(NOTE) for row in list_models(connection, tenant))


def _save_and_serve(
    engine: sa.Engine,
    tenant: str,
    method: Recommender,
    training: TrainingData,
    target: Path,
    started_ms: int,
) -> int:
    """Save, load, register, and let the version answer.

    A model that cannot be loaded again is deleted, and never registered.
    """
    data = training.data
    titles = data.item_table if "title" in data.item_table.columns else None
    method.save(target, titles=titles)
    try:
        digest = check_model(target).digest
    except ModelError:
        shutil.rmtree(target, ignore_errors=True)
        raise
    note = f"{NOTE}{len(data.events)} events"
    with writing(engine) as connection:
        version = add_model(connection, tenant, str(target.resolve()), digest, note, started_ms)
        serve_model(connection, tenant, version)
        write_rule(connection, tenant, training.rule)
    return version


def _reason(
    running: Mapping[str, Any] | None, comparison: Mapping[str, Any] | None, force: bool
) -> str:
    if running is None:
        return "there was no model"
    if force:
        return "forced"
    if comparison is None:
        return (
            f"the first refit, on all events; version {running['version']} was given, and there is"
            " nothing to compare by"
        )
    difference, p = comparison["difference"], comparison["p"]
    return f"{METRIC} {difference:+.4f} on fresh events (p {p:.3g})"


def fresh_split(data: Dataset, made_ms: int) -> Split | None:
    """Return a split whose test part is what happened since a model was made.

    The test part is at most MOST_FRESH of all events. None where too few users did anything.
    """
    times = data.events["time_ms"].to_numpy()
    share = min(MOST_FRESH, float((times > made_ms).mean()))
    if share == 0 or len(times) * (1 - 2 * share) < 1:
        return None
    split = by_time(data, valid=min(share, 0.1), test=share)
    _, targets = split.queries("test")
    users = int((np.asarray(targets.lengths) > 0).sum())
    return split if users >= LEAST_USERS else None


def _compare(method: Recommender, running: Recommender, split: Split, run: Run) -> dict[str, Any]:
    """Compare a new fit with the running model on the test part."""
    new = method.fit(split.train, run, split)
    report = evaluate({"running": running, "new": new}, split, seen=("removed",), run=run)
    result = next(row for row in compare(report, "running") if row.metric == METRIC)
    return {
        "difference": result.difference,
        "low": result.low,
        "high": result.high,
        "p": result.p,
        "users": len(report.user_ids),
        "is_worse": bool(result.high < 0),
    }
