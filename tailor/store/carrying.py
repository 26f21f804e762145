"""Carry over who was erased from a key store that an older copy replaces (SQLite).

The copy is changed before it takes its place: a crash in between leaves the files as they were.
"""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from tailor.store.encryption import KeysError, Seal
from tailor.store.erased import NEVER, Erasure, merged
from tailor.store.signing import FORMER, SIGNING, subject_digest
from tailor.store.subjects import CHANGES, CHECK, STORE, SWEEP

Person = tuple[str, str]  # tenant, digest
Known = dict[Person, Erasure]
MAKE_TABLE = (
    "CREATE TABLE IF NOT EXISTS erased (tenant TEXT NOT NULL, subject TEXT NOT NULL, time_ms BIGINT"
    " NOT NULL, last_ms BIGINT, event_ids JSON NOT NULL, CONSTRAINT pk_erased PRIMARY KEY (tenant,"
    " subject))"
)
MAKE_NOTES = (
    "CREATE TABLE IF NOT EXISTS forgotten (tenant TEXT NOT NULL, user_id TEXT NOT NULL, name TEXT"
    " NOT NULL, CONSTRAINT pk_forgotten PRIMARY KEY (tenant, user_id, name))"
)
MAKE_LINKS = (
    "CREATE TABLE IF NOT EXISTS links (tenant TEXT NOT NULL, user_id TEXT NOT NULL, ended BIGINT"
    " NOT NULL, CONSTRAINT pk_links PRIMARY KEY (tenant, user_id))"
)
WRITE_LINKS = (
    "INSERT INTO links (tenant, user_id, ended) SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM"
    " subjects WHERE token = ?2) ON CONFLICT (tenant, user_id) DO UPDATE SET ended ="
    " max(ended, excluded.ended)"
)
WRITE_NOTE = (
    "INSERT INTO forgotten (tenant, user_id, name) SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM"
    " subjects WHERE token = ?2) ON CONFLICT DO NOTHING"
)
WRITE = (
    "INSERT INTO erased (tenant, subject, time_ms, last_ms, event_ids) VALUES (?, ?, ?, ?, ?) ON"
    " CONFLICT (tenant, subject) DO UPDATE SET time_ms = excluded.time_ms, last_ms ="
    " excluded.last_ms, event_ids = excluded.event_ids"
)
DUE_SWEEP = "INSERT OR REPLACE INTO secrets VALUES (?, 'due')"
READ_RECEIPTS = "SELECT tenant, subject, max(time_ms) FROM erasures GROUP BY tenant, subject"


class Replaced(NamedTuple):
    """Content of the files that a restore replaces."""

    erasures: Known
    secrets: dict[str, str]
    """Rows of the key store's table; empty where that cannot be read."""
    forgotten: tuple[tuple[str, str, str], ...] = ()
    """Tenant, token and name of each observation that was forgotten."""
    links: tuple[tuple[str, str, int], ...] = ()
    """Tenant and token of each person whose links were ended, and how often."""


class Carried(NamedTuple):
    """Outcome of carrying over."""

    people: int
    """Whose erasure the copy did not know."""
    entries: int
    """Of these people, which were in the copy and are deleted."""
    is_complete: bool
    """False where the replaced key store, or a key of it, could not be read."""


def read_replaced(keys_file: Path, store_file: Path) -> Replaced:
    """Read who was erased from a key store and from its store's receipts, as far as they open."""
    erasures: Known = {}
    secrets: dict[str, str] = {}
    rows = _rows(keys_file, "SELECT name, value FROM secrets")
    secrets = dict(rows or [])
    for person, erasure in _erased(keys_file).items():
        erasures[person] = erasure
    for person, erasure in _receipts(store_file).items():
        erasures[person] = merged(erasures.get(person), erasure)
    notes = _rows(keys_file, "SELECT tenant, user_id, name FROM forgotten") or []
    links = _rows(keys_file, "SELECT tenant, user_id, ended FROM links") or []
    return Replaced(erasures, secrets, tuple(notes), tuple(links))


def _receipts(store_file: Path) -> Known:
    """Return who was erased by the receipts of a store, as far as it opens."""
    rows = _rows(store_file, READ_RECEIPTS) or []
    return {(tenant, subject): Erasure(time_ms) for tenant, subject, time_ms in rows}


def _is_no_older(keys_copy: Path, store_copy: Path) -> bool:
    """Return whether a key store's copy is no older than the store's copy.

    False also where the latter has no receipts that can be read.
    """
    if _rows(store_copy, READ_RECEIPTS) is None:
        return False
    secrets = dict(_rows(keys_copy, "SELECT name, value FROM secrets") or [])
    marks = dict(_rows(store_copy, "SELECT name, value FROM marks") or [])
    if STORE not in secrets or secrets[STORE] != marks.get(STORE):
        return False
    return int(marks.get(CHANGES, "0")) <= int(secrets.get(CHANGES, "0"))


def _erased(keys_file: Path) -> Known:
    columns = "SELECT tenant, subject, time_ms, last_ms, event_ids FROM erased"
    return {
        (tenant, subject): Erasure(time_ms, last_ms, frozenset(json.loads(event_ids)))
        for tenant, subject, time_ms, last_ms, event_ids in _rows(keys_file, columns) or []
    }


def _rows(file: Path, statement: str) -> list[tuple[Any, ...]] | None:
    """Return the rows of a statement, None where the file or the table cannot be read."""
    if not file.is_file():
        return None
    try:
        with closing(sqlite3.connect(file)) as connection:
            return connection.execute(statement).fetchall()
    except sqlite3.Error:
        return None


def carry_over(replaced: Replaced, copy: Path, store_copy: Path, seal: Seal) -> Carried:
    """Enter who was erased since into a copy of the key store, without their keys.

    A copy of an earlier version does not say who was erased before it was made, and may have come
    back. The receipts of the store's copy, which is put back beside it, say so.
    """
    before = _erased(copy)
    knew_erasures = _rows(copy, "SELECT 1 FROM erased LIMIT 1") is not None
    if not knew_erasures and _is_no_older(copy, store_copy):
        knew_erasures = True
        before = _receipts(store_copy)
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute(MAKE_TABLE)
        has_keys = _carry_keys(connection, replaced.secrets, seal)
        new = {
            person: erasure
            for person, erasure in replaced.erasures.items()
            if erasure.time_ms > (before[person].time_ms if person in before else NEVER)
        }
        for (tenant, subject), erasure in replaced.erasures.items():
            together = merged(before.get((tenant, subject)), erasure)
            event_ids = json.dumps(sorted(together.event_ids))
            row = (tenant, subject, together.time_ms, together.last_ms, event_ids)
            connection.execute(WRITE, row)
        dropped = _drop_entries(connection, set(new), seal) if knew_erasures and new else 0
        _carry_notes(connection, replaced.forgotten)
        _carry_links(connection, replaced.links)
        if any(
            erasure.event_ids - (before[person].event_ids if person in before else frozenset())
            for person, erasure in replaced.erasures.items()
        ):
            connection.execute(DUE_SWEEP, (SWEEP,))
    # where nothing says who came back after an erasure, all stay
    is_complete = has_keys and dropped is not None and (knew_erasures or not new)
    return Carried(len(new), dropped or 0, is_complete)


def _carry_keys(connection: sqlite3.Connection, replaced: dict[str, str], seal: Seal) -> bool:
    """Add the keys of the digests that are carried over; return False where they do not open."""
    copy_secrets = dict(connection.execute("SELECT name, value FROM secrets").fetchall())
    if SIGNING not in replaced:
        return False
    if replaced.get(CHECK) != seal.check or copy_secrets.get(CHECK) != seal.check:
        # under another master key; the key of one store never changes
        return replaced.get(STORE) == copy_secrets.get(STORE) and SIGNING in copy_secrets
    own_keys = {
        seal.decrypt(bytes.fromhex(copy_secrets[name]), name) for name in _signing(copy_secrets)
    }
    for name in _signing(replaced):
        key = seal.decrypt(bytes.fromhex(replaced[name]), name)
        if key in own_keys:
            continue
        new_name = SIGNING if SIGNING not in copy_secrets else f"{FORMER}{len(copy_secrets)}"
        copy_secrets[new_name] = seal.encrypt(key, new_name).hex()
        connection.execute("INSERT INTO secrets VALUES (?, ?)", (new_name, copy_secrets[new_name]))
    return True


def _carry_notes(connection: sqlite3.Connection, notes: tuple[tuple[str, str, str], ...]) -> None:
    """Enter what was forgotten since; rows of it in the store go with the next start."""
    connection.execute(MAKE_NOTES)
    before = connection.total_changes
    connection.executemany(WRITE_NOTE, notes)
    if connection.total_changes > before:
        connection.execute(DUE_SWEEP, (SWEEP,))


def _carry_links(connection: sqlite3.Connection, links: tuple[tuple[str, str, int], ...]) -> None:
    """Enter whose links were ended since: they stay so."""
    connection.execute(MAKE_LINKS)
    connection.executemany(WRITE_LINKS, links)


def _signing(secrets: dict[str, str]) -> list[str]:
    return sorted(name for name in secrets if name == SIGNING or name.startswith(FORMER))


def _drop_entries(connection: sqlite3.Connection, people: set[Person], seal: Seal) -> int | None:
    """Delete the entries of people who were erased since; return None where they do not open."""
    rows = dict(connection.execute("SELECT name, value FROM secrets").fetchall())
    entries = connection.execute("SELECT tenant, token, sealed FROM subjects").fetchall()
    try:
        keys = [seal.decrypt(bytes.fromhex(rows[name]), name) for name in _signing(rows)]
        tokens = [
            token
            for tenant, token, sealed in entries
            for user_id in [seal.unwrap(token, sealed).user_id]
            if any((tenant, subject_digest(key, tenant, user_id)) in people for key in keys)
        ]
    except KeysError:
        return None
    connection.executemany("DELETE FROM subjects WHERE token = ?", [(token,) for token in tokens])
    if tokens:  # their rows in the store go with the next start
        connection.execute(DUE_SWEEP, (SWEEP,))
    return len(tokens)
