"""Heed users who ask not to remember something, in whatever order their messages arrive.

A wish is kept without its words: its time and its place among the messages of its session, so that
a message that arrives later, though it was said just before the wish, is not kept either.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from tailor.profiles.conclusions import forget_observations, observation_of
from tailor.profiles.proposers import SHORT_REQUEST, TEXT_KINDS
from tailor.profiles.propositions import Observation, digest_of
from tailor.profiles.wishes import asks_to_forget
from tailor.store.memory import WISH, WITHDRAWN, WITHHELD, MemoryRows, ObservedRow, Place


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
    wish_ids: Collection[str],
) -> Kept:
    """Store observations but those that must not be kept; forget what wishes take back.

    `value_of` returns the value of an observation's row. `wish_ids` are those that `is_wish` holds
    of: it reads every text, which no transaction waits for.
    """
    forgotten = rows.forgotten([observation.observation_id for observation in observations])
    wishes = {o.observation_id for o in observations if o.observation_id in wish_ids}
    allowed = [o for o in observations if o.observation_id not in forgotten - wishes]
    new_ids = rows.add_observations(
        [
            _wish_row(o)
            if o.observation_id in wishes
            else ObservedRow(o.observation_id, value_of(o), session_of(o))
            for o in allowed
        ]
    )
    # a wish that was sent before was heeded before
    unheeded = [o for o in allowed if o.observation_id in new_ids - forgotten]
    taken_back = _take_back(rows, unheeded, wishes)
    kept_ids = {o.observation_id for o in allowed} - wishes
    return Kept(
        frozenset(new_ids & kept_ids - taken_back),
        len(kept_ids - new_ids),
        len(wishes) + len(kept_ids & taken_back),
        len({o.observation_id for o in observations} - kept_ids - wishes),
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


def _take_back(rows: MemoryRows, new: Sequence[Observation], wish_ids: Collection[str]) -> set[str]:
    """Forget the message before each wish, where one of the two is new; return their ids."""
    sessions: dict[str, list[Observation]] = {}
    for observation in new:
        if session_of(observation):
            sessions.setdefault(session_of(observation), []).append(observation)
    new_ids = {observation.observation_id for observation in new}
    taken_back: dict[str, Observation] = {}
    for session, of_session in sessions.items():
        places = rows.places([observation.observation_id for observation in of_session])
        new_wishes = {place for name, place in places.items() if name in wish_ids}
        said = sorted(place for name, place in places.items() if name not in wish_ids)
        for place in sorted(new_wishes | _next_wishes(rows, session, said)):
            value = rows.message_before(session, place)
            if value is None:
                continue
            message = observation_of(value)
            if place in new_wishes or message.observation_id in new_ids:
                taken_back[message.observation_id] = message
    _withdraw(rows, list(taken_back.values()))
    return set(taken_back)


def _next_wishes(rows: MemoryRows, session: str, places: Sequence[Place]) -> set[Place]:
    """Return the first wish behind each of these places, which are in order."""
    wishes: set[Place] = set()
    latest: Place | None = None
    for place in places:
        if latest is not None and place < latest:
            continue  # the same wish
        latest = rows.wish_after(session, place)
        if latest is None:
            break
        wishes.add(latest)
    return wishes


def _withdraw(rows: MemoryRows, messages: Sequence[Observation]) -> None:
    """Forget messages, and keep their places without their words."""
    if messages:
        forget_observations(rows, [message.observation_id for message in messages])
    rows.add_observations(
        [ObservedRow(m.observation_id, _time(m), session_of(m), WITHDRAWN) for m in messages]
    )
