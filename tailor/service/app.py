"""The application: all routes, each with the role it needs."""

import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry
from starlette.responses import Response
from starlette.types import ASGIApp

from tailor.core.saving import version
from tailor.service import admin, answers, experiments, ingest, predictions, problems
from tailor.service.fast_path import FastPath
from tailor.service.middleware import RateLimiter, RequestMiddleware, require_role
from tailor.service.schemas import Recommend
from tailor.service.state import Service

RECOMMENDATIONS = "/v1/recommendations"
DESCRIPTION = (
    "Recommendations, search, explanations and a person's data over HTTP. Send a key with every"
    " request (Authorization: Bearer KEY); it may read, write or administer, within its tenant."
    " Errors are application/problem+json and name the field."
)


def make_app(service: Service) -> FastAPI:
    """Return one worker's application; the service starts and stops with it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        gc.collect()
        # models and catalogues stay: answers should not wait for the collector to look through them
        gc.freeze()
        # an answer makes hundreds of objects, hardly any of them in cycles
        gc.set_threshold(10_000, 20, 50)
        yield
        service.stop()

    app = WrappedApp(
        title="Tailor",
        version=version(),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    registry = CollectorRegistry()
    limiter = RateLimiter(service.settings.rate, service.settings.burst)
    reader, writer, administrator = (
        require_role(service, limiter, role) for role in ("read", "write", "admin")
    )
    problems.install(app)
    answer_routes = answers.routes(service, reader)
    app.include_router(ingest.routes(service, writer, administrator))
    app.include_router(answer_routes)
    app.include_router(predictions.routes(service, reader))
    app.include_router(experiments.routes(service, administrator))
    app.include_router(admin.routes(service, administrator, registry))
    app.wrappers = (
        partial(
            FastPath,
            path=RECOMMENDATIONS,
            schema=Recommend,
            caller=reader,
            answer=_endpoint(answer_routes, RECOMMENDATIONS),
        ),
        partial(RequestMiddleware, body_bytes=service.settings.body_bytes, registry=registry),
    )
    return app


def _endpoint(router: APIRouter, path: str) -> Callable[..., Awaitable[Response]]:
    """Return the function of a route."""
    return next(
        route.endpoint
        for route in router.routes
        if isinstance(route, APIRoute) and route.path == path
    )


class WrappedApp(FastAPI):
    """FastAPI with our middleware around its own, so that errors pass through ours too."""

    wrappers: Sequence[Callable[[ASGIApp], ASGIApp]] = ()
    """The last is outermost."""

    def build_middleware_stack(self) -> ASGIApp:
        """Wrap the framework's stack."""
        app = super().build_middleware_stack()
        for wrapper in self.wrappers:
            app = wrapper(app)
        return app
