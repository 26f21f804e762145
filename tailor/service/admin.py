"""Routes that administer: models, keys, and the state of the server."""

from typing import Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from tailor.core.saving import version as tailor_version
from tailor.service.batcher import saved_digest, saved_kind
from tailor.service.problems import ProblemError
from tailor.service.schemas import Id, Key, Model, Short, Version
from tailor.service.state import Service
from tailor.store import keys, users
from tailor.store.engine import UNAVAILABLE
from tailor.store.keys import Caller
from tailor.store.models import RECOMMENDS, add_model, list_models

GAUGES = {
    "writer_waiting": "Jobs that wait for the writer.",
    "writer_commits": "Transactions written.",
    "writer_jobs": "Jobs written.",
    "writer_behind_seconds": "How long the oldest job of the last commit had waited.",
    "served_lost": "Answered lists that were never logged.",
}
MODEL_FIELDS = ("version", "kind", "folder", "made_ms", "served_ms", "note")


def routes(service: Service, admin: Any, registry: CollectorRegistry) -> APIRouter:
    """Return the routes; `admin` is a dependency that gives the caller."""
    api = APIRouter(tags=["running it"])
    _add_state_routes(api, service, registry)
    _add_model_routes(api, service, admin)
    _add_key_routes(api, service, admin)
    return api


def _add_state_routes(api: APIRouter, service: Service, registry: CollectorRegistry) -> None:
    gauges = {
        name: Gauge(f"tailor_{name}", description, registry=registry)
        for name, description in GAUGES.items()
    }

    @api.get("/health")
    async def health() -> dict[str, str]:
        """Say that the process answers."""
        return {"status": "alive", "version": tailor_version()}

    @api.get("/ready")
    def ready() -> dict[str, str]:
        """Say that the store can be reached; GET /v1/models tells whether a tenant has a model."""
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
        """Return counts and times for Prometheus; no user's data."""
        writer = service.writer
        gauges["writer_waiting"].set(writer.waiting())
        gauges["writer_commits"].set(writer.commits)
        gauges["writer_jobs"].set(writer.jobs)
        gauges["writer_behind_seconds"].set(writer.behind_s)
        gauges["served_lost"].set(service.list_log.lost)
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _add_model_routes(api: APIRouter, service: Service, admin: Any) -> None:
    def switch_to(tenant: str, number: int) -> dict[str, Any]:
        return {"version": number, "model": service.model_registry.switch(tenant, number).name}

    @api.get("/v1/models")
    def models(who: Caller = Depends(admin)) -> dict[str, Any]:
        """Return all versions, the one that answers first."""
        rows = service.read(lambda connection: list_models(connection, who.tenant))
        return {"models": [{name: row[name] for name in MODEL_FIELDS} for row in rows]}

    @api.post("/v1/models")
    def register(body: Model, who: Caller = Depends(admin)) -> dict[str, Any]:
        """Register a saved model, and let it answer once it is loaded.

        The folder is one within the server's models/TENANT. A model that predicts replaces the one
        that predicted, one that recommends the one that recommended.
        """
        root = (service.settings.models / who.tenant).resolve()
        folder = (root / body.folder).resolve()
        if not folder.is_relative_to(root):
            raise ProblemError(
                422,
                f"folder: it must lie within {service.settings.models / who.tenant} on the server",
            )
        digest = saved_digest(folder)
        kind = saved_kind(folder)
        number = service.writer.do(
            lambda connection: add_model(
                connection, who.tenant, str(folder), digest, body.note, kind=kind
            )
        )
        return switch_to(who.tenant, number)

    @api.post("/v1/models/switch")
    def switch(body: Version, who: Caller = Depends(admin)) -> dict[str, Any]:
        """Let another version answer, once it is loaded."""
        return switch_to(who.tenant, body.version)

    @api.post("/v1/models/rollback")
    def rollback(
        kind: Literal["recommends", "predicts"] = RECOMMENDS, who: Caller = Depends(admin)
    ) -> dict[str, Any]:
        """Let the version from before answer again, of the models of one kind."""
        rows = service.read(lambda connection: list_models(connection, who.tenant))
        served = [row for row in rows if row["kind"] == kind and row["served_ms"] is not None]
        if len(served) < 2:
            raise ProblemError(409, "no other version has answered before")
        return switch_to(who.tenant, served[1]["version"])


def _add_key_routes(api: APIRouter, service: Service, admin: Any) -> None:
    @api.get("/v1/keys")
    def list_all(who: Caller = Depends(admin)) -> dict[str, Any]:
        """Return the names and roles of the tenant's keys."""
        return {"keys": service.read(lambda connection: keys.list_keys(connection, who.tenant))}

    @api.post("/v1/keys")
    def make(body: Key, who: Caller = Depends(admin)) -> dict[str, str]:
        """Make a key. It is shown this once."""
        key = service.writer.do(
            lambda connection: keys.make_key(connection, who.tenant, body.role, body.name)
        )
        return {"key": key, "role": body.role}

    @api.delete("/v1/keys/{name:path}")
    def revoke(name: Short, who: Caller = Depends(admin)) -> dict[str, int]:
        """Revoke all keys of that name; each worker follows within seconds."""
        revoked = service.writer.do(lambda connection: keys.revoke(connection, who.tenant, name))
        if not revoked:
            raise ProblemError(404, "there is no such key")
        return {"revoked": revoked}

    @api.get("/v1/receipts/key")
    def receipts() -> dict[str, str]:
        """Return the public key (Ed25519, hexadecimal) of receipts of erasure."""
        public_key = service.writer.do(
            lambda connection: users.public_key(users.signing_key(connection))
        )
        return {"public_key": public_key}

    @api.get("/v1/receipts/{receipt_id}", tags=["people"])
    def receipt(receipt_id: Id, who: Caller = Depends(admin)) -> dict[str, Any]:
        """Return a receipt of erasure as of now, signed anew."""
        stored = service.erasures.receipt(who.tenant, receipt_id)
        if stored is None:
            raise ProblemError(404, "there is no such receipt")
        return stored
