"""The key store: users' ids, tokens and keys, beside the store.

Only here can a token be tied to a user. A user whose entry is deleted has no rows any more, in any
copy of the store.

A user's first row makes the entry, in the same transaction. A writer locks the entry until its
commit, and an erasure waits for that: nothing is written under a token that is gone. The store and
the key store both count changes of entries. Where the counts differ, one of the two was restored
from another time, or a crash came between the commits of the two files.
"""

import secrets as random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from tailor.store.encryption import MASTER, MASTER_FILE, KeysError, Seal, Subject
from tailor.store.engine import OVERWRITE, insert_into, pad_values
from tailor.store.erased import erased_events, learn_erasures
from tailor.store.forgotten import (
    FORGETTINGS,
    delete_notes,
    delete_notes_of,
    forget_again,
    forgettings_differ,
)
from tailor.store.schema import (
    audit,
    events,
    impressions,
    marks,
    memories,
    observations,
    profiles,
    propositions,
    requests,
    secrets,
    subjects,
    support,
    user_attributes,
)
from tailor.store.signing import (
    digest_keys,
    event_digest,
    seal_of,
    secret,
    signing_names,
    subject_digest,
)

NOBODY = ""  # the entry whose key encrypts the words of callers without an id
BATCH = 512  # users of a statement
CHANGES, STORE, CHECK = "changes", "key store", "check"
SWEEP = "sweep"  # mark of a key store from which people were taken while no store was open
LOCK = "people's keys"  # advisory lock on PostgreSQL
TOKEN = (  # of a user; built once, since every answer needs it
    sa.select(subjects.c.token)
    .where(subjects.c.tenant == sa.bindparam("whose"), subjects.c.name == sa.bindparam("who"))
    .scalar_subquery()
)
MEMORY_TABLES = (profiles, propositions, support, observations)  # what is concluded first
USER_TABLES = (  # with a user's token in each row
    events,
    requests,
    user_attributes,
    *MEMORY_TABLES,
    memories,
)


def lock_keys(connection: sa.Connection) -> None:
    """Wait for the transactions that change entries; SQLite has a single writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(LOCK))))


def subject_of(
    connection: sa.Connection, tenant: str, user_id: str, for_erasure: bool = False
) -> Subject | None:
    """Return a user's subject, None for a user without rows.

    For an erasure the entry is locked: it waits for writers of the user and holds up new ones.
    """
    if for_erasure:
        reconcile(connection)
    seal = seal_of(connection)
    statement = sa.select(subjects).where(
        subjects.c.tenant == tenant, subjects.c.name == seal.name(tenant, user_id)
    )
    if for_erasure:
        statement = statement.with_for_update()
    row = connection.execute(statement).one_or_none()
    return None if row is None else seal.unwrap(row.token, row.sealed)


def subject_for_writing(connection: sa.Connection, tenant: str, user_id: str) -> Subject | None:
    """Return the subject of a user whose rows are written now, None for a user without an entry.

    None is made; the entry cannot be erased before the commit.
    """
    lock = connection.dialect.name != "sqlite"  # there is no other writer
    return _known_subjects(connection, tenant, {user_id}, lock).get(user_id)


def subjects_for(
    connection: sa.Connection, tenant: str, user_ids: Iterable[str]
) -> dict[str, Subject]:
    """Return the subjects of users whose rows are written now, making those that are missing.

    On PostgreSQL the lock of `reconcile` is taken before that of any entry, as an erasure does it:
    else the two could wait for each other.
    """
    ids = set(user_ids)
    while True:
        entries = _known_subjects(connection, tenant, ids, lock=False)
        missing = ids - set(entries)
        if missing:
            _add_entries(connection, tenant, missing)
            continue
        if connection.dialect.name == "sqlite":
            return entries  # there is no other writer
        locked = _known_subjects(connection, tenant, ids, lock=True)
        if ids <= set(locked):
            return locked  # else a user was erased in between


def _add_entries(connection: sa.Connection, tenant: str, user_ids: set[str]) -> None:
    reconcile(connection)
    insert = insert_into(connection, subjects).on_conflict_do_nothing(
        index_elements=["tenant", "name"]
    )
    entries = [new_entry(connection, tenant, user_id) for user_id in sorted(user_ids)]
    connection.execute(insert, entries)
    _count_change(connection)


def _known_subjects(
    connection: sa.Connection, tenant: str, user_ids: set[str], lock: bool
) -> dict[str, Subject]:
    """Return the subjects that have an entry; a locked entry cannot be erased before the commit."""
    seal = seal_of(connection)
    names = sorted(seal.name(tenant, user_id) for user_id in user_ids)
    by_user: dict[str, Subject] = {}
    for start in range(0, len(names), BATCH):
        statement = (
            sa.select(subjects.c.token, subjects.c.sealed)
            .where(
                subjects.c.tenant == tenant,
                subjects.c.name.in_(pad_values(names[start : start + BATCH])),
            )
            .order_by(subjects.c.name)
        )
        if lock:
            statement = statement.with_for_update(read=True, key_share=True)
        for row in connection.execute(statement):
            subject = seal.unwrap(row.token, row.sealed)
            by_user[subject.user_id] = subject
    return by_user


def new_entry(connection: sa.Connection, tenant: str, user_id: str) -> dict[str, Any]:
    """Return an entry for a new user."""
    seal = seal_of(connection)
    subject = Subject.new(user_id)
    return {
        "tenant": tenant,
        "name": seal.name(tenant, user_id),
        "token": subject.token,
        "sealed": seal.wrap(subject),
    }


def all_subjects(connection: sa.Connection, tenant: str) -> Iterator[Subject]:
    """Yield the subjects of a tenant, that of NOBODY too."""
    seal = seal_of(connection)
    statement = sa.select(subjects.c.token, subjects.c.sealed).where(subjects.c.tenant == tenant)
    for row in connection.execute(statement.execution_options(yield_per=10_000)):
        yield seal.unwrap(row.token, row.sealed)


def delete_subject(connection: sa.Connection, tenant: str, subject: Subject) -> None:
    """Delete a person's entry, and with it the key that opens the person's rows in any copy.

    `subject_of(..., for_erasure=True)` must come before.
    """
    connection.execute(
        sa.delete(subjects).where(subjects.c.tenant == tenant, subjects.c.token == subject.token)
    )
    delete_notes_of(connection, tenant, [subject.token])
    _count_change(connection)
    mark_deleted(connection)


def mark_deleted(connection: sa.Connection) -> None:
    """Note that something was deleted that SQLite's logs hold until they are written over."""
    if connection.dialect.name == "sqlite":
        _write_marks(connection, marks, {OVERWRITE: random.token_hex(8)})


def drop_entries(connection: sa.Connection, people: set[tuple[str, str]]) -> int:
    """Delete the entries of these people (tenant, digest of receipts) and return how many."""
    keys = digest_keys(connection)
    dropped = 0
    for tenant in {tenant for tenant, _ in people}:
        for subject in list(all_subjects(connection, tenant)):
            digests = {(tenant, subject_digest(key, tenant, subject.user_id)) for key in keys}
            if digests & people:
                is_entry = (subjects.c.tenant == tenant) & (subjects.c.token == subject.token)
                dropped += connection.execute(sa.delete(subjects).where(is_entry)).rowcount
    return dropped


def _delete_events_again(connection: sa.Connection) -> int:
    """Delete events that their people had deleted one by one and return how many."""
    digests = erased_events(connection)
    keys = digest_keys(connection)
    count = 0
    for tenant in {tenant for tenant, _ in digests}:
        for subject in list(all_subjects(connection, tenant)):
            names = [subject_digest(key, tenant, subject.user_id) for key in keys]
            erased_ids = frozenset().union(*(digests.get((tenant, name), ()) for name in names))
            if erased_ids:
                count += _delete_known_events(connection, tenant, subject, erased_ids, keys)
    return count


def _delete_known_events(
    connection: sa.Connection,
    tenant: str,
    subject: Subject,
    digests: frozenset[str],
    keys: Sequence[bytes],
) -> int:
    """Delete a user's events with these digests, made with one of `keys`; return how many."""
    statement = sa.select(events.c.number, events.c.event_id).where(
        events.c.tenant == tenant, events.c.user_id == subject.token
    )
    numbers = [
        row.number
        for row in connection.execute(statement)
        if any(event_digest(key, tenant, row.event_id) in digests for key in keys)
    ]
    for start in range(0, len(numbers), BATCH):
        is_known = events.c.number.in_(numbers[start : start + BATCH])
        connection.execute(sa.delete(events).where(is_known))
    return len(numbers)


def reconcile(connection: sa.Connection, at_any_price: bool = False) -> dict[str, int]:
    """Delete rows of unknown people if the store is out of sync; return how many, by table.

    What users had forgotten goes too. The store is older than its keys after a backup of it was
    restored (its people were erased since), or after a crash between the commits of the two files
    (no caller was told that those rows are stored). Raises KeysError where the key store is the
    older one, or another store's, unless `at_any_price`: people would be lost that way.
    """
    lock_keys(connection)
    if not is_out_of_sync(connection, at_any_price):
        return {}
    store_marks = _read_marks(connection, marks)
    key_marks = _read_marks(connection, secrets)
    if store_marks.get(STORE) == key_marks[STORE]:
        # erased by a transaction that reached the store only, or since the keys were copied
        drop_entries(connection, learn_erasures(connection))
    deleted = _delete_orphans(connection)
    delete_notes(connection)
    for name, count in forget_again(connection).items():
        deleted[name] += count
    deleted[events.name] += _delete_events_again(connection)
    connection.execute(sa.delete(secrets).where(secrets.c.name == SWEEP))
    mark_deleted(connection)
    counts = {
        name: max(int(store_marks.get(name, "0")), int(key_marks.get(name, "0"))) + 1
        for name in (CHANGES, FORGETTINGS)
    }
    values = {name: str(count) for name, count in counts.items()}
    for table in (marks, secrets):
        _write_marks(connection, table, {STORE: key_marks[STORE], **values})
    return deleted


def is_out_of_sync(connection: sa.Connection, at_any_price: bool = False) -> bool:
    """Return whether store and key store are of two moments. Raises KeysError as `reconcile`."""
    store_marks = _read_marks(connection, marks)
    key_marks = _read_marks(connection, secrets)
    if key_marks.get(CHECK) != seal_of(connection).check:
        raise KeysError(
            f"people's keys were put away under another master key: {MASTER} or {MASTER_FILE} must"
            " be what it was (`tailor store rekey` changes it)"
        )
    is_same_store = store_marks.get(STORE) == key_marks[STORE]
    has_equal_counts = (
        is_same_store
        and store_marks[CHANGES] == key_marks[CHANGES]
        and not forgettings_differ(store_marks, key_marks)
    )
    if has_equal_counts and SWEEP not in key_marks:
        return False
    keys_are_older = is_same_store and int(store_marks[CHANGES]) > int(key_marks[CHANGES]) + 1
    if not at_any_price and (not is_same_store or keys_are_older):
        raise KeysError(
            "the key store is another one, or older than the store: people in the store are not"
            " known there. Put the right one back (SQLite: NAME.keys.db beside NAME.db), or let"
            " their rows go with `tailor store sweep --lose-people`"
        )
    return True


def idle_tokens(connection: sa.Connection, after: str, most: int) -> list[str]:
    """Return up to `most` tokens past one, in order, of users without rows."""
    statement = (
        sa.select(subjects.c.token)
        .where(_is_idle(connection), subjects.c.token > after)
        .order_by(subjects.c.token)
        .limit(most)
    )
    return list(connection.execute(statement).scalars())


def delete_idle_subjects(connection: sa.Connection, tokens: list[str]) -> int:
    """Delete those of these entries whose users have no rows and return how many.

    Rows are looked for twice, the second time while the entries are locked.
    """
    reconcile(connection)
    is_idle = _is_idle(connection) & subjects.c.token.in_(tokens)
    entries = sa.select(subjects.c.tenant, subjects.c.token).where(is_idle).with_for_update()
    idle: dict[str, list[str]] = {}
    for row in connection.execute(entries):
        idle.setdefault(row.tenant, []).append(row.token)
    deleted = connection.execute(sa.delete(subjects).where(is_idle)).rowcount
    if deleted:
        for tenant, of_tenant in idle.items():
            delete_notes_of(connection, tenant, of_tenant)
            is_of_them = (audit.c.tenant == tenant) & audit.c.user_id.in_(of_tenant)
            _unname_looks(connection, is_of_them)
        _count_change(connection)
        mark_deleted(connection)
    return deleted


def _unname_looks(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> None:
    """Take the tokens out of looks at people whose entries are gone; digests stay."""
    connection.execute(sa.update(audit).where(condition).values(user_id=None))


def _is_idle(connection: sa.Connection) -> sa.ColumnElement[bool]:
    """Return the condition that an entry's user has no rows; NOBODY always has some."""
    seal = seal_of(connection)
    tenants = connection.execute(sa.select(subjects.c.tenant).distinct()).scalars()
    nobody_names = [seal.name(tenant, NOBODY) for tenant in tenants]
    has_rows = [
        sa.exists().where(table.c.tenant == subjects.c.tenant, table.c.user_id == subjects.c.token)
        for table in USER_TABLES
    ]
    return sa.and_(~sa.or_(*has_rows), subjects.c.name.not_in(nobody_names))


def count_orphans(connection: sa.Connection) -> dict[str, int]:
    """Count the rows whose user has no entry, by table."""
    counts = {}
    for table in USER_TABLES:
        statement = sa.select(sa.func.count()).select_from(table).where(_is_orphan(table))
        counts[table.name] = int(connection.execute(statement).scalar_one())
    return counts


def _delete_orphans(connection: sa.Connection) -> dict[str, int]:
    _unname_looks(connection, _is_orphan(audit))
    lists = sa.select(requests.c.tenant, requests.c.request_id).where(_is_orphan(requests))
    connection.execute(
        sa.delete(impressions).where(
            sa.tuple_(impressions.c.tenant, impressions.c.request_id).in_(lists)
        )
    )
    return {
        table.name: connection.execute(sa.delete(table).where(_is_orphan(table))).rowcount
        for table in USER_TABLES
    }


def _is_orphan(table: sa.Table) -> sa.ColumnElement[bool]:
    has_entry = sa.exists().where(
        subjects.c.tenant == table.c.tenant, subjects.c.token == table.c.user_id
    )
    return table.c.user_id.is_not(None) & ~has_entry


def _read_marks(connection: sa.Connection, table: sa.Table) -> dict[str, str]:
    return {row.name: row.value for row in connection.execute(sa.select(table))}


def _write_marks(connection: sa.Connection, table: sa.Table, values: dict[str, str]) -> None:
    insert = insert_into(connection, table)
    upsert = insert.on_conflict_do_update(
        index_elements=["name"], set_={"value": insert.excluded.value}
    )
    connection.execute(upsert, [{"name": name, "value": value} for name, value in values.items()])


def _count_change(connection: sa.Connection) -> None:
    """Count a change of entries in both stores, which `reconcile` has made equal before."""
    count = str(int(_read_marks(connection, secrets)[CHANGES]) + 1)
    for table in (marks, secrets):
        connection.execute(sa.update(table).where(table.c.name == CHANGES).values(value=count))


def rekey(connection: sa.Connection, new_seal: Seal) -> int:
    """Encrypt all ids and keys under another master key and return how many.

    No server may run meanwhile.
    """
    reconcile(connection)
    old_seal = seal_of(connection)
    own_secrets = {name: secret(connection, name) for name in signing_names(connection)}
    rows = connection.execute(
        sa.select(subjects.c.tenant, subjects.c.name, subjects.c.token, subjects.c.sealed)
    ).all()
    changes = []
    for row in rows:
        subject = old_seal.unwrap(row.token, row.sealed)
        changes.append(
            {
                "whose": row.tenant,
                "old_name": row.name,
                "name": new_seal.name(row.tenant, subject.user_id),
                "sealed": new_seal.wrap(subject),
            }
        )
    if changes:
        statement = sa.update(subjects).where(
            subjects.c.tenant == sa.bindparam("whose"),
            subjects.c.name == sa.bindparam("old_name"),
        )
        connection.execute(statement, changes)
    new_secrets = {CHECK: new_seal.check}
    for name, value in own_secrets.items():
        new_secrets[name] = new_seal.encrypt(value or b"", name).hex()
    _write_marks(connection, secrets, new_secrets)
    mark_deleted(connection)
    return len(changes)
