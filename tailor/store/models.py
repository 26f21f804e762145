"""The register of saved models: versions, and which of them answers."""

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
    """Register a saved model, made now unless said otherwise; its version. The same model again
    keeps its version.
    """
    there = connection.execute(
        sa.select(models.c.version).where(models.c.tenant == tenant, models.c.digest == digest)
    ).scalar_one_or_none()
    if there is not None:
        connection.execute(
            sa.update(models)
            .where(models.c.tenant == tenant, models.c.version == there)
            .values(folder=folder)
        )
        return int(there)
    latest = connection.execute(
        sa.select(sa.func.coalesce(sa.func.max(models.c.version), 0)).where(
            models.c.tenant == tenant
        )
    ).scalar_one()
    row = {
        "tenant": tenant,
        "version": latest + 1,
        "folder": folder,
        "digest": digest,
        "made_ms": made_ms or now_ms(),
        "note": note,
        "kind": kind,
    }
    connection.execute(sa.insert(models).values(row))
    return int(latest) + 1


def serve_model(connection: sa.Connection, tenant: str, version: int) -> None:
    """Let that version answer from now on. Raises StoreError for one that there is not."""
    last = connection.execute(
        sa.select(sa.func.coalesce(sa.func.max(models.c.served_ms), 0)).where(
            models.c.tenant == tenant
        )
    ).scalar_one()
    found = connection.execute(
        sa.update(models)
        .where(models.c.tenant == tenant, models.c.version == version)
        .values(served_ms=max(now_ms(), int(last) + 1))
    )
    if not found.rowcount:
        raise StoreError(f"there is no model version {version}")


def list_models(connection: sa.Connection, tenant: str) -> list[dict[str, Any]]:
    """All versions of both kinds, the one that answers first, then the one that answered before it,
    and so on; then those that never did.
    """
    order = (models.c.served_ms.is_(None), models.c.served_ms.desc(), models.c.version.desc())
    return [
        dict(row)
        for row in connection.execute(
            sa.select(models).where(models.c.tenant == tenant).order_by(*order)
        ).mappings()
    ]


def current_model(
    connection: sa.Connection, tenant: str, kind: str = RECOMMENDS
) -> dict[str, Any] | None:
    """The version of a kind that answers; None where none ever did."""
    here = (models.c.tenant == tenant, models.c.kind == kind, models.c.served_ms.is_not(None))
    row = (
        connection.execute(
            sa.select(models).where(*here).order_by(models.c.served_ms.desc()).limit(1)
        )
        .mappings()
        .one_or_none()
    )
    return None if row is None else dict(row)


def tenants(connection: sa.Connection) -> list[str]:
    """Those with a model."""
    return list(connection.execute(sa.select(models.c.tenant).distinct()).scalars())
