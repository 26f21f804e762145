"""A user's own word about what is believed: confirm, reject, correct, as observations.

An edit is an observation of the kind "edit", whose text is the JSON of what it says. So a replay
keeps it, and it is exported and forgotten like everything else.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from tailor.errors import DataError
from tailor.profiles.propositions import EDITED, Act, Draft, Observation, Proposition
from tailor.profiles.sensitive_words import sensitivity_of

FIELDS = ("slot", "predicate", "object", "sign", "scope", "sensitivity", "act")
NAME = "edits@1"


@dataclass(frozen=True)
class EditProposer:
    """Reads a user's edits: what each confirms or rejects."""

    name: str = NAME
    """Name and version, which its drafts carry."""

    def propose(self, observations: Sequence[Observation]) -> list[Draft]:
        """Return a draft for every edit; one that cannot be read says nothing."""
        drafts = [_read(observation) for observation in observations if observation.kind == "edit"]
        return [draft for draft in drafts if draft is not None]


def edit(proposition: Proposition, act: Act, time_ms: int, value: str = "") -> Observation:
    """Return the observation that confirms or rejects a proposition.

    `value` takes the place of its object. An edit is never earlier than what it is about, whatever
    the clocks say, since a rejection takes away what was said until then. What is past stays past:
    it is confirmed for the time from which it held, and rejected until it was last said.
    """
    draft = Draft(
        "",
        proposition.slot,  # type: ignore[arg-type]
        proposition.predicate,
        value or proposition.object,
        proposition.polarity,
        EDITED,
        scope=proposition.scope,
        sensitivity=max(
            proposition.sensitivity, sensitivity_of(f"{proposition.predicate} {value or ''}")
        ),
        act=act,
    )
    content = {name: part for name, part in asdict(draft).items() if name in FIELDS}
    occurred_ms = _time_of(proposition, act, time_ms)
    return Observation("edit", json.dumps(content, sort_keys=True), occurred_ms)


def _time_of(proposition: Proposition, act: Act, time_ms: int) -> int:
    """Return the time from which an edit at `time_ms` counts."""
    if proposition.is_past and act == "confirm":
        return proposition.valid_from_ms
    said_ms = max(proposition.last_support_ms, proposition.valid_from_ms)
    return said_ms if proposition.is_past else max(time_ms, said_ms)


def words_of(observation: Observation) -> str:
    """Return the words of an observation, of an edit the object that it names."""
    if observation.kind != "edit":
        return observation.text
    draft = _read(observation)
    return "" if draft is None else draft.object


def _read(observation: Observation) -> Draft | None:
    try:
        content = json.loads(observation.text)
        draft = Draft(
            observation.observation_id,
            occurred_ms=observation.occurred_ms,
            weight=EDITED,
            proposer=NAME,
            **{name: content[name] for name in FIELDS},
        )
        is_sound = all(isinstance(text, str) for text in (draft.object, draft.predicate))
        is_sound = is_sound and isinstance(draft.scope, str)
        is_sound = is_sound and draft.act in ("say", "confirm", "reject")
    except (ValueError, KeyError, TypeError, AttributeError, DataError):
        return None
    return draft if is_sound else None
