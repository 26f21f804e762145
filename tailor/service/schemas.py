"""The bodies that callers may send, field by field.

An unknown field is an error: a misspelt one would be ignored without a word.
"""

import math
import re
import time
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat

from tailor.data.ids import BLANKS, CONTROL, id_problem
from tailor.data.times import milliseconds_problem

MOST_PRICE = 1e15  # sums of prices stay numbers
AHEAD_MS = 24 * 3600 * 1000  # that a caller's clock may run ahead
MOST_EVENTS = 5_000  # of a batch
MOST_ITEMS = 2_000
MOST_HISTORY = 1_000
DEPTH, SIZE = 6, 5_000  # of a nested value
CHARACTERS = 100_000  # of all texts in a nested value
LONGEST_NAME = 200  # characters of an attribute's name
MOST_ATTRIBUTES = 200  # of a user, and in the context of a question
USUAL_ID = re.compile(r"[!-\[\]-~]*[0-9A-Za-z]")  # passes every rule for ids but that of items


def check_text(text: str) -> str:
    """Return a text that a database can hold. Raises ValueError for another."""
    if "\0" in text:
        raise ValueError("holds a zero character")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair, which is no text") from None
    return text


def _check_filled(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return check_text(text)


def _check_id(text: str) -> str:
    # the usual id, without a look at every rule: histories hold a thousand
    if USUAL_ID.fullmatch(text):
        return text
    problem = id_problem(text)
    if problem is not None:
        raise ValueError(problem)
    if text in (".", ".."):
        raise ValueError(
            "is a step in an address, which senders leave out: it could never be asked for"
        )
    # an import leaves blanks out, so that the same id would be another one here
    if text[0] in BLANKS or text[-1] in BLANKS:
        raise ValueError("has blanks around it: send it without")
    return text


def _check_item_id(item_id: str) -> str:
    if item_id.endswith("/takedown"):
        raise ValueError(
            "ends like the address that takes an item down: deleting it would restore another"
        )
    return item_id


def _check_time(time_ms: int) -> int:
    problem = milliseconds_problem(time_ms)
    if problem is not None:
        raise ValueError(problem)
    if time_ms > time.time() * 1000 + AHEAD_MS:
        raise ValueError(
            "lies more than a day ahead: milliseconds since 1970 are needed, and the sender's"
            " clock must be right"
        )
    return time_ms


def _check_json(value: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON object.

    Raises ValueError for numbers that JSON lacks, for bad names, and for too deep or too large a
    value.
    """
    for name in value:
        _check_name(name)
    parts: list[tuple[Any, int]] = [(value, 0)]
    count = characters = 0
    while parts:
        part, depth = parts.pop()
        count += 1
        characters += len(part) if isinstance(part, str) else 0
        if depth > DEPTH or count > SIZE:
            raise ValueError(f"is nested deeper than {DEPTH} or has more than {SIZE} values")
        if characters > CHARACTERS:
            raise ValueError(f"has texts of more than {CHARACTERS:,} characters")
        _check_scalar(part)
        parts += [(inner, depth + 1) for inner in _inner_values(part)]
    return value


def _check_name(name: str) -> None:
    """Raise ValueError for a name that no column can have."""
    if not name.strip() or len(name) > LONGEST_NAME:
        raise ValueError(f"has a name that is empty or of more than {LONGEST_NAME} characters")
    if re.search(CONTROL, name):
        raise ValueError("has a name with a control character")


def _check_attributes(value: dict[str, Any]) -> dict[str, Any]:
    if len(value) > MOST_ATTRIBUTES:
        raise ValueError(f"has {len(value)} names, at most {MOST_ATTRIBUTES} are possible")
    return _check_json(value)


def _check_scalar(value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("holds a number that is not finite")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError("holds a whole number of more than 63 bits")
    if isinstance(value, str):
        check_text(value)


def _inner_values(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return (*value.keys(), *value.values())
    return value if isinstance(value, list) else ()


Id = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_check_id)]
ItemId = Annotated[Id, AfterValidator(_check_item_id)]
Words = Annotated[str, Field(max_length=1_000_000), AfterValidator(check_text)]
Short = Annotated[str, Field(max_length=1_000), AfterValidator(check_text)]
SearchText = Annotated[str, Field(min_length=1, max_length=1_000), AfterValidator(_check_filled)]
RerankText = Annotated[str, Field(min_length=1, max_length=10_000), AfterValidator(_check_filled)]
Json = Annotated[dict[str, Any], AfterValidator(_check_json)]
UserAttributes = Annotated[dict[str, Any], AfterValidator(_check_attributes)]
Time = Annotated[int, AfterValidator(_check_time)]
K = Annotated[int, Field(ge=1, le=200)]
VersionNumber = Annotated[int, Field(ge=1, lt=2**31)]
HISTORY_TEXT = "Item ids, oldest first, in place of stored events."


class Schema(BaseModel):
    """A body without unknown fields and without guessed types."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Event(Schema):
    """Something a user did with an item."""

    event_id: Id = Field(
        description=(
            "Any id of yours. The same id again is the same event: sending twice counts once."
        )
    )
    user_id: Id
    item_id: Id
    time_ms: Time | None = Field(None, description="Milliseconds since 1970; left out: now.")
    action: Short | None = None
    value: FiniteFloat | None = None
    request_id: Id | None = Field(None, description="Of the answer that the item was chosen from.")


class Events(Schema):
    """A batch of events; a bad one is named, and takes nothing from the others."""

    events: Annotated[list[Any], Field(max_length=MOST_EVENTS)]


class Item(Schema):
    """An item of the catalogue."""

    item_id: ItemId
    title: Short | None = None
    text: Words | None = None
    categories: Annotated[list[Short], Field(max_length=100)] | None = None
    price: Annotated[FiniteFloat, Field(ge=0, le=MOST_PRICE)] | None = None
    more: Json | None = Field(None, description="Further columns, for filters.")


class Items(Schema):
    """A batch of items."""

    items: Annotated[list[Item], Field(max_length=MOST_ITEMS)]


class Takedown(Schema):
    """Why an item is taken down."""

    reason: Short = ""


class User(Schema):
    """A user's attributes, which models get as the context of each question."""

    more: UserAttributes = Field(default_factory=dict, description="Attributes, such as a country.")


class ListQuestion(Schema):
    """The fields of every question for a list."""

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
    """A question for recommendations: by a stored user, a given history, or neither."""

    user_id: Id | None = None
    history: Annotated[list[Id], Field(max_length=MOST_HISTORY)] | None = Field(
        None, description=HISTORY_TEXT
    )
    text: Short = Field("", description="Words to search for, for models that read them.")
    context: UserAttributes = Field(
        default_factory=dict, description="Goes before the stored attributes of the user."
    )
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
    """A question for predictions: by a stored user, a given history, or neither."""

    item_ids: Annotated[list[Id], Field(min_length=1, max_length=MOST_HISTORY)]
    user_id: Id | None = None
    history: Annotated[list[Id], Field(max_length=MOST_HISTORY)] | None = Field(
        None, description=HISTORY_TEXT
    )
    context: UserAttributes = Field(
        default_factory=dict,
        description="Goes before the stored attributes, by the names that the model learned.",
    )


class Similar(ListQuestion):
    """A question for items like one."""

    item_id: Id


class Search(ListQuestion):
    """A question for items that answer a text."""

    text: SearchText
    user_id: Id | None = None


class Key(Schema):
    """A key to make."""

    role: Short
    name: Short


class Model(Schema):
    """A saved model to register."""

    folder: Short
    note: Short = ""


class Version(Schema):
    """A registered model."""

    version: VersionNumber


class Arm(Schema):
    """A model of an experiment."""

    version: VersionNumber
    share: Annotated[FiniteFloat, Field(gt=0, le=1_000)] = Field(
        1.0, description="Of the users, relative to the other arms' shares."
    )


class Experiment(Schema):
    """An experiment; the first arm is what the others are compared with."""

    name: Id
    arms: Annotated[list[Arm], Field(min_length=2, max_length=10)]
    action: Short | None = Field(
        None,
        description=(
            "Of events that count as success; left out: any event that names the list and does not"
            " speak against its item."
        ),
    )


class Rerank(BaseModel):
    """The shape of Cohere's /v2/rerank; other fields are not read."""

    model_config = ConfigDict(extra="ignore")
    model: Short = "bm25"
    query: RerankText
    documents: Annotated[list[Words], Field(min_length=1, max_length=1_000)]
    top_n: Annotated[int, Field(ge=1)] | None = None
