"""Middleware for every request: limits, checks, headers, a log line, counters.

It is plain ASGI, so that no body is read twice.
"""

import json
import logging
import secrets
import time
from typing import Any

from fastapi import Request
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailor.service.admission import Admission, UnloggedError
from tailor.service.bodies import SMALL_BYTES, BodyMemory
from tailor.service.latency import LatencyRings
from tailor.service.limits import HoldLog
from tailor.service.problems import SECURITY_HEADERS, ProblemError, answer_error
from tailor.service.routing import PROBED, PUBLIC, routed_path
from tailor.store.writer import RETRY_S

log = logging.getLogger("tailor.access")
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
MOST_DIGITS = 18  # of the length of a body
WATCHING = ("/v1/overview", "/v1/data")  # routes that look at the others, whose times do not count


class TooLargeError(HTTPException):
    """Raised for a body that is too long, by its declared length or while it is read."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__(413, f"a body may have at most {most_bytes:,} bytes: send less at once")


class RequestMiddleware:
    """Wraps the whole application, and handles every request before and after it.

    The key comes first, then the length of the body, then the route.
    """

    def __init__(
        self,
        app: ASGIApp,
        body_bytes: int,
        registry: CollectorRegistry,
        admission: Admission,
        latency: LatencyRings,
    ) -> None:
        self.app = app
        self.latency = latency
        self.body_bytes = body_bytes
        self.admission = admission
        self.body_memory = BodyMemory()
        self.memory_log = HoldLog("memory of bodies")
        self.requests = Counter(
            "tailor_requests", "Requests answered.", ("route", "status"), registry=registry
        )
        self.seconds = Histogram(
            "tailor_request_seconds",
            "From request to answer.",
            ("route",),
            buckets=BUCKETS,
            registry=registry,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started_s = time.perf_counter()
        scope = _prepared(scope)
        body = _Body(receive, self, _declared_bytes(scope))
        response = _Response(send, scope, body)
        is_logged = True
        try:
            await self._admit(scope, body)
            await self.app(scope, body.receive, response.send)
        except Exception as error:
            is_logged = not isinstance(error, UnloggedError)
            await response.refuse(error, receive)
        finally:
            self.body_memory.give_back(body.held_bytes)
            self._note(scope, response.status, time.perf_counter() - started_s, is_logged)

    async def _admit(self, scope: Scope, body: "_Body") -> None:
        """Look at the key, then at the address and the length of the body, which is not read yet.

        Raises what is answered in place of the route's answer.
        """
        if scope["path"] not in PUBLIC:
            scope["state"]["caller"] = await self.admission.caller(scope)
        elif scope["path"] not in PROBED:
            self.admission.count_keyless(scope)
        scope["path"] = routed_path(scope)
        if body.declared_bytes > self.body_bytes:
            raise TooLargeError(self.body_bytes)

    def _note(self, scope: Scope, status: int, took_s: float, is_logged: bool) -> None:
        """Count a request and log it: who asked which route, never for whom."""
        route = _route_name(scope)
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(took_s)
        state = scope["state"]
        caller = state.get("caller")
        if caller is not None and not route.startswith(WATCHING):
            self.latency.note(caller.tenant, took_s, status, time.time())
        if not is_logged:
            return
        extra = {
            "trace_id": state["trace_id"],
            "method": state["method"],
            "route": route,
            "status": status,
            "ms": round(took_s * 1000, 2),
        }
        if caller is not None:
            extra |= {"tenant": caller.tenant, "key": caller.name}
        log.info("request", extra=extra)


def _route_name(scope: Scope) -> str:
    """Return the path of the route as the API's description names it."""
    route = scope.get("route")
    return str(getattr(route, "path_format", None) or getattr(route, "path", "none"))


def _prepared(scope: Scope) -> Scope:
    """Return a scope with a trace id, in which HEAD is GET; the server's own scope stays."""
    state = scope.setdefault("state", {})
    state["trace_id"] = secrets.token_hex(8)
    state["method"] = scope["method"]
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    return {**scope, "method": method}


def _declared_bytes(scope: Scope) -> int:
    """Return the declared length of a body: 0 without one, more than any limit for a bad one."""
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    is_number = declared.isdigit() and len(declared) <= MOST_DIGITS
    return int(declared) if is_number else 10**MOST_DIGITS


class _Body:
    """Counts the bytes of a body, and refuses it once it is too long or memory is short."""

    def __init__(self, receive: Receive, owner: RequestMiddleware, declared_bytes: int) -> None:
        self._receive = receive
        self._owner = owner
        self.declared_bytes = declared_bytes
        self.read_bytes = 0
        self.held_bytes = 0  # counted in the memory of all bodies
        self.is_read = False

    async def receive(self) -> Message:
        """Return the next part."""
        message = await self._receive()
        n_bytes = len(message.get("body", b""))
        self.read_bytes += n_bytes
        self.is_read = self.is_read or not message.get("more_body", False)
        if self.read_bytes > self._owner.body_bytes:
            raise TooLargeError(self._owner.body_bytes)
        if not self._owner.body_memory.take(n_bytes):
            self._owner.memory_log.note()
            raise ProblemError(
                503, "too many large bodies are being read: ask again", retry_s=RETRY_S
            )
        self.held_bytes += n_bytes
        return message

    def is_worth_reading(self, scope: Scope) -> bool:
        """Return whether the rest is small, so that the connection can go on after it."""
        if self.is_read:
            return True
        is_chunked = any(name == b"transfer-encoding" for name, _ in scope["headers"])
        return not is_chunked and self.declared_bytes <= SMALL_BYTES


class _Response:
    """Sends an answer with SECURITY_HEADERS, and remembers its status."""

    def __init__(self, send: Send, scope: Scope, body: _Body) -> None:
        self._send = send
        self._scope = scope
        self._body = body
        self._is_head = scope["state"]["method"] == "HEAD"
        self.status = 500
        self.is_started = False

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self.is_started = True
            self.status = message["status"]
            message["headers"] = [*message["headers"], *self._added_headers(message["headers"])]
        elif self._is_head and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await self._send(message)

    def _added_headers(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        present = {name for name, _ in headers}
        added = [(name, value) for name, value in SECURITY_HEADERS.items() if name not in present]
        added.append((b"x-trace-id", self._scope["state"]["trace_id"].encode()))
        if not self._body.is_worth_reading(self._scope):
            added.append((b"connection", b"close"))
        return added

    async def refuse(self, error: Exception, receive: Receive) -> None:
        """Answer with an error that no route has answered. Raises it where the answer began."""
        if self.is_started:
            raise error
        answer = answer_error(Request(self._scope), error)
        await answer(self._scope, receive, self.send)


# attributes that every log record has; others were added by the logging call
STANDARD = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "color_message"}
RESERVED = ("time", "level", "what")  # fields of every line


class JsonLines(logging.Formatter):
    """Formats log records as lines of JSON.

    A line holds the message and what the logging call adds in `extra`. Calls add no texts, no keys
    and no ids of users. What would take the place of a field of every line gets a name with `_`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        line: dict[str, Any] = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "what": record.getMessage(),
        }
        for name, value in record.__dict__.items():
            if name not in STANDARD:
                line[f"{name}_" if name in RESERVED else name] = value
        return json.dumps(line, default=str)
