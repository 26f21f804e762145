"""What every request passes: a size limit, a trace id, headers, a line in the log, counters. Plain
ASGI, so that nothing is read twice.
"""

import json
import logging
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailor.service.problems import TITLES, ProblemError
from tailor.service.state import Service
from tailor.store.keys import Caller

log = logging.getLogger("tailor.access")
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
}
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)


class TooLargeError(HTTPException):
    """A body that is longer than is taken, or does not say how long it is: noticed before it is
    read, or while it is.
    """

    def __init__(self, most: int) -> None:
        super().__init__(413, f"a body may have {most:,} bytes: send less at once")


class RequestMiddleware:
    """Around the whole application."""

    def __init__(self, app: ASGIApp, body_bytes: int, registry: CollectorRegistry) -> None:
        self.app, self.body_bytes = app, body_bytes
        self.answers = Counter(
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
        started, status, trace_id = time.perf_counter(), 500, secrets.token_hex(8)
        scope.setdefault("state", {})["trace_id"] = trace_id

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                there = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    (b"x-trace-id", trace_id.encode()),
                    *((name, value) for name, value in HEADERS.items() if name not in there),
                ]
            await send(message)

        try:
            declared = dict(scope["headers"]).get(b"content-length", b"0")
            if not declared.isdigit() or int(declared) > self.body_bytes:
                raise TooLargeError(self.body_bytes)
            await self.app(scope, self._counted(receive), answer)
        except TooLargeError as error:
            await self._refuse(answer, trace_id, error.detail)
        finally:
            took, route = time.perf_counter() - started, getattr(scope.get("route"), "path", "none")
            self.answers.labels(route, str(status)).inc()
            self.seconds.labels(route).observe(took)
            extra = {
                "trace_id": trace_id,
                "method": scope["method"],
                "route": route,
                "status": status,
                "ms": round(took * 1000, 2),
            }
            log.info("request", extra=extra)

    def _counted(self, receive: Receive) -> Receive:
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self.body_bytes:
                raise TooLargeError(self.body_bytes)
            return message

        return counted

    async def _refuse(self, send: Send, trace_id: str, detail: str) -> None:
        body = json.dumps(
            {
                "type": "about:blank",
                "title": TITLES[413],
                "status": 413,
                "detail": detail,
                "trace_id": trace_id,
            }
        ).encode()
        await send(
            {
                "type": "http.response.start",
                "status": 413,
                "headers": [
                    (b"content-type", b"application/problem+json"),
                    (b"connection", b"close"),
                ],
            }
        )
        await send({"type": "http.response.body", "body": body})


class RateLimiter:
    """A bucket of requests for each key, filled at a steady rate."""

    def __init__(self, rate: float, burst: int) -> None:
        self.rate, self.burst = rate, burst
        self._left: dict[tuple[str, str], tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, who: tuple[str, str]) -> float:
        """0 where the request may pass, else the seconds to wait."""
        now = time.monotonic()
        with self._lock:
            left, at = self._left.get(who, (float(self.burst), now))
            left = min(self.burst, left + (now - at) * self.rate)
            self._left[who] = (max(left - 1, 0.0) if left >= 1 else left, now)
        return 0.0 if left >= 1 else (1 - left) / self.rate


def allowed(
    service: Service, rates: RateLimiter, role: str
) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency: who asks, who must be allowed as much as `role`. A key seen lately costs no
    thread and no query.
    """

    async def caller(request: Request) -> Caller:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise ProblemError(
                401,
                "an API key is needed: send the header Authorization: Bearer KEY (`tailor keys"
                " make` makes one)",
            )
        found = service.lately(key.strip()) or await run_in_threadpool(service.caller, key.strip())
        if found is None:
            raise ProblemError(401, "this API key is not known, or was revoked")
        if not found.may(role):
            raise ProblemError(
                403, f'this key may "{found.role}"; what was asked for needs "{role}"'
            )
        wait = rates.take((found.tenant, found.name))
        if wait:
            raise ProblemError(
                429,
                f"more than {rates.rate:g} requests a second with this key",
                retry_s=max(1, round(wait)),
            )
        return found

    return caller


# of a record, whoever logs it
ALWAYS = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "color_message"}


class JsonLines(logging.Formatter):
    """Log records as lines of JSON. What is logged is named by who logs it: no texts, no keys, no
    person's id.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "what": record.getMessage(),
        }
        return json.dumps(
            line | {name: value for name, value in record.__dict__.items() if name not in ALWAYS},
            default=str,
        )
