"""A cache on disk, by content and maker, so that nothing is computed twice."""

import contextlib
import hashlib
import os
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from tailor.errors import ModelError
from tailor.ports.base import Port
from tailor.ports.configuration import cache_folder

T = TypeVar("T")
FILE, TURN = "cache.sqlite", "turn.sqlite"
WAIT_S = 600.0  # for another process that is writing, or computing
CHECK_BYTES = 8  # of checksum before every value
TABLE = (
    "CREATE TABLE IF NOT EXISTS made (content BLOB, maker BLOB, value BLOB, PRIMARY KEY (content,"
    " maker)) WITHOUT ROWID"
)
SETTINGS = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL", "PRAGMA secure_delete=ON")
# connections of this thread, by process and file: a fork must not use its parent's
_open = threading.local()


@dataclass(frozen=True)
class Cache:
    """Values in one SQLite file of `folder`, by content and maker.

    Several threads and processes may share it. A write that is cut off leaves nothing; a damaged
    file, or a damaged value, counts as absent. Contents are kept as hashes only; `forget`
    overwrites the values of a content, whoever computed them.
    """

    folder: Path

    def get(self, maker: str, contents: Sequence[str]) -> list[bytes | None]:
        """Return the value of each content by this maker, None where there is none."""
        keys = [_hash(content) for content in contents]
        return self._run(lambda file: [_checked(file, key, _hash(maker)) for key in keys])

    def put(self, maker: str, contents: Sequence[str], values: Sequence[bytes]) -> None:
        """Store values of contents, all or nothing; earlier values are replaced."""
        rows = [
            (_hash(content), _hash(maker), _checksum(value) + value)
            for content, value in zip(contents, values, strict=True)
        ]
        command = "INSERT OR REPLACE INTO made VALUES (?, ?, ?)"
        self._run(lambda file: _all_or_nothing(file, command, rows))

    def look_up(
        self,
        maker: str,
        contents: Sequence[str],
        compute: Callable[[list[str]], Sequence[bytes | None]],
    ) -> list[bytes | None]:
        """Return the value of each content, computing what is missing.

        `compute` is called once with the distinct contents that have no value. A value of None,
        for a content that has no answer, is returned and not stored.
        """
        distinct = list(dict.fromkeys(contents))
        values = dict(zip(distinct, self.get(maker, distinct), strict=True))
        missing = [content for content, value in values.items() if value is None]
        if missing:
            computed = dict(zip(missing, compute(missing), strict=True))
            stored = {content: value for content, value in computed.items() if value is not None}
            self.put(maker, list(stored), list(stored.values()))
            values |= computed
        return [values[content] for content in contents]

    def make(
        self, maker: str, contents: Sequence[str], work: Callable[[list[str]], Sequence[bytes]]
    ) -> list[bytes]:
        """Return the value of each content; nobody else computes in this cache meanwhile.

        What is missing is looked up again once the turn has come, so that no two processes or
        threads compute the same.
        """
        values = self.get(maker, contents)
        if None in values:
            with self._turn():
                values = self.look_up(maker, contents, work)
        return [value for value in values if value is not None]

    def forget(self, contents: Sequence[str]) -> int:
        """Overwrite all values of these contents, whoever computed them; return their number."""
        rows = [(_hash(content),) for content in set(contents)]
        command = "DELETE FROM made WHERE content = ?"
        count = self._run(lambda file: _all_or_nothing(file, command, rows))
        self._empty_log()
        return count

    def clear(self) -> None:
        """Forget everything."""
        command = "DELETE FROM made WHERE ?"
        self._run(lambda file: _all_or_nothing(file, command, [(True,)]))
        self._empty_log()

    def _empty_log(self) -> None:
        """Overwrite the log of writes, which holds the pages as they were."""
        self._run(lambda file: file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())

    def __len__(self) -> int:
        count = "SELECT count(*) FROM made"
        return self._run(lambda file: int(file.execute(count).fetchone()[0]))

    def holds(self, needle: bytes) -> bool:
        """Return whether a stored value contains these bytes: the check after an erasure."""
        query = "SELECT 1 FROM made WHERE instr(value, ?) > 0 LIMIT 1"
        return self._run(lambda file: file.execute(query, (needle,)).fetchone() is not None)

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return work(self._connection(FILE))
        except sqlite3.OperationalError as error:
            if "malformed" not in str(error) and "no such table" not in str(error):
                raise ModelError(
                    f"the cache {self.folder / FILE} cannot be used: {error}; free the disk, or"
                    " name another folder"
                ) from error
        # damaged: nothing in it can be trusted, and all of it can be computed again
        except sqlite3.DatabaseError:
            pass
        self._remove()
        return work(self._connection(FILE))

    def _connection(self, name: str) -> sqlite3.Connection:
        path = self.folder / name
        connections: dict[tuple[int, Path], tuple[sqlite3.Connection, int]]
        connections = _open.__dict__.setdefault("files", {})
        key = (os.getpid(), path)
        if key in connections:
            connection, inode = connections[key]
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == inode:
                    return connection
            connection.close()  # another process replaced a damaged file
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)
        except (OSError, sqlite3.OperationalError) as error:
            raise ModelError(
                f"the cache folder {self.folder} cannot be used: {error}; name another one"
            ) from error
        if name == FILE:
            _prepare(connection)
        connections[key] = (connection, path.stat().st_ino)
        return connection

    def _remove(self, name: str = FILE) -> None:
        connections = _open.__dict__.setdefault("files", {})
        opened = connections.pop((os.getpid(), self.folder / name), None)
        if opened is not None:
            opened[0].close()
        for ending in ("", "-wal", "-shm"):
            (self.folder / f"{name}{ending}").unlink(missing_ok=True)

    def _take_turn(self) -> sqlite3.Connection:
        """Return the connection that holds the turn."""
        for _ in range(2):
            connection = self._connection(TURN)
            try:
                connection.execute("BEGIN EXCLUSIVE")
                return connection
            except sqlite3.OperationalError as error:
                raise ModelError(
                    f"the cache {self.folder} is held by another process, or cannot be written"
                    f" ({error}): wait for it, or name another folder"
                ) from error
            except sqlite3.DatabaseError:  # damaged; the file holds nothing
                self._remove(TURN)
        raise ModelError(f"{self.folder / TURN} is damaged again and again: name another folder")

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Let one thread at a time compute; a killed process frees the turn."""
        connection = self._take_turn()
        try:
            yield
        finally:
            connection.execute("ROLLBACK")


class MemoryCache:
    """Values in memory only, for texts that must not reach a disk; the latest used are kept.

    Several threads may share it. Contents are kept as hashes only. Two threads that miss the same
    value both compute it.
    """

    def __init__(self, most_bytes: int) -> None:
        """Keep values of up to `most_bytes` in all."""
        self.most_bytes = most_bytes
        self._values: OrderedDict[tuple[bytes, bytes], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def look_up(
        self,
        maker: str,
        contents: Sequence[str],
        compute: Callable[[list[str]], Sequence[bytes | None]],
    ) -> list[bytes | None]:
        """Return the value of each content, computing what is missing, as `Cache.look_up` does."""
        keys = {content: (_hash(maker), _hash(content)) for content in contents}
        with self._lock:
            values = {content: self._get(key) for content, key in keys.items()}
        missing = [content for content, value in values.items() if value is None]
        if missing:
            computed = dict(zip(missing, compute(missing), strict=True))
            with self._lock:
                for content, value in computed.items():
                    if value is not None:
                        self._put(keys[content], value)
            values |= computed
        return [values[content] for content in contents]

    def make(
        self, maker: str, contents: Sequence[str], work: Callable[[list[str]], Sequence[bytes]]
    ) -> list[bytes]:
        """Return the value of each content, computing what is missing."""
        return [value for value in self.look_up(maker, contents, work) if value is not None]

    def forget(self, contents: Sequence[str]) -> int:
        """Drop all values of these contents, whoever computed them; return their number."""
        hashes = {_hash(content) for content in contents}
        with self._lock:
            keys = [key for key in self._values if key[1] in hashes]
            for key in keys:
                self._bytes -= len(self._values.pop(key))
        return len(keys)

    def clear(self) -> int:
        """Drop everything; return the number of values."""
        with self._lock:
            count = len(self._values)
            self._values.clear()
            self._bytes = 0
        return count

    def _get(self, key: tuple[bytes, bytes]) -> bytes | None:
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def _put(self, key: tuple[bytes, bytes], value: bytes) -> None:
        self._bytes += len(value) - len(self._values.pop(key, b""))
        self._values[key] = value
        while self._bytes > self.most_bytes:
            self._bytes -= len(self._values.popitem(last=False)[1])


_memory: ContextVar[MemoryCache | None] = ContextVar("tailor_memory_cache", default=None)


@contextlib.contextmanager
def in_memory_only(cache: MemoryCache) -> Iterator[None]:
    """Let cached adapters keep values in `cache`, and nothing on the disk, within this block.

    It holds for this thread.
    """
    token = _memory.set(cache)
    try:
        yield
    finally:
        _memory.reset(token)


class CachedPort:
    """The part that cached adapters share: where the cache is, and whose values it holds.

    A class that inherits it is a frozen dataclass with the settings `inner` and `folder`.
    """

    default_folder: ClassVar[str]
    """Folder of the cache within the user's, where no `folder` is named."""

    if TYPE_CHECKING:  # settings, which the dataclass declares in its own order

        @property
        def inner(self) -> Port: ...

        @property
        def folder(self) -> str | None: ...

    @property
    def fingerprint(self) -> str:
        """The inner port's fingerprint: the cache answers for it."""
        return self.inner.fingerprint

    @property
    def cache(self) -> Cache | MemoryCache:
        """The cache on disk, opened when first used; in memory within `in_memory_only`."""
        memory = _memory.get()
        if memory is not None:
            return memory
        return Cache(Path(self.folder) if self.folder else cache_folder() / self.default_folder)


def _prepare(connection: sqlite3.Connection) -> None:
    """Set a connection up and make the table.

    While another process does the same for the first time, SQLite says at once that the file is
    locked, whatever the timeout: so it is asked again.
    """
    until_s = time.monotonic() + WAIT_S
    for command in (*SETTINGS, TABLE):
        while True:
            try:
                connection.execute(command)
                break
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until_s:
                    raise
                time.sleep(0.02)


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=20).digest()


def _checksum(value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=CHECK_BYTES).digest()


def _checked(file: sqlite3.Connection, content: bytes, maker: bytes) -> bytes | None:
    query = "SELECT value FROM made WHERE content = ? AND maker = ?"
    row = file.execute(query, (content, maker)).fetchone()
    if row is None:
        return None
    checksum: bytes = row[0][:CHECK_BYTES]
    value: bytes = row[0][CHECK_BYTES:]
    return value if _checksum(value) == checksum else None


def _all_or_nothing(
    file: sqlite3.Connection, command: str, rows: Sequence[tuple[object, ...]]
) -> int:
    file.execute("BEGIN IMMEDIATE")
    try:
        count = file.executemany(command, rows).rowcount
        file.execute("COMMIT")
    except BaseException:
        if file.in_transaction:
            file.execute("ROLLBACK")
        raise
    return count
