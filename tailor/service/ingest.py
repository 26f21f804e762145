"""Routes that a product sends data to: events, items, users."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from tailor.errors import DataError
from tailor.service import responses
from tailor.service.catalogue import Catalogue
from tailor.service.notes import MOST_NAMED, first_few, with_notes
from tailor.service.problems import MOST_PROBLEMS, ProblemError, field_problems
from tailor.service.routing import service_router
from tailor.service.schemas import Event, Events, Id, Items, Takedown, User
from tailor.service.state import Service
from tailor.store import catalogue, users
from tailor.store.columns import without_nan
from tailor.store.datasets import ITEMS, shown
from tailor.store.engine import UNAVAILABLE, now_ms
from tailor.store.keys import Caller

AHEAD_MS = 24 * 3600 * 1000  # that a caller's clock may run ahead
ERASED = {
    "field": "time_ms",
    "problem": "lies before the erasure of this person: what was erased is not taken in again",
}
AHEAD = {
    "field": "time_ms",
    "problem": (
        "lies more than a day ahead: milliseconds since 1970 are needed, and the sender's clock"
        " must be right"
    ),
}


def routes(service: Service, reader: Any, writer: Any, admin: Any) -> APIRouter:
    """Return the routes; the rest are dependencies that give the caller."""
    api = service_router("what happens")
    _add_item_routes(api, service, reader, writer, admin)
    _add_user_routes(api, service, writer, admin)

    @api.post("/v1/events", responses=responses.answers(responses.Accepted, 409))
    def events(body: Events, who: Caller = Depends(writer)) -> dict[str, Any]:
        """Store events; they are on the disk when this is answered.

        Good events of a batch are stored, bad ones are named.
        """
        return _ingest(service, who.tenant, body)

    return api


def _ingest(service: Service, tenant: str, body: Events) -> dict[str, Any]:
    received_ms = now_ms()
    good, bad = _read_events(body.events, received_ms)
    ahead = [index for index, row in good.items() if row["time_ms"] > received_ms + AHEAD_MS]
    status = 409 if good else 422  # as described, or not
    for index in ahead:
        del good[index]
        bad.append({"index": index, **AHEAD})
    if body.events and not good:
        first = f"{bad[0]['field']} {bad[0]['problem']}"
        raise ProblemError(status, f"none of {len(bad)} events could be stored: {first}", bad)
    rows = list(good.values())
    new_ids: set[str] = set()
    erased_ids: set[str] = set()
    if rows:
        new_ids, erased_ids = service.writer.do(
            lambda connection: users.ingest_events(connection, tenant, rows, received_ms)
        )
    bad += [
        {"index": index, **ERASED} for index, row in good.items() if row["event_id"] in erased_ids
    ]
    item_ids = [row["item_id"] for row in rows if row["event_id"] not in erased_ids]
    sent_ids = dict.fromkeys(row["event_id"] for row in rows)
    answer = {
        "accepted": len(new_ids),
        "duplicates": [
            event_id
            for event_id in sent_ids
            if event_id not in new_ids and event_id not in erased_ids
        ],
        "rejected": sorted(bad, key=lambda problem: int(problem["index"])),
    }
    return with_notes(answer, _unknown_item_notes(service, tenant, item_ids))


def _unknown_item_notes(service: Service, tenant: str, item_ids: list[str]) -> list[str]:
    """Return a note on events of items that are not stored; none where no item is stored at all.

    The store is asked only where the items in memory lack one.
    """
    rows = service.seen_catalogue(tenant).rows
    if any(item_id not in rows for item_id in item_ids):
        with suppress(*UNAVAILABLE):  # the events are stored: the note is not worth an error
            rows = service.catalogue(tenant).rows
    unknown = [item_id for item_id in item_ids if item_id not in rows]
    if not rows or not unknown:
        return []
    named = first_few(list(dict.fromkeys(unknown)))
    return [
        f"events of items that are not stored: {len(unknown):,} ({named}); they are kept, and count"
        " once the items are written"
    ]


def _read_events(
    events: list[Any], received_ms: int
) -> tuple[dict[int, dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of good events by index, and a problem (index, field) of each bad one."""
    good: dict[int, dict[str, Any]] = {}
    bad: list[dict[str, Any]] = []
    for index, event in enumerate(events):
        try:
            row = Event.model_validate(event).model_dump()
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False)
            first = field_problems([dict(errors[0])])[0]
            bad.append({"index": index, **first, "field": first["field"] or "(the event)"})
            continue
        if row["time_ms"] is None:
            row["time_ms"] = received_ms
        good[index] = row
    return good, bad


def _write_items(service: Service, tenant: str, body: Items) -> dict[str, Any]:
    rows = list({item.item_id: item.model_dump() for item in body.items}.values())
    if not rows:
        return {"written": 0}
    _check_item_names(body, service.settings.item_attributes)
    names = {name for row in rows for name in row["more"] or {}} - set(ITEMS)
    shelf = service.seen_catalogue(tenant)
    if any(name not in shelf.attributes for name in names):
        shelf = service.catalogue(tenant)  # as of now: another worker may have brought the name
    with shelf.room_for(names, service.settings.attributes):
        service.writer.do(lambda connection: catalogue.upsert_items(connection, tenant, rows))
    notes = _odd_notes(shelf, rows)
    twice = len(body.items) - len(rows)
    if twice:
        notes.append(f"{twice:,} items were sent more than once: the last one of each id counts")
    return with_notes({"written": len(rows)}, notes)


def _check_item_names(body: Items, most: int) -> None:
    """Raise ProblemError for items with too many names in `more`."""
    problems = [
        {
            "index": index,
            "field": f"items.{index}.more",
            "problem": (
                f"has {len(item.more)} names, at most {most} are possible: put what belongs"
                " together into one list or object"
            ),
        }
        for index, item in enumerate(body.items)
        if item.more is not None and len(item.more) > most
    ]
    if problems:
        first = problems[0]
        raise ProblemError(422, f"{first['field']}: {first['problem']}", problems[:MOST_PROBLEMS])


class AnyJSONResponse(JSONResponse):
    """JSON of any stored value, also of what data sets brought and no caller may send."""

    def render(self, content: Any) -> bytes:
        """Return the JSON; a number that is none is null, half of a surrogate pair is escaped."""
        return json.dumps(without_nan(content)).encode()


def _odd_notes(shelf: Catalogue, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a note on values in `more` that no filter will meet."""
    odd = {row["item_id"]: shelf.attributes.odd_names(row) for row in rows}
    odd = {item_id: names for item_id, names in odd.items() if names}
    if not odd:
        return []
    named = [
        f"{item_id} ({', '.join(map(shown, names[:MOST_NAMED]))})" for item_id, names in odd.items()
    ]
    return [
        "more has values that no filter meets, since most items have another type under that name,"
        f" or the name cannot be a column of its own: {first_few(named, '; ', ' items')}"
    ]


def _add_item_routes(
    api: APIRouter, service: Service, reader: Any, writer: Any, admin: Any
) -> None:
    @api.put("/v1/items", responses=responses.answers(responses.Written, 409))
    def write_items(body: Items, who: Caller = Depends(writer)) -> dict[str, Any]:
        """Write items, new or known; of an item that is sent twice the last one counts.

        Search finds them at once, the next model recommends them.
        """
        return _write_items(service, who.tenant, body)

    @api.post(
        "/v1/items/{item_id:segment}/takedown", responses=responses.answers(responses.Blocked)
    )
    def take_down(
        item_id: Id, body: Takedown | None = None, who: Caller = Depends(admin)
    ) -> dict[str, str]:
        """Take an item down: no answer has it any more until it is restored, whoever writes it."""
        reason = body.reason if body else None
        service.writer.do(
            lambda connection: catalogue.block(
                connection, who.tenant, item_id, catalogue.TAKEN_DOWN, reason or None
            )
        )
        return {"item_id": item_id, "blocked": catalogue.TAKEN_DOWN}

    @api.delete(
        "/v1/items/{item_id:segment}/takedown", responses=responses.answers(responses.Blocked, 404)
    )
    def restore(item_id: Id, who: Caller = Depends(admin)) -> dict[str, Any]:
        """Undo a takedown; an item that was deleted too stays so until it is written."""

        def job(connection: sa.Connection) -> str | None:
            if not catalogue.restore(connection, who.tenant, item_id):
                raise ProblemError(404, "no such item is taken down")
            row = catalogue.item(connection, who.tenant, item_id)
            return row["blocked"] if row else None

        return {"item_id": item_id, "blocked": service.writer.do(job)}

    @api.get("/v1/items/{item_id:segment}", responses=responses.answers(responses.StoredItem, 404))
    def item(item_id: Id, who: Caller = Depends(reader)) -> JSONResponse:
        """Return what is stored of an item, with its semantic id where the model has one."""
        row = service.read(lambda connection: catalogue.item(connection, who.tenant, item_id))
        if row is None:
            raise ProblemError(404, "there is no such item")
        notes: list[str] = []
        with suppress(*UNAVAILABLE):
            notes = _odd_notes(service.catalogue(who.tenant), [row])
        content = {name: value for name, value in row.items() if name not in ("tenant", "changed")}
        semantic_id = _semantic_id(service, who.tenant, item_id)
        if semantic_id:
            content["semantic_id"] = semantic_id
        return AnyJSONResponse(with_notes(content, notes))

    @api.delete("/v1/items/{item_id:segment}", responses=responses.answers(responses.Blocked))
    def delete(item_id: Id, who: Caller = Depends(writer)) -> dict[str, str]:
        """Delete an item: no answer has it any more until it is written again."""
        service.writer.do(
            lambda connection: catalogue.block(connection, who.tenant, item_id, catalogue.DELETED)
        )
        return {"item_id": item_id, "blocked": catalogue.DELETED}


def _semantic_id(service: Service, tenant: str, item_id: str) -> list[int]:
    """Return the codes of an item in the model that answers; none where it has no such ids."""
    model = service.model_registry.loaded(tenant)
    code_of = None if model is None else getattr(model.model, "code_of", None)
    if code_of is None:
        return []
    try:
        return list(code_of(item_id))
    except DataError:  # the model did not know the item when it was fitted
        return []


def _add_user_routes(api: APIRouter, service: Service, writer: Any, admin: Any) -> None:
    @api.put("/v1/users/{user_id:segment}", responses=responses.answers(responses.WrittenUser))
    def write_user(user_id: Id, body: User, who: Caller = Depends(writer)) -> dict[str, str]:
        """Write a user's attributes, which models get as the context of the user's questions."""
        service.writer.do(
            lambda connection: users.upsert_user(connection, who.tenant, user_id, body.more)
        )
        service.note_attributes(who.tenant)
        return {"user_id": user_id}

    @api.get(
        "/v1/users/{user_id:segment}/data",
        tags=["people"],
        responses=responses.answers(responses.PersonData),
    )
    def export(user_id: Id, who: Caller = Depends(admin)) -> dict[str, Any]:
        """Return all that is stored of a person."""
        stores = service.read(lambda connection: users.export(connection, who.tenant, user_id))
        service.look_log.add(who, user_id, "export")
        return {"user_id": user_id, "stores": stores}

    @api.delete(
        "/v1/users/{user_id:segment}/data",
        tags=["people"],
        responses=responses.answers(responses.Receipt),
    )
    def erase(user_id: Id, who: Caller = Depends(admin)) -> dict[str, Any]:
        """Erase a person from every store and return a signed receipt.

        The receipt names the person by a digest only, and says what a scan for the id still finds.
        A scan that takes long goes on: "scan" is "running" then, and GET /v1/receipts/ID gives the
        receipt with what was found. A model that learned before holds what it learned, as numbers;
        the next refit has none of it.
        """
        return erase_person(service, who, user_id)


def erase_person(service: Service, who: Caller, user_id: str) -> dict[str, Any]:
    """Erase a person from the store and this worker's memory and return the receipt."""
    receipt = service.erasures.erase(who.tenant, user_id)
    service.look_log.add_digest(who, receipt["subject"], "erasure")
    # an answer that was under way may have brought the person back into memory
    service.forget(who.tenant, user_id)
    service.erasures.overwrite()
    return service.erasures.follow(receipt, user_id)
