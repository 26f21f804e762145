"""Routes of links to people's own pages: make one, end all."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field

from tailor.service import responses
from tailor.service.problems import ProblemError
from tailor.service.responses import Answer, TimeMs
from tailor.service.routing import service_router
from tailor.service.schemas import Id, Schema
from tailor.service.state import Service
from tailor.store.engine import now_ms
from tailor.store.keys import Caller
from tailor.store.links import HOUR_MS, end_links, make_link

MOST_HOURS = 720
HOURS = 72
UNKNOWN = "nothing is stored of this person: there is nothing that a page could show"


class LinkWish(Schema):
    """A link to make."""

    hours: Annotated[int, Field(ge=1, le=MOST_HOURS)] = Field(
        HOURS, description="Hours after which the link ends."
    )


class NewLink(Answer):
    """A link to a person's own page."""

    link: str = Field(description="Send it to that person alone: who has it, may do all of it.")
    path: str = Field(description="Path of the page in the console, with the link as fragment.")
    ends_ms: TimeMs


class EndedLinks(Answer):
    """A person whose links have all ended."""

    user_id: str = Field(description="Id of the person.")


def routes(service: Service, admin: Any) -> APIRouter:
    """Return the routes; `admin` is a dependency that gives the caller."""
    api = service_router("people")

    @api.post("/v1/users/{user_id:segment}/links", responses=responses.answers(NewLink, 404))
    def make(
        user_id: Id, body: LinkWish | None = None, who: Caller = Depends(admin)
    ) -> dict[str, Any]:
        """Make a link to a person's own page, which needs no key and ends after some hours.

        It is shown this once. It names the person to this store alone.
        """
        hours = HOURS if body is None else body.hours
        ends_ms = now_ms() + hours * HOUR_MS
        link = service.read(lambda connection: make_link(connection, who.tenant, user_id, ends_ms))
        if link is None:
            raise ProblemError(404, UNKNOWN)
        service.look_log.add(who, user_id, "link")
        return {"link": link, "path": f"/me#{link}", "ends_ms": ends_ms}

    @api.delete("/v1/users/{user_id:segment}/links", responses=responses.answers(EndedLinks, 404))
    def end(user_id: Id, who: Caller = Depends(admin)) -> dict[str, str]:
        """End all links to a person's own page at once; an erasure does so too."""
        if not service.writer.do(lambda connection: end_links(connection, who.tenant, user_id)):
            raise ProblemError(404, UNKNOWN)
        return {"user_id": user_id}

    return api
