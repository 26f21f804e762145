"""The database: SQLite in a file, or PostgreSQL by URL. A committed write is on the disk."""

import fcntl
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from tailor.errors import MissingExtraError, StoreError
from tailor.store.encryption import Seal
from tailor.store.outages import outages_of
from tailor.store.schema import PERSONAL, erasures, forgettings, marks

# the database cannot be reached, or cannot write now
UNAVAILABLE = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError)
UNUSABLE = (*UNAVAILABLE, sa.exc.DatabaseError)  # the same, or the file is no database
# connections that a worker keeps; twice as many while it is busy, of the hundred that PostgreSQL
# has for all by default
POOL = 8
WAIT_S = 5.0  # for another writer, and for a connection
TCP_TIMEOUT_S = 5  # after which a silent machine counts as gone
SILENT_S = 1.0  # a connection that fails sooner was refused: the machine is there
# page size of INSERT ... RETURNING; a connection keeps a prepared statement for each number of rows
INSERT_PAGE = 16
SERVED = "tailor server"  # advisory lock on PostgreSQL, which all servers share
SECRET_OPTIONS = ("password", "sslpassword", "passfile", "service")  # of a PostgreSQL address
OVERWRITE = "overwrite due"  # mark: SQLite's logs may hold what was deleted
OVERWRITE_MS = 50  # for which the overwriting of logs waits for readers, and writers for it
CACHE_KB = 512  # of a connection and a file: the system keeps pages too, for all connections


# without these the system waits a quarter of an hour for a machine whose cable was pulled
KEEPALIVES = {
    "keepalives_idle": TCP_TIMEOUT_S,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": TCP_TIMEOUT_S * 1000,
}


class Outage:
    """Remembers that the database's machine is silent.

    While it is, one thread tries again and again, and every other connection fails at once instead
    of waiting.
    """

    def __init__(self) -> None:
        self._is_on = False
        self._lock = threading.Lock()

    def connect(self, dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
        """Return a connection. Raises what the driver raises."""
        if self._is_on:
            raise dialect.loaded_dbapi.OperationalError(
                "nobody answers at the address of the database"
            )
        began_s = time.monotonic()
        try:
            return dialect.connect(*arguments, **options)
        except dialect.loaded_dbapi.OperationalError:
            if time.monotonic() - began_s > SILENT_S:
                self._begin(dialect, arguments, options)
            raise

    def _begin(self, dialect: Any, arguments: Any, options: Any) -> None:
        with self._lock:
            if self._is_on:
                return
            self._is_on = True
            threading.Thread(
                target=self._retry,
                args=(dialect, arguments, options),
                name="tailor-outage",
                daemon=True,
            ).start()

    def _retry(self, dialect: Any, arguments: Any, options: Any) -> None:
        while self._is_on:
            began_s = time.monotonic()
            try:
                dialect.connect(*arguments, **options).close()
            except dialect.loaded_dbapi.OperationalError:
                # a machine that refuses at once is there
                self._is_on = time.monotonic() - began_s > SILENT_S
                time.sleep(SILENT_S)
            else:
                self._is_on = False


def pad_values(values: list[str]) -> list[str]:
    """Repeat the last value of an IN list up to the next power of two.

    A connection keeps every statement that it prepared, and each length is another statement.
    """
    length = 1 << max(len(values) - 1, 0).bit_length()
    return [*values, *values[-1:] * (length - len(values))]


def now_ms() -> int:
    """Return the time in milliseconds since 1970."""
    return int(time.time() * 1000)


def connect(url: str, seal: Seal | None = None) -> sa.Engine:
    """Return an engine for `sqlite:///file.db`, a path, or `postgresql://user@host/name`.

    Nothing is opened yet. Users' keys are read and written with `seal`, by default that of the
    environment. SQLite runs with a write-ahead log, flushes every commit (synchronous=FULL) and
    overwrites deleted rows (secure_delete). Raises StoreError for another database.
    """
    engine = _engine(url)
    engine.update_execution_options(seal=seal or Seal.of_environment())
    return engine


def address_of(engine: sa.Engine) -> str:
    """Return the address of a database without passwords, for messages."""
    url = engine.url
    if url.get_backend_name() == "sqlite":
        return url.database or ""
    return (
        url.set(drivername="postgresql")
        .difference_update_query(SECRET_OPTIONS)
        .render_as_string(hide_password=True)
    )


def first_line(error: Exception) -> str:
    """Return the driver's message as one line, without the statement and its values."""
    lines = str(getattr(error, "orig", None) or error).split("\n")
    return "; ".join(line.strip() for line in lines if line.strip()) or type(error).__name__


def find_damage(engine: sa.Engine) -> str:
    """Return what SQLite finds wrong in the files, all of which it reads; empty where nothing."""
    if engine.dialect.name != "sqlite":
        return ""
    try:
        with reading(engine) as connection:
            result = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one())
    except sa.exc.DatabaseError as error:
        if not is_damage(error):
            raise
        return first_line(error)
    return "" if result == "ok" else result.splitlines()[-1]


def is_damage(error: BaseException) -> bool:
    """Return whether SQLite says that a file is damaged, or no database."""
    code = getattr(getattr(error, "orig", error), "sqlite_errorcode", None) or 0
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def key_file(database: str) -> Path:
    """Return the path of the key store of a SQLite file: shop.db, shop.keys.db."""
    path = Path(database)
    return path.with_name(f"{path.stem}.keys{path.suffix}")


UNREADABLE = (
    "the address of the database cannot be read (it is not shown, as it may hold a password). Write"
    " a file's path, sqlite:///shop.db or postgresql://user:password@host/name. The characters"
    " @ : / % of a password are written %40 %3A %2F %25"
)
MISTYPED = re.compile(r".*:.*@", re.DOTALL)  # more an address than a file's path


def _engine(url: str) -> sa.Engine:
    address = _address(url)
    if address.drivername == "sqlite":
        return _sqlite_engine(address)
    if address.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return _postgresql_engine(address)
    raise StoreError(f'the database "{address.drivername}" is not known: sqlite or postgresql')


def _address(url: str) -> sa.URL:
    """Return the parts of an address. Raises StoreError, which shows no part of it."""
    is_path = "://" not in url
    if is_path and MISTYPED.match(url):
        raise StoreError(UNREADABLE)
    try:
        address = sa.make_url(f"sqlite:///{url}" if is_path else url)
    except (sa.exc.ArgumentError, ValueError):
        raise StoreError(UNREADABLE) from None
    if address.drivername == "sqlite":
        if address.host:
            raise StoreError("write three slashes before the file of a database: sqlite:///shop.db")
        return address
    # a password with an unescaped @ or / runs into the next parts; driver's messages quote those
    next_parts = f"{address.host or ''}{address.database or ''}"
    if address.username is not None and "@" in next_parts:
        raise StoreError(UNREADABLE)
    if "\ufffd" in str(address.password or ""):  # % and two digits that are no UTF-8
        raise StoreError(UNREADABLE)
    return address


def _postgresql_engine(address: sa.URL) -> sa.Engine:
    try:
        engine = sa.create_engine(
            address.set(drivername="postgresql+psycopg"),
            pool_size=POOL,
            max_overflow=POOL,
            pool_timeout=WAIT_S,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={"connect_timeout": 3, "application_name": "tailor", **KEEPALIVES},
        )
    except ModuleNotFoundError:
        raise MissingExtraError(
            'PostgreSQL needs psycopg: pip install "tailor-engine[serve]"'
        ) from None
    sa.event.listen(engine, "do_connect", Outage().connect)
    return engine


def _sqlite_engine(address: sa.URL) -> sa.Engine:
    if not address.database or address.database == ":memory:":
        raise StoreError(
            "a store in memory would be lost with the process: name a file, such as"
            " sqlite:///shop.db"
        )
    folder = Path(address.database).parent
    files = _Files(address.database)
    if not folder.is_dir():
        raise StoreError(f"the folder {folder} of the database is not there: make it first")
    engine = sa.create_engine(
        address,
        pool_size=8,
        max_overflow=24,
        pool_timeout=WAIT_S,
        hide_parameters=True,
        insertmanyvalues_page_size=INSERT_PAGE,
        connect_args={"timeout": WAIT_S, "check_same_thread": False},
    )

    sa.event.listen(engine, "do_connect", files.require)
    sa.event.listen(engine, "connect", files.prepare)
    sa.event.listen(engine, "checkout", files.compare)
    sa.event.listen(engine, "handle_error", _call_damage_an_outage, retval=True)

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # a writer takes the lock at once: later, others could have written since it read
        is_writer = connection.get_execution_options().get("writes")
        # savepoints keep what they may put back, which is deleted rows: not in a file
        store = "MEMORY" if is_writer else "FILE"
        driver: Any = connection.connection.driver_connection
        driver.execute(f"PRAGMA temp_store = {store}")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")

    return engine


class _Files:
    """Notices that the files of a SQLite store were taken away or replaced.

    The system keeps a deleted file for those who have it open: what they would write into it then
    is lost with the process.
    """

    def __init__(self, database: str) -> None:
        self._store = database
        self._keys = str(key_file(database))
        self._was_there = False

    def require(self, dialect: Any, *_: Any) -> None:
        """Raise the driver's error where a file was there before and is not now."""
        if not self._was_there:
            return
        for path, name in ((self._store, "the database"), (self._keys, "the key store")):
            if not os.path.exists(path):
                raise dialect.loaded_dbapi.OperationalError(f"the file of {name} is gone")

    def prepare(self, connection: Any, record: Any) -> None:
        """Set a new connection up, and remember the files that it opened."""
        _prepare_sqlite(connection, self._keys)
        record.info["files"] = self._identity()
        self._was_there = True

    def compare(self, _: Any, record: Any, __: Any) -> None:
        """Have a connection closed and opened anew where its files are not those there now."""
        if record.info.get("files") != self._identity():
            raise sa.exc.DisconnectionError("the files of the database were replaced")

    def _identity(self) -> tuple[tuple[int, int], ...]:
        """Return device and number of both files; empty where one is not there."""
        try:
            stats = [os.stat(path) for path in (self._store, self._keys)]
        except OSError:
            return ()
        return tuple((stat.st_dev, stat.st_ino) for stat in stats)


def _call_damage_an_outage(context: Any) -> BaseException | None:
    """Replace the error of a damaged SQLite file by one that callers know: ask again later."""
    original = context.original_exception
    return as_outage(original) if is_damage(original) else None


def as_outage(error: BaseException) -> sa.exc.OperationalError:
    """Return a driver's error as that of a database that cannot be used now."""
    return sa.exc.OperationalError("", None, error, hide_parameters=True)


def _prepare_sqlite(connection: Any, keys_path: str) -> None:
    # the driver begins no transactions by itself; `begin` does
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {int(WAIT_S * 1000)}")
    connection.execute("PRAGMA foreign_keys = ON")
    # of a damaged file ATTACH says other words
    connection.execute("SELECT 1 FROM main.sqlite_schema LIMIT 1")
    # a file that is there must not be opened and closed here, since that would drop SQLite's
    # locks; one that cannot be made is reported by the next statement
    with suppress(OSError):
        # readable for its owner only, unlike the store
        os.close(os.open(keys_path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    connection.execute(f"ATTACH DATABASE ? AS {PERSONAL}", (keys_path,))
    settings = (
        "journal_mode = WAL",
        "synchronous = FULL",
        "secure_delete = ON",
        f"cache_size = -{CACHE_KB}",
    )
    for file in ("main", PERSONAL):
        for setting in settings:
            connection.execute(f"PRAGMA {file}.{setting}")


def insert_into(connection: sa.Connection, table: sa.Table) -> Any:
    """Return an INSERT of the connection's dialect, which knows ON CONFLICT."""
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Open a transaction: on the disk when the block ends, undone when it raises."""
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        yield connection


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Open a connection whose reads all see one state; a server notes where that fails."""
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":  # each statement would see another state
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection
    except UNAVAILABLE as error:
        _note_read(engine, error)
        raise
    _note_read(engine)


def _note_read(engine: sa.Engine, error: Exception | None = None) -> None:
    """Note where a server watches for outages that a read failed, or that it did not."""
    outages = outages_of(engine)
    if outages is None:
        return
    if error is None:
        outages.note_success("read")
    else:
        outages.note_failure("read", first_line(error))


class Lookup:
    """A SELECT that goes to the driver directly, outside any transaction.

    For a few rows that every answer waits for this takes a third of the time. Like every statement
    it sees one state.
    """

    def __init__(self, statement: sa.Select[Any]) -> None:
        self.statement = statement
        self._compiled: dict[str, Any] = {}  # by dialect

    def rows(self, engine: sa.Engine, **parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows for these parameters. Raises what the engine's connections raise."""
        try:
            rows = self._rows(engine, parameters)
        except UNAVAILABLE as error:
            _note_read(engine, error)
            raise
        _note_read(engine)
        return rows

    def _rows(self, engine: sa.Engine, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        dialect = engine.dialect
        compiled = self._compiled.get(dialect.name)
        if compiled is None:
            compiled = self.statement.compile(dialect=dialect)
            self._compiled[dialect.name] = compiled
        values: Any = {**compiled.params, **parameters}
        if compiled.positiontup is not None:
            values = tuple(values[name] for name in compiled.positiontup)
        dbapi = dialect.loaded_dbapi
        pooled = None
        try:
            pooled = engine.raw_connection()
            driver: Any = pooled.driver_connection
            if dialect.name == "postgresql":
                driver.autocommit = True
            rows = driver.execute(str(compiled), values).fetchall()
            if dialect.name == "postgresql":
                driver.autocommit = False
        except BaseException as error:
            if pooled is not None:
                pooled.invalidate(error)  # nobody else gets it in this state
            if not isinstance(error, dbapi.Error):
                raise
            if is_damage(error):
                raise as_outage(error) from error
            raise sa.exc.DBAPIError.instance(
                None, None, error, dbapi.Error, hide_parameters=True, dialect=dialect
            ) from error
        finally:
            if pooled is not None:
                pooled.close()
        return list(rows)


DUE = Lookup(sa.select(marks.c.value).where(marks.c.name == OVERWRITE))


def is_overwriting_due(engine: sa.Engine) -> bool:
    """Return whether SQLite's logs may still hold what was deleted."""
    return bool(DUE.rows(engine))


def overwrite_deleted(engine: sa.Engine) -> bool:
    """Write over SQLite's write-ahead logs, which still hold deleted rows, and note it in receipts.

    Returns False where a reader is in the way, whose snapshot needs them: try again later. Writers
    wait for OVERWRITE_MS at most. What is deleted meanwhile is due anew.
    """
    if engine.dialect.name != "sqlite":
        return True
    with reading(engine) as connection:
        due = connection.execute(DUE.statement).scalar_one_or_none()
        pending = {} if due is None else _not_overwritten(connection)
    if not _truncate_logs(engine):
        return False
    if due is not None:
        with writing(engine) as connection:
            for table, receipt_ids in pending.items():
                for receipt_id in receipt_ids:
                    is_receipt = table.c.receipt_id == receipt_id
                    connection.execute(sa.update(table).where(is_receipt).values(overwritten=True))
            is_mark = (marks.c.name == OVERWRITE) & (marks.c.value == due)
            connection.execute(sa.delete(marks).where(is_mark))
    return True


def _not_overwritten(connection: sa.Connection) -> dict[sa.Table, list[str]]:
    """Return the receipts, by table, that say that logs still hold what was deleted."""
    receipts = {}
    for table in (erasures, forgettings):
        statement = sa.select(table.c.receipt_id).where(table.c.overwritten.is_(False))
        receipts[table] = list(connection.execute(statement).scalars())
    return receipts


def _truncate_logs(engine: sa.Engine) -> bool:
    with engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {OVERWRITE_MS}")
        try:
            return all([_truncate_log(connection, file) for file in (PERSONAL, "main")])
        finally:
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(WAIT_S * 1000)}")


def _truncate_log(connection: sa.Connection, file: str) -> bool:
    """Empty a write-ahead log; most of it goes into the file before writers have to wait."""
    connection.exec_driver_sql(f"PRAGMA {file}.wal_checkpoint(PASSIVE)")
    truncation = connection.exec_driver_sql(f"PRAGMA {file}.wal_checkpoint(TRUNCATE)")
    return int(truncation.one()[0]) == 0


@contextmanager
def held(engine: sa.Engine) -> Iterator[None]:
    """Hold a SQLite file for one server.

    Its workers hold it too (`service.parent.hold_file`), so that it stays held while one is left.
    Raises StoreError where another server holds it. PostgreSQL serves many, which hold a lock
    together, so that no migration changes tables beside them.
    """
    if engine.dialect.name != "sqlite":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.detach()  # closed at the end, and the lock with it
            lock = sa.func.pg_advisory_lock_shared(sa.func.hashtext(SERVED))
            connection.execute(sa.select(lock))
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
        fcntl.flock(file, fcntl.LOCK_SH)  # workers may share it; the next server needs it alone
        yield
