"""The route that tells callers who they are."""

from typing import Any, Literal

from fastapi import APIRouter, Depends
from pydantic import Field

from tailor.service import responses
from tailor.service.routing import service_router
from tailor.store.keys import Caller


class CallerAnswer(responses.Answer):
    """The owner of a key."""

    tenant: str = Field(description="Tenant of the key.")
    name: str = Field(description="Name of the key.")
    role: Literal["serve", "read", "write", "admin"] = Field(description="What it may do.")


def routes(server: Any) -> APIRouter:
    """Return the route; `server` is a dependency that gives the caller."""
    api = service_router("running it")

    @api.get("/v1/caller", responses=responses.answers(CallerAnswer))
    async def caller(who: Caller = Depends(server)) -> dict[str, str]:
        """Return the tenant, the name and the role of the key that asks."""
        return {"tenant": who.tenant, "name": who.name, "role": who.role}

    return api
