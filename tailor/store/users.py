"""A person's data: see it, take it along, have it erased.

Whatever may hold a person's words or ids is an `Erasable` of `ERASABLES`, or is given to `erase` by
who holds it. Last goes the person's entry in the key store (`subjects`): what copies of the store
hold of the person is nobody's then, and does not open.
"""

import base64
import hmac
import json
import secrets as random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import sqlalchemy as sa
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tailor.store.encryption import Subject
from tailor.store.engine import insert_into, now_ms, pad_values
from tailor.store.events import add_events
from tailor.store.schema import erasures, events, impressions, people, requests, subjects
from tailor.store.subjects import (
    BATCH,
    NOBODY,
    SIGNING,
    delete_subject,
    seal_of,
    secret,
    store_secret,
    subject_of,
    subjects_for,
)
from tailor.store.writer import UnavailableError


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
    """The rows of a table that stand under the person's token. What is sealed in them is shown
    under the name `holds`.
    """

    table: sa.Table
    holds: str | None = None

    @property
    def name(self) -> str:
        return self.table.name

    @property
    def _where(self) -> str:
        return f"{self.table.name}.{self.holds}"

    def _mine(self, tenant: str, person: Subject) -> sa.ColumnElement[bool]:
        return sa.and_(self.table.c.tenant == tenant, self.table.c.user_id == person.token)

    def export(self, connection: sa.Connection, tenant: str, user_id: str) -> list[dict[str, Any]]:
        person = subject_of(connection, tenant, user_id)
        if person is None:
            return []
        wanted = (
            sa.select(self.table)
            .where(self._mine(tenant, person))
            .order_by(*self.table.primary_key.columns)
        )
        return [self._shown(dict(row), person) for row in connection.execute(wanted).mappings()]

    def _shown(self, row: dict[str, Any], person: Subject) -> dict[str, Any]:
        sealed = row.pop("sealed", None)
        words = (
            {}
            if self.holds is None
            else {self.holds: None if sealed is None else person.decrypt(sealed, self._where)}
        )
        return (
            {name: value for name, value in row.items() if name not in ("tenant", "number")}
            | {"user_id": person.user_id}
            | words
        )

    def erase(self, connection: sa.Connection, tenant: str, user_id: str) -> int:
        person = subject_of(connection, tenant, user_id)
        return (
            0
            if person is None
            else connection.execute(
                sa.delete(self.table).where(self._mine(tenant, person))
            ).rowcount
        )

    def scan(self, connection: sa.Connection, tenant: str, needle: str) -> int:
        return _scan(connection, self.table, tenant, needle) + (
            0 if self.holds is None else self._scan_sealed(connection, tenant, needle)
        )

    def _scan_sealed(self, connection: sa.Connection, tenant: str, needle: str) -> int:
        """Opened row by row: nobody but the keys knows what stands there."""
        here, theirs = (
            self.table.c,
            (subjects.c.tenant == self.table.c.tenant) & (subjects.c.token == self.table.c.user_id),
        )
        wanted = sa.select(here.user_id, here.sealed, subjects.c.sealed).select_from(
            self.table.outerjoin(subjects, theirs)
        )
        wanted = wanted.where(here.tenant == tenant, here.sealed.is_not(None)).order_by(
            here.user_id
        )
        seal, nobody, last, found = (
            seal_of(connection),
            subject_of(connection, tenant, NOBODY),
            None,
            0,
        )
        for token, words, key in connection.execute(wanted.execution_options(yield_per=10_000)):
            if key is not None and (last is None or last.token != token):
                last = seal.unwrap(token, key)
            # None: a row whose person is gone opens for nobody
            whose = nobody if token is None else None if key is None else last
            found += whose is not None and _holds(whose.decrypt(words, self._where), needle)
        return found


@dataclass(frozen=True)
class ErasableImpressions:
    """The items of the lists that a person was shown."""

    name: str = "impressions"

    def _mine(self, tenant: str, person: Subject) -> sa.ColumnElement[bool]:
        mine = sa.select(requests.c.request_id).where(
            requests.c.tenant == tenant, requests.c.user_id == person.token
        )
        return sa.and_(impressions.c.tenant == tenant, impressions.c.request_id.in_(mine))

    def export(self, connection: sa.Connection, tenant: str, user_id: str) -> list[dict[str, Any]]:
        person = subject_of(connection, tenant, user_id)
        if person is None:
            return []
        order = (impressions.c.request_id, impressions.c.position)
        found = connection.execute(
            sa.select(impressions).where(self._mine(tenant, person)).order_by(*order)
        )
        return [
            {name: value for name, value in row.items() if name != "tenant"}
            for row in found.mappings()
        ]

    def erase(self, connection: sa.Connection, tenant: str, user_id: str) -> int:
        person = subject_of(connection, tenant, user_id)
        return (
            0
            if person is None
            else connection.execute(
                sa.delete(impressions).where(self._mine(tenant, person))
            ).rowcount
        )

    def scan(self, connection: sa.Connection, tenant: str, needle: str) -> int:
        return _scan(connection, impressions, tenant, needle)


# lists before the requests that they are found by
ERASABLES: tuple[Erasable, ...] = (
    ErasableImpressions(),
    Rows(requests, "text"),
    Rows(events),
    Rows(people, "more"),
)


def upsert_user(
    connection: sa.Connection, tenant: str, user_id: str, more: Mapping[str, Any]
) -> None:
    """What is known of a person besides events."""
    person = subjects_for(connection, tenant, [user_id])[user_id]
    row = {
        "tenant": tenant,
        "user_id": person.token,
        "sealed": person.encrypt(dict(more), "people.more"),
        "changed_ms": now_ms(),
    }
    insert = insert_into(connection, people).values(row)
    kept = {"sealed": row["sealed"], "changed_ms": row["changed_ms"]}
    connection.execute(
        insert.on_conflict_do_update(index_elements=["tenant", "user_id"], set_=kept)
    )


def ingest_events(
    connection: sa.Connection, tenant: str, rows: Sequence[Mapping[str, Any]], now_ms: int
) -> tuple[set[str], set[str]]:
    """Add events (`add_events`) but those that lie before their person's erasure, which would bring
    the person back: ids of what was new, and of what was not taken in.
    """
    kept = _since_erasure(connection, tenant, rows)
    new = add_events(connection, tenant, kept, now_ms)
    if connection.dialect.name != "sqlite" and len(_since_erasure(connection, tenant, kept)) < len(
        kept
    ):
        # from here on nobody can: their entries are held
        raise UnavailableError("a person was erased while events of theirs arrived: ask again")
    return new, {row["event_id"] for row in rows} - {row["event_id"] for row in kept}


def _since_erasure(
    connection: sa.Connection, tenant: str, rows: Sequence[Mapping[str, Any]]
) -> Sequence[Mapping[str, Any]]:
    """Those that lie after the last erasure of their person."""
    if (
        connection.execute(
            sa.select(erasures.c.receipt_id).where(erasures.c.tenant == tenant).limit(1)
        ).first()
        is None
    ):
        return rows
    own = signing_secret(connection)
    users = {subject(own, tenant, one): one for one in {row["user_id"] for row in rows} - {None}}
    digests, last = sorted(users), dict[str, int]()
    for start in range(0, len(digests), BATCH):
        here = (
            erasures.c.tenant == tenant,
            erasures.c.subject.in_(pad_values(digests[start : start + BATCH])),
        )
        wanted = (
            sa.select(erasures.c.subject, sa.func.max(erasures.c.time_ms))
            .where(*here)
            .group_by(erasures.c.subject)
        )
        last |= {users[digest]: time_ms for digest, time_ms in connection.execute(wanted)}
    return [row for row in rows if row["time_ms"] > last.get(row["user_id"], -1)]


def export(connection: sa.Connection, tenant: str, user_id: str) -> dict[str, list[dict[str, Any]]]:
    """All that is stored of a person, by store."""
    return {one.name: one.export(connection, tenant, user_id) for one in ERASABLES}


def erase(
    connection: sa.Connection, tenant: str, user_id: str, others: Sequence[Erasable] = ()
) -> dict[str, Any]:
    """Erase a person from every store, look whether anything is left, and sign what was done.

    The receipt names the person by a keyed digest, and is kept. Raises RuntimeError, which undoes
    the transaction, where the scan still finds the person.
    """
    person = subject_of(connection, tenant, user_id, for_erasure=True)
    # of whom nothing is stored nothing can go; what comes meanwhile is somebody new
    stores = (*(ERASABLES if person else ()), *others)
    rows = dict.fromkeys((one.name for one in ERASABLES), 0) | {
        one.name: one.erase(connection, tenant, user_id) for one in stores
    }
    left = sum(len(one.export(connection, tenant, user_id)) for one in stores)
    if left:
        raise RuntimeError(f"{left} rows of the person are still there after erasure")
    if person is not None:
        delete_subject(connection, tenant, person)
    own, key = signing_secret(connection), signing_key(connection)
    receipt = {
        "receipt_id": random.token_hex(16),
        "tenant": tenant,
        "subject": subject(own, tenant, user_id),
        "time_ms": now_ms(),
        "rows": rows,
    }
    connection.execute(sa.insert(erasures).values(receipt))
    scanned = {one.name: one.scan(connection, tenant, user_id) for one in (*ERASABLES, *others)}
    scanned["keys"] = int(subject_of(connection, tenant, user_id) is not None)
    return {
        **receipt,
        "scanned": scanned,
        "signature": base64.b64encode(key.sign(canonical(receipt))).decode(),
        "public_key": public_key(key),
    }


def subject(secret: bytes, tenant: str, user_id: str) -> str:
    """What a receipt calls a person: nobody without the store's secret can tell whom it means."""
    return hmac.digest(secret, f"{tenant}\0{user_id}".encode(), "sha256").hex()


def receipt_holds(receipt: Mapping[str, Any], public: str) -> bool:
    """Whether a receipt of `erase` is signed by the holder of that public key."""
    signed = {
        name: receipt[name] for name in ("receipt_id", "tenant", "subject", "time_ms", "rows")
    }
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(
            base64.b64decode(receipt["signature"]), canonical(signed)
        )
    except (InvalidSignature, ValueError):
        return False
    return True


def canonical(receipt: Mapping[str, Any]) -> bytes:
    return json.dumps(receipt, sort_keys=True, separators=(",", ":")).encode()


def public_key(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def signing_key(connection: sa.Connection) -> Ed25519PrivateKey:
    """The store's own key. Making it out of its bytes takes a millisecond and a half."""
    return Ed25519PrivateKey.from_private_bytes(signing_secret(connection))


def signing_secret(connection: sa.Connection) -> bytes:
    """The bytes of that key, made when first needed."""
    kept = secret(connection, SIGNING)
    if kept is None:
        store_secret(connection, SIGNING, Ed25519PrivateKey.generate().private_bytes_raw())
        kept = secret(connection, SIGNING)  # another may have made it meanwhile
    return kept or b""


def _scan(connection: sa.Connection, table: sa.Table, tenant: str, needle: str) -> int:
    """Not where it is part of a longer word: person "1" is not person "12"."""
    nested = json.dumps(needle).replace("!", "!!").replace("%", "!%").replace("_", "!_")
    plain = [
        column == needle
        for column in table.columns
        if isinstance(column.type, sa.Text) and column.name != "tenant"
    ]
    inside = [
        sa.cast(column, sa.Text).like(f"%{nested}%", escape="!")
        for column in table.columns
        if isinstance(column.type, sa.JSON)
    ]
    anywhere = sa.or_(*plain, *inside)
    return int(
        connection.execute(
            sa.select(sa.func.count()).select_from(table).where(table.c.tenant == tenant, anywhere)
        ).scalar_one()
    )


def _holds(value: Any, needle: str) -> bool:
    """Whether an opened value is the needle, or has it as a value or a name within."""
    if isinstance(value, Mapping):
        return any(_holds(one, needle) for one in (*value.keys(), *value.values()))
    return (
        any(_holds(one, needle) for one in value)
        if isinstance(value, list)
        else bool(value == needle)
    )
