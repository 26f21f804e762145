"""What was answered to whom: requests, and the items shown with their probabilities; and which
model answers.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from tailor.errors import StoreError
from tailor.store.encryption import KeysError, Subject
from tailor.store.engine import inserting, now_ms, padded
from tailor.store.people import signing_secret, subject
from tailor.store.schema import erasures, models, requests
from tailor.store.subjects import NOBODY, subjects_for
from tailor.store.writer import AwayError, Writer

log = logging.getLogger("tailor.store")
RECOMMENDS: Literal["recommends"] = "recommends"  # kinds of models
PREDICTS: Literal["predicts"] = "predicts"
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
class Served:
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


def log_served(connection: sa.Connection, lists: Sequence[Served]) -> None:
    """Write lists; of one whose request id is there already, nothing, nor of one that was answered
    before its person was erased.
    """
    lists = _without_erased(connection, lists)
    if not lists:
        return
    insert = (
        inserting(connection, requests)
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


def _whose(one: Served) -> set[str]:
    """Who it is written of; of somebody without an id only words need a key."""
    return {one.user_id} if one.user_id is not None else {NOBODY} if one.text is not None else set()


def _request(one: Served, people: Mapping[str, Subject]) -> dict[str, Any]:
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
        None if one.text is None or person is None else person.closed(one.text, "requests.text")
    )
    token = None if one.user_id is None or person is None else person.token
    return {"user_id": token, "sealed": sealed, **{name: getattr(one, name) for name in plain}}


def _without_erased(connection: sa.Connection, lists: Sequence[Served]) -> list[Served]:
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
    ).where(erasures.c.subject.in_(padded(sorted(set(digests.values())))))
    found = connection.execute(wanted.group_by(erasures.c.tenant, erasures.c.subject))
    last = {(tenant, digest): time_ms for tenant, digest, time_ms in found}
    return [
        one
        for one in lists
        if one.time_ms > last.get((one.tenant, digests.get((one.tenant, one.user_id), "")), -1)
    ]


class ServedLog:
    """Lists that were answered, written together four times a second: rarer and larger writes hold
    up who waits meanwhile. A crash loses the last of them, never an event.
    """

    def __init__(self, writer: Writer, every_s: float = 0.25, most: int = 20_000) -> None:
        self.writer, self.every_s, self.most = writer, every_s, most
        self.lost = 0  # because the database was away for long
        self._waiting: list[Served] = []
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="tailor-served", daemon=True)
        self._thread.start()

    def add(self, one: Served) -> None:
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

    def _put(self, lists: list[Served]) -> None:
        try:
            self.writer.do(lambda connection: log_served(connection, lists))
        except (AwayError, KeysError, FutureTimeoutError):
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


def add_model(
    connection: sa.Connection,
    tenant: str,
    folder: str,
    digest: str,
    note: str = "",
    made_ms: int | None = None,
    kind: str = RECOMMENDS,
) -> int:
    """Register a saved model, made now unless said otherwise; its version. The same model again
    keeps its version.
    """
    there = connection.execute(
        sa.select(models.c.version).where(models.c.tenant == tenant, models.c.digest == digest)
    ).scalar_one_or_none()
    if there is not None:
        connection.execute(
            sa.update(models)
            .where(models.c.tenant == tenant, models.c.version == there)
            .values(folder=folder)
        )
        return int(there)
    latest = connection.execute(
        sa.select(sa.func.coalesce(sa.func.max(models.c.version), 0)).where(
            models.c.tenant == tenant
        )
    ).scalar_one()
    row = {
        "tenant": tenant,
        "version": latest + 1,
        "folder": folder,
        "digest": digest,
        "made_ms": made_ms or now_ms(),
        "note": note,
        "kind": kind,
    }
    connection.execute(sa.insert(models).values(row))
    return int(latest) + 1


def serve_model(connection: sa.Connection, tenant: str, version: int) -> None:
    """Let that version answer from now on. Raises StoreError for one that there is not."""
    last = connection.execute(
        sa.select(sa.func.coalesce(sa.func.max(models.c.served_ms), 0)).where(
            models.c.tenant == tenant
        )
    ).scalar_one()
    found = connection.execute(
        sa.update(models)
        .where(models.c.tenant == tenant, models.c.version == version)
        .values(served_ms=max(now_ms(), int(last) + 1))
    )
    if not found.rowcount:
        raise StoreError(f"there is no model version {version}")


def listed_models(connection: sa.Connection, tenant: str) -> list[dict[str, Any]]:
    """All versions of both kinds, the one that answers first, then the one that answered before it,
    and so on; then those that never did.
    """
    order = (models.c.served_ms.is_(None), models.c.served_ms.desc(), models.c.version.desc())
    return [
        dict(row)
        for row in connection.execute(
            sa.select(models).where(models.c.tenant == tenant).order_by(*order)
        ).mappings()
    ]


def current_model(
    connection: sa.Connection, tenant: str, kind: str = RECOMMENDS
) -> dict[str, Any] | None:
    """The version of a kind that answers; None where none ever did."""
    here = (models.c.tenant == tenant, models.c.kind == kind, models.c.served_ms.is_not(None))
    row = (
        connection.execute(
            sa.select(models).where(*here).order_by(models.c.served_ms.desc()).limit(1)
        )
        .mappings()
        .one_or_none()
    )
    return None if row is None else dict(row)


def tenants(connection: sa.Connection) -> list[str]:
    """Those with a model."""
    return list(connection.execute(sa.select(models.c.tenant).distinct()).scalars())
