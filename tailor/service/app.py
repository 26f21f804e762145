"""The application: every route with its guard."""

import gc
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from tailor.core.saving import version
from tailor.service import admin, answers, experiments, ingest, predictions, problems
from tailor.service.fast_path import FastPath
from tailor.service.middleware import RateLimiter, RequestMiddleware, allowed
from tailor.service.schemas import Recommend
from tailor.service.state import Service

RECOMMENDATIONS = "/v1/recommendations"
ABOUT = """Recommendations, search, explanations and a person's data over HTTP. Send a key with every request (Authorization: Bearer KEY); it may read,
write or administer, within its tenant. Errors are application/problem+json and name the field."""


def make_app(service: Service) -> FastAPI:
    """One worker's application; the service stops with it."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        gc.collect()
        # models and shelves stay: whoever waits for an answer should not wait for them to be looked
        # through
        gc.freeze()
        # and an answer makes hundreds of objects, hardly any of them in circles
        gc.set_threshold(10_000, 20, 50)
        yield
        service.stop()

    app = WrappedApp(
        title="Tailor",
        version=version(),
        description=ABOUT,
        lifespan=life,
        docs_url=None,
        redoc_url=None,
    )
    registry, rates = (
        CollectorRegistry(),
        RateLimiter(service.settings.rate, service.settings.burst),
    )
    may = {role: allowed(service, rates, role) for role in ("read", "write", "admin")}
    problems.install(app)
    app.include_router(ingest.routes(service, may["write"], may["admin"]))
    asked = answers.routes(service, may["read"])
    app.include_router(asked)
    app.include_router(predictions.routes(service, may["read"]))
    app.include_router(experiments.routes(service, may["admin"]))
    app.include_router(admin.routes(service, may["admin"], registry))
    recommend = next(
        one.endpoint
        for one in asked.routes
        if isinstance(one, APIRoute) and one.path == RECOMMENDATIONS
    )
    app.fronts = (
        partial(
            FastPath, path=RECOMMENDATIONS, shape=Recommend, caller=may["read"], answer=recommend
        ),
        partial(RequestMiddleware, body_bytes=service.settings.body_bytes, registry=registry),
    )
    return app


class WrappedApp(FastAPI):
    """An application within others of ours: outside of the framework's own, so that errors pass the
    guard too, and what goes past the routes goes past them.
    """

    fronts: Sequence[Callable[[ASGIApp], ASGIApp]] = ()
    """The last is outermost."""

    def build_middleware_stack(self) -> ASGIApp:
        app = super().build_middleware_stack()
        for front in self.fronts:
            app = front(app)
        return app
