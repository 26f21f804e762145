"""The database: SQLite in a file, or PostgreSQL by URL. What is committed is on the disk."""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from tailor.errors import MissingExtraError, StoreError
from tailor.store.encryption import Seal
from tailor.store.schema import PERSONAL

# the database cannot be reached, or cannot write now
UNAVAILABLE = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError)
UNUSABLE = (*UNAVAILABLE, sa.exc.DatabaseError)  # the same, or the file is no database
# connections that a worker keeps; twice as many while it is busy: a PostgreSQL as it comes gives a
# hundred to all
POOL = 8
WAIT_S = 5.0  # for another's write, and for a connection
# after which a machine that answers nothing is taken for gone, with all that was asked of it
GONE_S = 5
UNANSWERED_S = 1.0  # a connection that fails sooner was refused: the machine is there
# of an INSERT that returns something; each number of rows up to it is a statement that every
# connection keeps
ROWS = 16
CACHE_KB = 512  # of a connection and a file: the system keeps pages too, once for all


# without these the system waits a quarter of an hour for a machine whose cable was pulled
PROMPT = {
    "keepalives_idle": GONE_S,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": GONE_S * 1000,
}


class Outage:
    """Whether the database's machine is silent. While it is, one thread asks for it again and
    again, and nobody waits for that: who wants a connection is told at once.
    """

    def __init__(self) -> None:
        self._lasts, self._lock = False, threading.Lock()

    def connected(self, dialect: Any, record: Any, given: Any, named: Any) -> Any:
        """A connection. Raises what the driver raises."""
        if self._lasts:
            raise dialect.loaded_dbapi.OperationalError(
                "nobody answers at the address of the database"
            )
        began = time.monotonic()
        try:
            return dialect.connect(*given, **named)
        except dialect.loaded_dbapi.OperationalError:
            if time.monotonic() - began > UNANSWERED_S:
                self._begin(dialect, given, named)
            raise

    def _begin(self, dialect: Any, given: Any, named: Any) -> None:
        with self._lock:
            if not self._lasts:
                self._lasts = True
                threading.Thread(
                    target=self._ask,
                    args=(dialect, given, named),
                    name="tailor-outage",
                    daemon=True,
                ).start()

    def _ask(self, dialect: Any, given: Any, named: Any) -> None:
        while self._lasts:
            began = time.monotonic()
            try:
                dialect.connect(*given, **named).close()
            except dialect.loaded_dbapi.OperationalError:
                # else it refuses, and so is there
                self._lasts = time.monotonic() - began > UNANSWERED_S
                time.sleep(UNANSWERED_S)
            else:
                self._lasts = False


def pad_values(values: list[str]) -> list[str]:
    """The values of an IN list, the last repeated up to the next power of two: a connection keeps
    every statement that it prepared, and each length makes another.
    """
    return [*values, *values[-1:] * ((1 << max(len(values) - 1, 0).bit_length()) - len(values))]


def now_ms() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)


def connect(url: str, seal: Seal | None = None) -> sa.Engine:
    """An engine for `sqlite:///file.db`, a path, or `postgresql://user@host/name`. Nothing is
    opened yet. People's keys are read and written by `seal`; left out: that of the environment.

    SQLite: write-ahead log, every commit flushed (synchronous=FULL), deleted rows overwritten
    (secure_delete). Raises StoreError for another database.
    """
    engine = _engine(url)
    engine.update_execution_options(seal=seal or Seal.of_environment())
    return engine


def key_file(database: str) -> Path:
    """Where the keys of the people of a SQLite file stand: shop.db, shop.keys.db."""
    path = Path(database)
    return path.with_name(f"{path.stem}.keys{path.suffix}")


def _engine(url: str) -> sa.Engine:
    try:
        address = sa.make_url(url if "://" in url else f"sqlite:///{url}")
    except sa.exc.ArgumentError:
        raise StoreError(
            f'the database "{url}" is no address: write sqlite:///shop.db or'
            " postgresql://user@host/name"
        ) from None
    if address.drivername == "sqlite":
        return _sqlite(address)
    if address.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        try:
            engine = sa.create_engine(
                address.set(drivername="postgresql+psycopg"),
                pool_size=POOL,
                max_overflow=POOL,
                pool_timeout=WAIT_S,
                pool_pre_ping=True,
                hide_parameters=True,
                connect_args={"connect_timeout": 3, "application_name": "tailor", **PROMPT},
            )
        except ModuleNotFoundError:
            raise MissingExtraError(
                'PostgreSQL needs psycopg: pip install "tailor-engine[serve]"'
            ) from None
        sa.event.listen(engine, "do_connect", Outage().connected)
        return engine
    raise StoreError(f'the database "{address.drivername}" is not known: sqlite or postgresql')


def _sqlite(address: sa.URL) -> sa.Engine:
    if not address.database or address.database == ":memory:":
        raise StoreError(
            "a store in memory would be lost with the process: name a file, such as"
            " sqlite:///shop.db"
        )
    folder, beside = Path(address.database).parent, str(key_file(address.database))
    if not folder.is_dir():
        raise StoreError(f"the folder {folder} of the database is not there: make it first")
    engine = sa.create_engine(
        address,
        pool_size=8,
        max_overflow=24,
        pool_timeout=WAIT_S,
        hide_parameters=True,
        insertmanyvalues_page_size=ROWS,
        connect_args={"timeout": WAIT_S, "check_same_thread": False},
    )

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        # the driver begins no transactions by itself; `begin` below does
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {int(WAIT_S * 1000)}")
        connection.execute("PRAGMA foreign_keys = ON")
        # it is there, and must not be opened and closed (SQLite's locks would go), or cannot be
        # made, which the next line says
        with suppress(OSError):
            # else who may read the store may read people's keys
            os.close(os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        connection.execute(f"ATTACH DATABASE ? AS {PERSONAL}", (beside,))
        for file in ("main", PERSONAL):
            for setting in (
                "journal_mode = WAL",
                "synchronous = FULL",
                "secure_delete = ON",
                f"cache_size = -{CACHE_KB}",
            ):
                connection.execute(f"PRAGMA {file}.{setting}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        """A writer takes the lock at once: taken later, it could find that others had written since
        it read.
        """
        connection.exec_driver_sql(
            "BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN"
        )

    return engine


def insert_into(connection: sa.Connection, table: sa.Table) -> Any:
    """INSERT in the dialect that knows ON CONFLICT."""
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction, on the disk when the block ends well, undone when it does not."""
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        yield connection


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection whose reads all see one state."""
    with engine.connect() as connection:
        yield connection


class Lookup:
    """A statement that reads, asked of the driver itself and in no transaction: what many wait for
    a few rows of takes a third of the time. Sees one state, as every statement does.
    """

    def __init__(self, statement: sa.Select[Any]) -> None:
        self.statement = statement
        self._compiled: dict[str, Any] = {}  # by dialect

    def rows(self, engine: sa.Engine, **given: Any) -> list[tuple[Any, ...]]:
        """Its rows, with these values in the places of its parameters. Raises what the engine's
        connections raise.
        """
        dialect = engine.dialect
        compiled = self._compiled.get(dialect.name) or self._compiled.setdefault(
            dialect.name, self.statement.compile(dialect=dialect)
        )
        values: Any = {**compiled.params, **given}
        if compiled.positiontup is not None:
            values = tuple(values[name] for name in compiled.positiontup)
        dbapi, pooled = dialect.loaded_dbapi, None
        try:
            pooled = engine.raw_connection()
            own: Any = pooled.driver_connection
            if dialect.name == "postgresql":
                own.autocommit = True
            found = own.execute(str(compiled), values).fetchall()
            if dialect.name == "postgresql":
                own.autocommit = False
        except BaseException as error:
            if pooled is not None:
                pooled.invalidate(error)  # nobody else gets it as it is
            if not isinstance(error, dbapi.Error):
                raise
            raise sa.exc.DBAPIError.instance(
                None, None, error, dbapi.Error, hide_parameters=True, dialect=dialect
            ) from error
        finally:
            if pooled is not None:
                pooled.close()
        return list(found)


def overwrite_deleted(engine: sa.Engine) -> None:
    """What was deleted stands in SQLite's write-ahead logs until they are written anew: do that
    now, unless somebody reads from them for longer (the next commits do it then).
    """
    if engine.dialect.name != "sqlite":
        return
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 100")  # writers wait meanwhile
        try:
            for file in (PERSONAL, "main"):
                connection.exec_driver_sql(f"PRAGMA {file}.wal_checkpoint(TRUNCATE)")
        finally:
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(WAIT_S * 1000)}")


@contextmanager
def held(engine: sa.Engine) -> Iterator[None]:
    """A SQLite file belongs to one server at a time. Raises StoreError where another has it;
    PostgreSQL serves many.
    """
    if engine.dialect.name != "sqlite":
        yield
        return
    path = Path(f"{engine.url.database}.server")
    try:
        file = path.open("a+")
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written ({error.strerror}): the folder of the database must be"
            " writable"
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise StoreError(
                f"{engine.url.database} is being served already (process"
                f" {file.read().strip() or 'unknown'}): stop that server, or use PostgreSQL"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
