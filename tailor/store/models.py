"""The register of saved models: their versions, and which version answers.

The version of a kind that was put in place last answers. A mark keeps the order in which versions
were put in place, without those that were rolled back, so that rollbacks go further and further
back. Where it is missing, or an earlier Tailor wrote meanwhile, `served_ms` says the order.
"""

import json
from typing import Any, Literal

import sqlalchemy as sa

from tailor.errors import StoreError
from tailor.store.engine import now_ms
from tailor.store.marks import read_mark, write_mark
from tailor.store.schema import models

RECOMMENDS: Literal["recommends"] = "recommends"  # kinds of models
PREDICTS: Literal["predicts"] = "predicts"
RERANKS: Literal["reranks"] = "reranks"
KINDS = (RECOMMENDS, PREDICTS, RERANKS)
MOST_SERVED = 100  # versions that rollbacks can go back


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
    kind = _kind_of(connection, tenant, version)
    versions = served_versions(connection, tenant, kind)
    if versions[-1:] != [version]:
        versions.append(version)
    _write_served(connection, tenant, kind, versions)


def roll_back(connection: sa.Connection, tenant: str, version: int) -> None:
    """Let the version from before answer again, which must be this one.

    The version that answered is then no longer among those to go back to. Raises StoreError where
    another version is the one from before.
    """
    kind = _kind_of(connection, tenant, version)
    versions = served_versions(connection, tenant, kind)
    if versions[-2:-1] != [version]:
        raise StoreError("another version was put in place meanwhile: look, and ask again")
    _write_served(connection, tenant, kind, versions[:-1])


def previous_model(
    connection: sa.Connection, tenant: str, kind: str = RECOMMENDS
) -> dict[str, Any] | None:
    """Return the version of a kind that a rollback brings back, None where there is none."""
    version = served_versions(connection, tenant, kind)[-2:-1]
    statement = sa.select(models).where(models.c.tenant == tenant, models.c.version.in_(version))
    row = connection.execute(statement).mappings().one_or_none()
    return None if row is None else dict(row)


def served_versions(connection: sa.Connection, tenant: str, kind: str) -> list[int]:
    """Return the versions in the order they were put in place, the one that answers last.

    Versions that were rolled back are left out until they are put in place again.
    """
    statement = (
        sa.select(models.c.version, models.c.served_ms)
        .where(models.c.tenant == tenant, models.c.kind == kind, models.c.served_ms.is_not(None))
        .order_by(models.c.served_ms)
    )
    served_ms = {int(version): int(time) for version, time in connection.execute(statement)}
    marked, marked_ms = _read_served(connection, tenant, kind)
    # put in place by an earlier Tailor, which writes no mark
    marked += [version for version, time in served_ms.items() if time > marked_ms]
    versions: list[int] = []
    for version in marked:
        if version in served_ms and versions[-1:] != [version]:
            versions.append(version)
    return versions


def _kind_of(connection: sa.Connection, tenant: str, version: int) -> str:
    statement = sa.select(models.c.kind).where(
        models.c.tenant == tenant, models.c.version == version
    )
    kind = connection.execute(statement).scalar_one_or_none()
    if kind is None:
        raise StoreError(f"there is no model version {version}")
    return str(kind)


def _mark_name(tenant: str, kind: str) -> str:
    return f"served {kind} of {tenant}"


def _read_served(connection: sa.Connection, tenant: str, kind: str) -> tuple[list[int], int]:
    """Return the versions of the mark, and since when the last of them answers."""
    value = read_mark(connection, _mark_name(tenant, kind))
    if value is None:
        return [], -1
    mark = json.loads(value)
    return list(mark["versions"]), int(mark["served_ms"])


def _write_served(connection: sa.Connection, tenant: str, kind: str, versions: list[int]) -> None:
    """Write that the last of these versions answers from now on, and those before it."""
    latest = sa.select(sa.func.coalesce(sa.func.max(models.c.served_ms), 0)).where(
        models.c.tenant == tenant
    )
    served_ms = max(now_ms(), int(connection.execute(latest).scalar_one()) + 1)
    connection.execute(
        sa.update(models)
        .where(models.c.tenant == tenant, models.c.version == versions[-1])
        .values(served_ms=served_ms)
    )
    value = json.dumps({"versions": versions[-MOST_SERVED:], "served_ms": served_ms})
    write_mark(connection, _mark_name(tenant, kind), value)


def list_models(connection: sa.Connection, tenant: str) -> list[dict[str, Any]]:
    """Return all versions of all kinds, the one that began to answer last first.

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
