"""People's keys, beside the store: whose a row is, known here alone. Who is taken out here has no
rows any more, in any copy of the store.

A person's first row makes the entry, in the same transaction. Whoever writes holds the entry until
the commit, and erasure waits for that: nothing is written under a token that is gone. Both sides
count their changes: where they differ, one of them was restored from another time, or a crash came
between two files.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa

from tailor.store.encryption import MASTER, MASTER_FILE, KeysError, Seal, Subject
from tailor.store.engine import insert_into, pad_values
from tailor.store.schema import events, impressions, marks, people, requests, secrets, subjects

NOBODY = ""  # whose key closes the words of those without an id
BATCH = 512  # people a statement
CHANGES, STORE, CHECK, SIGNING = "changes", "key store", "check", "signing"
TOKEN = (  # of a person; built once: it is asked for every answer
    sa.select(subjects.c.token)
    .where(subjects.c.tenant == sa.bindparam("whose"), subjects.c.name == sa.bindparam("who"))
    .scalar_subquery()
)
THEIRS = (events, requests, people)  # tables whose rows are a person's


def seal_of(connection: sa.Connection) -> Seal:
    seal: Seal = connection.get_execution_options()["seal"]
    return seal


def subject_of(
    connection: sa.Connection, tenant: str, user_id: str, for_erasure: bool = False
) -> Subject | None:
    """A person; None for one of whom nothing is stored. For erasure: waits for whoever writes of
    the person, and holds up whoever wants to.
    """
    if for_erasure:
        reconcile(connection)
    seal = seal_of(connection)
    wanted = sa.select(subjects).where(
        subjects.c.tenant == tenant, subjects.c.name == seal.name(tenant, user_id)
    )
    row = connection.execute(wanted.with_for_update() if for_erasure else wanted).one_or_none()
    return None if row is None else seal.unwrap(row.token, row.sealed)


def subjects_for(
    connection: sa.Connection, tenant: str, user_ids: Iterable[str]
) -> dict[str, Subject]:
    """Of each id the person, for rows that are written now; who is not known yet is entered.

    On PostgreSQL the lock of `reconcile` comes before any person's, as it does in an erasure: else the
    two could wait for each other.
    """
    wanted = set(user_ids)
    while True:
        found = _found(connection, tenant, wanted, held=False)
        if missing := wanted - set(found):
            _enter(connection, tenant, missing)
            continue
        if connection.dialect.name == "sqlite":
            return found  # nobody else writes now
        found = _found(connection, tenant, wanted, held=True)
        if wanted <= set(found):
            return found  # else somebody was erased in between


def _enter(connection: sa.Connection, tenant: str, user_ids: set[str]) -> None:
    reconcile(connection)
    insert = insert_into(connection, subjects).on_conflict_do_nothing(
        index_elements=["tenant", "name"]
    )
    connection.execute(insert, [entry(connection, tenant, one) for one in sorted(user_ids)])
    _count_up(connection)


def _found(
    connection: sa.Connection, tenant: str, user_ids: set[str], held: bool
) -> dict[str, Subject]:
    """Those who are known; held: nobody erases them before the commit."""
    seal, found = seal_of(connection), dict[str, Subject]()
    names = sorted(seal.name(tenant, one) for one in user_ids)
    for start in range(0, len(names), BATCH):
        here = (
            subjects.c.tenant == tenant,
            subjects.c.name.in_(pad_values(names[start : start + BATCH])),
        )
        wanted = (
            sa.select(subjects.c.token, subjects.c.sealed).where(*here).order_by(subjects.c.name)
        )
        for row in connection.execute(
            wanted.with_for_update(read=True, key_share=True) if held else wanted
        ):
            one = seal.unwrap(row.token, row.sealed)
            found[one.user_id] = one
    return found


def entry(connection: sa.Connection, tenant: str, user_id: str) -> dict[str, Any]:
    """A row for somebody new."""
    seal, new = seal_of(connection), Subject.new(user_id)
    return {
        "tenant": tenant,
        "name": seal.name(tenant, user_id),
        "token": new.token,
        "sealed": seal.wrap(new),
    }


def all_subjects(connection: sa.Connection, tenant: str) -> Iterator[Subject]:
    """All people of a tenant, and nobody."""
    seal = seal_of(connection)
    wanted = sa.select(subjects.c.token, subjects.c.sealed).where(subjects.c.tenant == tenant)
    for row in connection.execute(wanted.execution_options(yield_per=10_000)):
        yield seal.unwrap(row.token, row.sealed)


def delete_subject(connection: sa.Connection, tenant: str, subject: Subject) -> None:
    """The entry goes, and with it the key: what copies of the store hold of the person names nobody
    and opens no more. `subject_of` for erasure came before.
    """
    connection.execute(
        sa.delete(subjects).where(subjects.c.tenant == tenant, subjects.c.token == subject.token)
    )
    _count_up(connection)


def reconcile(connection: sa.Connection, at_any_price: bool = False) -> dict[str, int]:
    """Where store and key store are not of one moment, rows of people whom the key store does not
    know are deleted; how many, by table.

    So it is after an older backup of the store was put back (the people were erased since), and
    after a crash between the commits of the two files (nobody was told that those rows are kept).
    Raises KeysError where it is the key store that is older, or another store's, unless
    `at_any_price`: people would be lost that way.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(
            sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext("people's keys")))
        )
    if not is_out_of_sync(connection, at_any_price):
        return {}
    here, there = _marks(connection, marks), _marks(connection, secrets)
    gone = _sweep(connection)
    together = {
        STORE: there[STORE],
        CHANGES: str(max(int(here.get(CHANGES, "0")), int(there[CHANGES])) + 1),
    }
    for table in (marks, secrets):
        _mark(connection, table, together)
    return gone


def is_out_of_sync(connection: sa.Connection, at_any_price: bool = False) -> bool:
    """Whether store and key store are of two moments. Raises KeysError as `reconcile` does."""
    here, there = _marks(connection, marks), _marks(connection, secrets)
    if there.get(CHECK) != seal_of(connection).check:
        raise KeysError(
            f"people's keys were put away under another master key: {MASTER} or {MASTER_FILE} must"
            " be what it was (`tailor store rekey` changes it)"
        )
    if here.get(STORE) == there[STORE] and here[CHANGES] == there[CHANGES]:
        return False
    if not at_any_price and (
        here.get(STORE) != there[STORE] or int(here[CHANGES]) > int(there[CHANGES]) + 1
    ):
        raise KeysError(
            "the key store is another one, or older than the store: people in the store are not"
            " known there. Put the right one back (SQLite: NAME.keys.db beside NAME.db), or let"
            " their rows go with `tailor store sweep --lose-people`"
        )
    return True


def delete_idle_subjects(connection: sa.Connection, most: int = 5_000) -> int:
    """Take out people of whom nothing is stored any more, so many at most; how many. Looked at
    twice: once held, nobody writes of them.
    """
    reconcile(connection)
    seal = seal_of(connection)
    nobodies = [
        seal.name(tenant, NOBODY)
        for tenant in connection.execute(sa.select(subjects.c.tenant).distinct()).scalars()
    ]
    rows = [
        sa.exists().where(table.c.tenant == subjects.c.tenant, table.c.user_id == subjects.c.token)
        for table in THEIRS
    ]
    idle = (~sa.or_(*rows), subjects.c.name.not_in(nobodies))
    found = list(
        connection.execute(
            sa.select(subjects.c.token).where(*idle).limit(most).with_for_update()
        ).scalars()
    )
    gone = (
        connection.execute(sa.delete(subjects).where(subjects.c.token.in_(found), *idle)).rowcount
        if found
        else 0
    )
    if gone:
        _count_up(connection)
    return gone


def count_orphans(connection: sa.Connection) -> dict[str, int]:
    """How many rows belong to people whom the key store does not know, by table."""
    wanted = {
        table.name: sa.select(sa.func.count()).select_from(table).where(_unknown(table))
        for table in THEIRS
    }
    return {name: int(connection.execute(one).scalar_one()) for name, one in wanted.items()}


def _sweep(connection: sa.Connection) -> dict[str, int]:
    lists = sa.select(requests.c.tenant, requests.c.request_id).where(_unknown(requests))
    connection.execute(
        sa.delete(impressions).where(
            sa.tuple_(impressions.c.tenant, impressions.c.request_id).in_(lists)
        )
    )
    return {
        table.name: connection.execute(sa.delete(table).where(_unknown(table))).rowcount
        for table in THEIRS
    }


def _unknown(table: sa.Table) -> sa.ColumnElement[bool]:
    known = sa.exists().where(
        subjects.c.tenant == table.c.tenant, subjects.c.token == table.c.user_id
    )
    return table.c.user_id.is_not(None) & ~known


def _marks(connection: sa.Connection, table: sa.Table) -> dict[str, str]:
    return {row.name: row.value for row in connection.execute(sa.select(table))}


def _mark(connection: sa.Connection, table: sa.Table, values: dict[str, str]) -> None:
    insert = insert_into(connection, table)
    upsert = insert.on_conflict_do_update(
        index_elements=["name"], set_={"value": insert.excluded.value}
    )
    connection.execute(upsert, [{"name": name, "value": value} for name, value in values.items()])


def _count_up(connection: sa.Connection) -> None:
    """In both, in one transaction. They agree: `reconcile` came before."""
    count = str(int(_marks(connection, secrets)[CHANGES]) + 1)
    for table in (marks, secrets):
        connection.execute(sa.update(table).where(table.c.name == CHANGES).values(value=count))


def secret(connection: sa.Connection, name: str) -> bytes | None:
    """What the key store keeps under a name besides people."""
    kept = connection.execute(
        sa.select(secrets.c.value).where(secrets.c.name == name)
    ).scalar_one_or_none()
    return None if kept is None else seal_of(connection).decrypt(bytes.fromhex(kept), name)


def store_secret(connection: sa.Connection, name: str, value: bytes) -> None:
    """Keep it, unless something is kept there already."""
    sealed = seal_of(connection).encrypt(value, name).hex()
    connection.execute(
        insert_into(connection, secrets).values(name=name, value=sealed).on_conflict_do_nothing()
    )


def rekey(connection: sa.Connection, new: Seal) -> int:
    """Put all ids and keys away under another master key; how many. No server may run meanwhile."""
    reconcile(connection)
    old, signing = seal_of(connection), secret(connection, SIGNING)
    rows = connection.execute(
        sa.select(subjects.c.tenant, subjects.c.name, subjects.c.token, subjects.c.sealed)
    ).all()
    changed = []
    for row in rows:
        one = old.unwrap(row.token, row.sealed)
        changed.append(
            {
                "whose": row.tenant,
                "was": row.name,
                "name": new.name(row.tenant, one.user_id),
                "sealed": new.wrap(one),
            }
        )
    if changed:
        mine = (subjects.c.tenant == sa.bindparam("whose"), subjects.c.name == sa.bindparam("was"))
        connection.execute(sa.update(subjects).where(*mine), changed)
    kept = {CHECK: new.check} | (
        {} if signing is None else {SIGNING: new.encrypt(signing, SIGNING).hex()}
    )
    _mark(connection, secrets, kept)
    return len(changed)
