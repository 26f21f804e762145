"""A person's data: see it, take it along, have it erased.

Whatever may hold a person's words or ids is an `Erasable` of `ERASABLES`, or is given to `erase` by who holds it.
"""

import base64
import hashlib
import hmac
import json
import secrets as random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import sqlalchemy as sa
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tailor.store.engine import now_ms
from tailor.store.events import inserting
from tailor.store.schema import erasures, events, impressions, people, requests, secrets


class Erasable(Protocol):
    """A place that may hold what belongs to a person."""

    @property
    def name(self) -> str: ...

    def export(self, connection: sa.Connection, tenant: str, user_id: str) -> list[dict[str, Any]]:
        """All of it."""

    def erase(self, connection: sa.Connection, tenant: str, user_id: str) -> int:
        """Remove it; how much there was."""

    def scan(self, connection: sa.Connection, tenant: str, needle: str) -> int:
        """How many rows still hold `needle`: as a value, or as one within a nested column."""


@dataclass(frozen=True)
class Rows:
    """The rows of a table that name the person in the column user_id."""

    table: sa.Table

    @property
    def name(self) -> str:
        return self.table.name

    def _mine(self, tenant: str, user_id: str) -> sa.ColumnElement[bool]:
        return sa.and_(self.table.c.tenant == tenant, self.table.c.user_id == user_id)

    def export(self, connection: sa.Connection, tenant: str, user_id: str) -> list[dict[str, Any]]:
        found = connection.execute(sa.select(self.table).where(self._mine(tenant, user_id)).order_by(*self.table.primary_key.columns))
        return [{name: value for name, value in row.items() if name not in ("tenant", "number")} for row in found.mappings()]

    def erase(self, connection: sa.Connection, tenant: str, user_id: str) -> int:
        return connection.execute(sa.delete(self.table).where(self._mine(tenant, user_id))).rowcount

    def scan(self, connection: sa.Connection, tenant: str, needle: str) -> int:
        return _scan(connection, self.table, tenant, needle)


@dataclass(frozen=True)
class Shown:
    """The items of the lists that a person was shown."""

    name: str = "impressions"

    def _mine(self, tenant: str, user_id: str) -> sa.ColumnElement[bool]:
        mine = sa.select(requests.c.request_id).where(requests.c.tenant == tenant, requests.c.user_id == user_id)
        return sa.and_(impressions.c.tenant == tenant, impressions.c.request_id.in_(mine))

    def export(self, connection: sa.Connection, tenant: str, user_id: str) -> list[dict[str, Any]]:
        order = (impressions.c.request_id, impressions.c.position)
        found = connection.execute(sa.select(impressions).where(self._mine(tenant, user_id)).order_by(*order))
        return [{name: value for name, value in row.items() if name != "tenant"} for row in found.mappings()]

    def erase(self, connection: sa.Connection, tenant: str, user_id: str) -> int:
        return connection.execute(sa.delete(impressions).where(self._mine(tenant, user_id))).rowcount

    def scan(self, connection: sa.Connection, tenant: str, needle: str) -> int:
        return _scan(connection, impressions, tenant, needle)


ERASABLES: tuple[Erasable, ...] = (Shown(), Rows(requests), Rows(events), Rows(people))  # lists before the requests that they are found by


def upsert_person(connection: sa.Connection, tenant: str, user_id: str, more: Mapping[str, Any]) -> None:
    """What is known of a person besides events."""
    row = {"tenant": tenant, "user_id": user_id, "more": dict(more), "changed_ms": now_ms()}
    insert = inserting(connection, people).values(row)
    connection.execute(
        insert.on_conflict_do_update(index_elements=["tenant", "user_id"], set_={"more": row["more"], "changed_ms": row["changed_ms"]})
    )


def export(connection: sa.Connection, tenant: str, user_id: str) -> dict[str, list[dict[str, Any]]]:
    """All that is stored of a person, by store."""
    return {one.name: one.export(connection, tenant, user_id) for one in ERASABLES}


def erase(connection: sa.Connection, tenant: str, user_id: str, others: Sequence[Erasable] = ()) -> dict[str, Any]:
    """Erase a person from every store, look whether anything is left, and sign what was done.

    The receipt names the person by a keyed digest, and is kept. Raises RuntimeError, which undoes the transaction, where the scan still finds the person.
    """
    stores = (*ERASABLES, *others)
    rows = {one.name: one.erase(connection, tenant, user_id) for one in stores}
    left = sum(len(one.export(connection, tenant, user_id)) for one in stores)
    if left:
        raise RuntimeError(f"{left} rows of the person are still there after erasure")
    key = signing_key(connection)
    receipt = {
        "receipt_id": random.token_hex(16),
        "tenant": tenant,
        "subject": subject(key, tenant, user_id),
        "time_ms": now_ms(),
        "rows": rows,
    }
    connection.execute(sa.insert(erasures).values(receipt))
    return {**receipt, "scanned": {one.name: one.scan(connection, tenant, user_id) for one in stores},
            "signature": base64.b64encode(key.sign(canonical(receipt))).decode(), "public_key": public_key(key)}  # fmt: skip


def subject(key: Ed25519PrivateKey, tenant: str, user_id: str) -> str:
    """What a receipt calls a person: nobody without the key can tell whom it means."""
    return hmac.new(key.private_bytes_raw(), f"{tenant}\0{user_id}".encode(), hashlib.sha256).hexdigest()


def receipt_holds(receipt: Mapping[str, Any], public: str) -> bool:
    """Whether a receipt of `erase` is signed by the holder of that public key."""
    signed = {name: receipt[name] for name in ("receipt_id", "tenant", "subject", "time_ms", "rows")}
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(base64.b64decode(receipt["signature"]), canonical(signed))
    except (InvalidSignature, ValueError):
        return False
    return True


def canonical(receipt: Mapping[str, Any]) -> bytes:
    return json.dumps(receipt, sort_keys=True, separators=(",", ":")).encode()


def public_key(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def signing_key(connection: sa.Connection) -> Ed25519PrivateKey:
    """The store's own key, made when first needed."""
    wanted = sa.select(secrets.c.value).where(secrets.c.name == "signing")
    kept = connection.execute(wanted).scalar_one_or_none()
    if kept is None:
        new = Ed25519PrivateKey.generate().private_bytes_raw().hex()
        connection.execute(inserting(connection, secrets).values(name="signing", value=new).on_conflict_do_nothing())
        kept = connection.execute(wanted).scalar_one()  # another may have made it meanwhile
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(kept))


def _scan(connection: sa.Connection, table: sa.Table, tenant: str, needle: str) -> int:
    """Not where it is part of a longer word: person "1" is not person "12"."""
    nested = json.dumps(needle).replace("!", "!!").replace("%", "!%").replace("_", "!_")
    plain = [column == needle for column in table.columns if isinstance(column.type, sa.Text) and column.name != "tenant"]
    inside = [sa.cast(column, sa.Text).like(f"%{nested}%", escape="!") for column in table.columns if isinstance(column.type, sa.JSON)]
    anywhere = sa.or_(*plain, *inside)
    return int(connection.execute(sa.select(sa.func.count()).select_from(table).where(table.c.tenant == tenant, anywhere)).scalar_one())
