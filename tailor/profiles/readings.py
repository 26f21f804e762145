"""Read from a memory's rows what is not past its retention, whether or not it was deleted yet."""

from dataclasses import asdict
from typing import Any

from tailor.profiles.conclusions import (
    draft_of,
    first_ms_of,
    key_of,
    observation_of,
    proposition_of,
)
from tailor.profiles.kept_vectors import NAME as VECTOR
from tailor.profiles.propositions import Proposition
from tailor.profiles.revision import MOST_COUNTED, believed, by_group
from tailor.store.memory import MemoryRows


def readable_observations(
    rows: MemoryRows, time_ms: int, as_of_ms: int | None = None
) -> list[dict[str, Any]]:
    """Return the values of observations, in the order in which they were recorded."""
    first_ms = first_ms_of(rows.state, time_ms)
    return [value for value in rows.observations(as_of_ms) if value["occurred_ms"] >= first_ms]


def readable_propositions(
    rows: MemoryRows, time_ms: int, as_of_ms: int | None = None
) -> list[dict[str, Any]]:
    """Return the values of propositions that are believed now, or were at a recorded time.

    Of now they are those that follow from observations within the retention. As of a time before,
    those that rested on one of these.
    """
    values = rows.current(as_of_ms)
    old = rows.before(first_ms_of(rows.state, time_ms))
    expired = {observation_of(value).observation_id for value in old}
    if not expired:
        return values
    if as_of_ms is not None:
        return [value for value in values if not expired.issuperset(value["support"])]
    concerned = {
        proposition.group
        for proposition in map(proposition_of, values)
        if not expired.isdisjoint((*proposition.support, *proposition.against))
    }
    keys = sorted(key_of(group) for group in concerned)
    drafts = [draft_of(value) for value in rows.drafts_of(keys, MOST_COUNTED)]
    left = by_group(draft for draft in drafts if draft.observation_id not in expired)
    anew = [p for group in left.values() for p in believed(group, rows.order_of)]
    return [
        *(value for value in values if proposition_of(value).group not in concerned),
        *_with_vectors(anew, values),
    ]


def _with_vectors(
    propositions: list[Proposition], stored: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return propositions as values, each with the vector that is stored of its id."""
    vectors = {
        proposition_of(value).proposition_id: {VECTOR: value[VECTOR]}
        for value in stored
        if VECTOR in value
    }
    return [{**asdict(p), **vectors.get(p.proposition_id, {})} for p in propositions]
