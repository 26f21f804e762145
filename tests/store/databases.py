"""An empty store on SQLite and, in the slow tests, on a PostgreSQL that is started for them."""

import glob
import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tailor.store.engine import connect
from tailor.store.migrating import migrate


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a server of its own, on a socket in a folder of its own."""
    bins = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not bins or "postgres" not in {one.pw_name for one in pwd.getpwall()} or os.getuid():
        pytest.skip("PostgreSQL is not installed, or this is not root: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="tailor-pg-"))
    shutil.chown(folder, "postgres")
    as_user = ["runuser", "-u", "postgres", "--"]
    try:
        subprocess.run(
            [*as_user, f"{bins[-1]}/initdb", "-D", f"{folder}/data", "-A", "trust", "-E", "UTF8"], check=True, capture_output=True
        )
        start = [
            *as_user,
            f"{bins[-1]}/pg_ctl",
            "-D",
            f"{folder}/data",
            "-w",
            "-o",
            f"-k {folder} -c listen_addresses=''",
            "-l",
            f"{folder}/log",
            "start",
        ]
        subprocess.run(start, check=True, capture_output=True)
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        subprocess.run(
            [*as_user, f"{bins[-1]}/pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "stop"], check=False, capture_output=True
        )
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of a database that is empty but for its tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.db'}"
        return
    server, name = request.getfixturevalue("postgres"), f"t{uuid.uuid4().hex}"
    engine = connect(server)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    yield server.replace("/postgres?", f"/{name}?")


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    made = connect(url)
    migrate(made)
    yield made
    made.dispose()
