"""API keys: who may ask what. A key is shown once, when it is made; kept is its digest."""

import hashlib
import re
import secrets
from dataclasses import dataclass

import sqlalchemy as sa

from tailor.errors import StoreError, nearest
from tailor.store.engine import now_ms
from tailor.store.schema import keys

ROLES = ("read", "write", "admin")  # each may what those before it may
PREFIX = "tailor_"
TENANT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Caller:
    """Whose key it was."""

    tenant: str
    role: str
    name: str

    def may(self, role: str) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


def make_key(connection: sa.Connection, tenant: str, role: str, name: str) -> str:
    """A new key. Raises StoreError for a role that there is not, and for names that cannot be."""
    if role not in ROLES:
        raise StoreError(f'there is no role "{role}".{nearest(role, ROLES)}')
    if not TENANT.fullmatch(tenant):
        raise StoreError(
            f'"{tenant}" cannot name a tenant: up to 64 letters, digits, dots, hyphens and'
            " underscores, no dot first (it names a folder too)"
        )
    if not name.strip():
        raise StoreError("a key needs a name")
    key = PREFIX + secrets.token_urlsafe(32)
    row = {"digest": digest(key), "tenant": tenant, "role": role, "name": name, "made_ms": now_ms()}
    connection.execute(sa.insert(keys).values(row))
    return key


def caller(connection: sa.Connection, key: str) -> Caller | None:
    """Whose key it is; None for one that is not known or was revoked."""
    row = connection.execute(
        sa.select(keys).where(keys.c.digest == digest(key), keys.c.revoked_ms.is_(None))
    ).one_or_none()
    return None if row is None else Caller(row.tenant, row.role, row.name)


def revoke(connection: sa.Connection, tenant: str, name: str) -> int:
    """How many keys of that name end now."""
    found = connection.execute(
        sa.update(keys)
        .where(keys.c.tenant == tenant, keys.c.name == name, keys.c.revoked_ms.is_(None))
        .values(revoked_ms=now_ms())
    )
    return found.rowcount


def listed(connection: sa.Connection, tenant: str | None = None) -> list[dict[str, object]]:
    """All keys but for what opens anything."""
    columns = (keys.c.tenant, keys.c.name, keys.c.role, keys.c.made_ms, keys.c.revoked_ms)
    wanted = sa.select(*columns).order_by(keys.c.tenant, keys.c.made_ms)
    return [
        dict(row)
        for row in connection.execute(
            wanted if tenant is None else wanted.where(keys.c.tenant == tenant)
        ).mappings()
    ]


def digest(key: str) -> str:
    """Keys are 256 random bits, so that a plain hash cannot be guessed backwards."""
    return hashlib.sha256(key.encode()).hexdigest()
