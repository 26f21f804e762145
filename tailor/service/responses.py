"""The answers of the service, field by field, as its description (/openapi.json) shows them.

They describe what routes return, and are not checked on the way out: tests hold answers against
them (tests/service/test_openapi.py).
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel
from pydantic.json_schema import models_json_schema

from tailor.service.problems import PROBLEM_TYPE, TITLES
from tailor.service.schemas import Event, value_schemas

Responses = dict[int | str, dict[str, Any]]
TimeMs = Annotated[int, Field(ge=0, description="Milliseconds since 1970.")]
Count = Annotated[int, Field(ge=0)]
Notes = Annotated[list[str], Field(description="Remarks for people; empty where all is well.")]
SOME_NOTES = "Remarks for people; left out where all is well."
SCHEME, LINK_SCHEME = "key", "link"  # names of the security schemes


class Answer(BaseModel):
    """An answer without other fields."""

    model_config = ConfigDict(extra="forbid")


class FieldProblem(Answer):
    """A field that is wrong."""

    field: str = Field(description="Path of the field, such as items.1.price.")
    problem: str = Field(description="Clause that says what is wrong there.")
    index: Count = Field(
        default=0, description="Position in the batch, from 0; batches of events and items only."
    )


class Problem(Answer):
    """An error (RFC 9457, application/problem+json)."""

    type: Literal["about:blank"] = Field(description="Always about:blank: the status says it.")
    title: str = Field(description="What the status means, in a few words.")
    status: Annotated[int, Field(ge=400, le=599)] = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong, where, and what to do.")
    errors: list[FieldProblem] = Field(
        default=[], description="Each field that is wrong, at most 100; left out where none is."
    )
    trace_id: str = Field(default="", description="The server's log has it under this id.")


class Reason(Answer):
    """A reason for an item."""

    kind: str = Field(description="What it is: item (of the history), word, category ...")
    id: str = Field(description="Id or text of it.")
    share: float = Field(description="Its share of the score.")


class ListedItem(Answer):
    """An item of a list."""

    item_id: str = Field(description="Id of the item.")
    position: Annotated[int, Field(ge=1)] = Field(description="Place in the list, from 1.")
    score: float | None = Field(
        description="Higher is better; only scores of one list can be compared."
    )
    title: str | None = Field(description="Title of the item, null without one.")
    details: dict[str, Any] = Field(
        default={}, description="What the model says of the item; most models say nothing."
    )
    reasons: list[Reason] = Field(
        default=[], description="Reasons, the weightiest first; with `explain` only."
    )


class ItemList(Answer):
    """A list of items, best first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "request_id": "019b76da98e1f6d1c3a2b4c5",
                    "model": "CoVisitation@1",
                    "items": [
                        {"item_id": "mug", "position": 1, "score": 0.82, "title": "Mug"},
                    ],
                    "notes": [],
                }
            ]
        }
    )
    request_id: str = Field(description="Name it in events of items that were chosen from here.")
    model: str = Field(description="Name and version of what made the list.")
    items: list[ListedItem] = Field(description="Items, best first.")
    notes: Notes


class Predicted(Answer):
    """The prediction of an item."""

    item_id: str = Field(description="Id of the item.")
    value: float | list[float] | None = Field(
        description="The outcome, such as a probability; null for an item that is blocked."
    )
    known: bool = Field(description="Whether the model learned from events of the item.")


class Predictions(Answer):
    """Predictions in the order of the items asked."""

    model: str = Field(description="Name and version of the model.")
    items: list[Predicted] = Field(description="One for each item asked, in the same order.")
    notes: Notes


class RerankExtra(Answer):
    """Facts about a document's place."""

    rank: int = Field(description="From 1.")
    prior_rank: int = Field(description="The rank by `prior_scores`, else in `documents`; from 1.")
    score: float = Field(description="The model's score; higher is better.")
    score_kind: str = Field(description="What it is: bm25, cosine, probability, grade, rank ...")
    status: Literal["ranked", "repaired", "fallback"] = Field(
        description="fallback: the model said nothing, and the earlier place counts."
    )
    details: dict[str, Any] = Field(
        default={},
        description=(
            "Of this model: reason, evidence with offsets, contribution, grade, agreement, flagged"
            " (instructions that were taken out), truncated ...; left out where there are none."
        ),
    )


class Reranked(Answer):
    """A document of a reranked list."""

    index: Count = Field(description="Position in `documents`, from 0.")
    relevance_score: Annotated[float, Field(ge=0, le=1)] = Field(
        description=(
            "A probability where the model gives one (extra.score_kind), s / (1 + s) of a BM25"
            " score s, else the place as a share: 1 for the first. Only a probability may be"
            " compared with a threshold."
        )
    )
    document: str | dict[str, Any] = Field(
        default="", description="The document; only with `return_documents`."
    )
    extra: RerankExtra = Field(description="What Cohere's API lacks.")


class ApiVersion(Answer):
    """The version of Cohere's API."""

    version: str = Field(description="Always 2.")


class BilledUnits(Answer):
    """Units that are billed."""

    search_units: Count = Field(description="Always 0.")


class RerankUsage(Answer):
    """Cost of a request."""

    calls: Count = Field(description="Prompts that a language model answered.")
    tokens_in: Count = Field(description="Tokens that it read.")
    tokens_out: Count = Field(description="Tokens that it wrote.")
    cached: Count = Field(description="Answers that were known and cost nothing.")
    usd: Annotated[float, Field(ge=0)] = Field(description="Money, where prices are known.")
    ms: Annotated[float, Field(ge=0)] = Field(description="Milliseconds of the reranking.")


class RerankMeta(Answer):
    """Further fields of Cohere's API, and ours."""

    api_version: ApiVersion = Field(description="The version of the shape.")
    billed_units: BilledUnits = Field(description="Nothing is billed.")
    model: str = Field(description="Name and version of the model that ordered the documents.")
    usage: RerankUsage = Field(description="What it cost.")
    warnings: Notes


class RerankAnswer(Answer):
    """Documents, best first, in the shape of Cohere's API."""

    id: str = Field(description="Id of this answer.")
    results: list[Reranked] = Field(description="Documents, best first.")
    meta: RerankMeta = Field(description="What Cohere's API tells besides.")


class RejectedEvent(Answer):
    """An event that was not stored."""

    index: Count = Field(description="Position in the batch, from 0.")
    field: str = Field(description="The field that is wrong.")
    problem: str = Field(description="Clause that says what is wrong there.")


class Accepted(Answer):
    """Result of a batch of events."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"accepted": 1, "duplicates": [], "rejected": []}]}
    )
    accepted: Count = Field(description="New events that are on the disk now.")
    duplicates: list[str] = Field(description="Ids of events that were stored before.")
    rejected: list[RejectedEvent] = Field(description="Events that were not stored, and why.")
    notes: list[str] = Field(default=[], description=SOME_NOTES)


class Written(Answer):
    """Result of a batch of items."""

    written: Count = Field(description="Items written.")
    notes: list[str] = Field(default=[], description=SOME_NOTES)


class StoredItem(Answer):
    """Content of a stored item."""

    item_id: str = Field(description="Id of the item.")
    title: str | None = Field(description="Title, null without one.")
    text: str | None = Field(description="Text, null without one.")
    categories: list[Any] | None = Field(description="Names of categories.")
    price: float | None = Field(description="Price, null without one.")
    more: dict[str, Any] | None = Field(description="Further columns.")
    blocked: str | None = Field(
        description="Why no answer has it: deleted, taken down, or both; null: answers have it."
    )
    reason: str | None = Field(description="Why it was taken down, in your words.")
    semantic_id: list[int] = Field(
        default=[], description="Its codes in the model that answers; left out where it has none."
    )
    notes: list[str] = Field(default=[], description=SOME_NOTES)


class Blocked(Answer):
    """State of an item that was blocked or restored."""

    item_id: str = Field(description="Id of the item.")
    blocked: str | None = Field(
        description="Why no answer has it: deleted, taken down, or both; null: answers have it."
    )


class WrittenUser(Answer):
    """A user whose attributes were written."""

    user_id: str = Field(description="Id of the user.")


class ShownImpression(Answer):
    """An item that the person was shown."""

    request_id: str = Field(description="Id of the list.")
    position: Annotated[int, Field(ge=1)] = Field(description="Place in the list, from 1.")
    item_id: str = Field(description="Id of the item.")
    score: float = Field(description="Its score.")
    propensity: float = Field(description="Probability of this item at this place.")


class AskedRequest(Answer):
    """A list that the person asked for."""

    request_id: str = Field(description="Id of the list.")
    user_id: str = Field(description="Id of the person.")
    time_ms: TimeMs
    surface: str = Field(description="Kind of the question: recommendations or search.")
    model: str = Field(description="Name and version of what made the list.")
    text: str | None = Field(description="Words of the question, null without any.")


class StoredEvent(Answer):
    """An event of the person."""

    event_id: str = Field(description="Id of the event.")
    user_id: str = Field(description="Id of the person.")
    item_id: str = Field(description="Id of the item.")
    time_ms: TimeMs
    action: str | None = Field(description="What the person did.")
    value: float | None = Field(description="A rating, an amount or the like.")
    request_id: str | None = Field(description="Id of the list that the item was chosen from.")
    received_ms: TimeMs


class StoredAttributes(Answer):
    """Attributes of the person."""

    user_id: str = Field(description="Id of the person.")
    changed_ms: TimeMs
    more: dict[str, Any] | None = Field(description="Attributes by name.")


class StoredMemory(Answer):
    """Settings of a person's memory."""

    user_id: str = Field(description="Id of the person.")
    paused: bool = Field(description="Whether nothing new is observed.")
    retention_days: float | None = Field(description="Days that an observation is kept; null: all.")
    changed: Count = Field(description="How often the memory changed.")
    forgotten: Count = Field(description="How often something was deleted from it.")
    changed_ms: TimeMs
    due: bool = Field(description="Whether it must be computed anew, after a restore.")
    history_paused: bool = Field(
        description="Whether the person's events count for nothing in the person's own lists."
    )


class StoredObservation(Answer):
    """An observation of a person's memory."""

    user_id: str = Field(description="Id of the person.")
    name: str = Field(description="A digest of its id, under the person's key.")
    occurred_ms: TimeMs
    recorded_ms: TimeMs
    session: str | None = Field(description="A digest of the session of a message; null: none.")
    state: str = Field(
        description="kept; or without words: withdrawn, wish, withheld, as the user asked for."
    )
    observation: dict[str, Any] = Field(description="What was said or done.")


class ConcludedRow(Answer):
    """A row of what was concluded of a person."""

    user_id: str = Field(description="Id of the person.")
    name: str = Field(description="A digest of an id, under the person's key.")
    group_name: str = Field(description="A digest of what it is weighed together with.")
    recorded_ms: TimeMs
    retracted_ms: TimeMs | None = Field(description="Until when it counted; null: it does.")


class StoredDraft(ConcludedRow):
    """A statement that one observation makes."""

    rank: int = Field(description="2: the user's word on a belief, 1: said, 0: concluded.")
    occurred_ms: TimeMs
    draft: dict[str, Any] = Field(description="Slot, predicate, object, weight ...")


class StoredProposition(ConcludedRow):
    """A belief about a person, of now or of before."""

    proposition: dict[str, Any] = Field(description="Slot, predicate, object, support ...")


class StoredProfile(Answer):
    """A profile that was made of a person."""

    user_id: str = Field(description="Id of the person.")
    level: str = Field(description="facts, factors or text.")
    as_of_ms: TimeMs
    recorded_ms: TimeMs
    retracted_ms: TimeMs | None = Field(description="Until when it counted; null: it does.")
    lift: float | None = Field(description="What it adds on held-out events; null: not measured.")
    lift_low: float | None = Field(description="Lower end of the interval of the lift.")
    lift_high: float | None = Field(description="Upper end of the interval of the lift.")
    profile: dict[str, Any] = Field(description="Its text, and what it was built from.")


class StoredLook(Answer):
    """A look of a key at the person's data."""

    user_id: str = Field(description="Id of the person.")
    subject: str = Field(description="A keyed digest of the person's id.")
    time_ms: TimeMs
    key_name: str = Field(description="Name of the key that asked.")
    route: str = Field(description="What it asked for, as in GET /v1/audit.")


class Stores(Answer):
    """All that is stored of a person, by table."""

    impressions: list[ShownImpression] = Field(description="Items shown.")
    requests: list[AskedRequest] = Field(description="Lists asked for.")
    events: list[StoredEvent] = Field(description="Events.")
    people: list[StoredAttributes] = Field(description="Attributes; one entry, or none.")
    profiles: list[StoredProfile] = Field(description="Profiles of the memory.")
    propositions: list[StoredProposition] = Field(description="What is believed, or was.")
    support: list[StoredDraft] = Field(description="What observations say, in closed form.")
    observations: list[StoredObservation] = Field(description="What was said or done.")
    memories: list[StoredMemory] = Field(description="Settings of the memory; one, or none.")
    audit: list[StoredLook] = Field(description="Who looked at this person's data.")


class PersonData(Answer):
    """All that is stored of a person."""

    user_id: str = Field(description="Id of the person.")
    stores: Stores = Field(description="What is stored, by table.")


class Receipt(Answer):
    """A signed receipt of an erasure. Every field but the signature is signed."""

    version: int = Field(description="Version of the receipt's form.")
    receipt_id: str = Field(description="Id of the receipt, for GET /v1/receipts/ID.")
    tenant: str = Field(description="Tenant of the key.")
    subject: str = Field(description="A keyed digest of the person's id.")
    time_ms: TimeMs
    rows: dict[str, Count] = Field(description="How many rows were erased, by store.")
    scan: Literal["running", "done", "broken off", "unknown"] = Field(
        description="State of the scan for what may be left."
    )
    scanned: dict[str, Count] = Field(
        description="How many rows the scan found to be left, by store; 0 is good."
    )
    overwritten: bool | None = Field(
        description="Whether the database's logs are overwritten; null: it does that by itself."
    )
    public_key: str = Field(description="The key that checks the signature, in hexadecimal.")
    signature: str = Field(description="Ed25519, in Base64.")


class PublicKey(Answer):
    """The public key of receipts."""

    public_key: str = Field(description="Ed25519, in hexadecimal.")


class RememberedFact(Answer):
    """A proposition: what is believed of a user for a time, and what it rests on."""

    proposition_id: str = Field(description="Id of the proposition.")
    text: str = Field(description="A clause, such as: lives in Oslo.")
    confidence: Annotated[float, Field(ge=0, le=1)] = Field(
        description="Probability that it holds now; what is not repeated nears one half."
    )
    slot: str = Field(description="preference, fact, goal, constraint, style, skill or relation.")
    predicate: str = Field(description="What is said of the object: likes, lives in ...")
    object: str = Field(description="What it is said of.")
    object_key: str = Field(description="The object's stems, by which equal ones are known.")
    polarity: Literal[1, -1] = Field(description="-1: the opposite is believed.")
    scope: str = Field(description="When it holds, such as: at work. Empty: always.")
    alpha: float = Field(description="1 and the weights of what supports it.")
    beta: float = Field(description="1 and the weights of what speaks against it.")
    valid_from_ms: TimeMs
    valid_to_ms: TimeMs | None = Field(description="When another took its place; null: it holds.")
    last_support_ms: TimeMs
    status: Literal["active", "superseded", "disputed", "confirmed", "rejected"] = Field(
        description="confirmed and rejected are the user's own word."
    )
    sensitivity: Annotated[int, Field(ge=0, le=3)] = Field(
        description="3: health, faith, love, politics; 0: anybody may see it."
    )
    support: list[str] = Field(description="Ids of the observations that support it.")
    against: list[str] = Field(description="Ids of the observations that speak against it.")


class Facts(Answer):
    """Propositions of a user."""

    propositions: list[RememberedFact] = Field(description="Propositions.")


class BelievedAnswer(Facts):
    """Beliefs about a user, and the same as a text."""

    text: str = Field(description="A line for each, with the first letters of its id.")


class ObservedAnswer(Answer):
    """Result of sending observations."""

    new: list[str] = Field(description="Ids of those that were stored now.")
    repeats: Count = Field(description="How many were stored before.")
    refused: Count = Field(
        description="How many happened before the person was erased, which they would undo."
    )
    withdrawn: Count = Field(description="How many the user asks not to remember; none is kept.")
    paused: bool = Field(description="Whether the memory is paused; nothing was stored then.")
    believed: list[RememberedFact] = Field(description="Propositions that are new or changed.")


class RecalledAnswer(Answer):
    """Something that was recalled."""

    id: str = Field(description="Id of the proposition or observation.")
    kind: Literal["proposition", "observation"] = Field(description="What it is.")
    text: str = Field(description="Its words.")
    score: float = Field(description="Relevance, times confidence, times the match of scopes.")
    parts: dict[str, float] = Field(description="What the score is made of.")
    observation_ids: list[str] = Field(description="Observations that it rests on.")


class RecollectionAnswer(Answer):
    """Memories recalled for a question."""

    items: list[RecalledAnswer] = Field(description="Best first.")
    answerable: Annotated[float, Field(ge=0, le=1)] = Field(
        description="How clearly the memory holds an answer; low: better say nothing."
    )
    tokens: Count = Field(description="Upper estimate of the tokens of all texts.")


class EvidenceAnswer(Answer):
    """An observation that a proposition rests on."""

    observation_id: str = Field(description="Id of the observation.")
    kind: str = Field(description="chat, review, event, import, or edit: the user's own word.")
    text: str = Field(description="The words.")
    occurred_ms: TimeMs
    item_id: str | None = Field(description="The item that it concerns.")
    value: float | None = Field(description="A number that came with it.")
    source: str = Field(description="Where it was said.")
    speaker: str = Field(description="Who said it.")


class Believed(Answer):
    """When a version of a proposition was believed."""

    recorded_ms: TimeMs
    retracted_ms: TimeMs | None = Field(description="null: it is believed now.")


class WhyAnswer(Answer):
    """Why a proposition is believed."""

    proposition: RememberedFact = Field(description="The proposition.")
    evidence: list[EvidenceAnswer] = Field(description="What it rests on, in order of time.")
    proposers: list[str] = Field(description="What concluded it, by name and version.")
    history: list[Believed] = Field(description="Its versions, the oldest first.")


class ChangedFacts(Answer):
    """Beliefs that a memory came to between two times, and ceased to."""

    retracted: list[RememberedFact] = Field(description="What it ceased to believe.")
    added: list[RememberedFact] = Field(description="What it came to believe.")


class MemorySettingsAnswer(Answer):
    """Settings of a memory."""

    paused: bool = Field(description="Whether nothing new is observed.")
    retention_days: float | None = Field(
        description="Days after which an observation is deleted; null: never."
    )
    changed: Count = Field(description="How often the memory changed.")


class Forgotten(Answer):
    """A signed receipt of what was forgotten."""

    version: int = Field(description="Of the receipt's form.")
    receipt_id: str = Field(description="Id of the receipt, for GET /v1/receipts/ID.")
    tenant: str = Field(description="Tenant of the person.")
    subject: str = Field(description="A digest that names the person to the store alone.")
    time_ms: TimeMs
    forgotten: dict[str, Count] = Field(description="Rows that went, by table.")
    residue: Count | None = Field(
        description=(
            "Rows of the person that hold five words in a row of what was forgotten; null: not"
            " looked for yet."
        )
    )
    overwritten: bool | None = Field(
        description="Whether the database's logs are overwritten; null: it does that by itself."
    )
    public_key: str = Field(description="The key that checks the signature, in hexadecimal.")
    signature: str = Field(description="Ed25519, in Base64.")


class AnyReceipt(RootModel[Receipt | Forgotten]):
    """A receipt of an erasure, or of what was forgotten of a memory."""


class MemoryExport(Answer):
    """All of a memory."""

    memory: dict[str, Any] = Field(description="To be sent to the import as it is.")


class ModelVersion(Answer):
    """A registered model."""

    version: Annotated[int, Field(ge=1)] = Field(description="Number of the version.")
    kind: Literal["recommends", "predicts"] = Field(description="What it does.")
    folder: str = Field(description="Its folder within the server's models/TENANT.")
    made_ms: TimeMs
    served_ms: TimeMs | None = Field(description="Since when it answers; null: it never did.")
    note: str = Field(description="Words from its registration.")
    loaded: bool = Field(description="Whether it is loaded in the worker that was asked.")
    answers: bool = Field(description="Whether it answers in the worker that was asked.")
    failure: str | None = Field(description="Why it could not be loaded; null: nothing failed.")


class ModelVersions(Answer):
    """All versions, the one that should answer first."""

    models: list[ModelVersion] = Field(description="Versions.")


class Placed(Answer):
    """The model that answers now."""

    version: Annotated[int, Field(ge=1)] = Field(description="Number of the version.")
    model: str = Field(description="Name and version.")
    notes: list[str] = Field(default=[], description=SOME_NOTES)


class ShownKey(Answer):
    """A key, without the key itself."""

    tenant: str = Field(description="Tenant of the key.")
    name: str = Field(description="Your name for it.")
    role: str = Field(description="What it may do.")
    made_ms: TimeMs
    revoked_ms: TimeMs | None = Field(description="Since when it opens nothing; null: it does.")


class ShownKeys(Answer):
    """The tenant's keys."""

    keys: list[ShownKey] = Field(description="Keys, the oldest first.")


class NewKey(Answer):
    """A new key."""

    key: str = Field(description="The key, shown this once.")
    role: str = Field(description="What it may do.")


class Revoked(Answer):
    """Number of keys that were revoked."""

    revoked: Annotated[int, Field(ge=1)] = Field(description="How many keys.")


class ShownArm(Answer):
    """A model of an experiment."""

    version: Annotated[int, Field(ge=1)] = Field(description="Number of the version.")
    share: Annotated[float, Field(gt=0)] = Field(description="Share of the users.")


class Started(Answer):
    """An experiment that was started."""

    name: str = Field(description="Name of the experiment.")
    arms: list[ShownArm] = Field(description="Models that answer.")


class ShownExperiment(Answer):
    """An experiment."""

    name: str = Field(description="Name of the experiment.")
    arms: list[ShownArm] = Field(description="Models that answer.")
    action: str | None = Field(description="Action that counts as success; null: any.")
    started_ms: TimeMs
    ended_ms: TimeMs | None = Field(description="When it ended; null: it runs.")


class Experiments(Answer):
    """All experiments."""

    experiments: list[ShownExperiment] = Field(description="Experiments, the latest first.")


class Difference(Answer):
    """The difference of an arm to the first."""

    difference: float = Field(description="Difference of the rates.")
    interval: list[float] = Field(
        min_length=2, max_length=2, description="95 % interval of the difference."
    )
    p: float = Field(description="Welch's test.")


class ArmResult(Answer):
    """Result of an arm."""

    version: Annotated[int, Field(ge=1)] = Field(description="Number of the version.")
    people: Count = Field(description="People who got lists.")
    lists: Count = Field(description="Lists they got.")
    chosen: Count = Field(description="Lists with a choice.")
    rate: float | None = Field(description="Mean share of a person's lists with a choice.")
    interval: list[float] | None = Field(description="95 % interval of the rate.")
    against_first: Difference | None = Field(
        description="Difference to the first arm; null for the first, and for few people."
    )


class Results(ShownExperiment):
    """Result of an experiment so far."""

    results: list[ArmResult] = Field(description="One for each arm.")
    notes: Notes


class Ended(Answer):
    """An experiment that has ended."""

    ended: str = Field(description="Name of the experiment.")


class Alive(Answer):
    """A process that answers."""

    status: Literal["alive"] = Field(description="Always alive.")
    version: str = Field(description="Version of Tailor.")


class ModelFailure(Answer):
    """A model that should answer and cannot be loaded."""

    tenant: str = Field(description="Tenant of the model.")
    what: str = Field(description="The version or experiment.")
    failure: str = Field(description="Why it cannot be loaded.")


class Ready(Answer):
    """A server that answers and takes in."""

    status: Literal["ready"] = Field(description="Always ready.")
    failures: list[ModelFailure] = Field(description="Models that should answer and cannot.")


DESCRIPTIONS = {
    400: "The request cannot be read.",
    401: "The key or link is absent, unknown, revoked or over.",
    403: "The key's role may not do this.",
    404: "There is no such thing.",
    405: "This address has other methods.",
    408: "The request took too long to arrive.",
    409: "It does not fit what is stored or loaded now.",
    413: "The body is too long.",
    422: "The address or a field of the body is not as described here.",
    429: "Too many requests.",
    431: "The request line with its headers is too long.",
    500: "The server has a fault.",
    503: "Not now: ask again later.",
}
# of a connection (400, 408, 431), of any address, body, caller and load
ANY_ROUTE = (400, 408, 413, 422, 429, 431, 500, 503)
WITH_KEY = (401, 403)
HEADERS = {
    401: {"WWW-Authenticate": "Always Bearer."},
    429: {"Retry-After": "Seconds to wait."},
    503: {"Retry-After": "Seconds to wait."},
}
TRACE = {
    "X-Trace-Id": {
        "description": "Id of the request, under which the server's log has it.",
        "schema": {"type": "string"},
    }
}


def answers(model: type[BaseModel], *statuses: int, description: str = "The answer.") -> Responses:
    """Return the responses of a route: `model` with 200, and errors of its own by status.

    Errors that every route of a kind has are added by `usual_problems`.
    """
    responses: Responses = {200: {"model": model, "description": description}}
    return responses | problems(statuses)


def problems(statuses: Sequence[int]) -> Responses:
    """Return responses of errors."""
    return {status: _problem(status) for status in statuses}


def usual_problems(role: str | None) -> Responses:
    """Return errors that every route may answer, whatever it does; 401 and 403 with a role only."""
    statuses = ANY_ROUTE if role is None else (*ANY_ROUTE, *WITH_KEY)
    return problems(sorted(statuses))


def _problem(status: int) -> dict[str, Any]:
    headers = {
        name: {"description": text, "schema": {"type": "string"}}
        for name, text in HEADERS.get(status, {}).items()
    }
    return {
        "description": f"{TITLES[status]}. {DESCRIPTIONS[status]}",
        "headers": headers,
        "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def completed(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the framework's description with what it leaves out.

    That is the security scheme, schemas that only errors and nested values have, the headers of
    every answer, and answers' schemas without what the framework guesses beside them.
    """
    description = dict(document)
    components = description.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas |= value_schemas() | _schemas_of(Problem, Event)
    components["securitySchemes"] = {
        SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "description": (
                "Authorization: Bearer KEY. A key belongs to one tenant and has a role: serve,"
                " read, write or admin. Each may do what those before it may."
            ),
        },
        LINK_SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "description": (
                "Authorization: Bearer LINK. A link names one person, opens the routes of that"
                " person's own page and nothing else, and ends."
            ),
        },
    }
    for operations in description["paths"].values():
        for operation in operations.values():
            for response in operation["responses"].values():
                _complete_response(response)
    return description


def _complete_response(response: dict[str, Any]) -> None:
    """Add the headers of every answer; keep the reference alone where a schema has one."""
    response["headers"] = {**TRACE, **response.get("headers", {})}
    for content in response.get("content", {}).values():
        reference = content.get("schema", {}).get("$ref")
        if reference is not None:
            content["schema"] = {"$ref": reference}


def _schemas_of(*models: type[BaseModel]) -> dict[str, Any]:
    """Return the schemas of models and of their parts by name."""
    _, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    return dict(definitions["$defs"])
