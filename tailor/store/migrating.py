"""Migrations: from one shape of the tables to the next.

A database of a newer Tailor is refused.
"""

import secrets as random
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from tailor.errors import StoreError
from tailor.store.engine import insert_into, reading, writing
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
WITH_USER_IDS = ("0001", "0002")  # revisions whose tables hold users' ids
# those that know who was erased by their receipts alone
WITH_RECEIPTS_ALONE = (*WITH_USER_IDS, "0003", "0004", "0005", "0006", "0007")
SELECT_USERS = (
    "SELECT tenant, user_id FROM events UNION SELECT tenant, user_id FROM requests UNION SELECT"
    " tenant, user_id FROM people"
)


def migrate(engine: sa.Engine) -> dict[str, int]:
    """Bring the tables to this version's shape, all or nothing.

    Then the store is reconciled with its keys; returns the rows deleted by that, by table.
    """
    upgrade(engine)
    with writing(engine) as connection:
        return reconcile(connection)


def upgrade(engine: sa.Engine) -> None:
    """Bring the tables to this version's shape, whether or not the keys fit the store."""
    config = _config()
    check_version(engine)
    prepare(engine)
    with writing(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


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
    """Return the revision of the tables, None for an empty database."""
    with reading(engine) as connection:
        return MigrationContext.configure(connection).get_current_revision()


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
