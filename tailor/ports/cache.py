"""A cache on disk, by content: what was made from which text by whom, so that nothing is computed
twice.
"""

import contextlib
import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tailor.errors import ModelError

T = TypeVar("T")
FILE, TURN = "cache.sqlite", "turn.sqlite"
WAIT_S = 600.0  # for another process that is writing, or making
CHECK = 8  # bytes of checksum before every value
TABLE = (
    "CREATE TABLE IF NOT EXISTS made (content BLOB, maker BLOB, value BLOB, PRIMARY KEY (content,"
    " maker)) WITHOUT ROWID"
)
_open = threading.local()  # connections of this thread, by file; a fork must not use its parent's


@dataclass(frozen=True)
class Cache:
    """Values under the hash of their content and of their maker, in one SQLite file of `folder`.

    Several threads and processes may share it. A write that is cut off leaves nothing; a damaged
    file, or a damaged value, counts as absent. Contents are kept as hashes only; `forget`
    overwrites what was made from a content, whoever made it.
    """

    folder: Path

    def get(self, maker: str, contents: Sequence[str]) -> list[bytes | None]:
        """What `maker` made of each content, None where nothing is stored."""
        keys = [_hash(one) for one in contents]
        return self._tried(lambda file: [_checked(file, key, _hash(maker)) for key in keys])

    def put(self, maker: str, contents: Sequence[str], values: Sequence[bytes]) -> None:
        """Store what `maker` made of the contents, all or nothing; what was stored before is
        replaced.
        """
        rows = [
            (_hash(one), _hash(maker), _sum(value) + value)
            for one, value in zip(contents, values, strict=True)
        ]
        self._tried(
            lambda file: _all_or_nothing(file, "INSERT OR REPLACE INTO made VALUES (?, ?, ?)", rows)
        )

    def make(
        self, maker: str, contents: Sequence[str], work: Callable[[list[str]], Sequence[bytes]]
    ) -> list[bytes]:
        """The values of all contents; `work` is called with the distinct ones that are missing,
        while nobody else makes any in this cache.

        What is missing is looked up again once the turn has come, so that no two processes or
        threads make the same.
        """
        found = dict(zip(contents, self.get(maker, contents), strict=True))
        if None in found.values():
            with self._turn():
                found = dict(zip(contents, self.get(maker, contents), strict=True))
                missing = [one for one, value in found.items() if value is None]
                if missing:
                    made = list(work(missing))
                    self.put(maker, missing, made)
                    found |= dict(zip(missing, made, strict=True))
        return [value for value in (found[one] for one in contents) if value is not None]

    def forget(self, contents: Sequence[str]) -> int:
        """Overwrite what was made from these contents, whoever made it; returns how many values
        that were.
        """
        rows = [(_hash(one),) for one in set(contents)]
        gone = self._tried(
            lambda file: _all_or_nothing(file, "DELETE FROM made WHERE content = ?", rows)
        )
        # the log holds the old pages
        self._tried(lambda file: file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        return gone

    def clear(self) -> None:
        """Forget everything."""
        self._tried(lambda file: _all_or_nothing(file, "DELETE FROM made WHERE ?", [(True,)]))
        self._tried(lambda file: file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())

    def __len__(self) -> int:
        return self._tried(
            lambda file: int(file.execute("SELECT count(*) FROM made").fetchone()[0])
        )

    def holds(self, needle: bytes) -> bool:
        """Whether a stored value contains these bytes: the check after an erasure."""
        found = "SELECT 1 FROM made WHERE instr(value, ?) > 0 LIMIT 1"
        return self._tried(lambda file: file.execute(found, (needle,)).fetchone() is not None)

    def _tried(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return work(self._connected(FILE))
        except sqlite3.OperationalError as error:
            if "malformed" not in str(error) and "no such table" not in str(error):
                raise ModelError(
                    f"the cache {self.folder / FILE} cannot be used: {error}; free the disk, or"
                    " name another folder"
                ) from error
        # damaged: nothing in it can be trusted, and all of it can be made again
        except sqlite3.DatabaseError:
            pass
        self._remove()
        return work(self._connected(FILE))

    def _connected(self, name: str) -> sqlite3.Connection:
        path = self.folder / name
        known: dict[tuple[int, Path], tuple[sqlite3.Connection, int]] = _open.__dict__.setdefault(
            "files", {}
        )
        key = (os.getpid(), path)
        if key in known:
            connection, inode = known[key]
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
            for line in (
                "PRAGMA journal_mode=WAL",
                "PRAGMA synchronous=NORMAL",
                "PRAGMA secure_delete=ON",
                TABLE,
            ):
                connection.execute(line)
        known[key] = (connection, path.stat().st_ino)
        return connection

    def _remove(self, name: str = FILE) -> None:
        known = _open.__dict__.setdefault("files", {})
        connection = known.pop((os.getpid(), self.folder / name), None)
        if connection is not None:
            connection[0].close()
        for ending in ("", "-wal", "-shm"):
            (self.folder / f"{name}{ending}").unlink(missing_ok=True)

    def _taken(self) -> sqlite3.Connection:
        """The connection that holds the turn."""
        for _ in range(2):
            connection = self._connected(TURN)
            try:
                connection.execute("BEGIN EXCLUSIVE")
                return connection
            except sqlite3.OperationalError as error:
                raise ModelError(
                    f"the cache {self.folder} is held by another process, or cannot be written"
                    f" ({error}): wait for it, or name another folder"
                ) from error
            except sqlite3.DatabaseError:  # damaged; nothing stands in it
                self._remove(TURN)
        raise ModelError(f"{self.folder / TURN} is damaged again and again: name another folder")

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Held by one thread of one process at a time; a killed holder frees it."""
        connection = self._taken()
        try:
            yield
        finally:
            connection.execute("ROLLBACK")


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=20).digest()


def _sum(value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=CHECK).digest()


def _checked(file: sqlite3.Connection, content: bytes, maker: bytes) -> bytes | None:
    row = file.execute(
        "SELECT value FROM made WHERE content = ? AND maker = ?", (content, maker)
    ).fetchone()
    if row is None or _sum(row[0][CHECK:]) != row[0][:CHECK]:
        return None
    value: bytes = row[0][CHECK:]
    return value


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
