"""Decide what may be shown by how sensitive it is: one rule for every reading of a memory."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from tailor.errors import DataError
from tailor.profiles.edits import words_of
from tailor.profiles.propositions import Draft, Observation, Proposition
from tailor.profiles.sensitive_words import sensitivity_of

MOST_SENSITIVITY = 1
"""Of what a reading shows unless it asks for more: from 0, anybody may see it, to 3, health,
religion, sex, politics."""
ALL = 3
"""Shows everything."""


def as_sensitive_as_words(draft: Draft) -> Draft:
    """Return a draft that is at least as sensitive as its words, whatever its proposer says."""
    least = sensitivity_of(f"{draft.predicate} {draft.object} {draft.scope}")
    return draft if draft.sensitivity >= least else replace(draft, sensitivity=least)


def shown_propositions(
    propositions: Iterable[Proposition],
    most_sensitivity: int,
    current: Iterable[Proposition] = (),
) -> list[Proposition]:
    """Return the propositions that are at most so sensitive. Raises DataError unless 0 to 3.

    A version of the past is as sensitive as any of its group that is believed now (`current`).
    """
    if not 0 <= most_sensitivity <= ALL:
        raise DataError(f"most_sensitivity is {most_sensitivity}: from 0 to {ALL}")
    hidden = {p.group for p in current if p.sensitivity > most_sensitivity}
    shown = [p for p in propositions if p.sensitivity <= most_sensitivity]
    return [p for p in shown if p.group not in hidden]


def shown_observations(
    observations: Sequence[Observation],
    propositions: Iterable[Proposition],
    drafts: Iterable[Draft],
    most_sensitivity: int,
) -> list[Observation]:
    """Return the observations that are at most so sensitive.

    An observation is as sensitive as its words, as each of its drafts, whether or not it counts,
    and as every proposition that rests on it.
    """
    if most_sensitivity >= ALL:
        return list(observations)
    hidden_ids = {
        observation_id
        for proposition in propositions
        if proposition.sensitivity > most_sensitivity
        for observation_id in (*proposition.support, *proposition.against)
    }
    hidden_ids |= {d.observation_id for d in drafts if d.sensitivity > most_sensitivity}
    return [
        observation
        for observation in observations
        if observation.observation_id not in hidden_ids
        and sensitivity_of(words_of(observation)) <= most_sensitivity
    ]
