"""Errors as application/problem+json (RFC 9457): what is wrong, where, and what to do. Nothing of
the inside, nothing of anybody's data.
"""

import logging
import traceback
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from tailor.errors import TailorError
from tailor.store.encryption import KeysError
from tailor.store.engine import UNAVAILABLE
from tailor.store.writer import RETRY_S, UnavailableError

log = logging.getLogger("tailor.service")
UNFIT_S = 30  # what a caller is told to wait for somebody to mend something
TITLES = {
    400: "Bad request",
    401: "Who asks is not known",
    403: "Not allowed",
    404: "Not found",
    409: "Conflict",
    413: "Too large",
    422: "A field is wrong",
    429: "Too many requests",
    500: "Broken",
    503: "Not now",
}


class ProblemError(Exception):
    """An answer that is not the one hoped for."""

    def __init__(
        self,
        status: int,
        detail: str,
        errors: list[dict[str, Any]] | None = None,
        retry_s: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors, self.retry_s = status, detail, errors, retry_s


def answer(
    request: Request,
    status: int,
    detail: str,
    errors: list[dict[str, Any]] | None = None,
    retry_s: int | None = None,
) -> JSONResponse:
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
    }
    body |= {"errors": errors} if errors else {}
    body |= {"trace_id": request.state.trace_id} if hasattr(request.state, "trace_id") else {}
    headers = {"Retry-After": str(retry_s)} if retry_s else {}
    headers |= {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return JSONResponse(body, status, headers, "application/problem+json")


def fields(errors: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The place of each error and what is wrong there, without the value, which may be somebody's
    words.
    """
    return [
        {
            "field": ".".join(map(str, one["loc"])),
            "problem": str(one["msg"]).removeprefix("Value error, "),
        }
        for one in errors
    ]


def _of_body(error: dict[str, Any]) -> dict[str, Any]:
    """Without the part of the request; of a body that is no JSON the place is a character, not a
    field.
    """
    if error["type"] == "json_invalid":
        return {
            "loc": ["body"],
            "msg": f"is no JSON, at character {error['loc'][-1]}: {error['ctx']['error']}",
        }
    return {**error, "loc": error["loc"][1:] or error["loc"]}


def late(request: Request, error: Exception) -> JSONResponse:
    """Nobody waits any longer."""
    return answer(
        request,
        503,
        "the answer took too long: what was sent may have been kept; ask again",
        retry_s=RETRY_S,
    )


def install(app: FastAPI) -> None:
    """Every error leaves as a problem."""
    app.add_exception_handler(TimeoutError, late)

    @app.exception_handler(ProblemError)
    def known(request: Request, error: ProblemError) -> JSONResponse:
        return answer(request, error.status, error.detail, error.errors, error.retry_s)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        if not request.headers.get("content-type", "").startswith(
            "application/json"
        ) and request.method in ("POST", "PUT"):
            return answer(
                request, 422, "the body must be JSON, and say so: Content-Type: application/json"
            )
        found = fields([_of_body(one) for one in error.errors()])
        detail = "; ".join(f"{one['field']}: {one['problem']}" for one in found[:5])
        return answer(request, 422, detail, found)

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> JSONResponse:
        found = answer(request, error.status_code, str(error.detail))
        found.headers.update(error.headers or {})  # such as which methods there are
        return found

    @app.exception_handler(UnavailableError)
    def away(request: Request, error: UnavailableError) -> JSONResponse:
        return answer(
            request,
            503,
            "the database is away; nothing of this was kept: ask again",
            retry_s=RETRY_S,
        )

    for kind in UNAVAILABLE:

        @app.exception_handler(kind)
        def unread(request: Request, error: Exception) -> JSONResponse:
            return answer(
                request, 503, "the database cannot be read now: ask again", retry_s=RETRY_S
            )

    @app.exception_handler(KeysError)
    def unfit(request: Request, error: KeysError) -> JSONResponse:
        """Not the caller's fault, who must keep what was sent."""
        log.error("people's keys do not fit the store", extra={"error": str(error)})
        return answer(
            request,
            503,
            "the server cannot tell people apart now; nothing of this was kept: ask again, once"
            " `tailor doctor` finds nothing there",
            retry_s=UNFIT_S,
        )

    @app.exception_handler(TailorError)
    def refused(request: Request, error: TailorError) -> JSONResponse:
        return answer(request, 422, str(error))

    @app.exception_handler(Exception)
    def broken(request: Request, error: Exception) -> JSONResponse:
        trace = getattr(request.state, "trace_id", "")
        # where, not what: messages may quote somebody's words
        frames = traceback.extract_tb(error.__traceback__)[-8:]
        log.error(
            "broken",
            extra={
                "trace_id": trace,
                "error": type(error).__name__,
                "at": [f"{one.filename}:{one.lineno}" for one in frames],
            },
        )
        return answer(
            request, 500, "something broke that should not have; the log has it under the trace_id"
        )
