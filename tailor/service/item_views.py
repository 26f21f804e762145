"""Routes that show items: lists of stored ones, and how often one was shown and chosen."""

import heapq
from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from tailor.service import responses
from tailor.service.catalogue import Catalogue
from tailor.service.ingest import AnyJSONResponse
from tailor.service.notes import with_notes
from tailor.service.routing import service_router
from tailor.service.schemas import Id, Short
from tailor.service.state import Service
from tailor.store.engine import now_ms
from tailor.store.exposure import DAY_MS, MOST_SHOWN, exposure_of
from tailor.store.keys import Caller

SHOWN_FIELDS = ("item_id", "title", "categories", "price", "blocked", "reason")
PageSize = Annotated[int, Query(ge=1, le=200)]
Days = Annotated[int, Query(ge=1, le=366)]


class ListedStoredItem(responses.Answer):
    """A stored item in a list."""

    item_id: str = Field(description="Id of the item.")
    title: str | None = Field(description="Title, null without one.")
    categories: list[Any] | None = Field(description="Names of categories.")
    price: float | None = Field(description="Price, null without one.")
    blocked: str | None = Field(
        description="Why no answer has it: deleted, taken down, or both; null: answers have it."
    )
    reason: str | None = Field(description="Why it was taken down, in your words.")


class StoredItems(responses.Answer):
    """Stored items."""

    items: list[ListedStoredItem] = Field(
        description="In the order of their ids; items found by words come after those."
    )
    next: str | None = Field(description="Send it as `after` for the next page; null: no more.")


class ExposureOfDay(responses.Answer):
    """An item's exposure on a day."""

    day_ms: responses.TimeMs = Field(description="Where the day begins, in UTC.")
    shown: responses.Count = Field(description="Lists that it stood in.")
    mean_position: float | None = Field(description="Mean place in them, from 1; null without.")
    events: responses.Count = Field(description="Events of the item.")
    chosen: responses.Count = Field(description="Those of them that name the list they came from.")


class ExposureAnswer(responses.Answer):
    """An item's exposure, day by day."""

    item_id: str = Field(description="Id of the item.")
    days: list[ExposureOfDay] = Field(description="Every day, the oldest first.")
    notes: list[str] = Field(default=[], description=responses.SOME_NOTES)


def routes(service: Service, reader: Any) -> APIRouter:
    """Return the routes; `reader` is a dependency that gives the caller."""
    api = service_router("items")

    @api.get("/v1/items", responses=responses.answers(StoredItems))
    def stored_items(
        query: Short = "",
        blocked: bool | None = None,
        k: PageSize = 50,
        after: Id | None = None,
        who: Caller = Depends(reader),
    ) -> AnyJSONResponse:
        """Return stored items whose id begins with `query`, then those that have its words.

        Without a query all are listed. `blocked` asks for those that no answer has, or for the
        others. Words are looked for on the first page only, where it has room, and not among the
        blocked.
        """
        items = service.catalogue(who.tenant)
        beginning = query.strip()
        found_ids = _next_ids(items, beginning, blocked, after, k + 1)
        item_ids, cursor = found_ids[:k], found_ids[k - 1] if len(found_ids) > k else None
        if beginning and after is None and not blocked:
            matches = items.search(beginning, k, ())
            item_ids = list(dict.fromkeys([*item_ids, *(item_id for item_id, _ in matches)]))[:k]
        rows = [items.rows[item_id] for item_id in item_ids if item_id in items.rows]
        content = [{name: row[name] for name in SHOWN_FIELDS} for row in rows]
        return AnyJSONResponse({"items": content, "next": cursor})

    @api.get("/v1/items/{item_id:segment}/exposure", responses=responses.answers(ExposureAnswer))
    def exposure(item_id: Id, days: Days = 30, who: Caller = Depends(reader)) -> dict[str, Any]:
        """Return how often an item was shown, chosen and used, by day.

        Lists are written within a second.
        """
        last_ms = now_ms()
        first_ms = last_ms - (days - 1) * DAY_MS
        exposures = service.read(
            lambda connection: exposure_of(connection, who.tenant, item_id, first_ms, last_ms)
        )
        notes = []
        if exposures.is_cut:
            notes.append(f"only the latest {MOST_SHOWN:,} lists with this item are counted")
        return with_notes({"item_id": item_id, "days": exposures.days}, notes)

    return api


def _next_ids(
    items: Catalogue, beginning: str, blocked: bool | None, after: str | None, k: int
) -> list[str]:
    """Return the first k ids with this beginning past one, in their order.

    All are in memory: a million take a fifth of a second.
    """
    item_ids: Iterable[str] = items.rows
    if blocked:
        item_ids = items.blocked.ids.tolist()
    past = after or ""
    return heapq.nsmallest(
        k,
        (
            item_id
            for item_id in item_ids
            if item_id.startswith(beginning)
            and item_id > past
            and (blocked is not False or item_id not in items.blocked)
        ),
    )
