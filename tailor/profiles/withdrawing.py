"""Heed users who ask not to remember something, in whatever order their messages arrive.

A wish is kept without its words: its time and its place among the messages of its session, so that
a message that arrives later, though it was said just before the wish, is not kept either.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tailor.profiles.conclusions import forget_observations, observation_of
from tailor.profiles.proposers import SHORT_REQUEST, TEXT_KINDS
from tailor.profiles.propositions import Observation, digest_of
from tailor.profiles.wishes import asks_to_forget
from tailor.store.memory import WISH, WITHDRAWN, WITHHELD, MemoryRows, ObservedRow


class Kept(NamedTuple):
    """Outcome of storing observations."""

    new_ids: frozenset[str]
    """Of those that are kept, and were not known before."""
    repeats: int
    """How many are kept, and were known before."""
    withdrawn: int
    """How many are not kept, since the user asks for it."""
    forgotten: int
    """How many are not kept, since they were forgotten before."""


def store_observations(
    rows: MemoryRows,
    observations: Sequence[Observation],
    value_of: Callable[[Observation], dict[str, Any]],
) -> Kept:
    """Store observations but those that must not be kept; forget what wishes take back.

    `value_of` returns the value of an observation's row.
    """
    forgotten = rows.forgotten([observation.observation_id for observation in observations])
    wishes = {wish.observation_id: wish for wish in observations if is_wish(wish)}
    allowed = [o for o in observations if o.observation_id not in forgotten - set(wishes)]
    new_ids = rows.add_observations(
        [
            _wish_row(o)
            if o.observation_id in wishes
            else ObservedRow(o.observation_id, value_of(o), session_of(o))
            for o in allowed
        ]
    )
    # a wish that was sent before was heeded before
    taken_back = _take_back(rows, [o for o in allowed if o.observation_id in new_ids - forgotten])
    kept_ids = {o.observation_id for o in allowed} - set(wishes)
    return Kept(
        frozenset(new_ids & kept_ids - taken_back),
        len(kept_ids - new_ids),
        len(wishes) + len(kept_ids & taken_back),
        len({o.observation_id for o in observations} - kept_ids - set(wishes)),
    )


def is_wish(observation: Observation) -> bool:
    """Return whether a user's message asks not to remember something."""
    return (
        observation.speaker == "user"
        and session_of(observation) != ""
        and asks_to_forget(observation.text)
    )


def session_of(observation: Observation) -> str:
    """Return the key of the messages that an observation stands among; "" if it is none."""
    if observation.kind not in TEXT_KINDS or observation.kind == "edit":
        return ""
    return digest_of([observation.source, observation.speaker])


def _wish_row(wish: Observation) -> ObservedRow:
    """Return the row of a wish; one that says something itself takes nothing else back."""
    is_about_before = len(wish.text.split()) <= SHORT_REQUEST
    state = WISH if is_about_before else WITHHELD
    return ObservedRow(wish.observation_id, _time(wish), session_of(wish), state)


def _time(observation: Observation) -> dict[str, int]:
    return {"occurred_ms": observation.occurred_ms}


def _take_back(rows: MemoryRows, new: Sequence[Observation]) -> set[str]:
    """Forget the message before each wish, where one of the two is new; return their ids."""
    first_ms: dict[str, int] = {}
    for observation in new:
        session, time_ms = session_of(observation), observation.occurred_ms
        if session:
            first_ms[session] = min(time_ms, first_ms.get(session, time_ms))
    new_ids = {observation.observation_id for observation in new}
    new_wishes = {(session_of(o), o.occurred_ms) for o in new if is_wish(o)}
    taken_back = set()
    for session, since_ms in first_ms.items():
        for place in rows.wishes(session, since_ms):
            value = rows.message_before(session, place)
            if value is None:
                continue
            message = observation_of(value)
            is_new_wish = (session, place.occurred_ms) in new_wishes
            if is_new_wish or message.observation_id in new_ids:
                _withdraw(rows, message)
                taken_back.add(message.observation_id)
    return taken_back


def _withdraw(rows: MemoryRows, message: Observation) -> None:
    """Forget a message, and keep its place without its words."""
    forget_observations(rows, [message.observation_id])
    place = ObservedRow(message.observation_id, _time(message), session_of(message), WITHDRAWN)
    rows.add_observations([place])
