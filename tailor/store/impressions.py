"""Lists that were served: requests, and the items shown with their probabilities."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tailor.store.background import AWAY, BackgroundLog
from tailor.store.encryption import Subject
from tailor.store.engine import Lookup, insert_into, now_ms, reading
from tailor.store.erased import erasures_of
from tailor.store.schema import impressions, requests
from tailor.store.subjects import NOBODY, subject_of, subjects_for
from tailor.store.writer import Writer

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
TEXT = "requests.text"  # what the words of requests are encrypted as
OTHER = "\0"  # stands for the user of another's list; no id is this
STORED = Lookup(
    sa.select(
        requests.c.user_id,
        requests.c.time_ms,
        requests.c.surface,
        requests.c.sealed,
        requests.c.model,
    ).where(
        requests.c.tenant == sa.bindparam("whose"), requests.c.request_id == sa.bindparam("which")
    )
)
ITEMS = Lookup(
    sa.select(impressions.c.item_id, impressions.c.score, impressions.c.propensity)
    .where(
        impressions.c.tenant == sa.bindparam("whose"),
        impressions.c.request_id == sa.bindparam("which"),
    )
    .order_by(impressions.c.position)
)
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
        values["sealed"] = user.encrypt(row.text, TEXT)
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


def stored_list(
    engine: sa.Engine, tenant: str, request_id: str, user_id: str | None
) -> ServedList | None:
    """Return the list that is stored under a request id, None for a new id.

    `user_id` is whoever asks now. A list of anybody else comes without items and text, and with
    OTHER in place of the user's id. Raises what the engine raises.
    """
    rows = STORED.rows(engine, whose=tenant, which=request_id)
    if not rows:
        return None
    token, time_ms, surface, sealed, model = rows[0]
    with reading(engine) as connection:
        asker = subject_of(connection, tenant, NOBODY if user_id is None else user_id)
        is_own = token is None if user_id is None else asker is not None and token == asker.token
        text = None
        if is_own and sealed is not None and asker is not None:
            text = asker.decrypt(bytes(sealed), TEXT)
    items = ITEMS.rows(engine, whose=tenant, which=request_id) if is_own else []
    owner = user_id if is_own else OTHER
    content = tuple((str(item_id), float(score), float(chance)) for item_id, score, chance in items)
    return ServedList(tenant, request_id, owner, time_ms, surface, text, model, content)


class ListLog(BackgroundLog[ServedList]):
    """Writes served lists in the background, together, four times a second.

    Rarer and larger writes would hold up other writers. A crash loses the last lists, never an
    event.
    """

    def __init__(self, writer: Writer, every_s: float = 0.25, most: int = 20_000) -> None:
        self._by_id: dict[tuple[str, str], ServedList] = {}  # those that wait or are being written
        super().__init__(writer, every_s, most, "tailor-served")

    def add(self, row: ServedList) -> ServedList:
        """Have a list written, unless one of its request id waits already; return that one."""
        with self._lock:
            logged = self._by_id.setdefault((row.tenant, row.request_id), row)
            if logged is row:
                self._waiting.append(row)
        return logged

    def find(self, tenant: str, request_id: str) -> ServedList | None:
        """Return a list that is not written yet, None for one that is, or that is unknown."""
        return self._by_id.get((tenant, request_id))

    def forget(self, tenant: str, user_id: str) -> int:
        """Drop a user's lists that are not written yet and return how many."""
        with self._lock:
            left = [row for row in self._waiting if (row.tenant, row.user_id) != (tenant, user_id)]
            dropped = len(self._waiting) - len(left)
            self._waiting = left
            for key, row in list(self._by_id.items()):
                if (row.tenant, row.user_id) == (tenant, user_id):
                    del self._by_id[key]
        return dropped

    def count_of(self, tenant: str, needle: str) -> int:
        """Count the tenant's lists that are not written yet and hold `needle`."""
        with self._lock:
            return sum(row.tenant == tenant and _holds(row, needle) for row in self._waiting)

    def _put(self, lists: list[ServedList]) -> None:
        try:
            self.writer.do(lambda connection: write_lists(connection, lists))
        except AWAY:
            self._put_back(lists)
        # no table can hold one of them: the others are written, each by itself
        except Exception as error:
            if len(lists) > 1:
                for row in lists:
                    self._put([row])
                return
            self.lost += 1
            extra = {"error": type(error).__name__, "model": lists[0].model}
            log.error("a list cannot be logged", extra=extra)
            self._drop(lists)
        else:
            self._drop(lists)

    def _put_back(self, lists: list[ServedList]) -> None:
        """Let lists wait again, but for those that were forgotten meanwhile, and too many."""
        with self._lock:
            waiting = [row for row in lists if self._by_id.get((row.tenant, row.request_id)) is row]
            surplus = self._wait_again(waiting)
        self._drop(surplus)

    def _drop(self, lists: list[ServedList]) -> None:
        """Forget the ids of lists that wait no more."""
        with self._lock:
            for row in lists:
                if self._by_id.get((row.tenant, row.request_id)) is row:
                    del self._by_id[row.tenant, row.request_id]


def _holds(row: ServedList, needle: str) -> bool:
    """Return whether a list names `needle`."""
    named = (row.user_id, row.request_id, row.text)
    return needle in named or any(needle == item_id for item_id, _, _ in row.items)
