"""The bodies that callers may send, field by field.

An unknown field is an error: a misspelt one would be ignored without a word. The schema of a field
says all that a schema can say: what it allows is not refused with 422. What depends on the server's
state, such as the columns of a filter, is refused with 409.
"""

import math
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from tailor.data.ids import BLANKS, CONTROL, id_problem
from tailor.data.times import FIRST, LAST, UNITS, milliseconds_problem
from tailor.errors import DataError
from tailor.reranking.shortlist import image_bytes
from tailor.store.keys import MOST_NAME

MOST_PRICE = 1e15  # sums of prices stay numbers
MOST_EVENTS = 5_000  # of a batch
MOST_ITEMS = 2_000
MOST_HISTORY = 1_000
MOST_OBSERVATIONS = 1_000  # of a batch
DEPTH, SIZE = 6, 5_000  # of a nested value
CHARACTERS = 100_000  # of all texts in a nested value
LONGEST_NAME = 200  # characters of an attribute's name
MOST_ATTRIBUTES = 200  # of a user, and in the context of a question
USUAL_ID = re.compile(r"[!-\[\]-~]*[0-9A-Za-z]")  # passes every rule for ids but that of items
MOST_WHOLE = 2**63 - 1  # of a whole number, above and below zero
MOST_NUMBER = 1.7976931348623157e308  # of any number
FIRST_MS, LAST_MS = FIRST // UNITS["ms"], LAST // UNITS["ms"]

# parts of schemas, in the patterns that JSON Schema and Python share
CONTROLS = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
BLANK = r"\x20\xa0\u1680\u2000-\u200a\u202f\u205f\u3000"
EDGE = f"[^{CONTROLS}{BLANK}]"
SPACE = r"\x09-\x0d\x1c-\x20\x85\u2028\u2029" + BLANK.removeprefix(r"\x20")
ID_PATTERN = f"^{EDGE}([^{CONTROLS}]*{EDGE})?$"
FILLED_PATTERN = rf"^[^\x00]*[^\x00{SPACE}][^\x00]*$"
NAME_PATTERN = f"^[^{CONTROLS}]*[^{CONTROLS}{SPACE}][^{CONTROLS}]*$"
PLAIN = {"pattern": r"^[^\x00]*$"}
NO_IDS = [".", "..", r"\N"]
VALUES = {"$ref": f"#/components/schemas/Value{DEPTH}"}
ATTRIBUTES: dict[str, Any] = {
    "propertyNames": {"type": "string", "pattern": NAME_PATTERN, "maxLength": LONGEST_NAME},
    "additionalProperties": VALUES,
}


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


def _check_image(text: str) -> str:
    try:
        image_bytes(text)
    except DataError:
        raise ValueError("is no base64") from None
    return text


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
    # JSON makes no difference between 1e20 and 100000000000000000000
    if isinstance(value, int | float) and abs(value) > MOST_WHOLE:
        raise ValueError("holds a whole number of more than 63 bits")
    if isinstance(value, str):
        check_text(value)


def _inner_values(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return (*value.keys(), *value.values())
    return value if isinstance(value, list) else ()


def _whole(number: Any) -> Any:
    """Return a whole number for one written as 3.0, which JSON takes for the same; others as is."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


def value_schemas() -> dict[str, Any]:
    """Return the schemas of nested values by name, each of which holds values one level below."""
    whole = {"type": "integer", "minimum": -MOST_WHOLE, "maximum": MOST_WHOLE}
    number = {"type": "number", "minimum": -MOST_WHOLE, "maximum": MOST_WHOLE}
    text = {"type": "string", **PLAIN}
    kinds: list[dict[str, Any]] = [{"type": "null"}, {"type": "boolean"}, whole, number, text]
    schemas: dict[str, Any] = {}
    for depth in range(1, DEPTH + 1):
        schema: dict[str, Any] = {"title": f"Value{depth}", "anyOf": kinds}
        if depth > 1:
            below = {"$ref": f"#/components/schemas/Value{depth - 1}"}
            names = {"type": "string", **PLAIN}
            nested = {"type": "object", "additionalProperties": below, "propertyNames": names}
            schema["anyOf"] = [*kinds, {"type": "array", "items": below}, nested]
        else:
            schema["anyOf"] = [
                *kinds,
                {"type": "array", "maxItems": 0},
                {"type": "object", "maxProperties": 0},
            ]
        depth_note = "a text, a number, true, false, null" + ("" if depth < 2 else ", or nested")
        schema["description"] = f"A value of an attribute: {depth_note}."
        schemas[schema["title"]] = schema
    return schemas


def _check_key_name(name: str) -> str:
    """Return the name of a key. Raises ValueError for one that no address can hold."""
    if not name.strip() or name in (".", "..") or re.search(CONTROL, name):
        raise ValueError(
            "names no key: it needs a character that is no blank, and may hold no control"
            ' character, nor be "." or ".."'
        )
    return check_text(name)


Id = Annotated[
    str,
    Field(
        min_length=1,
        max_length=256,
        json_schema_extra={"pattern": ID_PATTERN, "not": {"enum": NO_IDS}},
    ),
    AfterValidator(_check_id),
]
ItemId = Annotated[
    Id,
    Field(
        json_schema_extra={"not": {"anyOf": [{"enum": NO_IDS}, {"pattern": "/takedown$"}]}},
    ),
    AfterValidator(_check_item_id),
]
Words = Annotated[
    str, Field(max_length=1_000_000, json_schema_extra=PLAIN), AfterValidator(check_text)
]
Picture = Annotated[str, Field(max_length=10_000_000), AfterValidator(_check_image)]
Short = Annotated[str, Field(max_length=1_000, json_schema_extra=PLAIN), AfterValidator(check_text)]
SearchText = Annotated[
    str,
    Field(min_length=1, max_length=1_000, json_schema_extra={"pattern": FILLED_PATTERN}),
    AfterValidator(_check_filled),
]
RerankText = Annotated[
    str,
    Field(min_length=1, max_length=10_000, json_schema_extra={"pattern": FILLED_PATTERN}),
    AfterValidator(_check_filled),
]
KeyName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MOST_NAME,
        json_schema_extra={"pattern": NAME_PATTERN, "not": {"enum": [".", ".."]}},
    ),
    AfterValidator(_check_key_name),
]
# of a key to revoke: earlier versions made keys of odd names
PathName = Annotated[
    str,
    Field(min_length=1, max_length=1_000, json_schema_extra={"pattern": f"^[^{CONTROLS}]*$"}),
    AfterValidator(check_text),
]
Json = Annotated[dict[str, Any], Field(json_schema_extra=ATTRIBUTES), AfterValidator(_check_json)]
UserAttributes = Annotated[
    dict[str, Any],
    Field(json_schema_extra={**ATTRIBUTES, "maxProperties": MOST_ATTRIBUTES}),
    AfterValidator(_check_attributes),
]
Time = Annotated[
    int,
    Field(json_schema_extra={"minimum": FIRST_MS, "maximum": LAST_MS}),
    BeforeValidator(_whole),
    AfterValidator(_check_time),
]
Number = Annotated[
    FiniteFloat, Field(json_schema_extra={"minimum": -MOST_NUMBER, "maximum": MOST_NUMBER})
]
K = Annotated[
    int, Field(ge=1, le=200, description="How many items, at most."), BeforeValidator(_whole)
]
VersionNumber = Annotated[int, Field(ge=1, lt=2**31), BeforeValidator(_whole)]
HISTORY_TEXT = "Item ids, oldest first, in place of stored events. Not together with user_id."
USER_TEXT = "Id of the user who asks, as in events. Left out: a cold user."
ONE_OF_BOTH: dict[str, Any] = {
    "not": {
        "required": ["user_id", "history"],
        "properties": {"user_id": {"type": "string"}, "history": {"type": "array"}},
    }
}


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
    user_id: Id = Field(description="Id of the user, as your product knows the user.")
    item_id: Id = Field(description="Id of the item. It need not be stored yet.")
    time_ms: Time | None = Field(
        None,
        description=(
            "Milliseconds since 1970, at most a day ahead of the server's clock; left out: now."
        ),
    )
    action: Short | None = Field(None, description="What the user did, such as buy or skip.")
    value: Number | None = Field(None, description="A rating, an amount or the like.")
    request_id: Id | None = Field(None, description="Of the answer that the item was chosen from.")


READABLE: dict[str, Any] = {
    "anyOf": [{"maxItems": 0}, {"contains": {"$ref": "#/components/schemas/Event"}}],
    "items": {"anyOf": [{"$ref": "#/components/schemas/Event"}, {}]},
}


class Events(Schema):
    """A batch of events; a bad one is named, and takes nothing from the others."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "events": [
                        {
                            "event_id": "order-17-1",
                            "user_id": "ann",
                            "item_id": "green-tea",
                            "time_ms": 1_767_225_600_000,
                            "action": "buy",
                        }
                    ]
                }
            ]
        }
    )
    events: Annotated[list[Any], Field(max_length=MOST_EVENTS)] = Field(
        description=(
            "Events. One that is no event is named in `rejected` of the answer; a batch without"
            " any event is refused."
        ),
        json_schema_extra=READABLE,
    )


class Item(Schema):
    """An item of the catalogue."""

    item_id: ItemId = Field(description="Id of the item, as in events.")
    title: Short | None = Field(None, description="Shown in answers, and searched.")
    text: Words | None = Field(None, description="Searched; the first 20,000 characters count.")
    categories: Annotated[list[Short], Field(max_length=100)] | None = Field(
        None, description="Names of categories; a filter asks `categories has 'tea'`."
    )
    price: Annotated[FiniteFloat, Field(ge=0, le=MOST_PRICE)] | None = Field(
        None, description="In your currency."
    )
    more: Json | None = Field(
        None,
        description=(
            f"Further columns, for filters. Nested {DEPTH} deep and {SIZE:,} values at most."
        ),
    )


class Items(Schema):
    """A batch of items."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "items": [
                        {
                            "item_id": "green-tea",
                            "title": "Green tea",
                            "categories": ["tea"],
                            "price": 4.5,
                            "more": {"country": "Japan"},
                        }
                    ]
                }
            ]
        }
    )
    items: Annotated[list[Item], Field(max_length=MOST_ITEMS)] = Field(
        description="Items, new or known; each is written as a whole."
    )


class Takedown(Schema):
    """Why an item is taken down."""

    reason: Short = Field("", description="Your words; kept until the item is restored.")


class User(Schema):
    """A user's attributes, which models get as the context of each question."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"more": {"country": "Japan"}}]})
    more: UserAttributes = Field(
        default_factory=dict,
        description="Attributes, such as a country, in place of those before.",
    )


class ListQuestion(Schema):
    """The fields of every question for a list."""

    k: K = 10
    exclude: Annotated[list[Id], Field(max_length=MOST_HISTORY)] = Field(
        default_factory=list, description="Items that must not be answered."
    )
    filter: Short | None = Field(
        None,
        description=(
            "A condition that items must meet, such as: price <= 50 and categories has 'tea'. One"
            " that cannot be read, or does not fit the columns of the items, gets 409."
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

    model_config = ConfigDict(
        json_schema_extra={
            **ONE_OF_BOTH,
            "examples": [{"user_id": "ann", "k": 3, "filter": "price <= 50"}],
        }
    )
    user_id: Id | None = Field(None, description=USER_TEXT)
    history: Annotated[list[Id], Field(max_length=MOST_HISTORY)] | None = Field(
        None, description=HISTORY_TEXT
    )
    text: Short = Field(
        "", description="Words to search for. A model that reads no words answers 409."
    )
    context: UserAttributes = Field(
        default_factory=dict, description="Goes before the stored attributes of the user."
    )
    keep_seen: bool = Field(
        False,
        description='Whether items of the history may be answered. It needs the role "read".',
    )
    explain: bool = Field(
        False,
        description=(
            'Whether each item comes with its reasons. It needs the role "read"; a model that'
            " cannot explain answers 409."
        ),
    )
    diversity: Annotated[FiniteFloat, Field(ge=0, le=1)] = Field(
        0.0,
        description=(
            "How much an item counts for being unlike those before it; such lists are not left to"
            " chance."
        ),
    )
    trace: bool = Field(
        False,
        description=(
            "Whether the answer says how it was made, stage by stage. It needs the role"
            ' "read". Nobody is shown such a list: it is not logged, and takes no request_id.'
        ),
    )
    version: VersionNumber | None = Field(
        None,
        description=(
            "Version that answers in place of the one that would, without chance. It needs the"
            ' role "admin". It is not logged, and takes no request_id.'
        ),
    )


class Predict(Schema):
    """A question for predictions: by a stored user, a given history, or neither."""

    model_config = ConfigDict(
        json_schema_extra={
            **ONE_OF_BOTH,
            "examples": [{"user_id": "ann", "item_ids": ["green-tea", "mug"]}],
        }
    )
    item_ids: Annotated[list[Id], Field(min_length=1, max_length=MOST_HISTORY)] = Field(
        description="Items to predict for, in any order."
    )
    user_id: Id | None = Field(None, description=USER_TEXT)
    history: Annotated[list[Id], Field(max_length=MOST_HISTORY)] | None = Field(
        None, description=HISTORY_TEXT
    )
    values: Annotated[list[float], Field(max_length=MOST_HISTORY)] | None = Field(
        None,
        description="A number for each item of `history`: a rating, or an answer as 1 or 0.",
    )
    context: UserAttributes = Field(
        default_factory=dict,
        description="Goes before the stored attributes, by the names that the model learned.",
    )


class Similar(ListQuestion):
    """A question for items like one."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"item_id": "green-tea", "k": 3}]})
    item_id: Id = Field(description="Id of the item that others shall be like.")


class Search(ListQuestion):
    """A question for items that answer a text."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": "green tea", "k": 3}]})
    text: SearchText = Field(description="Words to search for.")
    user_id: Id | None = Field(
        None, description="Id of the user who asks; it goes into the log of lists only."
    )


class Key(Schema):
    """A key to make."""

    role: Literal["serve", "read", "write", "admin"] = Field(
        description="What the key may do; each role may do what those before it may."
    )
    name: KeyName = Field(description="Your name for the key; keys are revoked by it.")


class Model(Schema):
    """A saved model to register."""

    folder: Short = Field(
        description=(
            "Path of the saved model within the server's models/TENANT. One that holds no model"
            " that can be loaded gets 409."
        )
    )
    note: Short = Field("", description="Your words, shown in the list of models.")


class Version(Schema):
    """A registered model."""

    version: VersionNumber = Field(description="Number of the version, from GET /v1/models.")


class Arm(Schema):
    """A model of an experiment."""

    version: VersionNumber = Field(description="Number of the version, from GET /v1/models.")
    share: Annotated[FiniteFloat, Field(gt=0, le=1_000)] = Field(
        1.0, description="Of the users, relative to the other arms' shares."
    )


class Experiment(Schema):
    """An experiment; the first arm is what the others are compared with."""

    name: Id = Field(description="Your name for the experiment, which none had before.")
    arms: Annotated[list[Arm], Field(min_length=2, max_length=10)] = Field(
        description="Models that answer, each a version of its own."
    )
    action: Short | None = Field(
        None,
        description=(
            "Of events that count as success; left out: any event that names the list and does not"
            " speak against its item."
        ),
    )


class MemoryObservation(Schema):
    """Something that a user said or did."""

    kind: Literal["chat", "review", "event", "import"] = Field(
        "chat", description="A message, a review, something done with an item, or a file."
    )
    text: Words = Field("", description="The words, as they were said.")
    time_ms: Time | None = Field(
        None,
        description=(
            "When it happened, in milliseconds since 1970, at most a day ahead of the server's"
            " clock; left out: now."
        ),
    )
    item_id: Id | None = Field(None, description="Id of the item that it concerns.")
    value: Number | None = Field(None, description="A rating or the like.")
    source: Short = Field("", description="Where it was said: a session, a channel, a file.")
    speaker: Short = Field(
        "user", description='"user", "assistant", or the name of another person.'
    )


class Observations(Schema):
    """A batch of observations; sent again, none counts twice if it has its `time_ms`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"observations": [{"text": "I moved to Oslo.", "time_ms": 1_767_225_600_000}]}
            ]
        }
    )
    observations: Annotated[
        list[MemoryObservation], Field(min_length=1, max_length=MOST_OBSERVATIONS)
    ] = Field(description="Observations; all are stored, or none.")


class MemoryQuestion(Schema):
    """A question to a user's memory."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "Where does she live?"}]})
    query: SearchText = Field(description="What is asked.")
    k: K = 10
    budget_tokens: Annotated[int, Field(ge=0, le=1_000_000), BeforeValidator(_whole)] | None = (
        Field(None, description="Tokens of all texts together, at most, by an upper estimate.")
    )
    scope: Short = Field("", description='What holds elsewhere counts less, such as "at work".')
    at_ms: Time | None = Field(None, description="The time in the user's life that is asked about.")
    as_of_ms: Time | None = Field(None, description="Answer as the memory was at this time.")
    most_sensitivity: Annotated[int, Field(ge=0, le=3), BeforeValidator(_whole)] = Field(
        1, description="From 0 to 3; 3 recalls health, faith, love and politics too."
    )


class Correction(Schema):
    """The user's own value."""

    value: SearchText = Field(description="What takes the place of the proposition's object.")


class MemoryQuery(Schema):
    """Words by which observations are found."""

    query: SearchText = Field(description="Observations that have all these words are meant.")


class MemorySettings(Schema):
    """Settings of a user's memory; what is left out stays as it is."""

    paused: bool = Field(False, description="Whether nothing new is observed.")
    retention_days: Annotated[FiniteFloat, Field(ge=1, le=36_500)] | None = Field(
        None, description="Days after which an observation is deleted; null: never."
    )


class ExportedObservation(MemoryObservation):
    """An observation of an export: what a request may hold, and edits."""

    kind: Literal["chat", "review", "event", "import", "edit"]  # type: ignore[assignment]
    occurred_ms: Time


EXPORTED = TypeAdapter(list[ExportedObservation])


def check_exported(memory: dict[str, Any]) -> None:
    """Raise DataError, without its words, where an export holds what no request may hold."""
    observations, drafts = memory.get("observations"), memory.get("drafts")
    try:
        if isinstance(observations, list):
            EXPORTED.validate_python(observations)
        for draft in drafts if isinstance(drafts, list) else []:
            for value in draft.values() if isinstance(draft, dict) else []:
                _check_scalar(value)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(f"observations.{place} of the export: {first['msg']}") from None
    except ValueError as error:
        raise DataError(f"a draft of the export {error}") from None


class ExportedMemory(Schema):
    """A memory to import."""

    memory: dict[str, Any] = Field(
        description=(
            "What the export answered. One that cannot be read, or is of a newer version, gets 409."
        )
    )


class Document(BaseModel):
    """A document as an object; other fields are returned, and not read."""

    model_config = ConfigDict(extra="allow", strict=True)
    text: Words = Field("", description="What is read; it may be left out beside an image.")
    title: Words = Field("", description="A short name, which is read too.")
    image: Picture = Field(
        "",
        description=(
            "A PNG file as base64, for rerankers that look at pictures; with or without"
            " data:image/png;base64, before it."
        ),
    )

    @model_validator(mode="after")
    def _check_content(self) -> Self:
        """Raise ValueError for a document without a text and an image."""
        if not {"text", "image"} & self.model_fields_set:
            raise ValueError("a document has a text or an image, or both")
        return self


class Rerank(BaseModel):
    """The shape of Cohere's /v2/rerank, and more; fields of neither are not read."""

    model_config = ConfigDict(
        extra="ignore",
        strict=True,
        json_schema_extra={"examples": [{"query": "green tea", "documents": ["tea", "a cup"]}]},
    )
    model: Short = Field(
        "",
        description=(
            "bm25: by words. embed: by meaning, with `serve --meaning`. Anything else, or left out:"
            " the reranker of `serve --reranker`, else bm25; meta.model says who answered."
        ),
    )
    query: RerankText = Field(description="What the documents are compared with.")
    documents: Annotated[list[Words | Document], Field(min_length=1, max_length=1_000)] = Field(
        description="What to order, in the order of an earlier stage where there is one.",
        validation_alias=AliasChoices("documents", "texts", "input"),
    )
    top_n: Annotated[int, Field(ge=1), BeforeValidator(_whole)] | None = Field(
        None,
        description="How many documents to return; left out: all.",
        validation_alias=AliasChoices("top_n", "top_k"),
    )
    return_documents: bool = Field(False, description="Whether to return the documents as well.")
    max_tokens_per_doc: Annotated[int, Field(ge=1, le=1_000_000), BeforeValidator(_whole)] = Field(
        4_096, description="Tokens of a document that are read, by an estimate of 3 bytes each."
    )
    prior_scores: Annotated[list[FiniteFloat], Field(max_length=1_000)] = Field(
        default_factory=list,
        description=(
            "Scores of an earlier stage, one for each document, higher is better; left out: their"
            " order counts. Another number of scores than documents gets 409."
        ),
    )
    user_id: Id | None = Field(
        None, description="A stored user, whose latest items a reranker may read."
    )
    profile: Short = Field("", description="A description of the user that a reranker may read.")
    deadline_ms: Annotated[int, Field(ge=1, le=30_000), BeforeValidator(_whole)] = Field(
        10_000,
        description=(
            "After which nothing more is asked of a language model: what stands is answered."
        ),
    )
    max_usd: Annotated[FiniteFloat, Field(ge=0)] | None = Field(
        None,
        description=(
            "Money that calls of a language model may cost. A model without prices gets 409."
        ),
    )
