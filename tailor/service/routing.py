"""Routes of the service: role first, then the body, then a thread of the right pool."""

import inspect
import json
import math
import re
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Any, TypeVar, get_args
from urllib.parse import unquote_to_bytes

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar
from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from tailor.data.ids import CONTROL
from tailor.service.bodies import QUICK_BYTES, parse_in_steps
from tailor.service.problems import ProblemError
from tailor.service.responses import LINK_SCHEME, SCHEME, usual_problems
from tailor.store.keys import PERSON, Caller
from tailor.store.writer import RETRY_S

T = TypeVar("T")
SLASH = "\x1f"  # stands for an encoded slash in a routed path: no address may hold it
PROBED = frozenset(["/health", "/ready"])  # ask for no key, and are asked by proxies all the time
PUBLIC = PROBED | {"/metrics", "/openapi.json"}  # ask for no key
WRITERS, PROBES, BODIES, ITEMS, RERANKERS = "writers", "probes", "bodies", "items", "rerankers"
KNOWN_KEYS, NEW_KEYS, LINKS = "known keys", "new keys", "links"
# threads of each pool; that of ITEMS works out filters, those of RERANKERS may wait for a
# language model. Routes that only read have the
# framework's own
POOLS = {
    WRITERS: 40,
    PROBES: 2,
    BODIES: 4,
    ITEMS: 4,
    RERANKERS: 16,
    KNOWN_KEYS: 4,
    NEW_KEYS: 2,
    LINKS: 2,
}
MOST_ERRORS = 10_000  # of a body; naming more would take seconds
MOST_WAITING = 400  # calls that wait for a thread of a pool; more are refused
FORBIDDEN = re.compile(CONTROL)
_limiters: RunVar[dict[str, CapacityLimiter]] = RunVar("tailor_pools")


def limiter(pool: str) -> CapacityLimiter:
    """Return the limiter of a pool, one for each event loop."""
    limiters = _limiters.get(None)
    if limiters is None:
        limiters = {}
        _limiters.set(limiters)
    if pool not in limiters:
        limiters[pool] = CapacityLimiter(POOLS[pool])
    return limiters[pool]


async def in_pool(pool: str, job: Callable[..., T], *arguments: Any) -> T:
    """Return what a job returns in a thread of a pool.

    Raises ProblemError where too many wait for one already.
    """
    threads = limiter(pool)
    if threads.statistics().tasks_waiting >= MOST_WAITING:
        raise ProblemError(
            503, "too many requests of this kind wait: ask again later", retry_s=RETRY_S
        )
    return await to_thread.run_sync(partial(job, *arguments), limiter=threads)


class Segment(Convertor[str]):
    """One segment of an address: an id, whose slashes are encoded."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        """Return the id."""
        return value.replace(SLASH, "/")

    def to_string(self, value: str) -> str:
        """Return the segment of an id."""
        return value.replace("/", SLASH)


register_url_convertor("segment", Segment())


class BadAddressError(HTTPException):
    """Raised for an address with bytes or characters that no id may have."""

    def __init__(self, problem: str) -> None:
        super().__init__(422, f"the address {problem}, which no id may hold: check the id")


def routed_path(scope: Scope) -> str:
    """Return the path that routes match: decoded, with SLASH in place of encoded slashes.

    So another route's address never becomes an id. Raises BadAddressError for bytes that are not
    UTF-8, which would all become the same character, and for control characters, at which routing
    would cut.
    """
    _decode(scope.get("query_string") or b"")
    control = FORBIDDEN.search(scope["path"])
    if control is not None:
        raise BadAddressError(f"holds a control character ({ascii(control[0])[1:-1]})")
    raw_path = (scope.get("raw_path") or b"").partition(b"?")[0]
    if b"%" not in raw_path:
        _decode(raw_path)
        return str(scope["path"])
    segments = [_decode(segment) for segment in raw_path.split(b"/")]
    return "/".join(segment.replace("/", SLASH) for segment in segments)


def _decode(escaped: bytes) -> str:
    try:
        return unquote_to_bytes(escaped).decode("utf-8")
    except UnicodeDecodeError:
        raise BadAddressError("holds bytes that are not UTF-8") from None


class ServiceRoute(APIRoute):
    """A route that checks the caller's role before it reads the body."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        role = role_of(endpoint)
        if not inspect.iscoroutinefunction(endpoint):
            is_reading = set(options.get("methods") or ()) <= {"GET"}
            if role is None:
                endpoint = _pooled(endpoint, PROBES)
            elif role in ("write", "admin", PERSON) and not is_reading:
                endpoint = _pooled(endpoint, WRITERS)
        self.role = role
        super().__init__(path, endpoint, **options)
        self._describe()

    def _describe(self) -> None:
        """Describe the key that is needed, and the errors that all routes of a kind have."""
        responses = {**self.responses, **usual_problems(self.role)}
        self.responses = dict(sorted(responses.items()))
        if self.role is None:
            return
        scheme = LINK_SCHEME if self.role == PERSON else SCHEME
        self.openapi_extra = {"security": [{scheme: []}], **(self.openapi_extra or {})}
        self.description += (
            "\n\nIt needs the link of the person's own page (POST /v1/users/ID/links)."
            if self.role == PERSON
            else f"\n\nIt needs a key of the role `{self.role}` or one that may more."
        )

    def get_route_handler(self) -> Callable[[Request], Any]:
        """Return what answers a request."""
        handler = super().get_route_handler()
        role, field = self.role, self.body_field
        schema = None if field is None else _schema_of(field.field_info.annotation)

        async def guarded(request: Request) -> Response:
            if role is not None:
                check_role(request.scope, role)
            if field is not None:
                await _read_large_body(request, schema)
            return await handler(request)

        return guarded


def service_router(tag: str) -> APIRouter:
    """Return a router whose routes check roles first."""
    return APIRouter(tags=[tag], route_class=ServiceRoute)


def role_of(endpoint: Callable[..., Any]) -> str | None:
    """Return the role that a dependency of an endpoint needs, None where it needs none."""
    for parameter in inspect.signature(endpoint).parameters.values():
        role = getattr(getattr(parameter.default, "dependency", None), "role", None)
        if role is not None:
            return str(role)
    return None


def require_role(role: str) -> Callable[[Request], Awaitable[Caller]]:
    """Return a FastAPI dependency that returns the caller, once the role is checked."""

    async def caller(request: Request) -> Caller:
        return check_role(request.scope, role)

    caller.role = role  # type: ignore[attr-defined]
    return caller


def check_role(scope: Scope, role: str) -> Caller:
    """Return the caller of a request. Raises ProblemError without the role."""
    caller: Caller | None = scope.get("state", {}).get("caller")
    if caller is None:
        raise ProblemError(401, "an API key is needed")
    if not caller.may(role):
        raise ProblemError(
            403, f'this key has the role "{caller.role}"; this request needs "{role}"'
        )
    return caller


def _pooled(endpoint: Callable[..., Any], pool: str) -> Callable[..., Awaitable[Any]]:
    """Return an endpoint that runs in a thread of a pool."""

    @wraps(endpoint)
    async def answer(**arguments: Any) -> Any:
        return await in_pool(pool, partial(endpoint, **arguments))

    return answer


def _schema_of(annotation: Any) -> type[BaseModel] | None:
    """Return the schema of a body, which may be optional."""
    for kind in (annotation, *get_args(annotation)):
        if inspect.isclass(kind) and issubclass(kind, BaseModel):
            return kind
    return None


async def _read_large_body(request: Request, schema: type[BaseModel] | None) -> None:
    """Parse and check a large JSON body in a thread; a small one is left to the framework.

    Raises RequestValidationError, as the framework does.
    """
    try:
        body = await request.body()
    except ClientDisconnect:
        raise HTTPException(400, "the body ended before its end") from None
    is_json = request.headers.get("content-type", "").startswith("application/json")
    if len(body) > QUICK_BYTES and is_json:
        # the framework takes it from here, where an earlier call of `json` left it
        request._json = await in_pool(BODIES, _parse, body, schema)


def _parse(body: bytes, schema: type[BaseModel] | None) -> Any:
    try:
        value = parse_in_steps(body)
    except json.JSONDecodeError as error:
        context = {"error": error.msg}
        problem = {"type": "json_invalid", "loc": ("body", error.pos), "msg": "", "ctx": context}
        raise RequestValidationError([problem]) from None
    except (UnicodeDecodeError, RecursionError):
        raise HTTPException(400, "There was an error parsing the body") from None
    if schema is None or value is None:
        return value
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        if error.error_count() > MOST_ERRORS:
            raise ProblemError(
                422, f"{error.error_count():,} fields are wrong: try a small body first"
            ) from None
        errors = error.errors(include_url=False, include_input=False)
        raise RequestValidationError(
            [{**part, "loc": ("body", *part["loc"])} for part in errors]
        ) from None


def retry_seconds(wait_s: float) -> int:
    """Return whole seconds to wait, at least one."""
    return max(1, math.ceil(wait_s))
