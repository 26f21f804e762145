"""What a product sends: events, items, people."""

from contextlib import suppress
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends
from pydantic import ValidationError

from tailor.service.problems import ProblemError, fields
from tailor.service.schemas import Event, Events, Id, Items, Person, Takedown
from tailor.service.state import Service
from tailor.store import catalogue, users
from tailor.store.engine import UNAVAILABLE, now_ms, overwrite_deleted
from tailor.store.keys import Caller

ERASED = {
    "field": "time_ms",
    "problem": "lies before the erasure of this person: what was erased is not taken in again",
}


def routes(service: Service, writer: Any, admin: Any) -> APIRouter:
    """`writer` and `admin` are dependencies that give the caller."""
    api = APIRouter(tags=["what happens"])

    @api.post("/v1/events")
    def events(body: Events, who: Caller = Depends(writer)) -> dict[str, Any]:
        """Store events; what is answered for is on the disk. Good events of a batch are kept, bad
        ones are named.
        """
        now = now_ms()
        good, bad = _read(body.events, now)
        if body.events and not good:
            raise ProblemError(
                422,
                f"none of {len(bad)} events could be read: {bad[0]['field']} {bad[0]['problem']}",
                bad,
            )
        rows = list(good.values())
        new, erased = (
            service.writer.do(
                lambda connection: users.ingest_events(connection, who.tenant, rows, now)
            )
            if rows
            else (set[str](), set[str]())
        )
        bad += [
            {"index": index, **ERASED} for index, row in good.items() if row["event_id"] in erased
        ]
        ids = dict.fromkeys(row["event_id"] for row in rows)
        return {
            "accepted": len(new),
            "duplicates": [one for one in ids if one not in new and one not in erased],
            "rejected": sorted(bad, key=lambda one: int(one["index"])),
        }

    @api.put("/v1/items")
    def items(body: Items, who: Caller = Depends(writer)) -> dict[str, int]:
        """Write items, new or known. They can be found at once, and recommended by the next model."""
        rows = list({one.item_id: one.model_dump() for one in body.items}.values())
        if rows:
            service.writer.do(
                lambda connection: catalogue.upsert_items(connection, who.tenant, rows)
            )
        return {"written": len(rows)}

    @api.post("/v1/items/{item_id:path}/takedown")
    def take_down(
        item_id: Id, body: Takedown | None = None, who: Caller = Depends(admin)
    ) -> dict[str, str]:
        """Take an item down: it is answered no more, from the next answer on, whoever writes it
        again, until it is restored.
        """
        reason = body.reason if body else None
        service.writer.do(
            lambda connection: catalogue.block(
                connection, who.tenant, item_id, catalogue.TAKEN_DOWN, reason or None
            )
        )
        return {"item_id": item_id, "blocked": catalogue.TAKEN_DOWN}

    @api.delete("/v1/items/{item_id:path}/takedown")
    def restore(item_id: Id, who: Caller = Depends(admin)) -> dict[str, Any]:
        """Let an item that was taken down be answered again; one that was deleted too stays so
        until it is written.
        """

        def job(connection: sa.Connection) -> str | None:
            if not catalogue.restore(connection, who.tenant, item_id):
                raise ProblemError(404, "no such item is taken down")
            left = catalogue.item(connection, who.tenant, item_id)
            return left["blocked"] if left else None

        return {"item_id": item_id, "blocked": service.writer.do(job)}

    @api.get("/v1/items/{item_id:path}")
    def item(item_id: Id, who: Caller = Depends(writer)) -> dict[str, Any]:
        row = service.read(lambda connection: catalogue.item(connection, who.tenant, item_id))
        if row is None:
            raise ProblemError(404, "there is no such item")
        return {name: value for name, value in row.items() if name not in ("tenant", "changed")}

    @api.delete("/v1/items/{item_id:path}")
    def delete(item_id: Id, who: Caller = Depends(writer)) -> dict[str, str]:
        """Delete an item: it is answered no more, from the next answer on. Written again, it comes
        back.
        """
        service.writer.do(
            lambda connection: catalogue.block(connection, who.tenant, item_id, catalogue.DELETED)
        )
        return {"item_id": item_id, "blocked": catalogue.DELETED}

    @api.put("/v1/users/{user_id:path}")
    def person(user_id: Id, body: Person, who: Caller = Depends(writer)) -> dict[str, str]:
        """Write what is known of a person besides events."""
        service.writer.do(
            lambda connection: users.upsert_user(connection, who.tenant, user_id, body.more)
        )
        return {"user_id": user_id}

    @api.get("/v1/users/{user_id:path}/data", tags=["people"])
    def export(user_id: Id, who: Caller = Depends(admin)) -> dict[str, Any]:
        """All that is stored of a person."""
        return {
            "user_id": user_id,
            "stores": service.read(
                lambda connection: users.export(connection, who.tenant, user_id)
            ),
        }

    @api.delete("/v1/users/{user_id:path}/data", tags=["people"])
    def erase(user_id: Id, who: Caller = Depends(admin)) -> dict[str, Any]:
        """Erase a person from every store. The receipt is signed, names the person by a digest
        only, and says what a scan for the id still finds.

        A model learned before still holds what it learned, as numbers; the next refit has none of
        it.
        """

        def job(connection: sa.Connection) -> dict[str, Any]:
            return users.erase(connection, who.tenant, user_id, (service,))

        receipt = service.writer.do(job)
        # what an answer that was under way has remembered since
        service.forget(who.tenant, user_id)
        # erased it is, and later commits write over it: the receipt must not be lost
        with suppress(*UNAVAILABLE):
            overwrite_deleted(service.engine)
        return receipt

    return api


def _read(given: list[Any], now: int) -> tuple[dict[int, dict[str, Any]], list[dict[str, Any]]]:
    """Events that can be stored, by index, and what is wrong with the others: index, field,
    problem.
    """
    good, bad = dict[int, dict[str, Any]](), list[dict[str, Any]]()
    for index, one in enumerate(given):
        try:
            event = Event.model_validate(one)
        except ValidationError as error:
            first = fields(
                [dict(found) for found in error.errors(include_url=False, include_input=False)]
            )[0]
            bad.append({"index": index, **first, "field": first["field"] or "(the event)"})
        else:
            row = event.model_dump()
            good[index] = {**row, "time_ms": now if row["time_ms"] is None else row["time_ms"]}
    return good, bad
