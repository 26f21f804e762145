"""A user's data in the store: write it, show it, and erase it.

Every place that may hold a person's words or ids is an `Erasable`: those of the store are listed in
`ERASABLES`, others are passed to `erase` by their owner. Erasure ends with the person's entry in
the key store (`subjects`). From then on no copy of the store names the person or opens the
person's words.
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

from tailor.store.checks import check_id
from tailor.store.encryption import Seal, Subject
from tailor.store.engine import Lookup, insert_into, now_ms, pad_values
from tailor.store.events import add_events
from tailor.store.schema import (
    erasures,
    events,
    impressions,
    requests,
    subjects,
    user_attributes,
)
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

ATTRIBUTES_FIELD = "people.more"  # what attributes are encrypted as
SIGNED_FIELDS = ("receipt_id", "tenant", "subject", "time_ms", "rows")
HAS_ATTRIBUTES = Lookup(
    sa.select(sa.literal_column("1"))
    .select_from(user_attributes)
    .where(user_attributes.c.tenant == sa.bindparam("whose"))
    .limit(1)
)
ATTRIBUTES = Lookup(
    sa.select(
        subjects.c.token, subjects.c.sealed.label("key"), user_attributes.c.sealed.label("words")
    )
    .select_from(
        subjects.join(
            user_attributes,
            (user_attributes.c.tenant == subjects.c.tenant)
            & (user_attributes.c.user_id == subjects.c.token),
        )
    )
    .where(subjects.c.tenant == sa.bindparam("whose"), subjects.c.name == sa.bindparam("who"))
)


class Erasable(Protocol):
    """A place that may hold what belongs to a person."""

    @property
    def name(self) -> str:
        """Name of the place in exports and receipts."""

    def export(self, connection: sa.Connection, tenant: str, user_id: str) -> list[dict[str, Any]]:
        """Return all of it."""

    def erase(self, connection: sa.Connection, tenant: str, user_id: str) -> int:
        """Remove it and return how many rows there were."""

    def scan(self, connection: sa.Connection, tenant: str, needle: str) -> int:
        """Count the rows that hold `needle`, as a value or inside a nested column."""


@dataclass(frozen=True)
class ErasableRows:
    """The rows of a table that carry the person's token."""

    table: sa.Table
    encrypted_field: str | None = None
    """Name under which the encrypted column is shown; None for a table without one."""

    @property
    def name(self) -> str:
        """Name of the table."""
        return self.table.name

    @property
    def _location(self) -> str:
        return f"{self.table.name}.{self.encrypted_field}"

    def _rows_of(self, tenant: str, person: Subject) -> sa.ColumnElement[bool]:
        return sa.and_(self.table.c.tenant == tenant, self.table.c.user_id == person.token)

    def export(self, connection: sa.Connection, tenant: str, user_id: str) -> list[dict[str, Any]]:
        """Return the rows, decrypted."""
        person = subject_of(connection, tenant, user_id)
        if person is None:
            return []
        statement = (
            sa.select(self.table)
            .where(self._rows_of(tenant, person))
            .order_by(*self.table.primary_key.columns)
        )
        rows = connection.execute(statement).mappings()
        return [self._readable(dict(row), person) for row in rows]

    def _readable(self, row: dict[str, Any], person: Subject) -> dict[str, Any]:
        sealed = row.pop("sealed", None)
        readable = {name: value for name, value in row.items() if name not in ("tenant", "number")}
        readable["user_id"] = person.user_id
        if self.encrypted_field is not None:
            value = None if sealed is None else person.decrypt(sealed, self._location)
            readable[self.encrypted_field] = value
        return readable

    def erase(self, connection: sa.Connection, tenant: str, user_id: str) -> int:
        """Delete the rows."""
        person = subject_of(connection, tenant, user_id)
        if person is None:
            return 0
        statement = sa.delete(self.table).where(self._rows_of(tenant, person))
        return connection.execute(statement).rowcount

    def scan(self, connection: sa.Connection, tenant: str, needle: str) -> int:
        """Count the rows that hold `needle`, in encrypted values too."""
        count = _scan_table(connection, self.table, tenant, needle)
        if self.encrypted_field is not None:
            count += self._scan_encrypted(connection, tenant, needle)
        return count

    def _scan_encrypted(self, connection: sa.Connection, tenant: str, needle: str) -> int:
        """Decrypt row by row: only the keys can tell what a row holds."""
        columns = self.table.c
        is_owner = (subjects.c.tenant == columns.tenant) & (subjects.c.token == columns.user_id)
        statement = (
            sa.select(columns.user_id, columns.sealed, subjects.c.sealed)
            .select_from(self.table.outerjoin(subjects, is_owner))
            .where(columns.tenant == tenant, columns.sealed.is_not(None))
            .order_by(columns.user_id)
        )
        seal = seal_of(connection)
        nobody = subject_of(connection, tenant, NOBODY)
        person: Subject | None = None
        count = 0
        for token, words, key in connection.execute(statement.execution_options(yield_per=10_000)):
            if token is None:
                owner = nobody
            elif key is None:
                owner = None  # the person is gone: nobody can open this row
            else:
                if person is None or person.token != token:
                    person = seal.unwrap(token, key)
                owner = person
            if owner is not None:
                count += _contains(owner.decrypt(words, self._location), needle)
        return count


@dataclass(frozen=True)
class ErasableImpressions:
    """The items of the lists that a person was shown."""

    name: str = "impressions"
    """Name of the table."""

    def _rows_of(self, tenant: str, person: Subject) -> sa.ColumnElement[bool]:
        request_ids = sa.select(requests.c.request_id).where(
            requests.c.tenant == tenant, requests.c.user_id == person.token
        )
        return sa.and_(impressions.c.tenant == tenant, impressions.c.request_id.in_(request_ids))

    def export(self, connection: sa.Connection, tenant: str, user_id: str) -> list[dict[str, Any]]:
        """Return the rows."""
        person = subject_of(connection, tenant, user_id)
        if person is None:
            return []
        statement = (
            sa.select(impressions)
            .where(self._rows_of(tenant, person))
            .order_by(impressions.c.request_id, impressions.c.position)
        )
        return [
            {name: value for name, value in row.items() if name != "tenant"}
            for row in connection.execute(statement).mappings()
        ]

    def erase(self, connection: sa.Connection, tenant: str, user_id: str) -> int:
        """Delete the rows."""
        person = subject_of(connection, tenant, user_id)
        if person is None:
            return 0
        statement = sa.delete(impressions).where(self._rows_of(tenant, person))
        return connection.execute(statement).rowcount

    def scan(self, connection: sa.Connection, tenant: str, needle: str) -> int:
        """Count the rows that hold `needle`."""
        return _scan_table(connection, impressions, tenant, needle)


# impressions before the requests by which they are found
ERASABLES: tuple[Erasable, ...] = (
    ErasableImpressions(),
    ErasableRows(requests, "text"),
    ErasableRows(events),
    ErasableRows(user_attributes, "more"),
)


def upsert_user(
    connection: sa.Connection, tenant: str, user_id: str, attributes: Mapping[str, Any]
) -> None:
    """Write a user's attributes, in place of those before.

    Raises DataError for an id with control characters.
    """
    check_id(user_id, "user_id")
    user = subjects_for(connection, tenant, [user_id])[user_id]
    changes = {
        "sealed": user.encrypt(dict(attributes), ATTRIBUTES_FIELD),
        "changed_ms": now_ms(),
    }
    insert = insert_into(connection, user_attributes).values(
        tenant=tenant, user_id=user.token, **changes
    )
    connection.execute(
        insert.on_conflict_do_update(index_elements=["tenant", "user_id"], set_=changes)
    )


def has_attributes(engine: sa.Engine, tenant: str) -> bool:
    """Return whether the tenant has attributes of any user."""
    return bool(HAS_ATTRIBUTES.rows(engine, whose=tenant))


def attributes_of(engine: sa.Engine, tenant: str, user_id: str) -> dict[str, Any]:
    """Return a user's attributes, none for an unknown user."""
    seal: Seal = engine.get_execution_options()["seal"]
    rows = ATTRIBUTES.rows(engine, whose=tenant, who=seal.name(tenant, user_id))
    if not rows or rows[0][2] is None:
        return {}
    token, key, words = rows[0]
    return dict(seal.unwrap(token, bytes(key)).decrypt(bytes(words), ATTRIBUTES_FIELD))


def all_attributes(connection: sa.Connection, tenant: str) -> dict[str, dict[str, Any]]:
    """Return the attributes of all users of a tenant, by user id."""
    is_owner = (subjects.c.tenant == user_attributes.c.tenant) & (
        subjects.c.token == user_attributes.c.user_id
    )
    statement = (
        sa.select(subjects.c.token, subjects.c.sealed, user_attributes.c.sealed)
        .select_from(user_attributes.join(subjects, is_owner))
        .where(user_attributes.c.tenant == tenant, user_attributes.c.sealed.is_not(None))
    )
    seal = seal_of(connection)
    attributes = {}
    for token, key, words in connection.execute(statement.execution_options(yield_per=10_000)):
        user = seal.unwrap(token, key)
        attributes[user.user_id] = dict(user.decrypt(words, ATTRIBUTES_FIELD))
    return attributes


def ingest_events(
    connection: sa.Connection, tenant: str, rows: Sequence[Mapping[str, Any]], now_ms: int
) -> tuple[set[str], set[str]]:
    """Add events, except those from before their person's erasure, which would undo it.

    Returns the ids of the new events and of the refused ones. See `add_events` for the rows.
    """
    allowed = _after_erasure(connection, tenant, rows)
    new_ids = add_events(connection, tenant, allowed, now_ms)
    # PostgreSQL: an erasure may have come in between; from here on the entries are locked
    if connection.dialect.name != "sqlite":
        still_allowed = _after_erasure(connection, tenant, allowed)
        if len(still_allowed) < len(allowed):
            raise UnavailableError("a person was erased while events of theirs arrived: ask again")
    allowed_ids = {row["event_id"] for row in allowed}
    return new_ids, {row["event_id"] for row in rows} - allowed_ids


def _after_erasure(
    connection: sa.Connection, tenant: str, rows: Sequence[Mapping[str, Any]]
) -> Sequence[Mapping[str, Any]]:
    """Return the events that happened after the last erasure of their person."""
    has_erasures = sa.select(erasures.c.receipt_id).where(erasures.c.tenant == tenant).limit(1)
    if connection.execute(has_erasures).first() is None:
        return rows
    key = signing_secret(connection)
    user_ids = {row["user_id"] for row in rows} - {None}
    by_digest = {subject_digest(key, tenant, user_id): user_id for user_id in user_ids}
    digests = sorted(by_digest)
    erased_ms: dict[str, int] = {}
    for start in range(0, len(digests), BATCH):
        statement = (
            sa.select(erasures.c.subject, sa.func.max(erasures.c.time_ms))
            .where(
                erasures.c.tenant == tenant,
                erasures.c.subject.in_(pad_values(digests[start : start + BATCH])),
            )
            .group_by(erasures.c.subject)
        )
        for digest, time_ms in connection.execute(statement):
            erased_ms[by_digest[digest]] = time_ms
    return [row for row in rows if row["time_ms"] > erased_ms.get(row["user_id"], -1)]


def export(connection: sa.Connection, tenant: str, user_id: str) -> dict[str, list[dict[str, Any]]]:
    """Return all that the store holds of a person, by table."""
    return {holder.name: holder.export(connection, tenant, user_id) for holder in ERASABLES}


def erase(
    connection: sa.Connection, tenant: str, user_id: str, others: Sequence[Erasable] = ()
) -> dict[str, Any]:
    """Erase a person from every holder, check that nothing is left, and return a signed receipt.

    The receipt names the person by a keyed digest, and is kept. Raises RuntimeError, which undoes
    the transaction, where rows of the person are left.
    """
    person = subject_of(connection, tenant, user_id, for_erasure=True)
    # a person without an entry has no rows; rows that arrive meanwhile are a new person's
    holders = (*(ERASABLES if person else ()), *others)
    rows = dict.fromkeys((holder.name for holder in ERASABLES), 0)
    rows |= {holder.name: holder.erase(connection, tenant, user_id) for holder in holders}
    left = sum(len(holder.export(connection, tenant, user_id)) for holder in holders)
    if left:
        raise RuntimeError(f"{left} rows of the person are still there after erasure")
    if person is not None:
        delete_subject(connection, tenant, person)
    receipt = {
        "receipt_id": random.token_hex(16),
        "tenant": tenant,
        "subject": subject_digest(signing_secret(connection), tenant, user_id),
        "time_ms": now_ms(),
        "rows": rows,
    }
    connection.execute(sa.insert(erasures).values(receipt))
    scanned = {
        holder.name: holder.scan(connection, tenant, user_id) for holder in (*ERASABLES, *others)
    }
    scanned["keys"] = int(subject_of(connection, tenant, user_id) is not None)
    key = signing_key(connection)
    signature = base64.b64encode(key.sign(canonical(receipt))).decode()
    return {**receipt, "scanned": scanned, "signature": signature, "public_key": public_key(key)}


def subject_digest(secret: bytes, tenant: str, user_id: str) -> str:
    """Return the name of a person in receipts; only the store's secret can tell whose it is."""
    return hmac.digest(secret, f"{tenant}\0{user_id}".encode(), "sha256").hex()


def receipt_holds(receipt: Mapping[str, Any], public: str) -> bool:
    """Return whether the holder of a public key signed this receipt of `erase`."""
    signed = {name: receipt[name] for name in SIGNED_FIELDS}
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(
            base64.b64decode(receipt["signature"]), canonical(signed)
        )
    except (InvalidSignature, ValueError):
        return False
    return True


def canonical(receipt: Mapping[str, Any]) -> bytes:
    """Return the bytes of a receipt that are signed."""
    return json.dumps(receipt, sort_keys=True, separators=(",", ":")).encode()


def public_key(key: Ed25519PrivateKey) -> str:
    """Return the public part of a key, in hexadecimal."""
    return key.public_key().public_bytes_raw().hex()


def signing_key(connection: sa.Connection) -> Ed25519PrivateKey:
    """Return the key that signs receipts; building it takes 1.5 ms."""
    return Ed25519PrivateKey.from_private_bytes(signing_secret(connection))


def signing_secret(connection: sa.Connection) -> bytes:
    """Return the bytes of the key that signs receipts; it is made when first needed."""
    stored = secret(connection, SIGNING)
    if stored is None:
        store_secret(connection, SIGNING, Ed25519PrivateKey.generate().private_bytes_raw())
        stored = secret(connection, SIGNING)  # another process may have made it meanwhile
    return stored or b""


def _scan_table(connection: sa.Connection, table: sa.Table, tenant: str, needle: str) -> int:
    """Count the rows that hold `needle` as a whole word: person "1" is not person "12"."""
    nested = json.dumps(needle).replace("!", "!!").replace("%", "!%").replace("_", "!_")
    conditions: list[sa.ColumnElement[bool]] = []
    for column in table.columns:
        if isinstance(column.type, sa.Text) and column.name != "tenant":
            conditions.append(column == needle)
        if isinstance(column.type, sa.JSON):
            conditions.append(sa.cast(column, sa.Text).like(f"%{nested}%", escape="!"))
    statement = (
        sa.select(sa.func.count())
        .select_from(table)
        .where(table.c.tenant == tenant, sa.or_(*conditions))
    )
    return int(connection.execute(statement).scalar_one())


def _contains(value: Any, needle: str) -> bool:
    """Return whether a JSON value is the needle, or holds it as a value or a name."""
    if isinstance(value, Mapping):
        return any(_contains(part, needle) for part in (*value.keys(), *value.values()))
    if isinstance(value, list):
        return any(_contains(part, needle) for part in value)
    return bool(value == needle)
