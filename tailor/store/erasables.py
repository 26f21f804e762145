"""The places of the store that may hold a person's words or ids.

Rows of a person are found by the person's token, through an index, and deleted in slices. A scan
for residues reads whole tables, a slice at a time: it holds no transaction open.
"""

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import sqlalchemy as sa

from tailor.store.encryption import Seal, Subject
from tailor.store.engine import pad_values
from tailor.store.schema import (
    audit,
    events,
    impressions,
    memories,
    observations,
    profiles,
    propositions,
    requests,
    subjects,
    support,
    user_attributes,
)
from tailor.store.signing import seal_of
from tailor.store.subjects import MEMORY_TABLES, NOBODY, subject_of

# rows of a person lie on pages of their own, each of which is written with the transaction
EVENTS = 50  # events that a transaction deletes
LISTS = 20  # lists that a transaction deletes, each with its items
MEMORY_ROWS = 200  # rows of a memory that a transaction deletes
IDS = 512  # lists of a statement
SCAN_ROWS = 10_000  # that a transaction of a scan reads
OPENED = 1_000  # people whose keys a scan keeps open
OVERHEAD = 28  # bytes that encryption adds


class Erasable(Protocol):
    """A place that may hold what belongs to a person."""

    @property
    def name(self) -> str:
        """Name of the place in exports and receipts."""

    def export(self, connection: sa.Connection, tenant: str, user_id: str) -> list[dict[str, Any]]:
        """Return all of it."""

    def erase(self, connection: sa.Connection, tenant: str, user_id: str) -> int:
        """Remove it and return how many rows there were."""

    def scan(self, connection: sa.Connection, tenant: str, needle: str) -> int:
        """Count the rows that hold `needle`, as a value or inside a nested column."""


class StoredRows(Protocol):
    """An `Erasable` in a table of the store."""

    @property
    def name(self) -> str:
        """Name of the table."""

    def export(self, connection: sa.Connection, tenant: str, user_id: str) -> list[dict[str, Any]]:
        """Return the rows, decrypted."""

    def erase(self, connection: sa.Connection, tenant: str, user_id: str) -> int:
        """Delete the rows."""

    def scan(self, connection: sa.Connection, tenant: str, needle: str) -> int:
        """Count the rows that hold `needle`."""

    def scan_slice(
        self, connection: sa.Connection, tenant: str, needle: str, after: Any
    ) -> tuple[int, Any]:
        """Count in the rows past a key (None: from the first); return the key to go on from."""

    def count(self, connection: sa.Connection, tenant: str, person: Subject) -> int:
        """Count the person's rows."""


@dataclass(frozen=True)
class ErasableRows:
    """The rows of a table that carry the person's token."""

    table: sa.Table
    encrypted_field: str | None = None
    """Name under which the encrypted column is shown; None for a table without one."""

    @property
    def name(self) -> str:
        """Name of the table."""
        return self.table.name

    @property
    def _location(self) -> str:
        return f"{self.table.name}.{self.encrypted_field}"

    def rows_of(self, tenant: str, person: Subject) -> sa.ColumnElement[bool]:
        """Return the condition that a row is the person's."""
        return sa.and_(self.table.c.tenant == tenant, self.table.c.user_id == person.token)

    def count(self, connection: sa.Connection, tenant: str, person: Subject) -> int:
        """Count the person's rows."""
        statement = sa.select(sa.func.count()).where(self.rows_of(tenant, person))
        return int(connection.execute(statement.select_from(self.table)).scalar_one())

    def export(self, connection: sa.Connection, tenant: str, user_id: str) -> list[dict[str, Any]]:
        """Return the rows, decrypted."""
        person = subject_of(connection, tenant, user_id)
        if person is None:
            return []
        statement = (
            sa.select(self.table)
            .where(self.rows_of(tenant, person))
            .order_by(*self.table.primary_key.columns)
        )
        rows = connection.execute(statement).mappings()
        return [self._readable(dict(row), person) for row in rows]

    def _readable(self, row: dict[str, Any], person: Subject) -> dict[str, Any]:
        sealed = row.pop("sealed", None)
        readable = {name: value for name, value in row.items() if name not in ("tenant", "number")}
        readable["user_id"] = person.user_id
        if self.encrypted_field is not None:
            value = None if sealed is None else person.decrypt(sealed, self._location)
            readable[self.encrypted_field] = value
        return readable

    def erase(self, connection: sa.Connection, tenant: str, user_id: str) -> int:
        """Delete the rows."""
        person = subject_of(connection, tenant, user_id)
        if person is None:
            return 0
        statement = sa.delete(self.table).where(self.rows_of(tenant, person))
        return connection.execute(statement).rowcount

    def scan(self, connection: sa.Connection, tenant: str, needle: str) -> int:
        """Count the rows that hold `needle`, in encrypted values too."""
        return _scan(self, connection, tenant, needle)

    def scan_slice(
        self, connection: sa.Connection, tenant: str, needle: str, after: Any
    ) -> tuple[int, Any]:
        """Count in the rows past a key (None: from the first); return the key to go on from."""
        is_in_slice, end = _slice(connection, self.table, tenant, after)
        count = _scan_columns(connection, self.table, tenant, needle, is_in_slice)
        if self.encrypted_field is not None:
            count += self._scan_encrypted(connection, tenant, needle, is_in_slice)
        return count, end

    def _scan_encrypted(
        self,
        connection: sa.Connection,
        tenant: str,
        needle: str,
        is_in_slice: sa.ColumnElement[bool],
    ) -> int:
        """Decrypt row by row: only the keys can tell what a row holds."""
        columns = self.table.c
        is_owner = (subjects.c.tenant == columns.tenant) & (subjects.c.token == columns.user_id)
        statement = (
            sa.select(columns.user_id, columns.sealed, subjects.c.sealed)
            .select_from(self.table.outerjoin(subjects, is_owner))
            .where(_is_of(connection, self.table, tenant), is_in_slice, self._may_hold(needle))
        )
        owners = _Owners(connection, tenant)
        count = 0
        for token, words, key in connection.execute(statement):
            owner = owners.owner(token, key)
            if owner is not None:
                count += _contains(owner.decrypt(words, self._location), needle)
        return count

    def _may_hold(self, needle: str) -> sa.ColumnElement[bool]:
        """Return a condition on the length of the encrypted value, which is that of the plain one.

        A text is the needle or not; attributes hold it somewhere.
        """
        length = sa.func.length(self.table.c.sealed)
        least = len(json.dumps(needle)) + OVERHEAD
        return length == least if self.encrypted_field == "text" else length >= least


@dataclass(frozen=True)
class ErasableLooks(ErasableRows):
    """The looks at a person's data: erased, they name the person by a keyed digest only."""

    def erase(self, connection: sa.Connection, tenant: str, user_id: str) -> int:
        """Take the person's token out of the rows."""
        person = subject_of(connection, tenant, user_id)
        if person is None:
            return 0
        statement = sa.update(self.table).where(self.rows_of(tenant, person))
        return connection.execute(statement.values(user_id=None)).rowcount


class _Owners:
    """The subjects of rows, whose keys take a while to open."""

    def __init__(self, connection: sa.Connection, tenant: str) -> None:
        self._seal: Seal = seal_of(connection)
        self._nobody = subject_of(connection, tenant, NOBODY)
        self._opened: OrderedDict[str, Subject] = OrderedDict()

    def owner(self, token: str | None, key: bytes | None) -> Subject | None:
        """Return the subject that a row belongs to, None for a person who is gone."""
        if token is None:
            return self._nobody
        if key is None:
            return None
        if token not in self._opened:
            self._opened[token] = self._seal.unwrap(token, key)
            if len(self._opened) > OPENED:
                self._opened.popitem(last=False)
        return self._opened[token]


@dataclass(frozen=True)
class ErasableImpressions:
    """The items of the lists that a person was shown."""

    name: str = "impressions"
    """Name of the table."""

    def _batches_of(
        self, connection: sa.Connection, tenant: str, person: Subject
    ) -> list[sa.ColumnElement[bool]]:
        """Return conditions that hold for the person's rows, few lists each.

        The ids are read first: a subquery may be answered by reading the whole table.
        """
        statement = sa.select(requests.c.request_id).where(
            requests.c.tenant == tenant, requests.c.user_id == person.token
        )
        ids = sorted(connection.execute(statement).scalars())
        return [is_of_lists(tenant, ids[start : start + IDS]) for start in range(0, len(ids), IDS)]

    def count(self, connection: sa.Connection, tenant: str, person: Subject) -> int:
        """Count the person's rows."""
        statement = sa.select(sa.func.count()).select_from(impressions)
        return sum(
            int(connection.execute(statement.where(is_row)).scalar_one())
            for is_row in self._batches_of(connection, tenant, person)
        )

    def export(self, connection: sa.Connection, tenant: str, user_id: str) -> list[dict[str, Any]]:
        """Return the rows."""
        person = subject_of(connection, tenant, user_id)
        if person is None:
            return []
        statement = sa.select(impressions).order_by(
            impressions.c.request_id, impressions.c.position
        )
        return [
            {name: value for name, value in row.items() if name != "tenant"}
            for is_row in self._batches_of(connection, tenant, person)
            for row in connection.execute(statement.where(is_row)).mappings()
        ]

    def erase(self, connection: sa.Connection, tenant: str, user_id: str) -> int:
        """Delete the rows."""
        person = subject_of(connection, tenant, user_id)
        if person is None:
            return 0
        return sum(
            connection.execute(sa.delete(impressions).where(is_row)).rowcount
            for is_row in self._batches_of(connection, tenant, person)
        )

    def scan(self, connection: sa.Connection, tenant: str, needle: str) -> int:
        """Count the rows that hold `needle`."""
        return _scan(self, connection, tenant, needle)

    def scan_slice(
        self, connection: sa.Connection, tenant: str, needle: str, after: Any
    ) -> tuple[int, Any]:
        """Count in the rows past a key (None: from the first); return the key to go on from."""
        is_in_slice, end = _slice(connection, impressions, tenant, after)
        return _scan_columns(connection, impressions, tenant, needle, is_in_slice), end


# impressions before the requests by which they are found
ERASABLES: tuple[StoredRows, ...] = (
    ErasableImpressions(),
    ErasableRows(requests, "text"),
    ErasableRows(events),
    ErasableRows(user_attributes, "more"),
    ErasableRows(profiles, "profile"),
    ErasableRows(propositions, "proposition"),
    ErasableRows(support, "draft"),
    ErasableRows(observations, "observation"),
    ErasableRows(memories),
    ErasableLooks(audit),
)


def is_of_lists(tenant: str, request_ids: list[str]) -> sa.ColumnElement[bool]:
    """Return the condition that an impression is of one of these lists."""
    is_listed = impressions.c.request_id.in_(pad_values(request_ids))
    return sa.and_(impressions.c.tenant == tenant, is_listed)


def delete_slice(
    connection: sa.Connection, tenant: str, person: Subject
) -> tuple[dict[str, int], Sequence[Any]]:
    """Delete up to LISTS of the person's lists, EVENTS events and MEMORY_ROWS of the memory.

    The latest go first, and of a memory what is concluded before what it rests on. Returns the
    rows that went, by store, and event_id and time_ms of the events.
    """
    counts = dict.fromkeys((holder.name for holder in ERASABLES), 0)
    rows = _latest(connection, (requests.c.request_id,), tenant, person, LISTS)
    if rows:
        ids = [row.request_id for row in rows]
        is_request = sa.and_(requests.c.tenant == tenant, requests.c.request_id.in_(ids))
        deletion = sa.delete(impressions).where(is_of_lists(tenant, ids))
        counts["impressions"] = connection.execute(deletion).rowcount
        counts["requests"] = connection.execute(sa.delete(requests).where(is_request)).rowcount
    columns = (events.c.number, events.c.event_id, events.c.time_ms)
    rows = _latest(connection, columns, tenant, person, EVENTS)
    if rows:
        deletion = sa.delete(events).where(events.c.number.in_([row.number for row in rows]))
        counts["events"] = connection.execute(deletion).rowcount
    counts |= _delete_of_memory(connection, tenant, person)
    return counts, rows


def is_full(counts: Mapping[str, int]) -> bool:
    """Return whether a slice deleted as much as it may, so that more may be left."""
    of_memory = sum(counts[table.name] for table in MEMORY_TABLES)
    return counts["requests"] >= LISTS or counts["events"] >= EVENTS or of_memory >= MEMORY_ROWS


def _delete_of_memory(connection: sa.Connection, tenant: str, person: Subject) -> dict[str, int]:
    counts: dict[str, int] = {}
    for table in MEMORY_TABLES:
        is_own = sa.and_(table.c.tenant == tenant, table.c.user_id == person.token)
        room = MEMORY_ROWS - sum(counts.values())
        statement = sa.select(table.c.number).where(is_own).limit(room)
        numbers = list(connection.execute(statement).scalars())
        deletion = sa.delete(table).where(table.c.number.in_(numbers))
        counts[table.name] = connection.execute(deletion).rowcount if numbers else 0
    return counts


def _latest(
    connection: sa.Connection,
    columns: Sequence[sa.Column[Any]],
    tenant: str,
    person: Subject,
    most: int,
) -> Sequence[Any]:
    """Return these columns of up to `most` of the person's rows, the latest first."""
    table = columns[0].table.c
    statement = (
        sa.select(*columns)
        .where(table.tenant == tenant, table.user_id == person.token)
        .order_by(table.time_ms.desc())
        .limit(most)
    )
    return connection.execute(statement).all()


def _scan(holder: StoredRows, connection: sa.Connection, tenant: str, needle: str) -> int:
    count, after = holder.scan_slice(connection, tenant, needle, None)
    while after is not None:
        slice_count, after = holder.scan_slice(connection, tenant, needle, after)
        count += slice_count
    return count


def _slice(
    connection: sa.Connection, table: sa.Table, tenant: str, after: Any
) -> tuple[sa.ColumnElement[bool], Any]:
    """Return the condition of the next SCAN_ROWS rows past a key, and their last key, if any.

    SQLite reads tables in the order of their row numbers several times as fast as by an index.
    """
    if connection.dialect.name == "sqlite" or "number" in table.c:
        key: sa.ColumnElement[Any] = (
            table.c.number
            if "number" in table.c
            else sa.literal_column(f"{table.name}.rowid", sa.Integer)
        )
        rows = sa.select(key).select_from(table)
    else:
        key = list(table.primary_key.columns)[1]
        rows = sa.select(key).where(table.c.tenant == tenant)
    is_past = sa.true() if after is None else key > after
    ends = rows.where(is_past).order_by(key).limit(1).offset(SCAN_ROWS - 1)
    end = connection.execute(ends).scalar_one_or_none()
    return (is_past if end is None else sa.and_(is_past, key <= end)), end


def _is_of(connection: sa.Connection, table: sa.Table, tenant: str) -> sa.ColumnElement[bool]:
    """Return the condition that a row of a slice is the tenant's.

    SQLite would look for the tenant by an index, and read all its rows for every slice.
    """
    if connection.dialect.name == "sqlite":
        return sa.literal_column(f"+{table.name}.tenant", sa.Text) == tenant
    return table.c.tenant == tenant


def _scan_columns(
    connection: sa.Connection,
    table: sa.Table,
    tenant: str,
    needle: str,
    is_in_slice: sa.ColumnElement[bool],
) -> int:
    """Count the rows that hold `needle` as a whole word: person "1" is not person "12"."""
    nested = json.dumps(needle).replace("!", "!!").replace("%", "!%").replace("_", "!_")
    conditions: list[sa.ColumnElement[bool]] = []
    for column in table.columns:
        if isinstance(column.type, sa.Text) and column.name != "tenant":
            conditions.append(column == needle)
        if isinstance(column.type, sa.JSON):
            conditions.append(sa.cast(column, sa.Text).like(f"%{nested}%", escape="!"))
    statement = (
        sa.select(sa.func.count())
        .select_from(table)
        .where(_is_of(connection, table, tenant), is_in_slice, sa.or_(*conditions))
    )
    return int(connection.execute(statement).scalar_one())


def _contains(value: Any, needle: str) -> bool:
    """Return whether a JSON value is the needle, or holds it as a value or a name."""
    if isinstance(value, Mapping):
        return any(_contains(part, needle) for part in (*value.keys(), *value.values()))
    if isinstance(value, list):
        return any(_contains(part, needle) for part in value)
    return bool(value == needle)
