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
from tailor.store.events import Stamp, latest_events
from tailor.store.migrating import migrate

# rows of a memory, and looks, in receipts of a person without any
NO_MEMORY = dict.fromkeys(
    ("profiles", "propositions", "support", "observations", "memories", "audit"), 0
)


class Cluster:
    """A PostgreSQL server of its own, on a socket in a folder of its own."""

    def __init__(self) -> None:
        bins = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
        if not bins or "postgres" not in {one.pw_name for one in pwd.getpwall()} or os.getuid():
            pytest.skip(
                "PostgreSQL is not installed, or this is not root: apt-get install postgresql"
            )
        self.bin, self.folder = bins[-1], Path(tempfile.mkdtemp(prefix="tailor-pg-"))
        shutil.chown(self.folder, "postgres")
        self._run("initdb", "-D", f"{self.folder}/data", "-A", "trust", "-E", "UTF8")
        self.url = f"postgresql://postgres@/postgres?host={self.folder}"
        self.start()

    def start(self) -> None:
        self._run(
            "pg_ctl",
            "-D",
            f"{self.folder}/data",
            "-w",
            "-o",
            f"-k {self.folder} -c listen_addresses=''",
            "-l",
            f"{self.folder}/log",
            "start",
        )

    def stop(self) -> None:
        """As a crash would."""
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-m", "immediate", "stop")

    def _run(self, program: str, *words: str) -> None:
        subprocess.run(
            ["runuser", "-u", "postgres", "--", f"{self.bin}/{program}", *words],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a cluster that all tests share."""
    cluster = Cluster()
    yield cluster.url
    cluster.stop()
    shutil.rmtree(cluster.folder, ignore_errors=True)


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


def latest(
    engine: sa.Engine, tenant: str, user_id: str, most: int = 200
) -> tuple[Stamp, str | None, list[tuple[str, int]]]:
    """The moment, the user's token, and item ids and times of the user's latest events."""
    stamp, token, events = latest_events(engine, tenant, user_id, most)
    return stamp, token, [(event.item_id, event.time_ms) for event in events]
