"""Planted lives as observations, and memories judged by their truth."""

from collections.abc import Sequence

import numpy as np

from tailor.profiles.propositions import Draft, Observation, Proposition
from tailor.profiles.recall import Recall, Remembered
from tailor.worlds.lives import DAY_MS, START_MS, Lives, PlantedFact


def observations_of(world: Lives) -> dict[str, list[Observation]]:
    """Return user -> what she and the assistant said, in order."""
    by_user: dict[str, list[Observation]] = {}
    for row in world.data.tables["turns"].iter_rows(named=True):
        observation = Observation(
            "chat",
            row["text"],
            row["time_ms"],
            source=row["session_id"],
            speaker=row["speaker"],
        )
        by_user.setdefault(row["dialogue_id"], []).append(observation)
    return by_user


def as_remembered(propositions: Sequence[Proposition], at_ms: int) -> list[Remembered]:
    """Return the propositions that hold at a time."""
    return [
        Remembered(
            p.proposition_id,
            "proposition",
            p.text,
            p.valid_from_ms,
            confidence=p.confidence(at_ms),
            scope=p.scope,
            observation_ids=p.support,
        )
        for p in propositions
        if p.holds_at(at_ms)
    ]


def every_draft(drafts: Sequence[Draft]) -> list[Remembered]:
    """Return a memory that only adds: each draft a row, nothing replaced."""
    return [
        Remembered(f"{i}", "proposition", f"{d.predicate} {d.object}", d.occurred_ms)
        for i, d in enumerate(drafts)
        if d.sign > 0
    ]


def value_places(
    memory: Sequence[Remembered], question: str, values: Sequence[str], recall: Recall
) -> list[int]:
    """Return the place of each value among what is recalled, 99 where it is not."""
    texts = [item.text for item in recall.search(memory, question, k=20).items]
    return [
        next((place for place, text in enumerate(texts) if text.endswith(value)), 99)
        for value in values
    ]


def holding(facts: Sequence[PlantedFact]) -> set[tuple[str, str, int, str]]:
    """Return what is true at the end: (predicate, object, sign, scope)."""
    return {
        (f.predicate, f.object, f.sign, f.scope)
        for f in facts
        if f.to_day is None and f.kind != "contradicted"
    }


def key(p: Proposition) -> tuple[str, str, int, str]:
    """Return a proposition as `holding` has facts."""
    return p.predicate, p.object, p.polarity, p.scope


def end_ms(days: int = 360) -> int:
    """Return the time at which questions are asked."""
    return START_MS + days * DAY_MS


def share(hits: Sequence[bool]) -> float:
    """Return the share of hits, rounded."""
    return round(float(np.mean(hits)), 4) if len(hits) else float("nan")
