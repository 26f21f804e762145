"""Models, keys, and how the server is."""

from typing import Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from tailor.core.saving import version as tailor_version
from tailor.service.batcher import saved_digest, saved_kind
from tailor.service.problems import ProblemError
from tailor.service.schemas import Key, Model, Short, Version
from tailor.service.state import Service
from tailor.store import keys, users
from tailor.store.engine import UNAVAILABLE
from tailor.store.keys import Caller
from tailor.store.models import RECOMMENDS, add_model, list_models


def routes(service: Service, admin: Any, registry: CollectorRegistry) -> APIRouter:
    """`admin` is a dependency that gives the caller."""
    api = APIRouter(tags=["running it"])
    gauges = {
        name: Gauge(f"tailor_{name}", about, registry=registry)
        for name, about in {
            "writer_waiting": "Jobs that wait for the writer.",
            "writer_commits": "Transactions written.",
            "writer_jobs": "Jobs written.",
            "writer_behind_seconds": "How long the oldest job of the last commit had waited.",
            "served_lost": "Answered lists that were never logged.",
        }.items()
    }

    @api.get("/health")
    async def health() -> dict[str, str]:
        """The process answers."""
        return {"status": "alive", "version": tailor_version()}

    @api.get("/ready")
    def ready() -> dict[str, str]:
        """The store can be reached. Whether a tenant has a model, GET /v1/models says."""
        try:
            service.read(lambda connection: connection.execute(sa.text("SELECT 1")))
        except UNAVAILABLE:
            raise ProblemError(
                503,
                "the database is away: what is remembered is answered, nothing is accepted",
                retry_s=5,
            ) from None
        return {"status": "ready"}

    @api.get("/metrics")
    async def metrics() -> Response:
        """For Prometheus. Counts and times; nobody's data."""
        writer = service.writer
        for name, value in {
            "writer_waiting": writer.waiting(),
            "writer_commits": writer.commits,
            "writer_jobs": writer.jobs,
            "writer_behind_seconds": writer.behind_s,
            "served_lost": service.list_log.lost,
        }.items():
            gauges[name].set(value)
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @api.get("/v1/models")
    def models(who: Caller = Depends(admin)) -> dict[str, Any]:
        """All versions, the one that answers first."""
        found = service.read(lambda connection: list_models(connection, who.tenant))
        keep = ("version", "kind", "folder", "made_ms", "served_ms", "note")
        return {"models": [{name: row[name] for name in keep} for row in found]}

    @api.post("/v1/models")
    def register(body: Model, who: Caller = Depends(admin)) -> dict[str, Any]:
        """Register a saved model, a folder within the server's models/TENANT, and let it answer
        once it is loaded; until then the one before it does. One that predicts takes the place of
        the one that predicted.
        """
        home = (service.settings.models / who.tenant).resolve()
        folder = (home / body.folder).resolve()
        if not folder.is_relative_to(home):
            raise ProblemError(
                422,
                f"folder: it must lie within {service.settings.models / who.tenant} on the server",
            )
        digest, kind = saved_digest(folder), saved_kind(folder)
        version = service.writer.do(
            lambda connection: add_model(
                connection, who.tenant, str(folder), digest, body.note, kind=kind
            )
        )
        return {"version": version, "model": service.model_registry.place(who.tenant, version).name}

    @api.post("/v1/models/switch")
    def switch(body: Version, who: Caller = Depends(admin)) -> dict[str, Any]:
        """Let another version answer, once it is loaded."""
        return {
            "version": body.version,
            "model": service.model_registry.place(who.tenant, body.version).name,
        }

    @api.post("/v1/models/rollback")
    def rollback(
        kind: Literal["recommends", "predicts"] = RECOMMENDS, who: Caller = Depends(admin)
    ) -> dict[str, Any]:
        """Let the version answer that did before this one, of those that recommend, or with
        `?kind=predicts` of those that predict.
        """
        every = service.read(lambda connection: list_models(connection, who.tenant))
        served = [row for row in every if row["kind"] == kind and row["served_ms"] is not None]
        if len(served) < 2:
            raise ProblemError(409, "no other version has answered before")
        return {
            "version": served[1]["version"],
            "model": service.model_registry.place(who.tenant, served[1]["version"]).name,
        }

    @api.get("/v1/keys")
    def listed(who: Caller = Depends(admin)) -> dict[str, Any]:
        """All keys of the tenant, but for what opens anything."""
        return {"keys": service.read(lambda connection: keys.listed(connection, who.tenant))}

    @api.post("/v1/keys")
    def make(body: Key, who: Caller = Depends(admin)) -> dict[str, str]:
        """Make a key. It is shown this once."""
        return {
            "key": service.writer.do(
                lambda connection: keys.make_key(connection, who.tenant, body.role, body.name)
            ),
            "role": body.role,
        }

    @api.delete("/v1/keys/{name:path}")
    def revoke(name: Short, who: Caller = Depends(admin)) -> dict[str, int]:
        """End all keys of that name; each worker believes it within seconds."""
        ended = service.writer.do(lambda connection: keys.revoke(connection, who.tenant, name))
        if not ended:
            raise ProblemError(404, "there is no such key")
        return {"revoked": ended}

    @api.get("/v1/receipts/key")
    def receipts() -> dict[str, str]:
        """The public key (Ed25519, hexadecimal) that receipts of erasure are signed with."""
        return {
            "public_key": service.writer.do(
                lambda connection: users.public_key(users.signing_key(connection))
            )
        }

    return api
