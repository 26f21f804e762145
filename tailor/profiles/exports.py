"""Write a memory as plain values, and read it back: nothing is trusted that a file says.

An import is checked as deeply as what a service is sent. What an edit says is read from the edit
itself, and no draft weighs more than its kind of observation may.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any, get_args

from tailor.data.ids import id_problem
from tailor.data.times import LAST, UNITS
from tailor.errors import DataError
from tailor.profiles.conclusions import draft_of
from tailor.profiles.edits import NAME as EDITS
from tailor.profiles.edits import EditProposer
from tailor.profiles.propositions import (
    EDITED,
    STATED,
    Act,
    Draft,
    Observation,
    Proposition,
    digest_of,
)

FORMAT, VERSION = "tailor-memory", 1
KINDS = ("event", "review", "chat", "edit", "import")
MOST_DRAFTS = 50  # of one observation, by each proposer
MOST_OF_OBSERVATION = 5 * MOST_DRAFTS  # drafts of one observation in an export
MOST_CHARACTERS = 1_000  # of a predicate, an object, a scope, a source, a name
FIELDS = fields(Observation)
LAST_MS = LAST // UNITS["ms"]


def shown(proposition: Proposition, at_ms: int) -> dict[str, Any]:
    """Return a proposition as plain values, with id, text and confidence at a time."""
    return {
        "proposition_id": proposition.proposition_id,
        "text": proposition.text,
        "confidence": round(proposition.confidence(at_ms), 6),
        **asdict(proposition),
        "support": list(proposition.support),
        "against": list(proposition.against),
    }


def imported(exported: Mapping[str, Any]) -> tuple[list[Observation], list[Draft]]:
    """Return the observations and drafts of an export. Raises DataError for anything else."""
    if not isinstance(exported, Mapping) or exported.get("format") != FORMAT:
        raise DataError(f'this is no exported memory: "format" is not "{FORMAT}"')
    version = exported.get("version")
    if not isinstance(version, int) or version < 1:
        raise DataError(f"version is {version!r}: a whole number from 1")
    if version > VERSION:
        raise DataError(
            f"the export is of version {version}, and this Tailor reads up to {VERSION}: install"
            " the newer Tailor that wrote it"
        )
    try:
        observations = [as_observation(value) for value in exported["observations"]]
        by_id = {observation.observation_id: observation for observation in observations}
        written = map(_written_id, exported["observations"])
        by_id |= dict(zip(written, observations, strict=True))
        drafts = [_checked_draft(value, by_id) for value in exported["drafts"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"the export cannot be read ({type(error).__name__}: {error})") from None
    _check_counts(drafts)
    concluded = [draft for draft in drafts if draft.proposer != EDITS]
    return observations, [*concluded, *EditProposer().propose(observations)]


def as_observation(value: Mapping[str, Any]) -> Observation:
    """Return an observation of plain values. Raises TypeError for a field of another type."""
    observation = Observation(**value)
    number, item_id = observation.value, observation.item_id
    is_sound = (
        observation.kind in KINDS
        and _is_whole(observation.occurred_ms)
        and isinstance(observation.text, str)
        and _are_short([observation.source, observation.speaker])
        and (number is None or (_is_number(number) and math.isfinite(number)))
        and (item_id is None or (isinstance(item_id, str) and id_problem(item_id) is None))
    )
    if not is_sound:
        raise TypeError("an observation has a field of another type")
    return observation


def _checked_draft(value: Mapping[str, Any], observations: Mapping[str, Observation]) -> Draft:
    """Return the draft of plain values. Raises TypeError or ValueError for an unsound one."""
    draft = draft_of(value)
    texts = [draft.predicate, draft.object, draft.scope, draft.proposer, draft.observation_id]
    is_sound = (
        _are_short(texts)
        and _is_whole(draft.sign)
        and _is_whole(draft.sensitivity)
        and _is_whole(draft.occurred_ms)
        and 0 <= draft.occurred_ms <= LAST_MS
        and _is_number(draft.weight)
        and draft.act in get_args(Act)
        and (draft.span is None or (len(draft.span) == 2 and all(map(_is_whole, draft.span))))
    )
    if not is_sound:
        raise TypeError("a draft has a field of another type")
    observation = observations.get(draft.observation_id)
    if observation is None:
        raise ValueError("a draft rests on an observation that the export lacks")
    most = EDITED if observation.kind == "edit" else STATED
    if not draft.weight <= most:
        raise ValueError(f"a draft of a {observation.kind} weighs {draft.weight}: {most} at most")
    return replace(draft, observation_id=observation.observation_id)


def _written_id(value: Mapping[str, Any]) -> str:
    """Return the id that an observation has with its numbers as they are written.

    An older version took 4 and 4.0 for two numbers.
    """
    return digest_of({field.name: value.get(field.name, field.default) for field in FIELDS})


def _check_counts(drafts: Sequence[Draft]) -> None:
    """Raise DataError where one observation says more than any proposers conclude."""
    counts = Counter(draft.observation_id for draft in drafts)
    most = max(counts.values(), default=0)
    if most > MOST_OF_OBSERVATION:
        raise DataError(
            f"an observation of the export has {most:,} drafts: {MOST_OF_OBSERVATION} at most"
        )


def _are_short(texts: Iterable[object]) -> bool:
    return all(isinstance(text, str) and len(text) <= MOST_CHARACTERS for text in texts)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value as JSON has it."""
    return dict(json.loads(json.dumps(value)))
