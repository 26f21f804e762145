"""A short way for the busiest route: the framework's own costs as much as the model's answer."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailor.service.bodies import QUICK_BYTES
from tailor.service.problems import late_answer, problem_answer
from tailor.service.routing import check_role


@dataclass(frozen=True)
class Route:
    """Stands in the scope where the framework puts the route that matched."""

    path: str


class FastPath:
    """Passes a POST to `path` to `answer` directly.

    Anything else, including every error, goes to the framework's route, which gives the same answer
    and can say what is wrong.
    """

    def __init__(
        self,
        app: ASGIApp,
        path: str,
        schema: type[BaseModel],
        role: str,
        answer: Callable[..., Awaitable[Response]],
    ) -> None:
        self.app = app
        self.route = Route(path)
        self.schema = schema
        self.role = role
        self.answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self.route.path or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        scope["route"] = self.route
        check_role(scope, self.role)
        request = Request(scope, receive)
        try:
            body = await request.body()
        except ClientDisconnect:
            response: Response = problem_answer(request, 400, "the body ended before its end")
            await response(scope, receive, send)
            return
        quick_response = await self._quick_response(request, body)
        if quick_response is None:
            await self.app(scope, _replay(body, receive), send)
            return
        await quick_response(scope, receive, send)

    async def _quick_response(self, request: Request, body: bytes) -> Response | None:
        """Return the answer, None where the framework's route must give it."""
        is_json = request.headers.get("content-type", "").startswith("application/json")
        if not is_json or len(body) > QUICK_BYTES:
            return None
        try:
            question = self.schema.model_validate_json(body)
            return await self.answer(question, check_role(request.scope, self.role))
        except TimeoutError as error:
            return late_answer(request, error)
        except Exception:  # of any kind: the framework's route meets it again and reports it
            return None


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body that was read already, then what follows."""
    unread = [body]

    async def next_message() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await receive()

    return next_message
