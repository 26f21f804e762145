"""The application: all routes, each with the role it needs."""

import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry
from starlette.responses import Response
from starlette.types import ASGIApp

from tailor.client import ROLES
from tailor.core.saving import version
from tailor.service import (
    admin,
    answers,
    audit,
    callers,
    estimates,
    experiments,
    ingest,
    item_views,
    links,
    memory,
    model_details,
    overview,
    own_page,
    people,
    pipelines,
    predictions,
    problems,
    refits,
    reranking,
    stored_data,
)
from tailor.service.admission import Admission
from tailor.service.fast_path import FastPath
from tailor.service.middleware import RequestMiddleware
from tailor.service.responses import completed
from tailor.service.routing import PUBLIC, require_role
from tailor.service.schemas import Recommend
from tailor.service.state import Service
from tailor.store.keys import PERSON

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
        redirect_slashes=False,  # a redirect would name the host that the sender claims
    )
    registry = CollectorRegistry()
    server, reader, writer, administrator = map(require_role, ROLES)
    person = require_role(PERSON)
    problems.install(app, service.settings.models)
    answer_routes = answers.routes(service, server)
    _add_routes(
        app,
        ingest.routes(service, reader, writer, administrator),
        answer_routes,
        reranking.routes(service, server),
        predictions.routes(service, reader),
        experiments.routes(service, administrator),
        estimates.routes(service, administrator),
        pipelines.routes(administrator),
        refits.routes(service, administrator),
        admin.routes(service, server, administrator, registry),
        overview.routes(service, administrator),
        stored_data.routes(service, administrator),
        model_details.routes(service, administrator),
        links.routes(service, administrator),
        own_page.routes(service, person),
        callers.routes(server),
        people.routes(service, reader, administrator),
        item_views.routes(service, reader),
        audit.routes(service, administrator),
    )
    if service.settings.memory:
        _add_routes(app, memory.routes(service, reader, writer, administrator))
        _add_routes(app, memory.own_routes(service, person))
    app.wrappers = (
        partial(
            FastPath,
            path=RECOMMENDATIONS,
            schema=Recommend,
            role="serve",
            answer=_endpoint(answer_routes, RECOMMENDATIONS),
        ),
        partial(
            RequestMiddleware,
            body_bytes=service.settings.body_bytes,
            registry=registry,
            admission=Admission(service),
            latency=service.latency,
        ),
    )
    return app


def _add_routes(app: FastAPI, *routers: APIRouter) -> None:
    """Add routes that check their role. Raises RuntimeError for one that would ask for no key."""
    for router in routers:
        for route in router.routes:
            path = getattr(route, "path", "")
            if getattr(route, "role", None) is None and path not in PUBLIC:
                raise RuntimeError(f"{path} needs no role: use service_router and require_role")
            app.router.routes.append(route)


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

    def openapi(self) -> dict[str, Any]:
        """Return the description of all routes."""
        if self.openapi_schema is None:
            self.openapi_schema = completed(super().openapi())
        return self.openapi_schema

    def build_middleware_stack(self) -> ASGIApp:
        """Wrap the framework's stack."""
        app = super().build_middleware_stack()
        for wrapper in self.wrappers:
            app = wrapper(app)
        return app
