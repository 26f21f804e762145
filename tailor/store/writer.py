"""One thread that writes: what waits together is committed together, so that one flush to the disk
serves many.
"""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import sqlalchemy as sa

from tailor.errors import StoreError
from tailor.store.engine import UNAVAILABLE, writing

T = TypeVar("T")
Job = Callable[[sa.Connection], Any]
MOST = 256  # jobs of one transaction
RETRY_S = 5  # what a caller is told to wait when the database is away
# PostgreSQL's word for two writers that wait for each other, one of which it has ended
DEADLOCK = "40P01"
TRIES = 3  # of a transaction that was ended so


class UnavailableError(StoreError):
    """The database cannot be reached or cannot write now. Nothing of the job was kept, unless the
    answer to the commit itself was lost: ask again.
    """


class Writer:
    """`do(job)` returns when what the job wrote is on the disk. Jobs of a transaction stand apart:
    one that fails takes nothing from the others.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        # for the metrics; behind: how long the oldest job of the last commit had waited
        self.commits, self.jobs, self.behind_s = 0, 0, 0.0
        self._queue: queue.SimpleQueue[tuple[Job, Future[Any], float] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="tailor-writer", daemon=True)
        self._thread.start()

    def do(self, job: Callable[[sa.Connection], T], timeout_s: float = 30.0) -> T:
        """What the job returned, once it is durable. Raises UnavailableError where the database is away,
        and what the job raised.
        """
        return self.later(job).result(timeout_s)

    def later(self, job: Callable[[sa.Connection], T]) -> "Future[T]":
        """The same, without waiting."""
        future: Future[T] = Future()
        if not self._thread.is_alive():
            raise UnavailableError("the server is stopping: ask again")
        self._queue.put((job, future, time.monotonic()))
        return future

    def waiting(self) -> int:
        """Jobs not begun."""
        return self._queue.qsize()

    def close(self) -> None:
        """Write what waits, then end."""
        self._queue.put(None)
        self._thread.join(30)

    def _work(self) -> None:
        while True:
            first = self._queue.get()
            jobs = [] if first is None else [first]
            last = first is None
            while not last and len(jobs) < MOST and not self._queue.empty():
                more = self._queue.get()
                last = more is None
                if more is not None:
                    jobs.append(more)
            if jobs:
                self._commit(jobs)
            if last:
                return

    def _commit(self, jobs: list[tuple[Job, Future[Any], float]], tries: int = TRIES) -> None:
        done: list[Callable[[], None]] = []
        try:
            with writing(self.engine) as connection:
                for job, future, _ in jobs:
                    done.append(_run(connection, job, future))
        except UNAVAILABLE as error:
            if tries > 1 and getattr(getattr(error, "orig", None), "sqlstate", None) == DEADLOCK:
                self._commit(jobs, tries - 1)  # nobody was told anything yet
                return
            for _, future, _ in jobs:
                future.set_exception(_away(error))
        except BaseException as error:  # whatever it is, nobody may wait for ever
            for _, future, _ in jobs:
                future.set_exception(error)
        else:
            self.commits, self.jobs, self.behind_s = (
                self.commits + 1,
                self.jobs + len(jobs),
                time.monotonic() - jobs[0][2],
            )
            for tell in done:
                tell()


def _run(connection: sa.Connection, job: Job, future: "Future[Any]") -> Callable[[], None]:
    """Run one job in a part of the transaction of its own; what tells its caller, to be called
    after the commit.
    """
    try:
        with connection.begin_nested():
            result = job(connection)
    except UNAVAILABLE:
        raise
    except Exception as error:
        problem = error
        return lambda: future.set_exception(problem)
    return lambda: future.set_result(result)


def _away(error: Exception) -> UnavailableError:
    cause = str(getattr(error, "orig", None) or error).strip().splitlines()
    return UnavailableError(
        f"the database cannot be written now ({cause[0] if cause else type(error).__name__}): ask"
        f" again in {RETRY_S} s"
    )
