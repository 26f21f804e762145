"""From one shape of the tables to the next. A database of a newer Tailor is refused, not guessed at."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from tailor.errors import StoreError
from tailor.store.engine import reading, writing

SCRIPTS = Path(__file__).parent / "migrations"


def migrate(engine: sa.Engine) -> str:
    """Bring the tables to this version's shape, all or nothing; the revision they are at then. Data stays."""
    config = _config()
    check_version(engine)
    with writing(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return revision(engine) or ""


def revision(engine: sa.Engine) -> str | None:
    """Where the tables stand; None for an empty database."""
    with reading(engine) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def check_version(engine: sa.Engine) -> None:
    """Raises StoreError for tables of a version that is not known here."""
    found, known = revision(engine), {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if found is not None and found not in known:
        raise StoreError(
            f"the database is at revision {found}, which this version of Tailor does not know: install the newer Tailor that wrote it"
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config
