"""Looks: which key saw which person's data, when, and through which route.

A look names the person by a token, as all rows do, and by the keyed digest of the receipts. An
erasure takes the token away. The digest stays until the retention's end, so that nobody hides a
look by erasing whom they looked at.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from tailor.store.background import AWAY, BackgroundLog
from tailor.store.engine import UNAVAILABLE, now_ms, reading
from tailor.store.keys import Caller
from tailor.store.schema import audit, subjects
from tailor.store.signing import digest_keys, seal_of, signing_secret, subject_digest
from tailor.store.subjects import subject_for_writing
from tailor.store.writer import Writer

log = logging.getLogger("tailor.store")


@dataclass(frozen=True)
class Look:
    """One look of a key at a person's data."""

    tenant: str
    user_id: str | None
    """None: the person was erased before this was written."""
    subject: str
    """The keyed digest of the person."""
    time_ms: int
    key_name: str
    route: str
    """What was asked for: history, export ..."""


def write_looks(connection: sa.Connection, looks: Sequence[Look]) -> None:
    """Write looks; one at a person who is not there names nobody but by the digest."""
    people = {(look.tenant, look.user_id) for look in looks if look.user_id is not None}
    tokens: dict[tuple[str, str | None], str] = {}
    for tenant, user_id in sorted(people):
        subject = subject_for_writing(connection, tenant, user_id)
        if subject is not None:
            tokens[tenant, user_id] = subject.token
    rows = [{**vars(look), "user_id": tokens.get((look.tenant, look.user_id))} for look in looks]
    connection.execute(sa.insert(audit), rows)


def read_looks(
    connection: sa.Connection,
    tenant: str,
    user_id: str | None = None,
    before: int | None = None,
    k: int = 50,
) -> list[dict[str, Any]]:
    """Return up to k looks, the latest first: number, user_id, subject, time_ms, key and route.

    `user_id` asks for the looks at one person, erased or not; `before` is the number of the last
    look of the page before. The user_id of a row is None where the person is not there any more.
    """
    is_wanted = audit.c.tenant == tenant
    if user_id is not None:
        digests = [subject_digest(key, tenant, user_id) for key in digest_keys(connection)]
        is_wanted &= audit.c.subject.in_(digests)
    if before is not None:
        is_wanted &= audit.c.number < before
    is_entry = (subjects.c.tenant == audit.c.tenant) & (subjects.c.token == audit.c.user_id)
    statement = (
        sa.select(audit, subjects.c.sealed)
        .select_from(audit.outerjoin(subjects, is_entry))
        .where(is_wanted)
        .order_by(audit.c.number.desc())
        .limit(k)
    )
    seal = seal_of(connection)
    return [
        {
            "number": row.number,
            "user_id": None if row.sealed is None else seal.unwrap(row.user_id, row.sealed).user_id,
            "subject": row.subject,
            "time_ms": row.time_ms,
            "key": row.key_name,
            "route": row.route,
        }
        for row in connection.execute(statement)
    ]


class LookLog(BackgroundLog[Look]):
    """Writes looks in the background, together, four times a second.

    Nobody waits for it. A crash loses the looks of the last quarter of a second.
    """

    def __init__(self, writer: Writer, every_s: float = 0.25, most: int = 20_000) -> None:
        self._digest_key = b""
        super().__init__(writer, every_s, most, "tailor-looks")

    def learn_key(self, connection: sa.Connection) -> None:
        """Read the key of the digests, so that no look has to."""
        self._digest_key = signing_secret(connection)

    def add(self, who: Caller, user_id: str, route: str) -> None:
        """Have it written that a key looks at a person."""
        subject = self._digest(who.tenant, user_id)
        if subject is not None:
            self._add(Look(who.tenant, user_id, subject, now_ms(), who.name, route))

    def add_digest(self, who: Caller, subject: str, route: str) -> None:
        """Have it written that a key looks at a receipt, which names its person by a digest."""
        self._add(Look(who.tenant, None, subject, now_ms(), who.name, route))

    def _add(self, look: Look) -> None:
        with self._lock:
            self._waiting.append(look)

    def _digest(self, tenant: str, user_id: str) -> str | None:
        """Return a person's digest, None where the store was never there to tell the key."""
        if not self._digest_key:
            try:
                with reading(self.writer.engine) as connection:
                    self.learn_key(connection)
            except UNAVAILABLE:
                self.lost += 1
                return None
        return subject_digest(self._digest_key, tenant, user_id)

    def forget(self, tenant: str, user_id: str) -> None:
        """Take a person's id out of the looks that are not written yet."""
        person = (tenant, user_id)
        with self._lock:
            self._waiting = [
                replace(look, user_id=None) if (look.tenant, look.user_id) == person else look
                for look in self._waiting
            ]

    def count_of(self, tenant: str, needle: str) -> int:
        """Count the tenant's looks that are not written yet and hold `needle`."""
        with self._lock:
            return sum(look.tenant == tenant and look.user_id == needle for look in self._waiting)

    def _put(self, looks: list[Look]) -> None:
        try:
            self.writer.do(lambda connection: write_looks(connection, looks))
        except AWAY:
            with self._lock:
                self._wait_again(looks)
        except Exception as error:  # of any kind: the next looks must be written
            self.lost += len(looks)
            log.error("looks cannot be written", extra={"error": type(error).__name__})
