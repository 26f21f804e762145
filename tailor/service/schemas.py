"""What callers may send, field by field. An unknown field is an error: a misspelt one would be
ignored without a word.
"""

import math
import time
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat

SECONDS = 10**9  # what a clock of seconds has shown since 2001
AHEAD_MS = 24 * 3600 * 1000  # how far a caller's clock may run ahead
MOST_EVENTS = 5_000  # of a batch
MOST_ITEMS = 2_000
MOST_HISTORY = 1_000
DEPTH, SIZE = 6, 20_000  # of a nested value


def storable(text: str) -> str:
    """Raises ValueError for what no database holds."""
    if "\0" in text:
        raise ValueError("holds a zero character")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair, which is no text") from None
    return text


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return storable(text)


def _named(text: str) -> str:
    if text in (".", ".."):
        raise ValueError(
            "is a step in an address, which senders leave out: it could never be asked for"
        )
    return _filled(text)


def _addressed(item_id: str) -> str:
    if item_id.endswith("/takedown"):
        raise ValueError(
            "ends like the address that takes an item down: deleting it would restore another"
        )
    return item_id


def _now_or_before(time_ms: int) -> int:
    if time_ms > time.time() * 1000 + AHEAD_MS:
        raise ValueError(
            "lies more than a day ahead: milliseconds since 1970 are asked for, and the sender's"
            " clock must be right"
        )
    if SECONDS <= time_ms <= time.time() + AHEAD_MS / 1000:
        raise ValueError(
            "lies in January 1970, and is a moment since 2001 as seconds: milliseconds since 1970"
            " are asked for"
        )
    return time_ms


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """Raises ValueError for numbers that JSON lacks, and for what is nested too deep or too large."""
    left = [SIZE]

    def look(one: Any, depth: int) -> None:
        left[0] -= 1
        if depth > DEPTH or left[0] < 0:
            raise ValueError(f"is nested deeper than {DEPTH} or has more than {SIZE} values")
        if isinstance(one, float) and not math.isfinite(one):
            raise ValueError("holds a number that is not finite")
        if isinstance(one, int) and abs(one) >= 2**63:
            raise ValueError("holds a whole number of more than 63 bits")
        if isinstance(one, str):
            storable(one)
        for part in (
            (*one.keys(), *one.values())
            if isinstance(one, dict)
            else one
            if isinstance(one, list)
            else ()
        ):
            look(part, depth + 1)

    look(value, 0)
    return value


Id = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_named)]
Words = Annotated[str, Field(max_length=1_000_000), AfterValidator(storable)]
Short = Annotated[str, Field(max_length=1_000), AfterValidator(storable)]
Plain = Annotated[dict[str, Any], AfterValidator(_plain)]
K = Annotated[int, Field(ge=1, le=200)]


class Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Event(Schema):
    """Something a person did with an item."""

    event_id: Id = Field(
        description=(
            "Any id of yours. The same id again is the same event: sending twice counts once."
        )
    )
    user_id: Id
    item_id: Id
    time_ms: Annotated[int, Field(ge=0), AfterValidator(_now_or_before)] | None = Field(
        None, description="Milliseconds since 1970; left out: now."
    )
    action: Short | None = None
    value: FiniteFloat | None = None
    request_id: Id | None = Field(None, description="Of the answer that the item was chosen from.")


class Events(Schema):
    """Events are read one by one: a bad one is named, and takes nothing from the others."""

    events: Annotated[list[Any], Field(max_length=MOST_EVENTS)]


class Item(Schema):
    """An item of the catalogue."""

    item_id: Annotated[Id, AfterValidator(_addressed)]
    title: Short | None = None
    text: Words | None = None
    categories: Annotated[list[Short], Field(max_length=100)] | None = None
    price: FiniteFloat | None = None
    more: Plain | None = Field(None, description="Further columns, for filters.")


class Items(Schema):
    items: Annotated[list[Item], Field(max_length=MOST_ITEMS)]


class Takedown(Schema):
    reason: Short = ""


class Person(Schema):
    more: Plain = Field(
        default_factory=dict, description="What is known besides events, such as a country."
    )


class ListQuestion(Schema):
    """What every question may say."""

    k: K = 10
    exclude: Annotated[list[Id], Field(max_length=MOST_HISTORY)] = Field(
        default_factory=list, description="Items that must not be answered."
    )
    filter: Short | None = Field(
        None,
        description=(
            "A condition that items must meet, such as: price <= 50 and categories has 'tea'"
        ),
    )
    request_id: Id | None = Field(
        None,
        description=(
            "Left out: one is made. The same id gives the same answer where chance plays a part."
        ),
    )


class Recommend(ListQuestion):
    """Who asks: a user whose events are stored, or a history as it is; neither is a stranger."""

    user_id: Id | None = None
    history: Annotated[list[Id], Field(max_length=MOST_HISTORY)] | None = Field(
        None, description="Item ids, oldest first, in place of stored events."
    )
    text: Short = Field("", description="Words to search for, for models that read them.")
    context: Plain = Field(default_factory=dict)
    keep_seen: bool = Field(False, description="Whether items of the history may be answered.")
    explain: bool = Field(False, description="Whether each item comes with its reasons.")
    diversity: Annotated[FiniteFloat, Field(ge=0, le=1)] = Field(
        0.0,
        description=(
            "How much an item counts for being unlike those before it; such lists are not left to"
            " chance."
        ),
    )


class Predict(Schema):
    """Who it is about: a user whose events are stored, or a history as it is; neither is a
    stranger.
    """

    item_ids: Annotated[list[Id], Field(min_length=1, max_length=MOST_HISTORY)]
    user_id: Id | None = None
    history: Annotated[list[Id], Field(max_length=MOST_HISTORY)] | None = Field(
        None, description="Item ids, oldest first, in place of stored events."
    )
    context: Plain = Field(
        default_factory=dict,
        description="What else is known of who asks, by the names that the model learned from.",
    )


class Similar(ListQuestion):
    item_id: Id


class Search(ListQuestion):
    text: Annotated[str, Field(min_length=1, max_length=1_000), AfterValidator(_filled)]
    user_id: Id | None = None


class Key(Schema):
    role: Short
    name: Short


class Model(Schema):
    folder: Short
    note: Short = ""


class Version(Schema):
    version: Annotated[int, Field(ge=1, lt=2**31)]


class Arm(Schema):
    version: Annotated[int, Field(ge=1, lt=2**31)]
    share: Annotated[FiniteFloat, Field(gt=0, le=1_000)] = Field(
        1.0, description="Of the people, relative to the other arms' shares."
    )


class Experiment(Schema):
    """Which versions answer which share of the people; the first arm is what the others are
    compared with.
    """

    name: Id
    arms: Annotated[list[Arm], Field(min_length=2, max_length=10)]
    action: Short | None = Field(
        None,
        description="Of events that count as success; left out: any event that names the list.",
    )


class Rerank(BaseModel):
    """The shape of Cohere's /v2/rerank; what it says more is not read."""

    model_config = ConfigDict(extra="ignore")
    model: Short = "bm25"
    query: Annotated[str, Field(min_length=1, max_length=10_000), AfterValidator(_filled)]
    documents: Annotated[list[Words], Field(min_length=1, max_length=1_000)]
    top_n: Annotated[int, Field(ge=1)] | None = None
