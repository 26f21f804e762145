"""What was answered to whom: requests, and the items shown with their probabilities; and which
model answers.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tailor.store.encryption import KeysError, Subject
from tailor.store.engine import insert_into, pad_values
from tailor.store.schema import erasures, requests
from tailor.store.subjects import NOBODY, subjects_for
from tailor.store.users import signing_secret, subject
from tailor.store.writer import UnavailableError, Writer

log = logging.getLogger("tailor.store")
# ten rows a list: by the driver alone they cost a third of what the expression language takes for
# them, while answers wait for the interpreter
PLAIN_INSERT = {
    "sqlite": (
        "INSERT INTO impressions (tenant, request_id, position, item_id, score, propensity) VALUES"
        " (?, ?, ?, ?, ?, ?)"
    ),
    "postgresql": (
        "INSERT INTO impressions (tenant, request_id, position, item_id, score, propensity) VALUES"
        " (%s, %s, %s, %s, %s, %s)"
    ),
}


@dataclass(frozen=True)
class ServedList:
    """A list that was answered: position i of `shown` is (item id, score, probability that it stood
    there).
    """

    tenant: str
    request_id: str
    user_id: str | None
    """None: somebody without an id."""
    time_ms: int
    surface: str
    text: str | None
    model: str
    shown: tuple[tuple[str, float, float], ...]


def write_lists(connection: sa.Connection, lists: Sequence[ServedList]) -> None:
    """Write lists; of one whose request id is there already, nothing, nor of one that was answered
    before its person was erased.
    """
    lists = _without_erased(connection, lists)
    if not lists:
        return
    insert = (
        insert_into(connection, requests)
        .on_conflict_do_nothing()
        .returning(requests.c.tenant, requests.c.request_id)
    )
    by_id = {(one.tenant, one.request_id): one for one in reversed(lists)}  # the first of an id
    whose: dict[str, set[str]] = {one.tenant: set() for one in lists}
    for one in lists:
        whose[one.tenant] |= _whose(one)
    people = {
        tenant: subjects_for(connection, tenant, user_ids) for tenant, user_ids in whose.items()
    }
    new = connection.execute(insert, [_request(one, people[one.tenant]) for one in by_id.values()])
    rows = [
        (tenant, request_id, i, item_id, score, chance)
        for tenant, request_id in new
        for i, (item_id, score, chance) in enumerate(by_id[tenant, request_id].shown, 1)
    ]
    if rows:
        connection.exec_driver_sql(PLAIN_INSERT[connection.dialect.name], rows)


def _whose(one: ServedList) -> set[str]:
    """Who it is written of; of somebody without an id only words need a key."""
    return {one.user_id} if one.user_id is not None else {NOBODY} if one.text is not None else set()


def _request(one: ServedList, people: Mapping[str, Subject]) -> dict[str, Any]:
    person, plain = (
        people.get(NOBODY if one.user_id is None else one.user_id),
        (
            "tenant",
            "request_id",
            "time_ms",
            "surface",
            "model",
        ),
    )
    sealed = (
        None if one.text is None or person is None else person.encrypt(one.text, "requests.text")
    )
    token = None if one.user_id is None or person is None else person.token
    return {"user_id": token, "sealed": sealed, **{name: getattr(one, name) for name in plain}}


def _without_erased(connection: sa.Connection, lists: Sequence[ServedList]) -> list[ServedList]:
    """What waited, here or in another worker, while a person was erased, must not bring the person
    back.
    """
    secret = signing_secret(connection)
    digests: dict[tuple[str, str | None], str] = {
        (one.tenant, one.user_id): subject(secret, one.tenant, one.user_id)
        for one in lists
        if one.user_id is not None
    }
    wanted = sa.select(
        erasures.c.tenant, erasures.c.subject, sa.func.max(erasures.c.time_ms)
    ).where(erasures.c.subject.in_(pad_values(sorted(set(digests.values())))))
    found = connection.execute(wanted.group_by(erasures.c.tenant, erasures.c.subject))
    last = {(tenant, digest): time_ms for tenant, digest, time_ms in found}
    return [
        one
        for one in lists
        if one.time_ms > last.get((one.tenant, digests.get((one.tenant, one.user_id), "")), -1)
    ]


class ListLog:
    """Lists that were answered, written together four times a second: rarer and larger writes hold
    up who waits meanwhile. A crash loses the last of them, never an event.
    """

    def __init__(self, writer: Writer, every_s: float = 0.25, most: int = 20_000) -> None:
        self.writer, self.every_s, self.most = writer, every_s, most
        self.lost = 0  # because the database was away for long
        self._waiting: list[ServedList] = []
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="tailor-served", daemon=True)
        self._thread.start()

    def add(self, one: ServedList) -> None:
        with self._lock:
            self._waiting.append(one)

    def forget(self, tenant: str, user_id: str) -> int:
        """Take out what has not been written of a person; how many lists."""
        with self._lock:
            kept = [one for one in self._waiting if (one.tenant, one.user_id) != (tenant, user_id)]
            gone, self._waiting = len(self._waiting) - len(kept), kept
        return gone

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
            lists, self._waiting = self._waiting, []
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
        # one of them is what no table holds: the others are written each by itself
        except Exception as error:
            if len(lists) > 1:
                for one in lists:
                    self._put([one])
            else:
                self.lost += 1
                log.error(
                    "a list cannot be logged",
                    extra={"error": type(error).__name__, "model": lists[0].model},
                )
