"""The one route that is asked most, without the framework's way to it, which costs as much as the
model's answer.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailor.service.problems import answer, late
from tailor.store.keys import Caller


@dataclass(frozen=True)
class Route:
    """Stands where the framework puts the route it has found."""

    path: str


class FastPath:
    """POSTs of `path` whose body `shape` holds go straight to `answer`; all else, and all that goes
    wrong, goes the long way, which says the same and knows how to say why not.
    """

    def __init__(
        self,
        app: ASGIApp,
        path: str,
        shape: type[BaseModel],
        caller: Callable[[Request], Awaitable[Caller]],
        answer: Callable[..., Awaitable[Response]],
    ) -> None:
        self.app, self.route, self.shape, self.caller, self.answer = (
            app,
            Route(path),
            shape,
            caller,
            answer,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self.route.path or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            body = await request.body()
        except ClientDisconnect:
            scope["route"] = self.route
            await answer(request, 400, "the body ended before its end")(scope, receive, send)
            return
        response = await self._answered(request, body)
        if response is None:
            await self.app(scope, _again(body, receive), send)
            return
        scope["route"] = self.route
        await response(scope, receive, send)

    async def _answered(self, request: Request, body: bytes) -> Response | None:
        if not request.headers.get("content-type", "").startswith("application/json"):
            return None
        try:
            return await self.answer(
                self.shape.model_validate_json(body), await self.caller(request)
            )
        except TimeoutError as error:
            return late(request, error)
        except Exception:  # whatever it is, it is met again on the long way, and told from there
            return None


def _again(body: bytes, receive: Receive) -> Receive:
    """The body that was read already, then what comes after it."""
    left = [body]

    async def next_message() -> Message:
        return (
            {"type": "http.request", "body": left.pop(), "more_body": False}
            if left
            else await receive()
        )

    return next_message
