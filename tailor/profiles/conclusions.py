"""Keep what is believed in step with what is stored, within the transaction of the caller.

Rows of a memory become observations, drafts and propositions here, and the other way round. Every
function costs the same however much was ever said of a group: its latest drafts count.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from tailor.profiles.edits import NAME as EDITS
from tailor.profiles.edits import words_of
from tailor.profiles.kept_vectors import NAME as VECTOR
from tailor.profiles.kept_vectors import Packed
from tailor.profiles.propositions import DAY_MS, Draft, Group, Observation, Proposition
from tailor.profiles.recall import Remembered
from tailor.profiles.revision import MOST_COUNTED, believed, believed_of_all, by_group, changes
from tailor.store.memory import AddedRow, MemoryRows, MemoryState

EXPIRED_AT_ONCE = 200
"""Observations past their retention that a write deletes; readings show none of the others."""


class Difference(NamedTuple):
    """Propositions that one state of a memory lacks, and those that it has, beside another."""

    retracted: tuple[Proposition, ...]
    added: tuple[Proposition, ...]


# --- values of rows


def key_of(group: Group) -> str:
    """Return the key of a group's rows."""
    return json.dumps(list(group))


def draft_row(draft: Draft) -> AddedRow:
    """Return the row of a draft."""
    return AddedRow(draft.observation_id, key_of(draft.group), asdict(draft), draft.rank)


def draft_of(value: Mapping[str, Any]) -> Draft:
    """Return the draft of a row's value."""
    span = value["span"]
    return Draft(**{**value, "span": None if span is None else tuple(span)})


def observation_of(value: Mapping[str, Any]) -> Observation:
    """Return the observation of a row's value."""
    observation = Observation(**{name: part for name, part in value.items() if name != VECTOR})
    # a row of an older version has the name of its number as it was given, 4 or 4.0
    object.__setattr__(observation, "value", value.get("value"))
    return observation


def proposition_of(value: Mapping[str, Any]) -> Proposition:
    """Return the proposition of a row's value."""
    sides = {name: tuple(value[name]) for name in ("support", "against")}
    return Proposition(**{n: part for n, part in {**value, **sides}.items() if n != VECTOR})


def propositions_of(values: Iterable[Mapping[str, Any]]) -> tuple[Proposition, ...]:
    """Return the propositions of rows' values, the earliest first."""
    propositions = map(proposition_of, values)
    return tuple(sorted(propositions, key=lambda p: (p.valid_from_ms, p.proposition_id)))


def recallable(proposition: Proposition, at_ms: int) -> Remembered:
    """Return a proposition in the form in which it is recalled."""
    return Remembered(
        proposition.proposition_id,
        "proposition",
        proposition.text,
        proposition.valid_from_ms,
        "user",
        confidence=proposition.confidence(at_ms),
        scope=proposition.scope,
        observation_ids=(*proposition.support, *proposition.against),
    )


def with_vector(
    value: dict[str, Any], line: str | None, vectors: Mapping[str, Packed]
) -> dict[str, Any]:
    """Return a value with its vector, where there is one of its line."""
    packed = None if line is None else vectors.get(line)
    return value if packed is None else {**value, VECTOR: packed}


# --- what follows


def revise(
    rows: MemoryRows, groups: Iterable[Group], vectors: Mapping[str, Packed] | None = None
) -> Difference:
    """Believe of groups what follows from their drafts, and store the difference."""
    keys = [key_of(group) for group in sorted(set(groups))]
    if not keys:
        return Difference((), ())
    drafts = by_group(map(draft_of, rows.drafts_of(keys, MOST_COUNTED)))
    new = [p for group in drafts.values() for p in believed(group, rows.order_of)]
    return _store(rows, rows.propositions_of(keys), new, vectors or {})


def mend(rows: MemoryRows) -> None:
    """Believe anew what follows from all drafts, after rows went without a look at the others."""
    new = believed_of_all(map(draft_of, rows.drafts()), rows.order_of)
    _store(rows, rows.current(), new, {})
    rows.change_settings(due=False)


def _store(
    rows: MemoryRows,
    stored: Sequence[Mapping[str, Any]],
    new: Sequence[Proposition],
    vectors: Mapping[str, Packed],
) -> Difference:
    """Write propositions in place of stored ones; later versions keep their vectors."""
    retracted, added = changes(propositions_of(stored), new)
    by_line = {_line(proposition_of(value)): value[VECTOR] for value in stored if VECTOR in value}
    by_line |= vectors
    added_rows = [
        AddedRow(
            p.proposition_id,
            key_of(p.group),
            with_vector(asdict(p), _line(p) if by_line else None, by_line),
        )
        for p in added
    ]
    rows.write([p.proposition_id for p in retracted], added_rows)
    return Difference(retracted, added)


def _line(proposition: Proposition) -> str:
    return recallable(proposition, proposition.valid_from_ms).turn.line()


# --- forgetting


def forget_observations(
    rows: MemoryRows, observation_ids: Sequence[str], for_good: bool = True
) -> tuple[dict[str, int], list[str]]:
    """Delete observations and what rests on them; return rows by table, and the texts.

    Edits of what only these observations said go too: they hold the same words.
    """
    texts: list[str] = []
    counts: dict[str, int] = {}
    ids = list(observation_ids)
    while True:
        texts += [words_of(observation_of(value)) for value in rows.observations(ids=ids)]
        drafts = [draft_of(value) for value in rows.drafts_from(ids)]
        keys = sorted({key_of(draft.group) for draft in drafts})
        for table, count in rows.forget(ids, keys, for_good).items():
            counts[table] = counts.get(table, 0) + count
        left = [draft_of(value) for value in rows.drafts_of(keys, MOST_COUNTED)]
        ids = _edits_without_support(drafts, left)
        if not ids:
            revise(rows, {draft.group for draft in drafts})
            return counts, texts


def _edits_without_support(deleted: Sequence[Draft], left: Sequence[Draft]) -> list[str]:
    """Return the edits that are left of what nobody says any more, since it was deleted."""
    supported = {(draft.group, draft.object_key) for draft in left if draft.proposer != EDITS}
    gone = {(draft.group, draft.object_key) for draft in deleted} - supported
    edits = set()
    for draft in left:
        if draft.proposer == EDITS and (draft.group, draft.object_key) in gone:
            edits.add(draft.observation_id)
    return sorted(edits)


def first_ms_of(state: MemoryState, time_ms: int) -> float:
    """Return the time before which observations are past their retention."""
    return 0.0 if state.retention_days is None else time_ms - state.retention_days * DAY_MS


def expiry_ms_of(state: MemoryState, observed: Iterable[Mapping[str, Any]]) -> float:
    """Return the time after which one of these observations is past its retention."""
    if state.retention_days is None:
        return math.inf
    first_ms = min((value["occurred_ms"] for value in observed), default=math.inf)
    return float(first_ms + state.retention_days * DAY_MS)


def expire(rows: MemoryRows, time_ms: int) -> int:
    """Delete observations past the memory's retention, the earliest first; return how many."""
    first_ms = first_ms_of(rows.state, time_ms)
    if first_ms <= 0:
        return 0
    old = [observation_of(value) for value in rows.before(first_ms, EXPIRED_AT_ONCE)]
    if old:
        ids = [observation.observation_id for observation in old]
        forget_observations(rows, ids, for_good=False)
    rows.drop_before(first_ms)
    return len(old)
