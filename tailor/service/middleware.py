"""Middleware for every request: limits, checks, headers, a log line, counters.

It is plain ASGI, so that no body is read twice.
"""

import json
import logging
import re
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailor.data.ids import CONTROL
from tailor.service.problems import ProblemError, problem_body
from tailor.service.state import Service
from tailor.store.keys import Caller

log = logging.getLogger("tailor.access")
FORBIDDEN = re.compile(CONTROL)
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
}
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)


class TooLargeError(HTTPException):
    """Raised for a body that is too long, by its declared length or while it is read."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__(413, f"a body may have at most {most_bytes:,} bytes: send less at once")


class BadAddressError(HTTPException):
    """Raised for an address with bytes or characters that no id may have."""

    def __init__(self, problem: str) -> None:
        super().__init__(422, f"the address {problem}, which no id may hold: check the id")


class RequestMiddleware:
    """Wraps the whole application, and handles every request before and after it."""

    def __init__(self, app: ASGIApp, body_bytes: int, registry: CollectorRegistry) -> None:
        self.app = app
        self.body_bytes = body_bytes
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
        trace_id = secrets.token_hex(8)
        method = scope["method"]
        is_head = method == "HEAD"
        if is_head:  # answered by the GET route; `_Response` drops the body
            scope = {**scope, "method": "GET"}
        scope.setdefault("state", {})["trace_id"] = trace_id
        response = _Response(send, trace_id, is_head)
        try:
            self._check(scope)
            await self.app(scope, self._counted(receive), response.send)
        except (TooLargeError, BadAddressError) as error:
            await response.refuse(error)
        finally:
            took_s = time.perf_counter() - started_s
            route = getattr(scope.get("route"), "path", "none")
            self.requests.labels(route, str(response.status)).inc()
            self.seconds.labels(route).observe(took_s)
            extra = {
                "trace_id": trace_id,
                "method": method,
                "route": route,
                "status": response.status,
                "ms": round(took_s * 1000, 2),
            }
            log.info("request", extra=extra)

    def _check(self, scope: Scope) -> None:
        """Refuse a body whose declared length is bad or too large, and a bad address.

        Both kinds of bad address could reach another item. Routing cuts an address at a line end.
        Bytes that are not UTF-8 all become the same character.
        """
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > self.body_bytes:
            raise TooLargeError(self.body_bytes)
        control = FORBIDDEN.search(scope["path"])
        if control is not None:
            raise BadAddressError(f"holds a control character ({ascii(control[0])[1:-1]})")
        raw_path = scope.get("raw_path") or b""
        if b"%" in raw_path:
            try:
                unquote_to_bytes(raw_path).decode("utf-8")
            except UnicodeDecodeError:
                raise BadAddressError("holds bytes that are not UTF-8") from None

    def _counted(self, receive: Receive) -> Receive:
        """Return a `receive` that counts bytes and refuses a body once it is too long."""
        received_bytes = 0

        async def counted() -> Message:
            nonlocal received_bytes
            message = await receive()
            received_bytes += len(message.get("body", b""))
            if received_bytes > self.body_bytes:
                raise TooLargeError(self.body_bytes)
            return message

        return counted


class _Response:
    """Sends an answer with the headers of HEADERS, and remembers its status."""

    def __init__(self, send: Send, trace_id: str, is_head: bool) -> None:
        self._send = send
        self._trace_id = trace_id
        self._is_head = is_head
        self.status = 500

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            present = {name for name, _ in message["headers"]}
            message["headers"] = [
                *message["headers"],
                (b"x-trace-id", self._trace_id.encode()),
                *((name, value) for name, value in HEADERS.items() if name not in present),
            ]
        elif self._is_head and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await self._send(message)

    async def refuse(self, error: HTTPException) -> None:
        """Answer with an error of this middleware."""
        body = json.dumps(
            problem_body(error.status_code, error.detail, trace_id=self._trace_id)
        ).encode()
        headers = [(b"content-type", b"application/problem+json"), (b"connection", b"close")]
        await self.send(
            {"type": "http.response.start", "status": error.status_code, "headers": headers}
        )
        await self.send({"type": "http.response.body", "body": body})


class RateLimiter:
    """A token bucket for each key."""

    def __init__(self, rate: float, burst: int) -> None:
        """Fill every bucket with `rate` requests a second, up to `burst`."""
        self.rate = rate
        self.burst = burst
        # (tenant, key name) -> requests left, and the time in seconds when they were counted
        self._buckets: dict[tuple[str, str], tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, owner: tuple[str, str]) -> float:
        """Take a request from the owner's bucket.

        Returns 0, or the seconds to wait where the bucket is empty.
        """
        now_s = time.monotonic()
        with self._lock:
            left, counted_s = self._buckets.get(owner, (float(self.burst), now_s))
            left = min(self.burst, left + (now_s - counted_s) * self.rate)
            is_allowed = left >= 1
            self._buckets[owner] = (left - 1 if is_allowed else left, now_s)
        return 0.0 if is_allowed else (1 - left) / self.rate


def require_role(
    service: Service, limiter: RateLimiter, role: str
) -> Callable[[Request], Awaitable[Caller]]:
    """Return a FastAPI dependency that returns the caller and checks the role.

    A key that was checked a short time ago needs no thread and no database query.
    """

    async def caller(request: Request) -> Caller:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key:
            raise ProblemError(
                401,
                'an API key is needed: send the header "Authorization: Bearer KEY" (`tailor keys'
                " make` makes a key)",
            )
        caller = service.recent_caller(key)
        if caller is None:
            caller = await run_in_threadpool(service.caller, key)
        if caller is None:
            raise ProblemError(401, "this API key is unknown or revoked")
        if not caller.may(role):
            raise ProblemError(
                403, f'this key has the role "{caller.role}"; this request needs "{role}"'
            )
        wait_s = limiter.take((caller.tenant, caller.name))
        if wait_s:
            raise ProblemError(
                429,
                f"more than {limiter.rate:g} requests a second with this key",
                retry_s=max(1, round(wait_s)),
            )
        return caller

    return caller


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
