"""Lists that were served: requests, and the items shown with their probabilities."""

import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tailor.store.encryption import KeysError, Subject
from tailor.store.engine import insert_into, now_ms
from tailor.store.erased import erasures_of
from tailor.store.schema import requests
from tailor.store.subjects import NOBODY, subjects_for
from tailor.store.writer import UnavailableError, Writer

log = logging.getLogger("tailor.store")
# ten rows a list: the driver alone takes a third of the time of the expression language, and
# answers wait for the interpreter meanwhile
INSERT_IMPRESSIONS = {
    "sqlite": (
        "INSERT INTO impressions (tenant, request_id, position, item_id, score, propensity) VALUES"
        " (?, ?, ?, ?, ?, ?)"
    ),
    "postgresql": (
        "INSERT INTO impressions (tenant, request_id, position, item_id, score, propensity) VALUES"
        " (%s, %s, %s, %s, %s, %s)"
    ),
}
REQUEST_COLUMNS = ("tenant", "request_id", "time_ms", "surface", "model")


@dataclass(frozen=True)
class ServedList:
    """A list that was answered."""

    tenant: str
    request_id: str
    user_id: str | None
    """None: a caller without an id."""
    time_ms: int
    surface: str
    """recommendations, similar or search."""
    text: str | None
    """Words of the request."""
    model: str
    items: tuple[tuple[str, float, float], ...]
    """Item id, score, and probability of standing at this position."""


def write_lists(connection: sa.Connection, lists: Sequence[ServedList]) -> None:
    """Write lists.

    A list is left out if its request id is stored already, or if its person was erased since.
    """
    lists = _without_erased(connection, lists)
    if not lists:
        return
    by_id = {(row.tenant, row.request_id): row for row in reversed(lists)}  # the first of an id
    user_ids: dict[str, set[str]] = {row.tenant: set() for row in lists}
    for row in lists:
        user_ids[row.tenant] |= _key_owners(row)
    users = {tenant: subjects_for(connection, tenant, ids) for tenant, ids in user_ids.items()}
    insert = (
        insert_into(connection, requests)
        .on_conflict_do_nothing()
        .returning(requests.c.tenant, requests.c.request_id)
    )
    request_rows = [_request_row(row, users[row.tenant]) for row in by_id.values()]
    new_ids = connection.execute(insert, request_rows)
    impression_rows = [
        (tenant, request_id, position, item_id, score, propensity)
        for tenant, request_id in new_ids
        for position, (item_id, score, propensity) in enumerate(by_id[tenant, request_id].items, 1)
    ]
    if impression_rows:
        connection.exec_driver_sql(INSERT_IMPRESSIONS[connection.dialect.name], impression_rows)


def _key_owners(row: ServedList) -> set[str]:
    """Return the users whose key is needed; a caller without an id needs one for words only."""
    if row.user_id is not None:
        return {row.user_id}
    return set() if row.text is None else {NOBODY}


def _request_row(row: ServedList, users: Mapping[str, Subject]) -> dict[str, Any]:
    user = users.get(NOBODY if row.user_id is None else row.user_id)
    values = {name: getattr(row, name) for name in REQUEST_COLUMNS}
    values["user_id"] = None if row.user_id is None or user is None else user.token
    values["sealed"] = None
    if row.text is not None and user is not None:
        values["sealed"] = user.encrypt(row.text, "requests.text")
    return values


def _without_erased(connection: sa.Connection, lists: Sequence[ServedList]) -> list[ServedList]:
    """Drop lists from before their person's erasure, which would bring the person back.

    They waited to be written, here or in another worker.
    """
    people = {(row.tenant, row.user_id) for row in lists if row.user_id is not None}
    by_person = erasures_of(connection, people)
    if not by_person:
        return list(lists)
    latest_ms = now_ms()

    def is_allowed(row: ServedList) -> bool:
        erasure = by_person.get((row.tenant, row.user_id or ""))
        return erasure is None or not erasure.refuses(row.time_ms, latest_ms)

    return [row for row in lists if is_allowed(row)]


class ListLog:
    """Writes served lists in the background, together, four times a second.

    Rarer and larger writes would hold up other writers. A crash loses the last lists, never an
    event.
    """

    def __init__(self, writer: Writer, every_s: float = 0.25, most: int = 20_000) -> None:
        self.writer = writer
        self.every_s = every_s
        self.most = most
        self.lost = 0  # lists dropped because the database was away for long
        self._waiting: list[ServedList] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="tailor-served", daemon=True)
        self._thread.start()

    def add(self, row: ServedList) -> None:
        """Have a list written."""
        with self._lock:
            self._waiting.append(row)

    def forget(self, tenant: str, user_id: str) -> int:
        """Drop a user's lists that are not written yet and return how many."""
        with self._lock:
            left = [row for row in self._waiting if (row.tenant, row.user_id) != (tenant, user_id)]
            dropped = len(self._waiting) - len(left)
            self._waiting = left
        return dropped

    def close(self) -> None:
        """Write what waits, then end."""
        self._stop.set()
        self._thread.join(10)

    def _work(self) -> None:
        while not self._stop.wait(self.every_s):
            self._write()
        self._write()

    def _write(self) -> None:
        with self._lock:
            lists = self._waiting
            self._waiting = []
        if lists:
            self._put(lists)

    def _put(self, lists: list[ServedList]) -> None:
        try:
            self.writer.do(lambda connection: write_lists(connection, lists))
        except (UnavailableError, KeysError, FutureTimeoutError):
            with self._lock:
                together = lists + self._waiting
                self.lost += max(0, len(together) - self.most)
                self._waiting = together[-self.most :]
        # no table can hold one of them: the others are written, each by itself
        except Exception as error:
            if len(lists) > 1:
                for row in lists:
                    self._put([row])
            else:
                self.lost += 1
                extra = {"error": type(error).__name__, "model": lists[0].model}
                log.error("a list cannot be logged", extra=extra)
