"""Routes that administer: models, keys, and the state of the server."""

from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from tailor.core.saving import version as tailor_version
from tailor.service import responses
from tailor.service.batcher import LoadedModel
from tailor.service.notes import with_notes
from tailor.service.paths import shown_folder
from tailor.service.problems import ProblemError
from tailor.service.routing import service_router
from tailor.service.schemas import Id, Key, Model, PathName, Short, Version
from tailor.service.state import Service
from tailor.store import keys, users
from tailor.store.engine import UNAVAILABLE
from tailor.store.keys import Caller
from tailor.store.models import RECOMMENDS, list_models
from tailor.store.signing import SIGNING, secret

GAUGES = {
    "writer_waiting": "Jobs that wait for the writer.",
    "writer_commits": "Transactions written.",
    "writer_jobs": "Jobs written.",
    "writer_behind_seconds": "How long the oldest job of the last commit had waited.",
    "served_lost": "Answered lists that were never logged.",
    "looks_lost": "Looks at people's data that were never written.",
}
MODEL_FIELDS = ("version", "kind", "folder", "made_ms", "served_ms", "note")


def routes(service: Service, server: Any, admin: Any, registry: CollectorRegistry) -> APIRouter:
    """Return the routes; `server` and `admin` are dependencies that give the caller."""
    api = service_router("running it")
    _add_state_routes(api, service, registry)
    _add_model_routes(api, service, admin)
    _add_key_routes(api, service, server, admin)
    return api


def _add_state_routes(api: APIRouter, service: Service, registry: CollectorRegistry) -> None:
    gauges = {
        name: Gauge(f"tailor_{name}", description, registry=registry)
        for name, description in GAUGES.items()
    }

    @api.get("/health", responses=responses.answers(responses.Alive))
    async def health() -> dict[str, str]:
        """Say that the process answers."""
        return {"status": "alive", "version": tailor_version()}

    @api.get("/ready", responses=responses.answers(responses.Ready))
    def ready() -> dict[str, Any]:
        """Say that the store can be read and written, and name models that cannot be loaded.

        Those are one tenant's: the others are answered. GET /v1/models tells more.
        """
        try:
            service.read(lambda connection: connection.execute(sa.text("SELECT 1")))
        except UNAVAILABLE:
            raise ProblemError(
                503,
                "the database is away: what is remembered is answered, nothing is accepted",
                retry_s=5,
            ) from None
        trouble = service.writer.trouble()
        if trouble:
            raise ProblemError(
                503,
                f"the database cannot be written ({trouble}): what is remembered is answered,"
                " nothing is accepted",
                retry_s=5,
            )
        return {"status": "ready", "failures": service.model_registry.failures()}

    @api.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Return counts and times for Prometheus; no user's data."""
        writer = service.writer
        gauges["writer_waiting"].set(writer.waiting())
        gauges["writer_commits"].set(writer.commits)
        gauges["writer_jobs"].set(writer.jobs)
        gauges["writer_behind_seconds"].set(writer.behind_s)
        gauges["served_lost"].set(service.list_log.lost)
        gauges["looks_lost"].set(service.look_log.lost)
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _add_model_routes(api: APIRouter, service: Service, admin: Any) -> None:
    @api.get("/v1/models", responses=responses.answers(responses.ModelVersions))
    def models(who: Caller = Depends(admin)) -> dict[str, Any]:
        """Return all versions, the one that should answer first.

        `loaded`, `answers` and `failure` are said of the worker that was asked.
        """
        service.model_registry.refresh_soon(who.tenant)
        rows = service.read(lambda connection: list_models(connection, who.tenant))
        return {"models": [shown_model(service, who.tenant, row) for row in rows]}

    @api.post("/v1/models", responses=responses.answers(responses.Placed, 409))
    def register(body: Model, who: Caller = Depends(admin)) -> dict[str, Any]:
        """Load a saved model, register it, and let it answer.

        The folder is one within the server's models/TENANT. It replaces the model of its kind: one
        that recommends, one that predicts, or one that reranks. One that cannot be loaded is not
        registered.
        """
        folder = _folder_within(service.settings.models / who.tenant, body.folder)
        return _placed(service.model_registry.register(who.tenant, folder, body.note))

    @api.post("/v1/models/switch", responses=responses.answers(responses.Placed, 409))
    def switch(body: Version, who: Caller = Depends(admin)) -> dict[str, Any]:
        """Let another version answer, once it is loaded."""
        return _placed(service.model_registry.switch(who.tenant, body.version))

    @api.post("/v1/models/rollback", responses=responses.answers(responses.Placed, 409))
    def rollback(
        kind: Literal["recommends", "predicts", "reranks"] = RECOMMENDS,
        who: Caller = Depends(admin),
    ) -> dict[str, Any]:
        """Let the version from before answer again, of the models of one kind.

        Asked again it goes one version further back.
        """
        return _placed(service.model_registry.roll_back(who.tenant, kind))


def shown_model(service: Service, tenant: str, row: dict[str, Any]) -> dict[str, Any]:
    """Return a version as callers see it, without paths of the server."""
    fields = {name: row[name] for name in MODEL_FIELDS}
    fields["folder"] = shown_folder(row["folder"], service.settings.models / tenant)
    return {**fields, **service.model_registry.state(tenant, row)}


def _placed(model: LoadedModel) -> dict[str, Any]:
    """Return the answer that names the model that answers now, with notes where there are any."""
    return with_notes({"version": model.version, "model": model.name}, model.notes)


def _folder_within(root: Path, name: str) -> Path:
    """Return a folder by its path within `root`. Raises ProblemError for one outside it."""
    try:
        root = root.resolve()
        folder = (root / name).resolve()
    except (OSError, RuntimeError, ValueError):  # links in a circle, a name that is too long
        raise ProblemError(409, "folder: it is no path of a folder on the server") from None
    if not folder.is_relative_to(root):
        raise ProblemError(
            409, "folder: it must lie within the folder of this tenant, in the server's --models"
        )
    return folder


def _add_key_routes(api: APIRouter, service: Service, server: Any, admin: Any) -> None:
    @api.get("/v1/keys", responses=responses.answers(responses.ShownKeys))
    def list_all(who: Caller = Depends(admin)) -> dict[str, Any]:
        """Return the names and roles of the tenant's keys."""
        return {"keys": service.read(lambda connection: keys.list_keys(connection, who.tenant))}

    @api.post("/v1/keys", responses=responses.answers(responses.NewKey))
    def make(body: Key, who: Caller = Depends(admin)) -> dict[str, str]:
        """Make a key. It is shown this once."""
        key = service.writer.do(
            lambda connection: keys.make_key(connection, who.tenant, body.role, body.name)
        )
        return {"key": key, "role": body.role}

    @api.delete("/v1/keys/{name:segment}", responses=responses.answers(responses.Revoked, 404))
    def revoke(name: PathName, who: Caller = Depends(admin)) -> dict[str, int]:
        """Revoke all keys of that name; each worker follows within seconds."""
        return _revoke(service, who.tenant, name)

    @api.delete("/v1/keys", responses=responses.answers(responses.Revoked, 404))
    def revoke_named(name: Short, who: Caller = Depends(admin)) -> dict[str, int]:
        """Revoke all keys of the name `?name=`, which may be one that no path can hold."""
        return _revoke(service, who.tenant, name)

    @api.get("/v1/receipts/key", responses=responses.answers(responses.PublicKey))
    def receipts(who: Caller = Depends(server)) -> dict[str, str]:
        """Return the public key (Ed25519, hexadecimal) of receipts of erasure."""
        return {"public_key": _receipts_key(service)}

    @api.get(
        "/v1/receipts/{receipt_id:segment}",
        tags=["people"],
        responses=responses.answers(responses.AnyReceipt, 404),
    )
    def receipt(receipt_id: Id, who: Caller = Depends(admin)) -> dict[str, Any]:
        """Return a receipt of an erasure, or of forgetting, as of now, signed anew."""
        stored = service.erasures.receipt(who.tenant, receipt_id)
        if stored is None:
            raise ProblemError(404, "there is no such receipt")
        service.look_log.add_digest(who, stored["subject"], "receipt")
        return stored


def _revoke(service: Service, tenant: str, name: str) -> dict[str, int]:
    revoked = service.writer.do(lambda connection: keys.revoke(connection, tenant, name))
    if not revoked:
        raise ProblemError(404, "there is no such key")
    return {"revoked": revoked}


def _receipts_key(service: Service) -> str:
    """Return the public key; only one that is not made yet needs the writer."""
    is_made = service.read(lambda connection: secret(connection, SIGNING) is not None)
    ask = service.read if is_made else service.writer.do
    return ask(lambda connection: users.public_key(users.signing_key(connection)))
