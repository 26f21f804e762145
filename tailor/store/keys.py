"""API keys: who may ask what. A key is shown once, when it is made; the store keeps its digest."""

import hashlib
import re
import secrets
from dataclasses import dataclass

import sqlalchemy as sa

from tailor.client import ROLES
from tailor.data.ids import CONTROL
from tailor.errors import StoreError, nearest
from tailor.store.engine import now_ms
from tailor.store.schema import keys

PERSON = "person"  # role of those who come by a link to their own page; no key has it
PREFIX = "tailor_"
TENANT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
MOST_NAME = 256  # characters of a name
FORBIDDEN = re.compile(CONTROL)


@dataclass(frozen=True)
class Caller:
    """The owner of a key."""

    tenant: str
    role: str
    name: str

    def may(self, role: str) -> bool:
        """Return whether the caller's role includes this one."""
        # a newer version may have written a role that is unknown here
        if role not in ROLES or self.role not in ROLES:
            return False
        return ROLES.index(self.role) >= ROLES.index(role)


@dataclass(frozen=True)
class Person(Caller):
    """Somebody who came by a link to the own page: no key opens that, and the link nothing else."""

    user_id: str
    ends_ms: int
    """When the link ends."""

    def may(self, role: str) -> bool:
        """Return whether this is the role of a person."""
        return role == PERSON


def check_tenant(name: str) -> None:
    """Raise StoreError for what cannot name a tenant."""
    if not TENANT.fullmatch(name):
        raise StoreError(
            f'"{name}" cannot name a tenant: up to 64 letters, digits, dots, hyphens and'
            " underscores, no dot first (it names a folder too)"
        )


def make_key(connection: sa.Connection, tenant: str, role: str, name: str) -> str:
    """Make a key and return it. Raises StoreError for an unknown role or an unfit name."""
    if role not in ROLES:
        raise StoreError(f'there is no role "{role}".{nearest(role, ROLES)}')
    check_tenant(tenant)
    _check_name(name)
    key = PREFIX + secrets.token_urlsafe(32)
    row = {"digest": digest(key), "tenant": tenant, "role": role, "name": name, "made_ms": now_ms()}
    connection.execute(sa.insert(keys).values(row))
    return key


def _check_name(name: str) -> None:
    """Raise StoreError for a name that no address can hold, so that no key could be revoked."""
    if not name.strip():
        raise StoreError("a key needs a name")
    if name in (".", "..") or len(name) > MOST_NAME or FORBIDDEN.search(name):
        raise StoreError(
            f"this cannot name a key: up to {MOST_NAME} characters without control characters,"
            ' not "." and not ".."'
        )


def caller(connection: sa.Connection, key: str) -> Caller | None:
    """Return the caller of a key, None for an unknown or revoked one."""
    statement = sa.select(keys).where(keys.c.digest == digest(key), keys.c.revoked_ms.is_(None))
    row = connection.execute(statement).one_or_none()
    return None if row is None else Caller(row.tenant, row.role, row.name)


def revoke(connection: sa.Connection, tenant: str, name: str) -> int:
    """Revoke the keys of a name and return how many there were."""
    statement = (
        sa.update(keys)
        .where(keys.c.tenant == tenant, keys.c.name == name, keys.c.revoked_ms.is_(None))
        .values(revoked_ms=now_ms())
    )
    return connection.execute(statement).rowcount


def list_keys(connection: sa.Connection, tenant: str | None = None) -> list[dict[str, object]]:
    """Return all keys without their digests, of one tenant or of all."""
    columns = (keys.c.tenant, keys.c.name, keys.c.role, keys.c.made_ms, keys.c.revoked_ms)
    statement = sa.select(*columns).order_by(keys.c.tenant, keys.c.made_ms)
    if tenant is not None:
        statement = statement.where(keys.c.tenant == tenant)
    return [dict(row) for row in connection.execute(statement).mappings()]


def digest(key: str) -> str:
    """Return the digest of a key; 256 random bits need no slow hash."""
    return hashlib.sha256(key.encode()).hexdigest()
