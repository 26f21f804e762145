"""The secrets of the key store: the key that signs receipts, and digests that it makes."""

import hmac

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tailor.store.encryption import Seal
from tailor.store.engine import insert_into
from tailor.store.schema import secrets

SIGNING = "signing"
FORMER = "former signing "  # and a number: keys of a key store that another one replaced
DIGEST = 16  # characters of the digest of an event id


def seal_of(connection: sa.Connection) -> Seal:
    """Return the seal that the engine was made with."""
    seal: Seal = connection.get_execution_options()["seal"]
    return seal


def secret(connection: sa.Connection, name: str) -> bytes | None:
    """Return a secret of the key store, None where there is none of that name."""
    statement = sa.select(secrets.c.value).where(secrets.c.name == name)
    stored = connection.execute(statement).scalar_one_or_none()
    return None if stored is None else seal_of(connection).decrypt(bytes.fromhex(stored), name)


def store_secret(connection: sa.Connection, name: str, value: bytes) -> None:
    """Store a secret, unless there is one of that name."""
    sealed = seal_of(connection).encrypt(value, name).hex()
    connection.execute(
        insert_into(connection, secrets).values(name=name, value=sealed).on_conflict_do_nothing()
    )


def signing_secret(connection: sa.Connection) -> bytes:
    """Return the bytes of the key that signs receipts; it is made when first needed."""
    stored = secret(connection, SIGNING)
    if stored is None:
        store_secret(connection, SIGNING, Ed25519PrivateKey.generate().private_bytes_raw())
        stored = secret(connection, SIGNING)  # another process may have made it meanwhile
    return stored or b""


def signing_names(connection: sa.Connection) -> list[str]:
    """Return the names of the present key and of the former ones."""
    names = sa.select(secrets.c.name).where(
        (secrets.c.name == SIGNING) | secrets.c.name.startswith(FORMER, autoescape=True)
    )
    return sorted(connection.execute(names).scalars())


def digest_keys(connection: sa.Connection) -> list[bytes]:
    """Return all keys by which erased people are known, the present one first."""
    former = [name for name in signing_names(connection) if name != SIGNING]
    keys = [secret(connection, name) for name in former]
    return [signing_secret(connection), *(key for key in keys if key is not None)]


def subject_digest(key: bytes, tenant: str, user_id: str) -> str:
    """Return the name of a person in receipts; only the store's secret can tell whose it is."""
    return hmac.digest(key, f"{tenant}\0{user_id}".encode(), "sha256").hex()


def event_digest(key: bytes, tenant: str, event_id: str) -> str:
    """Return a digest of an event id, which no person's digest can equal."""
    return hmac.digest(key, f"{tenant}\0event\0{event_id}".encode(), "sha256").hex()[:DIGEST]
