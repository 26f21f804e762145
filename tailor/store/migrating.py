"""Migrations: from one shape of the tables to the next.

A database of a newer Tailor is refused.
"""

import fcntl
import os
import secrets as random
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from tailor.errors import StoreError
from tailor.store.engine import SERVED, address_of, insert_into, reading, writing
from tailor.store.erased import learn_erasures
from tailor.store.schema import PERSONAL, erased, personal, secrets, subjects
from tailor.store.signing import SIGNING, seal_of, signing_secret, store_secret
from tailor.store.subjects import (
    BATCH,
    CHANGES,
    CHECK,
    NOBODY,
    STORE,
    lock_keys,
    new_entry,
    reconcile,
)

SCRIPTS = Path(__file__).parent / "migrations"
MIGRATION = "tailor migration"  # advisory lock on PostgreSQL
WITH_USER_IDS = ("0001", "0002")  # revisions whose tables hold users' ids
# those that know who was erased by their receipts alone
WITH_RECEIPTS_ALONE = (*WITH_USER_IDS, "0003", "0004", "0005", "0006", "0007")
SELECT_USERS = (
    "SELECT tenant, user_id FROM events UNION SELECT tenant, user_id FROM requests UNION SELECT"
    " tenant, user_id FROM people"
)


@contextmanager
def alone(engine: sa.Engine) -> Iterator[None]:
    """Wait for every other process that changes tables, and hold up those that come.

    PostgreSQL: an advisory lock of a connection of its own. SQLite: a lock of the file's folder,
    which leaves nothing behind. Both go with the process.
    """
    if engine.dialect.name == "sqlite":
        folder = Path(engine.url.database or "").absolute().parent
        with _open_folder(folder) as number:
            with suppress(OSError):  # a network disk without locks
                fcntl.flock(number, fcntl.LOCK_EX)
            yield
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.detach()  # closed at the end, and the lock with it
        connection.execute(sa.select(sa.func.pg_advisory_lock(sa.func.hashtext(MIGRATION))))
        yield


@contextmanager
def _open_folder(folder: Path) -> Iterator[int]:
    """Open a folder to lock it. Yields the number of the open file."""
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise StoreError(
            f"the folder of the database cannot be read ({error.strerror}): let this user read it"
        ) from None
    try:
        yield number
    finally:
        os.close(number)


def migrate(engine: sa.Engine) -> dict[str, int]:
    """Bring the tables to this version's shape, all or nothing; others who do so are waited for.

    Then the store is reconciled with its keys; returns the rows deleted by that, by table. Raises
    StoreError for tables of a newer version, and for PostgreSQL tables of an older one that a
    server is using.
    """
    with alone(engine):
        return _upgrade_and_reconcile(engine)


def _upgrade_and_reconcile(engine: sa.Engine) -> dict[str, int]:
    upgrade(engine)
    with writing(engine) as connection:
        return reconcile(connection)


def upgrade(engine: sa.Engine) -> None:
    """Bring the tables to this version's shape, whether or not the keys fit; be `alone` for it."""
    config = _config()
    check_version(engine)
    before = revision(engine)
    with _without_servers(engine):
        prepare(engine)
        with writing(engine) as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        if before in WITH_USER_IDS and engine.dialect.name == "sqlite":
            _rewrite(engine)


def _rewrite(engine: sa.Engine) -> None:
    """Write a file of SQLite anew, without what lies between rows.

    Pages that were split keep copies of rows in their gaps, which secure_delete leaves there.
    """
    with closing(engine.raw_connection()) as connection:  # outside of any transaction
        connection.cursor().execute("VACUUM")


@contextmanager
def _without_servers(engine: sa.Engine) -> Iterator[None]:
    """Keep servers of PostgreSQL away while older tables change; on SQLite `held` does it.

    Raises StoreError where one runs.
    """
    if engine.dialect.name == "sqlite" or revision(engine) in (None, newest()):
        yield
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.detach()
        lock = sa.func.pg_try_advisory_lock(sa.func.hashtext(SERVED))
        if not connection.execute(sa.select(lock)).scalar_one():
            raise StoreError(
                f"a server is using {address_of(engine)}, whose tables are of an older version:"
                " stop every server first"
            )
        yield


def make_if_empty(engine: sa.Engine) -> None:
    """Make the tables where there are none. Raises StoreError for those of another version."""
    with alone(engine):
        if revision(engine) is None:
            _upgrade_and_reconcile(engine)
    require_current(engine)


def require_current(engine: sa.Engine) -> None:
    """Raise StoreError unless store and key store have this version's tables."""
    require_tables(engine)
    with reading(engine) as connection:
        if not sa.inspect(connection).has_table(secrets.name, schema=PERSONAL):
            raise StoreError(
                f"the key store of {address_of(engine)} is not there: put it back (SQLite:"
                " NAME.keys.db beside NAME.db; PostgreSQL: the schema personal)"
            )


def require_tables(engine: sa.Engine) -> None:
    """Raise StoreError unless the tables are those of this version, with the command to run."""
    check_version(engine)
    current = revision(engine)
    address = address_of(engine)
    if current is None:
        raise StoreError(
            f"{address} has no tables yet: `tailor serve` or `tailor store migrate` makes them"
        )
    if current != newest():
        raise StoreError(
            f"{address} is of an older version (revision {current}, now {newest()}): stop every"
            " server, then run `tailor store migrate`"
        )


def prepare(engine: sa.Engine) -> None:
    """Make the key store where there is none, with the users of a store that has their ids.

    It is on the disk before the store itself changes: a crash in between loses nobody.
    """
    current = revision(engine)
    with writing(engine) as connection:
        lock_keys(connection)
        if connection.dialect.name == "postgresql":
            connection.execute(sa.schema.CreateSchema(PERSONAL, if_not_exists=True))
        is_new = not sa.inspect(connection).has_table(erased.name, schema=PERSONAL)
        personal.create_all(connection)
        first = {STORE: random.token_hex(16), CHANGES: "1", CHECK: seal_of(connection).check}
        insert = insert_into(connection, secrets).on_conflict_do_nothing()
        connection.execute(
            insert, [{"name": name, "value": value} for name, value in first.items()]
        )
        if current in WITH_USER_IDS:
            _add_all_users(connection)
        if current in WITH_RECEIPTS_ALONE or (is_new and current is not None):
            learn_erasures(connection)
        # made now, so that copies of the key store have it: who is erased is known by it
        statement = sa.select(secrets.c.value).where(secrets.c.name == CHECK)
        if connection.execute(statement).scalar_one() == seal_of(connection).check:
            signing_secret(connection)


def _add_all_users(connection: sa.Connection) -> None:
    """Enter the users of an older store, and the key that it signed receipts with."""
    insert = insert_into(connection, subjects).on_conflict_do_nothing(
        index_elements=["tenant", "name"]
    )
    rows = connection.execute(sa.text(SELECT_USERS)).all()
    for start in range(0, len(rows), BATCH):
        entries = [
            new_entry(connection, tenant, user_id or NOBODY)
            for tenant, user_id in rows[start : start + BATCH]
        ]
        connection.execute(insert, entries)
    statement = sa.text("SELECT value FROM secrets WHERE name = 'signing'")
    signing = connection.execute(statement).scalar_one_or_none()
    if signing is not None:
        store_secret(connection, SIGNING, bytes.fromhex(signing))


def revision(engine: sa.Engine) -> str | None:
    """Return the revision of the tables, None for an empty database.

    Raises StoreError for tables of several revisions.
    """
    with reading(engine) as connection:
        revisions = MigrationContext.configure(connection).get_current_heads()
    if len(revisions) > 1:
        raise StoreError(
            f"the database says that it is at several revisions ({', '.join(sorted(revisions))}):"
            " its table alembic_version was changed by hand; put a copy back: `tailor store restore"
            " COPY`"
        )
    return revisions[0] if revisions else None


def newest() -> str:
    """Return the revision of this version's tables."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def check_version(engine: sa.Engine) -> None:
    """Raise StoreError for tables of an unknown revision."""
    current = revision(engine)
    scripts = ScriptDirectory.from_config(_config()).walk_revisions()
    if current is not None and current not in {script.revision for script in scripts}:
        raise StoreError(
            f"the database is at revision {current}, which this version of Tailor does not know:"
            " install the newer Tailor that wrote it"
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config
