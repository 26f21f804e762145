"""The register of saved models: their versions, and which version answers."""

from typing import Any, Literal

import sqlalchemy as sa

from tailor.errors import StoreError
from tailor.store.engine import now_ms
from tailor.store.schema import models

RECOMMENDS: Literal["recommends"] = "recommends"  # kinds of models
PREDICTS: Literal["predicts"] = "predicts"


def add_model(
    connection: sa.Connection,
    tenant: str,
    folder: str,
    digest: str,
    note: str = "",
    made_ms: int | None = None,
    kind: str = RECOMMENDS,
) -> int:
    """Register a saved model and return its version.

    The model counts as made now unless `made_ms` is given. The same digest keeps its version.
    """
    is_same = sa.and_(models.c.tenant == tenant, models.c.digest == digest)
    registered = connection.execute(sa.select(models.c.version).where(is_same)).scalar_one_or_none()
    if registered is not None:
        connection.execute(sa.update(models).where(is_same).values(folder=folder))
        return int(registered)
    latest = sa.select(sa.func.coalesce(sa.func.max(models.c.version), 0)).where(
        models.c.tenant == tenant
    )
    version = int(connection.execute(latest).scalar_one()) + 1
    row = {
        "tenant": tenant,
        "version": version,
        "folder": folder,
        "digest": digest,
        "made_ms": made_ms or now_ms(),
        "note": note,
        "kind": kind,
    }
    connection.execute(sa.insert(models).values(row))
    return version


def serve_model(connection: sa.Connection, tenant: str, version: int) -> None:
    """Let a version answer from now on. Raises StoreError for an unknown one."""
    latest = sa.select(sa.func.coalesce(sa.func.max(models.c.served_ms), 0)).where(
        models.c.tenant == tenant
    )
    served_ms = max(now_ms(), int(connection.execute(latest).scalar_one()) + 1)
    statement = (
        sa.update(models)
        .where(models.c.tenant == tenant, models.c.version == version)
        .values(served_ms=served_ms)
    )
    if not connection.execute(statement).rowcount:
        raise StoreError(f"there is no model version {version}")


def list_models(connection: sa.Connection, tenant: str) -> list[dict[str, Any]]:
    """Return all versions of both kinds, the one that began to answer last first.

    Versions that never answered come last.
    """
    order = (models.c.served_ms.is_(None), models.c.served_ms.desc(), models.c.version.desc())
    statement = sa.select(models).where(models.c.tenant == tenant).order_by(*order)
    return [dict(row) for row in connection.execute(statement).mappings()]


def current_model(
    connection: sa.Connection, tenant: str, kind: str = RECOMMENDS
) -> dict[str, Any] | None:
    """Return the version of a kind that answers, None where none ever did."""
    statement = (
        sa.select(models)
        .where(models.c.tenant == tenant, models.c.kind == kind, models.c.served_ms.is_not(None))
        .order_by(models.c.served_ms.desc())
        .limit(1)
    )
    row = connection.execute(statement).mappings().one_or_none()
    return None if row is None else dict(row)


def tenants(connection: sa.Connection) -> list[str]:
    """Return the tenants that have a model."""
    return list(connection.execute(sa.select(models.c.tenant).distinct()).scalars())
