"""Tell what a fusion chose on validation, and why."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tailor.core.methods import Recommender
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries
from tailor.data.stats import repeats_share
from tailor.pipeline.fusion_weights import Choice
from tailor.pipeline.joining import numbered

REMOVED = "removed"
"""Lists without the items of a user's history."""
KEPT = "kept"
"""Lists with them."""


def labels(parts: Sequence[Recommender]) -> list[str]:
    """Return a distinct name for every part: its class, and settings where others share it.

    Only settings of plain values that are not the default are named.
    """
    names = [part.name for part in parts]
    full = [
        name if names.count(name) == 1 else f"{name}{_changed_settings(part)}"
        for name, part in zip(names, parts, strict=True)
    ]
    return numbered(full)


def _changed_settings(part: Recommender) -> str:
    """Return the settings of a part that are not the default, as in " (window=1)"."""
    changed = [
        f"{setting.name}={value}"
        for setting in dataclasses.fields(part)
        if setting.init
        and isinstance(value := getattr(part, setting.name), str | int | float)
        and value != setting.default
    ]
    return f" ({', '.join(changed)})" if changed else ""


def choice_report(
    choices: Mapping[str, Choice],
    names: Sequence[str],
    data: Dataset,
    queries: Queries,
    targets: Ragged,
) -> dict[str, Any]:
    """Return the report of a fusion: the data, weights of both kinds, and what they are worth.

    `names` are those of the parts that were tried on `queries` with `targets`. "weights" and
    "validation_ndcg@10" are those of lists without the items of the history, where these were
    learned. Parts without weight stand under "left_out" only.
    """
    first = choices.get(REMOVED) or choices[KEPT]
    report: dict[str, Any] = {
        "data": described(data),
        "weights": _used(first, names),
        "validation_ndcg@10": round(first.ndcg, 5),
        "best_part_alone": _best_alone(first, names),
    }
    if len(choices) == 1:
        return report
    kept = choices[KEPT]
    return report | {
        "weights_seen_kept": _used(kept, names),
        "validation_ndcg@10_seen_kept": round(kept.ndcg, 5),
        "best_part_alone_seen_kept": _best_alone(kept, names),
        "seen_items": _advice(first, kept, queries, targets),
    }


def idle_parts(choices: Mapping[str, Choice], names: Sequence[str]) -> dict[str, str]:
    """Return the parts without a weight in any kind of list, with what they are worth alone."""
    idle = {}
    for part, name in enumerate(names):
        if not any(choice.weights[part] for choice in choices.values()):
            alone = " and ".join(
                f"{choice.alone[part]:.4f} with seen items {kind}"
                for kind, choice in choices.items()
            )
            idle[name] = f"adds nothing (alone {alone})"
    return idle


def _used(choice: Choice, names: Sequence[str]) -> dict[str, float]:
    """Return the weights above 0 by name, the largest first."""
    pairs = zip(names, choice.weights, strict=True)
    return dict(sorted(((n, w) for n, w in pairs if w > 0), key=lambda pair: -pair[1]))


def described(data: Dataset) -> str:
    """Return one line on the size of a log and how often its users return to an item."""
    rows = data.sequences.rows
    lengths = rows.lengths[rows.lengths > 0]
    median = float(np.median(lengths)) if len(lengths) else 0.0
    return (
        f"{len(lengths):,} users, {len(data.catalogue):,} items, {len(rows.values):,} events,"
        f" {median:g} a user (median), {repeats_share(data):.1%} of them repeats"
    )


def _best_alone(choice: Choice, names: Sequence[str]) -> str:
    """Return the best single part with its NDCG@10."""
    best = int(np.argmax(choice.alone))
    return f"{names[best]} {choice.alone[best]:.5f}"


def _advice(removed: Choice, kept: Choice, queries: Queries, targets: Ragged) -> str:
    """Return the share of next events that are repeats, and the kind of list that fits them."""
    histories = queries.histories
    size = len(queries.catalogue)
    had = np.isin(
        targets.row_ids * size + targets.values, histories.row_ids * size + histories.values
    )
    share = float(had.mean()) if len(had) else 0.0
    advised = "keep them in lists (keep_seen)" if kept.ndcg > removed.ndcg else "leave them out"
    return f"{share:.1%} of next events are repeats: {advised}"
