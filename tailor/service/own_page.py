"""Routes of a person's own page: what is known, correct it, pause it, take it along, erase it.

They take a link that was made for the person, and no key. What the person does is noted as the
person's own act. The memory has its routes beside its other ones (`memory.own_routes`).
"""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from tailor.service import responses
from tailor.service.admission import OWN_PAGE
from tailor.service.answers import own_list
from tailor.service.ingest import AnyJSONResponse, erase_person
from tailor.service.people import EventCursor, PageSize, read_history, shown_history
from tailor.service.problems import ProblemError
from tailor.service.responses import Answer, Count, Notes, Reason, TimeMs
from tailor.service.routing import service_router
from tailor.service.schemas import Id, Schema
from tailor.service.state import Service
from tailor.store import own_events, users
from tailor.store.keys import Person
from tailor.store.memory import MemoryState, read_forgetting

LIST, LONGEST = 10, 50  # items of a list
OWN_FIELDS = ("event_id", "item_id", "time_ms", "action", "value")  # of an event that is shown


class Paused(Answer):
    """Settings that a person has paused, or not."""

    memory: bool = Field(description="Whether nothing new is remembered of what the person says.")
    history: bool = Field(description="Whether the history counts for nothing in own lists.")


class OwnPage(Answer):
    """Summary of all that is known of a person."""

    user_id: str = Field(description="Id of the person.")
    ends_ms: TimeMs = Field(description="When the link ends.")
    events: Count = Field(description="How many events are stored.")
    attributes: dict[str, Any] = Field(description="Attributes, such as a country.")
    has_memory: bool = Field(description="Whether the server remembers what people say.")
    paused: Paused


class OwnEvent(Answer):
    """An event of the person."""

    event_id: str = Field(description="Id of the event, by which it can be deleted.")
    item_id: str = Field(description="Id of the item.")
    title: str | None = Field(description="Title of the item, null without one.")
    time_ms: TimeMs
    action: str | None = Field(description="What the person did, null where nobody said.")
    value: float | None = Field(description="Rating or amount, null without one.")


class OwnHistory(Answer):
    """A page of a person's events, the latest first."""

    events: list[OwnEvent] = Field(description="Events.")
    next: str | None = Field(description="Send it as `before` for the next page; null: no more.")


class OwnReason(Reason):
    """A reason for an item, with words."""

    title: str | None = Field(description="Title of an item that is the reason; else null.")


class OwnItem(Answer):
    """An item that the person would be shown."""

    item_id: str = Field(description="Id of the item.")
    position: Annotated[int, Field(ge=1)] = Field(description="Place in the list, from 1.")
    score: float | None = Field(description="Higher is better, within this list.")
    title: str | None = Field(description="Title of the item, null without one.")
    details: dict[str, Any] = Field(
        default={}, description="What the model says of the item; most models say nothing."
    )
    reasons: list[OwnReason] = Field(default=[], description="Reasons, the weightiest first.")


class OwnList(Answer):
    """Items that a person would be shown now, and why."""

    items: list[OwnItem] = Field(description="Items, best first.")
    notes: Notes


class Pause(Schema):
    """Settings to pause; those left out stay as they are."""

    memory: bool | None = Field(None, description="Whether to remember nothing new.")
    history: bool | None = Field(
        None, description="Whether the history is to count for nothing in own lists."
    )


class Erasure(Schema):
    """The word that confirms an erasure."""

    confirm: Literal["erase"] = Field(description='The word "erase".')


def routes(service: Service, person: Any) -> APIRouter:
    """Return the routes; `person` is a dependency that gives the person of the link."""
    api = service_router("a person's own page")
    _add_reading_routes(api, service, person)
    _add_changing_routes(api, service, person)
    return api


def _add_reading_routes(api: APIRouter, service: Service, person: Any) -> None:
    @api.get(OWN_PAGE, responses=responses.answers(OwnPage))
    def own_page(who: Person = Depends(person)) -> Response:
        """Return what is known of the person, in short."""
        return AnyJSONResponse(_overview(service, who))

    @api.get(f"{OWN_PAGE}/history", responses=responses.answers(OwnHistory))
    def own_history(
        k: PageSize = 50,
        before: EventCursor | None = None,
        who: Person = Depends(person),
    ) -> dict[str, Any]:
        """Return a page of the person's events, the latest first."""
        return _history(service, who, k, before)

    @api.get(f"{OWN_PAGE}/recommendations", responses=responses.answers(OwnList, 409))
    async def own_recommendations(
        k: Annotated[int, Query(ge=1, le=LONGEST)] = LIST, who: Person = Depends(person)
    ) -> dict[str, Any]:
        """Return what the person would be shown now, and why; nothing is learned from it."""
        items, notes = await own_list(service, who.tenant, who.user_id, k)
        return await run_in_threadpool(_with_words, service, who, items, notes)

    @api.get(f"{OWN_PAGE}/data", responses=responses.answers(responses.PersonData))
    def own_data(who: Person = Depends(person)) -> Response:
        """Return all that is stored of the person."""
        stores = service.read(lambda connection: users.export(connection, who.tenant, who.user_id))
        service.look_log.add(who, who.user_id, "export")
        return AnyJSONResponse({"user_id": who.user_id, "stores": stores})


def _add_changing_routes(api: APIRouter, service: Service, person: Any) -> None:
    @api.delete(
        f"{OWN_PAGE}/history/{{event_id:segment}}",
        responses=responses.answers(responses.Forgotten, 404),
    )
    def delete_event(event_id: Id, who: Person = Depends(person)) -> dict[str, Any]:
        """Delete one event, and return a signed receipt; it is not taken in again.

        A model that learned before holds what it learned, as numbers, until the next refit.
        """
        return _delete_event(service, who, event_id)

    @api.put(f"{OWN_PAGE}/pause", responses=responses.answers(Paused))
    def pause(body: Pause, who: Person = Depends(person)) -> dict[str, bool]:
        """Pause the memory of what the person says, or the history, or let them go on."""
        changes = {"paused": body.memory, "history_paused": body.history}
        settings = {name: value for name, value in changes.items() if value is not None}
        state = service.writer.do(
            lambda connection: own_events.pause(connection, who.tenant, who.user_id, **settings)
        )
        if state is None:
            raise ProblemError(409, "nothing is stored of you any more")
        for name, value in settings.items():
            service.look_log.add(
                who, who.user_id, f"{'pause' if value else 'resume'} {OWN_NAMES[name]}"
            )
        return _paused(state)

    @api.post(f"{OWN_PAGE}/erase", responses=responses.answers(responses.Receipt))
    def erase(body: Erasure, who: Person = Depends(person)) -> dict[str, Any]:
        """Erase the person from every store and return a signed receipt; the link ends with it."""
        return erase_person(service, who, who.user_id)


OWN_NAMES = {"paused": "memory", "history_paused": "history"}


def _overview(service: Service, who: Person) -> dict[str, Any]:
    tenant, user_id = who.tenant, who.user_id
    count = service.read(
        lambda connection: own_events.count_own_events(connection, tenant, user_id)
    )
    state = service.read(lambda connection: own_events.own_settings(connection, tenant, user_id))
    return {
        "user_id": user_id,
        "ends_ms": who.ends_ms,
        "events": count,
        "attributes": users.attributes_of(service.engine, tenant, user_id),
        "has_memory": service.settings.memory,
        "paused": _paused(state),
    }


def _paused(state: MemoryState) -> dict[str, bool]:
    return {"memory": state.paused, "history": state.history_paused}


def _history(service: Service, who: Person, k: int, before: str | None) -> dict[str, Any]:
    page = read_history(service, who.tenant, who.user_id, k, before)
    return shown_history(page, service.seen_catalogue(who.tenant).rows, OWN_FIELDS)


def _title(service: Service, who: Person, item_id: str) -> str | None:
    title: str | None = (service.seen_catalogue(who.tenant).rows.get(item_id) or {}).get("title")
    return title


def _with_words(
    service: Service, who: Person, items: list[dict[str, Any]], notes: list[str]
) -> dict[str, Any]:
    """Return a list whose reasons have titles."""
    for item in items:
        for reason in item.get("reasons", ()):
            is_item = reason["kind"] == "item"
            reason["title"] = _title(service, who, reason["id"]) if is_item else None
    return {"items": items, "notes": notes}


def _delete_event(service: Service, who: Person, event_id: str) -> dict[str, Any]:
    receipt_id = service.writer.do(
        lambda connection: own_events.delete_event(connection, who.tenant, who.user_id, event_id)
    )
    if receipt_id is None:
        raise ProblemError(404, "there is no such event of yours")
    service.look_log.add(who, who.user_id, "delete an event")
    service.erasures.overwrite()
    receipt = service.read(lambda connection: read_forgetting(connection, who.tenant, receipt_id))
    return receipt or {}
