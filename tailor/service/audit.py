"""The route that shows who looked at whom."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from tailor.service import responses
from tailor.service.routing import service_router
from tailor.service.schemas import Id
from tailor.service.state import Service
from tailor.store.audit import read_looks
from tailor.store.keys import Caller
from tailor.store.retention import LOOKS_DAYS

PageSize = Annotated[int, Query(ge=1, le=200)]
LookNumber = Annotated[int, Query(ge=1, lt=2**63)]


class LookAnswer(responses.Answer):
    """A look of a key at a person's data."""

    user_id: str | None = Field(description="Whom; null: erased since, or never there.")
    subject: str = Field(description="A digest of whom, as in receipts.")
    time_ms: responses.TimeMs
    key: str = Field(description="Name of the key that asked.")
    route: str = Field(
        description="What it saw: history, memory, recommendations, export, receipt; or erasure."
    )


class LooksAnswer(responses.Answer):
    """Looks of keys at people's data."""

    looks: list[LookAnswer] = Field(description="The latest first.")
    next: int | None = Field(description="Send it as `before` for the next page; null: no more.")
    kept_days: int = Field(description="Days for which looks are kept.")


def routes(service: Service, admin: Any) -> APIRouter:
    """Return the route; `admin` is a dependency that gives the caller."""
    api = service_router("people")

    @api.get("/v1/audit", responses=responses.answers(LooksAnswer))
    def looks(
        user_id: Id | None = None,
        k: PageSize = 50,
        before: LookNumber | None = None,
        who: Caller = Depends(admin),
    ) -> dict[str, Any]:
        """Return which keys looked at people's data: whose, when, and what they asked for.

        `user_id` asks about one person, also one who was erased since. Lists without reasons are no
        looks: they show nothing of a person. Looks are written within a second.
        """
        rows = service.read(
            lambda connection: read_looks(connection, who.tenant, user_id, before, k + 1)
        )
        numbers = [row.pop("number") for row in rows]
        cursor = numbers[k - 1] if len(rows) > k else None
        return {"looks": rows[:k], "next": cursor, "kept_days": LOOKS_DAYS}

    return api
