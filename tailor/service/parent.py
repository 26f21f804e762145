"""Ties a worker to the process that started it: it ends with it, and holds its file until then."""

import fcntl
import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait
from pathlib import Path
from typing import IO

import sqlalchemy as sa

from tailor.errors import StoreError


def end_with_parent(grace_s: float) -> None:
    """End this process soon after the one that started it, however that one ended.

    The parent holds the other end of a pipe, which the system closes with it; one that has ended
    already is noticed too. What was begun has `grace_s` seconds.
    """
    parent = multiprocessing.parent_process()
    if parent is None:  # no worker: this process was started by itself
        return
    if wait([parent.sentinel], timeout=0):
        os._exit(1)  # nothing is begun yet
    threading.Thread(
        target=_end_after, args=(parent.sentinel, grace_s), name="tailor-parent", daemon=True
    ).start()


def _end_after(sentinel: int, grace_s: float) -> None:
    wait([sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(grace_s)
    os._exit(1)


def hold_file(engine: sa.Engine) -> IO[str] | None:
    """Hold a SQLite file with all workers of its server; None for another database.

    Whoever serves the file next waits until none of them is left (`store.engine.held`). The lock
    ends with the returned file. Raises StoreError where another server has the file.
    """
    if engine.dialect.name != "sqlite":
        return None
    file = Path(f"{engine.url.database}.server").open("a+")  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise StoreError(
            "the database is being served already: stop that server, or use PostgreSQL"
        ) from None
    return file
