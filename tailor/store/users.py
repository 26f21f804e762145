"""A user's data in the store: write it, show it, and erase it.

Every place that may hold a person's words or ids is an `Erasable`: those of the store are listed in
`ERASABLES`, others are passed to `erase` by their owner. Erasure ends with the person's entry in
the key store (`subjects`). From then on no copy of the store names the person or opens the
person's words.
"""

import base64
import json
import secrets as random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tailor.errors import DataError
from tailor.store.checks import check_id
from tailor.store.encryption import Seal, Subject
from tailor.store.engine import Lookup, insert_into, now_ms
from tailor.store.erasables import ERASABLES, Erasable
from tailor.store.erased import allowed_events, erasure_at, note_erasure
from tailor.store.events import add_events
from tailor.store.forgotten import count_up, forgotten_mark
from tailor.store.schema import erasures, events, subjects, user_attributes
from tailor.store.signing import seal_of, signing_secret
from tailor.store.subjects import delete_subject, subject_of, subjects_for
from tailor.store.writer import UnavailableError

ATTRIBUTES_FIELD = "people.more"  # what attributes are encrypted as
VERSION = 2  # of receipts, all of whose fields are signed
# of receipts of earlier versions: the fields that were signed, and those that were not
SIGNED_FIELDS = ("receipt_id", "tenant", "subject", "time_ms", "rows")
UNSIGNED_FIELDS = ("scanned", "signature", "public_key")
RUNNING, DONE, BROKEN_OFF = "running", "done", "broken off"  # states of a scan for residues
SILENT_MS = 60_000  # after which a scan without a sign of life counts as broken off
DELETIONS = "deletions"  # mark: how often something was deleted that workers may remember
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


class Earlier(NamedTuple):
    """Rows of a person that were erased in transactions before the last one."""

    rows: dict[str, int]
    """By store."""
    events: tuple[Any, ...]
    """Rows of events among it, with event_id and time_ms."""


NOTHING = Earlier({}, ())


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
    allowed = allowed_events(connection, tenant, rows, now_ms)
    new_ids = add_events(connection, tenant, allowed, now_ms)
    # PostgreSQL: an erasure may have come in between; from here on the entries are locked
    if connection.dialect.name != "sqlite":
        still_allowed = allowed_events(connection, tenant, allowed, now_ms)
        if len(still_allowed) < len(allowed):
            raise UnavailableError("a person was erased while events of theirs arrived: ask again")
    allowed_ids = {row["event_id"] for row in allowed}
    return new_ids, {row["event_id"] for row in rows} - allowed_ids


def export(connection: sa.Connection, tenant: str, user_id: str) -> dict[str, list[dict[str, Any]]]:
    """Return all that the store holds of a person, by table."""
    return {holder.name: holder.export(connection, tenant, user_id) for holder in ERASABLES}


def erase(
    connection: sa.Connection, tenant: str, user_id: str, others: Sequence[Erasable] = ()
) -> dict[str, Any]:
    """Erase a person from every holder, look for residues, and return a signed receipt.

    All in one transaction; `erasing.erase_person` holds up no other writer. Raises as
    `erase_rows` does.
    """
    receipt_id = erase_rows(connection, tenant, user_id, others)
    residues = {
        holder.name: holder.scan(connection, tenant, user_id) for holder in (*ERASABLES, *others)
    }
    note_scan(connection, tenant, receipt_id, residues, is_done=True)
    return read_receipt(connection, tenant, receipt_id) or {}


def erase_rows(
    connection: sa.Connection,
    tenant: str,
    user_id: str,
    others: Sequence[Erasable] = (),
    earlier: Earlier = NOTHING,
) -> str:
    """Erase what is left of a person and write the receipt, whose id is returned.

    `earlier` is what transactions before this one deleted. Raises RuntimeError, which undoes the
    transaction, where rows of the person are left, and DataError for the empty id.
    """
    if not user_id:
        raise DataError("user_id is empty: the empty id names nobody who could be erased")
    person = subject_of(connection, tenant, user_id, for_erasure=True)
    time_ms = now_ms()
    latest = [] if person is None else _events_of(connection, tenant, person)
    erasure = erasure_at(connection, tenant, time_ms, (*earlier.events, *latest))
    rows = dict.fromkeys((holder.name for holder in ERASABLES), 0) | earlier.rows
    # a person without an entry has no rows; rows that arrive meanwhile are a new person's
    for holder in (*(ERASABLES if person else ()), *others):
        count = holder.erase(connection, tenant, user_id)
        rows[holder.name] = rows.get(holder.name, 0) + count
    _check_erased(connection, tenant, user_id, person, others)
    if person is not None:
        delete_subject(connection, tenant, person)
    _count_deletion(connection, tenant)
    subject = note_erasure(connection, tenant, user_id, erasure)
    return _write_receipt(connection, tenant, user_id, subject, time_ms, rows)


def _events_of(connection: sa.Connection, tenant: str, person: Subject) -> Sequence[Any]:
    """Return id and time of the person's events, the latest first."""
    statement = (
        sa.select(events.c.event_id, events.c.time_ms)
        .where(events.c.tenant == tenant, events.c.user_id == person.token)
        .order_by(events.c.time_ms.desc())
    )
    return connection.execute(statement).all()


def _check_erased(
    connection: sa.Connection,
    tenant: str,
    user_id: str,
    person: Subject | None,
    others: Sequence[Erasable],
) -> None:
    left = sum(len(holder.export(connection, tenant, user_id)) for holder in others)
    if person is not None:
        left += sum(holder.count(connection, tenant, person) for holder in ERASABLES)
    if left:
        raise RuntimeError(f"{left} rows of the person are still there after erasure")


def _count_deletion(connection: sa.Connection, tenant: str) -> None:
    """Tell workers that remember people that somebody is gone.

    On SQLite triggers do so for histories.
    """
    count_up(connection, forgotten_mark(tenant))
    if connection.dialect.name != "sqlite":
        count_up(connection, DELETIONS)


def _write_receipt(
    connection: sa.Connection,
    tenant: str,
    user_id: str,
    subject: str,
    time_ms: int,
    rows: Mapping[str, int],
) -> str:
    receipt_id = random.token_hex(16)
    has_entry = subject_of(connection, tenant, user_id) is not None
    connection.execute(
        sa.insert(erasures).values(
            tenant=tenant,
            receipt_id=receipt_id,
            time_ms=time_ms,
            subject=subject,
            rows=dict(rows),
            scan=RUNNING,
            scan_ms=time_ms,
            scanned={"keys": int(has_entry)},
            overwritten=False if connection.dialect.name == "sqlite" else None,
        )
    )
    return receipt_id


def note_scan(
    connection: sa.Connection,
    tenant: str,
    receipt_id: str,
    residues: Mapping[str, int],
    is_done: bool,
) -> None:
    """Write what the scan of an erasure has found until now, by store."""
    is_receipt = (erasures.c.tenant == tenant) & (erasures.c.receipt_id == receipt_id)
    stored = connection.execute(sa.select(erasures.c.scanned).where(is_receipt)).scalar_one()
    changes = {
        "scan": DONE if is_done else RUNNING,
        "scan_ms": now_ms(),
        "scanned": {**residues, "keys": stored["keys"]},
    }
    connection.execute(sa.update(erasures).where(is_receipt).values(changes))


def sign_life(connection: sa.Connection, receipt_ids: Sequence[str]) -> None:
    """Note that the scans of these receipts go on, or wait for others."""
    for receipt_id in receipt_ids:
        is_receipt = erasures.c.receipt_id == receipt_id
        connection.execute(sa.update(erasures).where(is_receipt).values(scan_ms=now_ms()))


def read_receipt(connection: sa.Connection, tenant: str, receipt_id: str) -> dict[str, Any] | None:
    """Return a receipt as of now, signed; None for an unknown id.

    "scan" is running, done, unknown (of an earlier version), or broken off: the process that
    scanned ended.
    """
    is_receipt = (erasures.c.tenant == tenant) & (erasures.c.receipt_id == receipt_id)
    row = connection.execute(sa.select(erasures).where(is_receipt)).one_or_none()
    if row is None:
        return None
    is_silent = row.scan == RUNNING and now_ms() - (row.scan_ms or 0) > SILENT_MS
    key = signing_key(connection)
    receipt = {
        "version": VERSION,
        "receipt_id": row.receipt_id,
        "tenant": row.tenant,
        "subject": row.subject,
        "time_ms": row.time_ms,
        "rows": row.rows,
        "scan": BROKEN_OFF if is_silent else row.scan,
        "scanned": row.scanned,
        "overwritten": row.overwritten,
        "public_key": public_key(key),
    }
    signature = base64.b64encode(key.sign(canonical(receipt))).decode()
    return {**receipt, "signature": signature}


def receipt_holds(receipt: Mapping[str, Any], public: str) -> bool:
    """Return whether the holder of a public key signed this receipt of `erase`.

    All fields are signed. Of a receipt of an earlier version `scanned` was not.
    """
    signed = {name: value for name, value in receipt.items() if name != "signature"}
    try:
        if "version" not in receipt:
            if set(receipt) - {*SIGNED_FIELDS, *UNSIGNED_FIELDS}:
                return False
            signed = {name: receipt[name] for name in SIGNED_FIELDS}
        if bytes.fromhex(receipt.get("public_key", public)) != bytes.fromhex(public):
            return False
        signature = base64.b64decode(receipt["signature"], validate=True)
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        key.verify(signature, canonical(signed))
    except (InvalidSignature, ValueError, KeyError, TypeError):
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
