"""From one shape of the tables to the next. A database of a newer Tailor is refused, not guessed
at.
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
from tailor.store.schema import PERSONAL, personal, secrets, subjects
from tailor.store.subjects import (
    BATCH,
    CHANGES,
    CHECK,
    NOBODY,
    SIGNING,
    STORE,
    entry,
    reconcile,
    seal_of,
    store_secret,
)

SCRIPTS = Path(__file__).parent / "migrations"
BY_NAME = ("0001", "0002")  # revisions whose tables hold people's ids
NAMED = (
    "SELECT tenant, user_id FROM events UNION SELECT tenant, user_id FROM requests UNION SELECT"
    " tenant, user_id FROM people"
)


def migrate(engine: sa.Engine) -> dict[str, int]:
    """Bring the tables to this version's shape, all or nothing; data stays. Then see to it that
    store and key store belong together: how many rows went, by table (`subjects.reconcile`).
    """
    config = _config()
    check_version(engine)
    prepare(engine)
    with writing(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    with writing(engine) as connection:
        return reconcile(connection)


def prepare(engine: sa.Engine) -> None:
    """Make the key store where there is none, and enter those whom an older store knows by their
    ids. It is on the disk before the store itself changes: killed in between, nobody is lost.
    """
    at = revision(engine)
    with writing(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(
                sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext("people's keys")))
            )
            connection.execute(sa.schema.CreateSchema(PERSONAL, if_not_exists=True))
        personal.create_all(connection)
        first = {STORE: random.token_hex(16), CHANGES: "1", CHECK: seal_of(connection).check}
        insert = insert_into(connection, secrets).on_conflict_do_nothing()
        connection.execute(
            insert, [{"name": name, "value": value} for name, value in first.items()]
        )
        if at in BY_NAME:
            _enter_all(connection)


def _enter_all(connection: sa.Connection) -> None:
    """All people of an older store, and the key that it signed receipts with."""
    insert = insert_into(connection, subjects).on_conflict_do_nothing(
        index_elements=["tenant", "name"]
    )
    found = connection.execute(sa.text(NAMED)).all()
    for start in range(0, len(found), BATCH):
        connection.execute(
            insert,
            [
                entry(connection, tenant, user_id or NOBODY)
                for tenant, user_id in found[start : start + BATCH]
            ],
        )
    signing = connection.execute(
        sa.text("SELECT value FROM secrets WHERE name = 'signing'")
    ).scalar_one_or_none()
    if signing is not None:
        store_secret(connection, SIGNING, bytes.fromhex(signing))


def revision(engine: sa.Engine) -> str | None:
    """Where the tables stand; None for an empty database."""
    with reading(engine) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def newest() -> str:
    """Where tables of this version stand."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def check_version(engine: sa.Engine) -> None:
    """Raises StoreError for tables of a version that is not known here."""
    found, known = (
        revision(engine),
        {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()},
    )
    if found is not None and found not in known:
        raise StoreError(
            f"the database is at revision {found}, which this version of Tailor does not know:"
            " install the newer Tailor that wrote it"
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config
