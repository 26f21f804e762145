"""Hold what a memory knows of a user: raw observations, what each says, and what is believed.

An observation is never changed. A draft is what one observation says, in closed form. A proposition
is what is believed: it is computed from drafts (`profiles.revision`) and never written by hand.
"""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Literal, NamedTuple

from tailor.errors import DataError
from tailor.text.words import search_words

Slot = Literal["preference", "fact", "goal", "constraint", "style", "skill", "relation"]
Status = Literal["active", "superseded", "disputed", "confirmed", "rejected"]
Act = Literal["say", "confirm", "reject"]
DAY_MS = 86_400_000
PRIOR = 1.0
"""Of alpha and beta: one imagined observation on either side."""
STATED, EDITED, INFERRED, GUESSED = 1.0, 3.0, 0.3, 0.2
"""Weights: said by the user, edited by the user, concluded from an event, guessed by a model."""
MOST_GROWTH = 4.0
"""Factor by which repeated support lengthens a half-life, at most."""
HALF_LIFE_DAYS: dict[str, float | None] = {
    "preference": 180.0,
    "fact": None,
    "goal": 30.0,
    "constraint": None,
    "style": 365.0,
    "skill": None,
    "relation": None,
}
"""Of a slot: days after which support counts half; None: it always counts."""
ONE_VALUE = frozenset(
    [
        "lives in",
        "works at",
        "works as",
        "is named",
        "is aged",
        "follows the diet",
        "price band",
        "is married to",
        "studies at",
        "drives",
    ]
)
"""Predicates with one value at a time: a later value takes the place of the earlier one."""


@dataclass(frozen=True)
class Observation:
    """Something that was said or done: raw, and never changed."""

    kind: Literal["event", "review", "chat", "edit", "import"]
    text: str = ""
    """The words; "" where there are none."""
    occurred_ms: int = 0
    """When it happened, in milliseconds since 1970."""
    item_id: str | None = None
    """The item that it concerns."""
    value: float | None = None
    """A number that came with it, such as a rating."""
    source: str = ""
    """Where it comes from: a session, a channel, a file."""
    speaker: str = "user"
    """Who said it: "user", "assistant", or another person's name."""

    def __post_init__(self) -> None:
        if isinstance(self.value, int) and not isinstance(self.value, bool):
            object.__setattr__(self, "value", float(self.value))  # 4 and 4.0 are one number

    @cached_property
    def observation_id(self) -> str:
        """Digest of all fields: an equal observation is the same one."""
        return digest_of({field.name: getattr(self, field.name) for field in fields(self)})


@dataclass(frozen=True)
class Draft:
    """Something that one observation says about a user, in closed form."""

    observation_id: str
    slot: Slot
    predicate: str
    """A verb phrase, such as "likes" or "lives in"."""
    object: str
    """What the predicate is said of, in the words of the observation."""
    sign: Literal[1, -1] = 1
    """-1: the observation denies it, as "no longer lives in Paris" does."""
    weight: float = STATED
    """How much it counts: STATED, EDITED, INFERRED, GUESSED, or a number between."""
    occurred_ms: int = 0
    """When it began to hold: the time of the observation, or one that it names."""
    scope: str = ""
    """When it holds, such as "at work"; "": always."""
    proposer: str = ""
    """What concluded it, as name@version."""
    span: tuple[int, int] | None = None
    """Where the observation's text says it, in characters."""
    sensitivity: int = 0
    """0: anybody may see it, to 3: health, religion, sex, politics."""
    act: Act = "say"
    """confirm, reject: the user's own word about the proposition."""

    def __post_init__(self) -> None:
        if not self.predicate.strip() or not self.object.strip():
            raise DataError(f"a draft says {self.predicate!r} of {self.object!r}: neither is empty")
        if not self.weight > 0 or self.sign not in (1, -1) or not 0 <= self.sensitivity <= 3:
            raise DataError(
                f"weight is {self.weight}, sign {self.sign}, sensitivity {self.sensitivity}: above"
                " 0, 1 or -1, from 0 to 3"
            )
        if self.slot not in HALF_LIFE_DAYS:
            raise DataError(f'slot is "{self.slot}": one of {", ".join(HALF_LIFE_DAYS)}')

    @cached_property
    def object_key(self) -> str:
        """The object's stems in order, so that "Green teas" and "green tea" are one."""
        return " ".join(search_words(self.object, "english")) or self.object.strip().casefold()

    @cached_property
    def digest(self) -> str:
        """Digest that orders drafts of one time."""
        return digest_of([self.observation_id, self.object, self.sign, self.act, self.proposer])

    @property
    def group(self) -> "Group":
        """The drafts that this one is weighed together with."""
        key = "" if self.predicate in ONE_VALUE else self.object_key
        return Group(self.slot, self.predicate, self.scope, key)

    @property
    def is_explicit(self) -> bool:
        """True if the user said it, and nobody concluded it."""
        return self.weight >= STATED

    @property
    def rank(self) -> int:
        """2: the user's word about a proposition, 1: said by the user, 0: concluded."""
        return 2 if self.act != "say" else int(self.is_explicit)


class Group(NamedTuple):
    """Key of drafts that are weighed together: about one object, or all values of a predicate."""

    slot: str
    predicate: str
    scope: str
    object_key: str
    """"": the predicate has one value at a time."""


@dataclass(frozen=True)
class Proposition:
    """Something that is believed of a user for a time."""

    slot: str
    predicate: str
    object: str
    object_key: str
    polarity: Literal[1, -1]
    """-1: the opposite is believed, such as "does not like"."""
    scope: str
    alpha: float
    """PRIOR plus the weights of what supports it."""
    beta: float
    """PRIOR plus the weights of what speaks against it."""
    valid_from_ms: int
    valid_to_ms: int | None
    """When another one took its place; None: it still holds."""
    last_support_ms: int
    status: Status
    sensitivity: int
    support: tuple[str, ...]
    """Observations that support it, by id, in their order of time."""
    against: tuple[str, ...] = ()
    """Observations that speak against it."""

    @property
    def proposition_id(self) -> str:
        """Digest of what is said, and since when: the same after a replay."""
        identity = (self.slot, self.predicate, self.object_key, self.polarity, self.scope)
        return digest_of([*identity, self.valid_from_ms])

    @property
    def group(self) -> Group:
        """The group whose drafts it follows from."""
        key = "" if self.predicate in ONE_VALUE else self.object_key
        return Group(self.slot, self.predicate, self.scope, key)

    @property
    def is_past(self) -> bool:
        """True if another value or stance took its place."""
        return self.valid_to_ms is not None and self.status in ("superseded", "disputed")

    @property
    def half_life_days(self) -> float | None:
        """Days after which its support counts half, longer for repeated support; None: never."""
        days = HALF_LIFE_DAYS[self.slot]
        if days is None:
            return None
        return days * min(1 + math.log(max(len(self.support), 1)), MOST_GROWTH)

    @property
    def text(self) -> str:
        """The proposition as a clause: "does not like green tea (at work)"."""
        verb = self.predicate if self.polarity > 0 else _denied(self.predicate)
        return f"{verb} {self.object}" + (f" ({self.scope})" if self.scope else "")

    def confidence(self, at_ms: int) -> float:
        """Return the probability that it holds at a time; without support it nears one half."""
        share = self._share_left(at_ms)
        support = (self.alpha - PRIOR) * share
        against = (self.beta - PRIOR) * share
        return (PRIOR + support) / (2 * PRIOR + support + against)

    def _share_left(self, at_ms: int) -> float:
        """Return how much support still counts at a time, from 0 to 1."""
        days = self.half_life_days
        if days is None:
            return 1.0
        passed_days = max(at_ms - self.last_support_ms, 0) / DAY_MS
        return float(2 ** -(passed_days / days))

    def holds_at(self, at_ms: int) -> bool:
        """Return whether it is believed of a time, and neither rejected nor disputed."""
        is_believed = self.status in ("active", "confirmed", "superseded")
        is_over = self.valid_to_ms is not None and at_ms >= self.valid_to_ms
        return is_believed and self.valid_from_ms <= at_ms and not is_over


def digest_of(value: object) -> str:
    """Return a digest of plain values, the same in every process."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def state_hash(propositions: Iterable[Proposition]) -> str:
    """Return a digest of what is believed, in whatever order it was learned."""
    return digest_of(sorted(json.dumps(asdict(p), sort_keys=True) for p in propositions))


def _denied(predicate: str) -> str:
    """Return a verb phrase that denies: "does not like", "is not a member of"."""
    first, _, rest = predicate.partition(" ")
    if first in ("is", "has", "can", "was"):
        return f"{first} not {rest}".strip()
    base = (
        first.removesuffix("es") if first.endswith(("shes", "ches", "sses", "xes", "oes")) else ""
    )
    base = base or (f"{first[:-3]}y" if first.endswith("ies") else first.removesuffix("s"))
    return f"does not {base} {rest}".strip()
