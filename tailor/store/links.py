"""Links to a person's own page: sealed, expiring, and ended by a count in the key store.

A link names a person by the token of the key store's entry, encrypted with a key that the store's
secret makes. So nobody can read or forge one, and an erasure, which deletes the entry, ends all
links of the person at once.
"""

import base64
import binascii
import hmac
import os
from typing import NamedTuple

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tailor.store.encryption import NONCE
from tailor.store.engine import insert_into
from tailor.store.schema import links, subjects
from tailor.store.signing import seal_of, signing_secret
from tailor.store.subjects import NOBODY, subject_for_writing, subject_of

PREFIX = "tailorlink_"  # no API key begins so
MOST = 512  # characters of a link
HOUR_MS = 3_600_000
LOCATION = b"link"  # what links are encrypted as


class LinkOwner(NamedTuple):
    """The person whose page a link opens."""

    tenant: str
    user_id: str
    token: str
    """Of the person's rows."""
    ends_ms: int


class _Claim(NamedTuple):
    ends_ms: int
    ended: int
    """How often the person's links had been ended when this one was made."""
    token: str


NO_CLAIM = _Claim(0, 0, "")


def make_link(connection: sa.Connection, tenant: str, user_id: str, ends_ms: int) -> str | None:
    """Return a link to a person's own page, None for a person of whom nothing is stored."""
    person = subject_of(connection, tenant, user_id)
    if person is None or user_id == NOBODY:
        return None
    statement = sa.select(links.c.ended).where(
        links.c.tenant == tenant, links.c.user_id == person.token
    )
    ended = connection.execute(statement).scalar_one_or_none() or 0
    content = f"{ends_ms} {ended} {person.token}".encode()
    nonce = os.urandom(NONCE)
    sealed = nonce + AESGCM(_key(connection)).encrypt(nonce, content, LOCATION)
    return PREFIX + base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def link_owner(connection: sa.Connection, link: str, now_ms: int) -> LinkOwner | None:
    """Return whose page a link opens; None for one that is forged, cut, expired or ended.

    All of those take the same statements, so that the time of an answer tells them not apart.
    """
    claim = _claim_of(connection, link)
    has_ended = (links.c.tenant == subjects.c.tenant) & (links.c.user_id == subjects.c.token)
    columns = (subjects.c.tenant, subjects.c.token, subjects.c.sealed, links.c.ended)
    statement = (
        sa.select(*columns)
        .select_from(subjects.outerjoin(links, has_ended))
        .where(subjects.c.token == claim.token)
    )
    row = connection.execute(statement).one_or_none()
    if row is None or claim.ends_ms <= now_ms or claim.ended != (row.ended or 0):
        return None
    user_id = seal_of(connection).unwrap(row.token, row.sealed).user_id
    return LinkOwner(row.tenant, user_id, row.token, claim.ends_ms)


def end_links(connection: sa.Connection, tenant: str, user_id: str) -> bool:
    """End all links of a person; False for a person of whom nothing is stored, who has none."""
    person = subject_for_writing(connection, tenant, user_id)
    if person is None:
        return False
    insert = insert_into(connection, links).values(tenant=tenant, user_id=person.token, ended=1)
    upsert = insert.on_conflict_do_update(
        index_elements=["tenant", "user_id"], set_={"ended": links.c.ended + 1}
    )
    connection.execute(upsert)
    return True


def _claim_of(connection: sa.Connection, link: str) -> _Claim:
    """Return what a link says, NO_CLAIM for one that this store did not make."""
    cipher = AESGCM(_key(connection))
    if not link.startswith(PREFIX) or len(link) > MOST:
        return NO_CLAIM
    text = link.removeprefix(PREFIX)
    try:
        sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        content = cipher.decrypt(sealed[:NONCE], sealed[NONCE:], LOCATION)
    except (InvalidTag, binascii.Error, ValueError):
        return NO_CLAIM
    ends_ms, ended, token = content.decode().split(" ")
    return _Claim(int(ends_ms), int(ended), token)


def _key(connection: sa.Connection) -> bytes:
    return hmac.digest(signing_secret(connection), LOCATION, "sha256")
