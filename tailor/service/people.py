"""Routes that show people: who there is, and what each did."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from tailor.service import responses
from tailor.service.problems import ProblemError
from tailor.service.routing import service_router
from tailor.service.schemas import Id, Short
from tailor.service.state import Service
from tailor.store import people
from tailor.store.keys import Caller

HISTORY = "history"  # name of the route in the audit
PAST_FIELDS = ("item_id", "time_ms", "action", "value", "request_id")  # of an event that is shown
MOST_NUMBER = 18  # digits of an event's number
PageSize = Annotated[int, Query(ge=1, le=200)]
FewPeople = Annotated[int, Query(ge=1, le=100)]
PeopleCursor = Annotated[str, Query(pattern="^[0-9a-f]{1,64}$")]
EventCursor = Annotated[str, Query(pattern="^[0-9]{1,15}-[0-9]{1,18}$")]


class FoundPerson(responses.Answer):
    """A person who was found."""

    user_id: str = Field(description="Id of the person.")
    events: responses.Count = Field(description="How many events are stored.")
    last_ms: responses.TimeMs | None = Field(description="Time of the last; null: there is none.")


class PeopleAnswer(responses.Answer):
    """People who were found."""

    people: list[FoundPerson] = Field(description="People; of an exact id that one first.")
    next: str | None = Field(description="Send it as `after` to go on; null: all were looked at.")
    searched: Annotated[float, Field(ge=0, le=1)] = Field(
        description="Share of the people that the search has looked at until here."
    )


class PastEvent(responses.Answer):
    """An event of a person."""

    item_id: str = Field(description="Id of the item.")
    title: str | None = Field(description="Title of the item, null without one.")
    time_ms: responses.TimeMs
    action: str | None = Field(description="What the person did; null: it was not said.")
    value: float | None = Field(description="A number that came with it, such as a rating.")
    request_id: str | None = Field(description="The list that it was chosen from.")


class HistoryAnswer(responses.Answer):
    """Events of a person."""

    events: list[PastEvent] = Field(description="The latest first.")
    next: str | None = Field(description="Send it as `before` for the next page; null: no more.")


def routes(service: Service, reader: Any, admin: Any) -> APIRouter:
    """Return the routes; `reader` and `admin` are dependencies that give the caller."""
    api = service_router("people")

    @api.get("/v1/users", responses=responses.answers(PeopleAnswer, 409))
    def find(
        query: Short = "",
        k: FewPeople = 20,
        after: PeopleCursor | None = None,
        who: Caller = Depends(admin),
    ) -> dict[str, Any]:
        """Return people whose id has a part; without one, those of the latest events.

        Ids are encrypted, so that no index finds a part of one: a call looks at ten thousand
        people. Ask again with `next` until it is null. An exact id is found at once.
        """
        part = query.strip()
        matches = _search(service, who.tenant, part, k, after)
        return {
            "people": matches.people,
            "next": matches.after,
            "searched": round(matches.searched, 4),
        }

    @api.get("/v1/users/{user_id:segment}/history", responses=responses.answers(HistoryAnswer))
    def history(
        user_id: Id,
        k: PageSize = 50,
        before: EventCursor | None = None,
        who: Caller = Depends(reader),
    ) -> dict[str, Any]:
        """Return a person's events, the latest first; none for an unknown person."""
        page = read_history(service, who.tenant, user_id, k, before)
        service.look_log.add(who, user_id, HISTORY)
        return shown_history(page, service.catalogue(who.tenant).rows, PAST_FIELDS)

    return api


def _search(service: Service, tenant: str, part: str, k: int, after: str | None) -> people.Found:
    if part:
        return service.read(
            lambda connection: people.find_people(connection, tenant, part, k, after or "")
        )
    if after is not None and (not after.isdecimal() or len(after) > MOST_NUMBER):
        raise ProblemError(409, "after: it is of a search with a query: send that query too")
    before = None if after is None else int(after)
    return service.read(lambda connection: people.latest_people(connection, tenant, k, before))


def read_history(
    service: Service, tenant: str, user_id: str, k: int, before: str | None
) -> people.EventPage:
    """Return k events of a person, the latest before a cursor."""
    cursor = None if before is None else _moment(before)
    return service.read(
        lambda connection: people.page_of_events(connection, tenant, user_id, k, cursor)
    )


def _moment(cursor: str) -> tuple[int, int]:
    """Return time and number of an event from a cursor."""
    time_ms, number = cursor.split("-")
    return int(time_ms), int(number)


def shown_history(
    page: people.EventPage, items: Mapping[str, Mapping[str, Any]], fields: Sequence[str]
) -> dict[str, Any]:
    """Return these fields of a page's events with the titles of `items`, and the next cursor."""
    events = [
        {
            **{name: event[name] for name in fields},
            "title": (items.get(event["item_id"]) or {}).get("title"),
        }
        for event in page.events
    ]
    cursor = None if page.before is None else f"{page.before[0]}-{page.before[1]}"
    return {"events": events, "next": cursor}
