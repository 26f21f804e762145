"""Errors as application/problem+json (RFC 9457): what is wrong, where, and what to do.

They show nothing of the server's inside and nothing of any user's data.
"""

import logging
import traceback
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from tailor.errors import TailorError
from tailor.service.paths import hide_paths
from tailor.store.encryption import KeysError
from tailor.store.engine import UNAVAILABLE
from tailor.store.writer import RETRY_S, UnavailableError

log = logging.getLogger("tailor.service")
MOST_PROBLEMS = 100  # fields that one answer names
PROBLEM_TYPE = "application/problem+json"
UNFIT_S = 30  # which callers are told to wait for an operator
SECURITY_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
}
TITLES = {
    400: "Bad request",
    401: "Who asks is not known",
    403: "Not allowed",
    404: "Not found",
    405: "Another method",
    408: "Too slow",
    409: "Conflict",
    413: "Too large",
    422: "A field is wrong",
    429: "Too many requests",
    431: "Too large a head",
    500: "Broken",
    503: "Not now",
}


class ProblemError(Exception):
    """An error that is answered with this status and text."""

    def __init__(
        self,
        status: int,
        detail: str,
        errors: list[dict[str, Any]] | None = None,
        retry_s: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.retry_s = retry_s


def problem_body(
    status: int,
    detail: str,
    errors: list[dict[str, Any]] | None = None,
    trace_id: str | None = None,
) -> dict[str, Any]:
    """Return the body of an error."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
    }
    if errors:
        body["errors"] = errors
    if trace_id is not None:
        body["trace_id"] = trace_id
    return body


def problem_answer(
    request: Request,
    status: int,
    detail: str,
    errors: list[dict[str, Any]] | None = None,
    retry_s: int | None = None,
) -> JSONResponse:
    """Return the answer of an error."""
    trace_id = getattr(request.state, "trace_id", None)
    roots = getattr(getattr(request.scope.get("app"), "state", None), "roots", ())
    detail = hide_paths(detail, roots)
    headers = {}
    if retry_s:
        headers["Retry-After"] = str(retry_s)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = problem_body(status, detail, errors, trace_id)
    return JSONResponse(body, status, headers, PROBLEM_TYPE)


def field_problems(errors: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return the field of each error and what is wrong there.

    The value is left out: it may be a user's words.
    """
    return [
        {
            "field": ".".join(map(str, error["loc"])),
            "problem": str(error["msg"]).removeprefix("Value error, "),
        }
        for error in errors
    ]


def _in_body(error: dict[str, Any]) -> dict[str, Any]:
    """Return an error located in the body; one of the JSON itself names a character."""
    if error["type"] == "json_invalid":
        message = f"is no JSON, at character {error['loc'][-1]}: {error['ctx']['error']}"
        return {"loc": ["body"], "msg": message}
    return {**error, "loc": error["loc"][1:] or error["loc"]}


def late_answer(request: Request, error: Exception) -> JSONResponse:
    """Return the answer to a caller who has waited too long."""
    return problem_answer(
        request,
        503,
        "the answer took too long: what was sent may have been kept; ask again",
        retry_s=RETRY_S,
    )


def install(app: FastAPI, models: Path) -> None:
    """Make every error leave the application as a problem; none names the folder `models`."""
    # the longest first: the one may lie in the other
    roots = {str(models), str(models.absolute()), str(models.resolve()), str(Path.cwd())}
    app.state.roots = sorted((root for root in roots if root.startswith("/")), key=len)[::-1]
    for kind, answer in HANDLERS.items():
        app.add_exception_handler(kind, answer)


def answer_error(request: Request, error: Exception) -> Response:
    """Return the answer of an error that is raised outside of the framework."""
    for kind in type(error).__mro__:
        if kind in HANDLERS:
            return HANDLERS[kind](request, error)
    return _answer_broken(request, error)


def _answer_problem(request: Request, error: ProblemError) -> JSONResponse:
    return problem_answer(request, error.status, error.detail, error.errors, error.retry_s)


def _answer_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
    content_type = request.headers.get("content-type", "")
    is_of_body = any(part["loc"][0] == "body" for part in error.errors())
    if is_of_body and not content_type.startswith("application/json"):
        return problem_answer(
            request, 422, "the body must be JSON, and say so: Content-Type: application/json"
        )
    errors = list(error.errors())
    problems = field_problems([_in_body(part) for part in errors[:MOST_PROBLEMS]])
    detail = "; ".join(f"{problem['field']}: {problem['problem']}" for problem in problems[:5])
    return problem_answer(request, 422, detail, problems)


def _answer_http(request: Request, error: HTTPException) -> Response:
    if error.status_code == 405:
        allowed = {"Allow": ", ".join(allowed_methods(request))}
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=allowed)
        error = HTTPException(405, f"this address answers {allowed['Allow']}", allowed)
    detail = str(error.detail)
    if error.status_code == 404 and detail == HTTPStatus.NOT_FOUND.phrase:
        detail = "no route has this address; a slash within an id or a name is sent as %2F"
    response = problem_answer(request, error.status_code, detail)
    response.headers.update(error.headers or {})  # such as the methods that are allowed
    return response


def allowed_methods(request: Request) -> list[str]:
    """Return the methods of all routes that have the address of a request."""
    methods: set[str] = set()
    for route in request.app.routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            methods |= set(getattr(route, "methods", None) or ())
    if "GET" in methods:
        methods.add("HEAD")
    return sorted(methods)


def _answer_unavailable(request: Request, error: Exception) -> JSONResponse:
    detail = "the database is away; nothing of this was kept: ask again"
    return problem_answer(request, 503, detail, retry_s=RETRY_S)


def _answer_unreadable(request: Request, error: Exception) -> JSONResponse:
    detail = "the database cannot be read now: ask again"
    return problem_answer(request, 503, detail, retry_s=RETRY_S)


def _answer_unfit_keys(request: Request, error: Exception) -> JSONResponse:
    """Answer 503: it is not the caller's fault, who must keep what was sent."""
    log.error("people's keys do not fit the store", extra={"error": str(error)})
    return problem_answer(
        request,
        503,
        "the server cannot tell people apart now; nothing of this was kept: ask again, once"
        " `tailor doctor` finds nothing there",
        retry_s=UNFIT_S,
    )


def _answer_refused(request: Request, error: Exception) -> JSONResponse:
    """Answer 409: it is as described, but does not fit what is stored or loaded now."""
    return problem_answer(request, 409, str(error))


def _answer_broken(request: Request, error: Exception) -> JSONResponse:
    # the log says where, not what: messages may quote a user's words
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    extra = {
        "trace_id": getattr(request.state, "trace_id", ""),
        "error": type(error).__name__,
        "at": [f"{_within_package(frame.filename)}:{frame.lineno}" for frame in frames],
    }
    log.error("broken", extra=extra)
    return problem_answer(
        request, 500, "something broke that should not have; the log has it under the trace_id"
    )


def _within_package(path: str) -> str:
    """Return a source file without the folders that it is installed in."""
    parts = Path(path).parts
    for folder in ("site-packages", "tailor", "lib"):
        if folder in parts:
            start = len(parts) - 1 - parts[::-1].index(folder)
            return "/".join(parts[start + (folder != "tailor") :])
    return Path(path).name


HANDLERS: dict[Any, Callable[[Request, Any], Response]] = {
    TimeoutError: late_answer,
    ProblemError: _answer_problem,
    RequestValidationError: _answer_invalid,
    HTTPException: _answer_http,
    UnavailableError: _answer_unavailable,
    **dict.fromkeys(UNAVAILABLE, _answer_unreadable),
    KeysError: _answer_unfit_keys,
    TailorError: _answer_refused,
    Exception: _answer_broken,
}
