"""The thread that writes: jobs that wait together share a commit, and so a flush to the disk."""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar, cast

import sqlalchemy as sa

from tailor.errors import StoreError
from tailor.store.engine import UNAVAILABLE, first_line, writing
from tailor.store.outages import watch_outages
from tailor.store.schema import marks
from tailor.store.subjects import CHANGES

T = TypeVar("T")
Job = Callable[[sa.Connection], Any]
MOST_JOBS = 256  # of a transaction
RETRY_S = 5  # which callers are told to wait while the database is away
DEADLOCK = "40P01"  # PostgreSQL's code for a transaction that it ended because of a deadlock
TRIES = 3  # of a transaction that ended with a deadlock


class UnavailableError(StoreError):
    """The database cannot be reached or cannot write now.

    Nothing of the job is stored, unless the answer to the commit itself was lost.
    """


class _Waiting(NamedTuple):
    job: Job
    future: "Future[Any]"
    since_s: float


class Writer:
    """Runs jobs in shared transactions; a job that fails takes nothing from the others."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.outages = watch_outages(engine)
        self.commits = 0
        self.jobs = 0
        self.behind_s = 0.0  # for which the oldest job of the last commit had waited
        self._probe: Future[None] | None = None
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="tailor-writer", daemon=True)
        self._thread.start()

    def do(self, job: Callable[[sa.Connection], T], timeout_s: float = 30.0) -> T:
        """Return what the job returned, once its writes are on the disk.

        Raises UnavailableError where the database is away, and what the job raised.
        """
        return self.later(job).result(timeout_s)

    def later(self, job: Callable[[sa.Connection], T]) -> "Future[T]":
        """Return a future of `do`."""
        future: Future[T] = Future()
        if not self._thread.is_alive():
            raise UnavailableError("the server is stopping: ask again")
        self._queue.put(_Waiting(job, future, time.monotonic()))
        return future

    def waiting(self) -> int:
        """Return how many jobs are not begun."""
        return self._queue.qsize()

    def trouble(self) -> str:
        """Return why nothing can be written now, empty where all is well; waits for nothing.

        During an outage a write of no effect finds out whether it is over.
        """
        cause = self.outages.cause("written")
        if cause and (self._probe is None or self._probe.done()) and self._thread.is_alive():
            self._probe = self.later(write_the_same)
        return cause

    def close(self) -> None:
        """Write what waits, then end."""
        self._queue.put(None)
        self._thread.join(30)

    def _work(self) -> None:
        is_open = True
        while is_open:
            batch: list[_Waiting] = []
            waiting = self._queue.get()
            while waiting is not None:
                batch.append(waiting)
                if len(batch) >= MOST_JOBS or self._queue.empty():
                    break
                waiting = self._queue.get()
            is_open = waiting is not None
            if batch:
                self._commit(batch)

    def _commit(self, batch: list[_Waiting], tries: int = TRIES) -> None:
        answers: list[Callable[[], None]] = []
        try:
            with writing(self.engine) as connection:
                for waiting in batch:
                    answers.append(_run(connection, waiting))
        except UNAVAILABLE as error:
            is_deadlock = getattr(getattr(error, "orig", None), "sqlstate", None) == DEADLOCK
            if tries > 1 and is_deadlock:
                self._commit(batch, tries - 1)  # no caller has been answered yet
                return
            if not is_deadlock:
                self.outages.note_failure("written", first_line(_origin(error)), len(batch))
            for waiting in batch:
                waiting.future.set_exception(_unavailable(_origin(error)))
        except BaseException as error:  # of any kind: no caller may wait for ever
            for waiting in batch:
                waiting.future.set_exception(error)
        else:
            self.outages.note_success("written")
            self.commits += 1
            self.jobs += len(batch)
            self.behind_s = time.monotonic() - batch[0].since_s
            for answer in answers:
                answer()


def write_the_same(connection: sa.Connection) -> None:
    """Write a row as it is: fails where the disk is full, unlike an empty transaction."""
    mark = sa.update(marks).where(marks.c.name == CHANGES).values(value=marks.c.value)
    connection.execute(mark)


def _run(connection: sa.Connection, waiting: _Waiting) -> Callable[[], None]:
    """Run a job in a savepoint; return what answers its caller after the commit."""
    try:
        with connection.begin_nested():
            result = waiting.job(connection)
    except UNAVAILABLE:
        raise
    except Exception as error:
        problem = error
        return lambda: waiting.future.set_exception(problem)
    return lambda: waiting.future.set_result(result)


def _origin(error: BaseException) -> Exception:
    """Return the first failure of a chain.

    On a full disk SQLite ends the whole transaction, and the savepoint's own end fails then.
    """
    origin = error
    while error.__context__ is not None:
        error = error.__context__
        if isinstance(error, UNAVAILABLE):
            origin = error
    return cast(Exception, origin)


def _unavailable(error: Exception) -> UnavailableError:
    return UnavailableError(
        f"the database cannot be written now ({first_line(error)}): ask again in {RETRY_S} s"
    )
