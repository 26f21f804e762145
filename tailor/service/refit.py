"""Learning anew from the store, beside the model that answers; it takes the place only where fresh
data does not speak against it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
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
from tailor.service.batcher import saved_digest
from tailor.store.engine import now_ms, reading, writing
from tailor.store.loading import stored_dataset
from tailor.store.models import add_model, current_model, serve_model

LEAST_USERS = 50  # with fresh events, for a comparison to say anything
MOST_FRESH = 0.2  # share of events that a comparison may withhold from learning
METRIC = "NDCG@10"


@dataclass(frozen=True)
class Outcome:
    """What a refit ended with."""

    swapped: bool
    version: int | None
    """Of the new model, where there is one."""
    why: str
    events: int
    """Learned from."""
    comparison: Mapping[str, Any] | None = None
    """New against running, on events that neither had learned from."""


def refit(
    engine: sa.Engine,
    tenant: str,
    pipeline: Mapping[str, Any],
    folder: Path,
    run: Run = Run(),
    force: bool = False,
) -> Outcome:
    """Learn from all that is stored; swap unless the running model is significantly better on what
    happened since it was made.

    The comparison holds the fresh events back from the new model too; the model that takes the
    place has learned from everything. `force` swaps without comparing. Raises DataError where
    nothing is stored, ModelError for a pipeline that cannot be built.
    """
    started_ms = now_ms()
    method = build(pipeline)
    if not isinstance(method, Recommender):
        raise ModelError(
            f"{method.name} does not recommend: refit learns pipelines that do. Fit it with `tailor"
            " fit`, then POST its folder to /v1/models"
        )
    data = stored_dataset(engine, tenant, method.learns_from_impressions())
    with reading(engine) as connection:
        running = current_model(connection, tenant)
    found = None
    if running is not None and not force:
        split = fresh_split(data, running["made_ms"])
        if split is None:
            return Outcome(
                False,
                None,
                f"fewer than {LEAST_USERS} people did anything since version {running['version']}"
                " was made: nothing to compare by; --force swaps all the same",
                len(data.events),
            )
        found = _against(method, cast(Recommender, load(running["folder"])), split, run)
        if found["is_worse"]:
            why = (
                f"version {running['version']} stays: the new model's {METRIC} is"
                f" {-found['difference']:.4f} lower on fresh events (p {found['p']:.3g})"
            )
            return Outcome(False, None, why, len(data.events), found)
    target = folder / tenant / str(started_ms)
    method.fit(data, run).save(
        target, titles=data.item_table if "title" in data.item_table.columns else None
    )
    with writing(engine) as connection:
        version = add_model(
            connection,
            tenant,
            str(target.resolve()),
            saved_digest(target),
            f"refit on {len(data.events)} events",
            started_ms,
        )
        serve_model(connection, tenant, version)
    why = (
        "there was no model"
        if running is None
        else (
            "forced"
            if found is None
            else f"{METRIC} {found['difference']:+.4f} on fresh events (p {found['p']:.3g})"
        )
    )
    return Outcome(True, version, why, len(data.events), found)


def fresh_split(data: Dataset, made_ms: int) -> Split | None:
    """What happened since a model was made as the test part, at most MOST_FRESH of all; None where
    too few did anything.
    """
    times = data.events["time_ms"].to_numpy()
    share = min(MOST_FRESH, float((times > made_ms).mean()))
    if share == 0 or len(times) * (1 - 2 * share) < 1:
        return None
    split = by_time(data, valid=min(share, 0.1), test=share)
    _, targets = split.queries("test")
    return split if (np.asarray(targets.lengths) > 0).sum() >= LEAST_USERS else None


def _against(method: Recommender, running: Recommender, split: Split, run: Run) -> dict[str, Any]:
    candidate = method.fit(split.train, run, split)
    report = evaluate({"running": running, "new": candidate}, split, seen=("removed",), run=run)
    found = next(one for one in compare(report, "running") if one.metric == METRIC)
    return {
        **{
            name: value
            for name, value in asdict(found).items()
            if name in ("difference", "low", "high", "p")
        },
        "users": len(report.user_ids),
        "is_worse": bool(found.high < 0),
    }
