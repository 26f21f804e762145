"""Rows of memories: observations, drafts, propositions, profiles. No rules.

Values are plain JSON, encrypted with the user's key; ids and groups become digests under that key.
Rows are added and retracted, never rewritten, so that what was believed at a time is a WHERE. All
of it happens in the caller's transaction, and writers of one user wait for each other.
"""

import base64
import re
import secrets as random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from tailor.store.checks import check_id
from tailor.store.encryption import Seal, Subject
from tailor.store.engine import Lookup, insert_into, now_ms, pad_values
from tailor.store.erased import erasures_of
from tailor.store.forgotten import (
    KEPT,
    count_up,
    forgotten_mark,
    forgotten_names,
    note_forgotten,
)
from tailor.store.marks import read_mark
from tailor.store.retention import DAY_MS
from tailor.store.schema import (
    forgettings,
    marks,
    memories,
    observations,
    profiles,
    propositions,
    subjects,
    support,
)
from tailor.store.signing import seal_of, signing_secret, subject_digest
from tailor.store.subjects import (
    MEMORY_TABLES,
    mark_deleted,
    subject_for_writing,
    subject_of,
    subjects_for,
)
from tailor.store.users import canonical, public_key, signing_key

BATCH = 512  # values of a statement
RECEIPT_VERSION = 2  # all fields are signed, as those of an erasure
WITHDRAWN, WISH, WITHHELD = "withdrawn", "wish", "withheld"  # states of rows without words
FIELDS = {  # what values are encrypted as
    table.name: f"{table.name}.{field}"
    for table, field in (
        (observations, "observation"),
        (support, "draft"),
        (propositions, "proposition"),
        (profiles, "profile"),
    )
}
OBSERVED = ("recorded_ms", "state", "sealed")  # columns that a reading of observations needs
PLACE = (observations.c.occurred_ms, observations.c.number)  # of a message in its session
RANKS = (0, 1, 2)  # of drafts
UNKNOWN_RANK = -1  # of those that an older version wrote: all of them are read
SAME = 256  # drafts of one observation in a group, at most
GRAM = 5  # words in a row by which a text is looked for
WORD = re.compile(r"\w+")
VERSION = Lookup(
    sa.select(
        subjects.c.token,
        memories.c.changed,
        sa.select(marks.c.value).where(marks.c.name == sa.bindparam("mark")).scalar_subquery(),
    )
    .select_from(
        subjects.join(
            memories,
            (memories.c.tenant == subjects.c.tenant) & (memories.c.user_id == subjects.c.token),
        )
    )
    .where(subjects.c.tenant == sa.bindparam("whose"), subjects.c.name == sa.bindparam("who"))
)
DELETIONS = Lookup(sa.select(marks.c.value).where(marks.c.name == sa.bindparam("mark")))


class MemoryState(NamedTuple):
    """Settings of a memory, and how often it changed."""

    paused: bool
    """True: nothing new is observed."""
    retention_days: float | None
    """Days after which an observation goes; None: never."""
    changed: int
    """Count of changes."""
    forgotten: int
    """Count of those that deleted rows."""
    changed_ms: int
    """Recorded time of the last change."""
    due: bool = False
    """True: a restore took rows away, and what is believed must be computed anew."""
    history_paused: bool = False
    """True: the user's events count for nothing in the user's own answers."""


class Version(NamedTuple):
    """Values that change whenever a memory does."""

    token: str
    """Of the user; "": there is no memory."""
    changed: int
    deletions: int
    """Count of deletions from the tenant's memories."""


class AddedRow(NamedTuple):
    """A value to write."""

    id: str
    """Of the observation or proposition."""
    group: str
    """Key of the group it belongs to."""
    value: Mapping[str, Any]
    rank: int = 0
    """Of a draft."""


class ObservedRow(NamedTuple):
    """An observation to write."""

    id: str
    value: Mapping[str, Any]
    """With `occurred_ms`; all of it where it is kept, nothing else where it is not."""
    session: str = ""
    """Key of the messages that it stands among; "": it is no message."""
    state: str = KEPT
    """KEPT, WITHDRAWN, WISH or WITHHELD."""


class Place(NamedTuple):
    """Place of a message in its session."""

    occurred_ms: int
    number: int
    """Of its row: messages of one moment stand in the order in which they arrived."""


def version_of(engine: sa.Engine, tenant: str, user_id: str) -> Version:
    """Return the version of a user's memory as of now. Raises what the engine raises."""
    seal: Seal = engine.get_execution_options()["seal"]
    mark = forgotten_mark(tenant)
    rows = VERSION.rows(engine, whose=tenant, who=seal.name(tenant, user_id), mark=mark)
    if rows:
        token, changed, deletions = rows[0]
        return Version(token, changed, int(deletions or 0))
    return Version("", 0, sum(int(value) for (value,) in DELETIONS.rows(engine, mark=mark)))


def deletions_of(connection: sa.Connection, tenant: str) -> int:
    """Return how often rows of the tenant's memories were deleted."""
    return int(read_mark(connection, forgotten_mark(tenant)) or 0)


def allowed_times(
    connection: sa.Connection, tenant: str, user_id: str, times_ms: Sequence[int]
) -> list[bool]:
    """Return which times an erasure of the person does not refuse.

    What happened before an erasure would bring the person back.
    """
    erasure = erasures_of(connection, [(tenant, user_id)]).get((tenant, user_id))
    if erasure is None:
        return [True] * len(times_ms)
    latest_ms = now_ms()
    return [not erasure.refuses(time_ms, latest_ms) for time_ms in times_ms]


def rows_of(connection: sa.Connection, tenant: str, user_id: str) -> "MemoryRows | None":
    """Return a user's rows for reading, None for a user without a memory."""
    user = subject_of(connection, tenant, user_id)
    if user is None:
        return None
    is_own = (memories.c.tenant == tenant) & (memories.c.user_id == user.token)
    row = connection.execute(sa.select(memories).where(is_own)).one_or_none()
    return None if row is None else MemoryRows(connection, tenant, user, _state(row))


def rows_for_writing(
    connection: sa.Connection, tenant: str, user_id: str, time_ms: int
) -> "MemoryRows":
    """Return a user's rows, locked until the commit; a memory is made where there is none.

    The recorded time of the change is `time_ms`, or that of the last change where a clock went
    back: what is recorded later never seems to be known earlier.
    """
    check_id(user_id, "user_id")
    user = subjects_for(connection, tenant, [user_id])[user_id]
    return _changed(connection, tenant, user, time_ms)


def known_rows_for_writing(
    connection: sa.Connection, tenant: str, user_id: str, time_ms: int
) -> "MemoryRows | None":
    """Return a user's rows as `rows_for_writing` does, None for a user without an entry.

    So nothing that was asked before an erasure makes the person anew after it.
    """
    user = subject_for_writing(connection, tenant, user_id)
    return None if user is None else _changed(connection, tenant, user, time_ms)


def _changed(connection: sa.Connection, tenant: str, user: Subject, time_ms: int) -> "MemoryRows":
    """Return rows of a memory whose change is counted, which locks them."""
    insert = insert_into(connection, memories).values(
        tenant=tenant,
        user_id=user.token,
        paused=False,
        retention_days=None,
        changed=1,
        forgotten=0,
        changed_ms=time_ms,
    )
    upsert = insert.on_conflict_do_update(
        index_elements=["tenant", "user_id"],
        set_={
            "changed": memories.c.changed + 1,
            "changed_ms": sa.case(
                (memories.c.changed_ms > time_ms, memories.c.changed_ms), else_=time_ms
            ),
        },
    ).returning(*memories.c)
    return MemoryRows(connection, tenant, user, _state(connection.execute(upsert).one()))


def overdue(connection: sa.Connection, time_ms: int) -> list[tuple[str, str, int]]:
    """Return tenant, user id and count of observations that are past their memory's retention."""
    is_own = (observations.c.tenant == memories.c.tenant) & (
        observations.c.user_id == memories.c.user_id
    )
    is_old = observations.c.occurred_ms < time_ms - memories.c.retention_days * DAY_MS
    is_user = (subjects.c.tenant == memories.c.tenant) & (subjects.c.token == memories.c.user_id)
    is_kept = observations.c.state == KEPT
    columns = (subjects.c.tenant, subjects.c.token, subjects.c.sealed)
    statement = (
        sa.select(*columns, sa.func.count().label("size"))
        .select_from(memories.join(subjects, is_user).join(observations, is_own))
        .where(memories.c.retention_days.is_not(None), is_old, is_kept)
        .group_by(*columns)
    )
    seal = seal_of(connection)
    return [
        (row.tenant, seal.unwrap(row.token, row.sealed).user_id, row.size)
        for row in connection.execute(statement)
    ]


def _state(row: Any) -> MemoryState:
    return MemoryState(**{name: getattr(row, name) for name in MemoryState._fields})


@dataclass(frozen=True)
class MemoryRows:
    """The rows of one user's memory, within a transaction."""

    connection: sa.Connection
    tenant: str
    user: Subject
    state: MemoryState

    # reading

    def known(self, observation_ids: Sequence[str]) -> set[str]:
        """Return those of these observations that are stored."""
        names = {self._name(observation_id): observation_id for observation_id in observation_ids}
        rows = self._rows_by(observations.c.name, list(names), (observations.c.name,))
        return {names[row.name] for row in rows}

    def observations(
        self, as_of_ms: int | None = None, ids: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """Return observations in the order in which they were recorded.

        `as_of_ms`: those recorded until then; `ids`: these alone.
        """
        columns = tuple(observations.c[name] for name in ("number", *OBSERVED))
        if ids is None:
            statement = sa.select(*columns).where(self._is_own(observations))
            rows: Iterable[Any] = self.connection.execute(statement)
        else:
            names = [self._name(observation_id) for observation_id in ids]
            rows = self._rows_by(observations.c.name, names, columns)
        return [
            self._open(observations, row.sealed)
            for row in sorted(rows, key=lambda row: row.number)
            if row.state == KEPT and (as_of_ms is None or row.recorded_ms <= as_of_ms)
        ]

    def places(self, observation_ids: Sequence[str]) -> dict[str, Place]:
        """Return where these observations stand in their sessions, by their ids."""
        names = {self._name(observation_id): observation_id for observation_id in observation_ids}
        columns = (observations.c.name, *PLACE)
        rows = self._rows_by(observations.c.name, list(names), columns)
        return {names[row.name]: Place(row.occurred_ms, row.number) for row in rows}

    def wish_after(self, session: str, place: Place) -> Place | None:
        """Return where the first wish behind a place of a session stands, None for none."""
        statement = self._rows_in(session, WISH, PLACE).where(sa.tuple_(*PLACE) > sa.tuple_(*place))
        row = self.connection.execute(statement.order_by(*PLACE).limit(1)).one_or_none()
        return None if row is None else Place(*row)

    def message_before(self, session: str, place: Place) -> dict[str, Any] | None:
        """Return the message before a place in a session, None for none that is kept.

        Where the one before it was withdrawn, there is none. Wishes in between cost nothing.
        """
        latest = {}
        for state in (KEPT, WITHDRAWN):
            statement = (
                self._rows_in(session, state, (*PLACE, observations.c.sealed))
                .where(sa.tuple_(*PLACE) < sa.tuple_(*place))
                .order_by(*(column.desc() for column in PLACE))
                .limit(1)
            )
            latest[state] = self.connection.execute(statement).one_or_none()
        kept, withdrawn = latest[KEPT], latest[WITHDRAWN]
        if kept is None or (withdrawn is not None and withdrawn[:2] > kept[:2]):
            return None
        return self._open(observations, kept.sealed)

    def _rows_in(
        self, session: str, state: str, columns: Sequence[sa.Column[Any]]
    ) -> sa.Select[Any]:
        """Return the statement that selects the rows of a session in one state, by the index."""
        return sa.select(*columns).where(
            self._is_own(observations),
            observations.c.session == self._session_name(session),
            observations.c.state == state,
        )

    def forgotten(self, observation_ids: Sequence[str]) -> set[str]:
        """Return those of these observations that were forgotten, and must not come back."""
        names = {self._name(observation_id): observation_id for observation_id in observation_ids}
        return {
            names[name] for name in forgotten_names(self.connection, self.tenant, self.user, names)
        }

    def drafts(self) -> list[dict[str, Any]]:
        """Return all drafts that were not retracted."""
        statement = sa.select(support.c.sealed).where(
            self._is_own(support), support.c.retracted_ms.is_(None)
        )
        rows = self.connection.execute(statement.order_by(support.c.number))
        return [self._open(support, row.sealed) for row in rows]

    def drafts_of(self, groups: Sequence[str], most: int | None = None) -> list[dict[str, Any]]:
        """Return the drafts of these groups that were not retracted.

        `most`: of a larger group the latest of each rank, so many and up to SAME of one moment,
        and all whose rank is not known.
        """
        names = {self._group_name(group) for group in groups}
        sizes = [] if most is None else self._sizes(sorted(names))
        large = {row.group_name for row in sizes if row.size > (most or 0)}
        rows = list(self._rows_left(support, sorted(names - large), (support.c.sealed,)))
        for name in sorted(large):
            rows += self._latest_of(name, UNKNOWN_RANK, None)
            for rank in RANKS:
                rows += self._latest_of(name, rank, (most or 0) + SAME)
        return [self._open(support, row.sealed) for row in rows]

    def _sizes(self, group_names: Sequence[str]) -> Iterator[Any]:
        """Yield name and size of groups, without the drafts that were retracted."""
        for batch in _batches(group_names):
            is_group = sa.and_(
                self._is_own(support),
                support.c.group_name.in_(batch),
                support.c.retracted_ms.is_(None),
            )
            statement = sa.select(support.c.group_name, sa.func.count().label("size"))
            yield from self.connection.execute(
                statement.where(is_group).group_by(support.c.group_name)
            )

    def _latest_of(self, group_name: str, rank: int, most: int | None) -> Sequence[Any]:
        statement = (
            sa.select(support.c.sealed)
            .where(
                self._is_own(support),
                support.c.group_name == group_name,
                support.c.rank == rank,
                support.c.retracted_ms.is_(None),
            )
            .order_by(support.c.occurred_ms.desc(), support.c.name.desc())
            .limit(most)
        )
        return self.connection.execute(statement).all()

    def order_of(self, observation_id: str) -> str:
        """Return the name that orders drafts of one moment, as `drafts_of` does."""
        return self._name(observation_id)

    def drafts_from(self, observation_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return the drafts that these observations gave, retracted ones too."""
        names = [self._name(observation_id) for observation_id in observation_ids]
        rows = self._rows_by(support.c.name, names, (support.c.number, support.c.sealed))
        return [self._open(support, row.sealed) for row in rows]

    def current(self, as_of_ms: int | None = None) -> list[dict[str, Any]]:
        """Return the propositions that are believed now, or were at a recorded time."""
        statement = sa.select(propositions.c.sealed).where(
            self._is_own(propositions), was_believed(propositions, as_of_ms)
        )
        rows = self.connection.execute(statement.order_by(propositions.c.number))
        return [self._open(propositions, row.sealed) for row in rows]

    def propositions_of(self, groups: Sequence[str]) -> list[dict[str, Any]]:
        """Return the propositions of these groups that are believed now."""
        names = [self._group_name(group) for group in groups]
        rows = self._rows_left(propositions, names, (propositions.c.sealed,))
        return [self._open(propositions, row.sealed) for row in rows]

    def versions_of(self, proposition_id: str) -> list[tuple[int, int | None, dict[str, Any]]]:
        """Return recorded time, retracted time and value of each row of a proposition."""
        columns = (
            propositions.c.number,
            propositions.c.recorded_ms,
            propositions.c.retracted_ms,
            propositions.c.sealed,
        )
        rows = self._rows_by(propositions.c.name, [self._name(proposition_id)], columns)
        return [
            (row.recorded_ms, row.retracted_ms, self._open(propositions, row.sealed))
            for row in sorted(rows, key=lambda row: row.number)
        ]

    def before(self, time_ms: float, most: int | None = None) -> list[dict[str, Any]]:
        """Return the observations that happened before a time, the earliest first."""
        if time_ms <= 0:
            return []
        is_old = sa.and_(observations.c.occurred_ms < time_ms, observations.c.state == KEPT)
        statement = (
            sa.select(observations.c.sealed)
            .where(self._is_own(observations), is_old)
            .order_by(observations.c.occurred_ms, observations.c.number)
            .limit(most)
        )
        return [self._open(observations, row.sealed) for row in self.connection.execute(statement)]

    # writing

    def change_settings(self, **settings: bool | float | None) -> None:
        """Write `paused`, `retention_days`, `due` or `history_paused`."""
        self.connection.execute(
            sa.update(memories).where(self._is_own(memories)).values(**settings)
        )

    def add_observations(self, added: Sequence[ObservedRow]) -> set[str]:
        """Write observations in their order and return the ids of those that are new.

        What is not kept stays away when it is sent again or restored.
        """
        self._note_forgotten([row.id for row in added if row.state != KEPT])
        names = {self._name(row.id): row.id for row in added}
        rows = [
            {
                **self._row(observations, row.value),
                "name": name,
                "occurred_ms": row.value["occurred_ms"],
                "session": self._session_name(row.session) if row.session else None,
                "state": row.state,
            }
            for name, row in zip(names, {row.id: row for row in added}.values(), strict=True)
        ]
        if not rows:
            return set()
        insert = (
            insert_into(self.connection, observations)
            .on_conflict_do_nothing(index_elements=["tenant", "user_id", "name"])
            .returning(observations.c.name)
        )
        return {names[row.name] for row in self.connection.execute(insert, rows)}

    def add_drafts(self, drafts: Sequence[AddedRow]) -> None:
        """Write drafts; `id` is that of the observation that says it."""
        columns = [{"rank": row.rank, "occurred_ms": row.value["occurred_ms"]} for row in drafts]
        self._add(support, drafts, columns)

    def retract_drafts(self, is_retracted: Any) -> list[dict[str, Any]]:
        """Retract the drafts that a function of their value says so of, and return them."""
        statement = sa.select(support.c.number, support.c.sealed).where(
            self._is_own(support), support.c.retracted_ms.is_(None)
        )
        opened = [
            (row.number, self._open(support, row.sealed))
            for row in self.connection.execute(statement)
        ]
        retracted = [(number, value) for number, value in opened if is_retracted(value)]
        self._retract(support, support.c.number, [number for number, _ in retracted])
        return [value for _, value in retracted]

    def write(self, retracted_ids: Sequence[str], added: Sequence[AddedRow]) -> None:
        """Retract propositions by their ids, and add others."""
        names = [self._name(proposition_id) for proposition_id in retracted_ids]
        self._retract(propositions, propositions.c.name, names)
        self._add(propositions, added)

    def save_profile(
        self, level: str, as_of_ms: int, value: Mapping[str, Any], lift: Sequence[float | None]
    ) -> None:
        """Write a profile in place of the one of that level; `lift` is it and its interval."""
        is_level = sa.and_(
            self._is_own(profiles), profiles.c.level == level, profiles.c.retracted_ms.is_(None)
        )
        self.connection.execute(
            sa.update(profiles).where(is_level).values(retracted_ms=self.state.changed_ms)
        )
        row = self._row(profiles, value) | {"level": level, "as_of_ms": as_of_ms}
        row |= dict(zip(("lift", "lift_low", "lift_high"), lift, strict=True))
        self.connection.execute(sa.insert(profiles), row)

    def saved_profile(self, level: str) -> dict[str, Any] | None:
        """Return the profile of a level, None where none was saved."""
        statement = sa.select(profiles).where(
            self._is_own(profiles), profiles.c.level == level, profiles.c.retracted_ms.is_(None)
        )
        row = self.connection.execute(statement).one_or_none()
        if row is None:
            return None
        lift = None if row.lift is None else [row.lift, row.lift_low, row.lift_high]
        value = self._open(profiles, row.sealed)
        return {**value, "as_of_ms": row.as_of_ms, "recorded_ms": row.recorded_ms, "lift": lift}

    def forget(
        self, observation_ids: Sequence[str], groups: Sequence[str], for_good: bool = True
    ) -> dict[str, int]:
        """Delete observations, their drafts, and whatever was ever believed in these groups.

        All profiles go too. Returns the rows that went, by table. What is still believed of the
        groups is written anew by the caller. `for_good`: they stay away when they are sent again
        or restored.
        """
        if for_good:
            self._note_forgotten(observation_ids)
        names = [self._name(observation_id) for observation_id in observation_ids]
        group_names = [self._group_name(group) for group in groups]
        counts = {
            "observations": self._delete_by(observations.c.name, names),
            "support": self._delete_by(support.c.name, names),
            "propositions": self._delete_by(propositions.c.group_name, group_names),
        }
        deletion = sa.delete(profiles).where(self._is_own(profiles))
        counts["profiles"] = self.connection.execute(deletion).rowcount
        if any(counts.values()):
            self.connection.execute(
                sa.update(memories)
                .where(self._is_own(memories))
                .values(forgotten=memories.c.forgotten + 1)
            )
            count_up(self.connection, forgotten_mark(self.tenant))
            mark_deleted(self.connection)
        return counts

    def drop_before(self, time_ms: float) -> None:
        """Delete what is left of observations before a time: that they were withdrawn."""
        is_old = sa.and_(
            self._is_own(observations),
            observations.c.occurred_ms < time_ms,
            observations.c.state != KEPT,
        )
        self.connection.execute(sa.delete(observations).where(is_old))

    def forget_slice(self, most: int) -> tuple[dict[str, int], bool]:
        """Delete rows of everything but the settings, some `most` of each table.

        Returns how many went, by table, and whether nothing is left. Observations go first, with
        what they say: until then what is believed of the rest must be computed anew.
        """
        numbers, names = self._first(observations, most)
        note_forgotten(self.connection, self.tenant, self.user, names)
        counts = {
            observations.name: self._delete_by(observations.c.number, numbers),
            support.name: self._delete_by(support.c.name, names),
        }
        is_over = len(numbers) < most
        for table in (profiles, propositions, support) if is_over else ():
            numbers, _ = self._first(table, most)
            deleted = self._delete_by(table.c.number, numbers)
            counts[table.name] = counts.get(table.name, 0) + deleted
            is_over = is_over and len(numbers) < most
        changes = {"forgotten": memories.c.forgotten + 1, "due": not is_over}
        self.connection.execute(sa.update(memories).where(self._is_own(memories)).values(**changes))
        count_up(self.connection, forgotten_mark(self.tenant))
        mark_deleted(self.connection)
        return counts, is_over

    def _first(self, table: sa.Table, most: int) -> tuple[list[int], list[str]]:
        """Return numbers and names of up to so many rows."""
        name = table.c.name if "name" in table.c else sa.literal("")
        statement = sa.select(table.c.number, name).where(self._is_own(table)).limit(most)
        numbers = []
        names = []
        for row in self.connection.execute(statement):
            numbers.append(row[0])
            names.append(row[1])
        return numbers, names

    def residue(self, texts: Sequence[str]) -> int:
        """Count the user's rows that hold five words in a row of one of these texts.

        Of a shorter text all its words count.
        """
        grams = {gram for text in texts for gram in grams_of(WORD.findall(text.casefold()))}
        lengths = {len(gram) for gram in grams}
        if not grams:
            return 0
        count = 0
        for table in MEMORY_TABLES:
            statement = sa.select(table.c.sealed).where(self._is_own(table))
            for row in self.connection.execute(statement):
                words = words_of(self._open(table, row.sealed))
                count += any(not grams.isdisjoint(_runs(words, length)) for length in lengths)
        return count

    def write_receipt(self, counts: Mapping[str, int]) -> str:
        """Write the receipt of what was forgotten, and return its id."""
        return write_forgetting(
            self.connection, self.tenant, self.user.user_id, self.state.changed_ms, counts
        )

    # parts

    def _note_forgotten(self, observation_ids: Sequence[str]) -> None:
        names = [self._name(observation_id) for observation_id in observation_ids]
        note_forgotten(self.connection, self.tenant, self.user, names)

    def _is_own(self, table: sa.Table) -> sa.ColumnElement[bool]:
        return sa.and_(table.c.tenant == self.tenant, table.c.user_id == self.user.token)

    def _name(self, row_id: str) -> str:
        return self.user.digest(f"id\0{row_id}")

    def _group_name(self, group: str) -> str:
        return self.user.digest(f"group\0{group}")

    def _open(self, table: sa.Table, sealed: bytes) -> dict[str, Any]:
        return dict(self.user.decrypt(bytes(sealed), FIELDS[table.name]))

    def _row(self, table: sa.Table, value: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "tenant": self.tenant,
            "user_id": self.user.token,
            "recorded_ms": self.state.changed_ms,
            "sealed": self.user.encrypt(dict(value), FIELDS[table.name]),
        }

    def _session_name(self, session: str) -> str:
        return self.user.digest(f"session\0{session}")

    def _add(
        self, table: sa.Table, added: Sequence[AddedRow], columns: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """Write rows; `columns` are further ones of each."""
        rows = [
            {
                **self._row(table, row.value),
                "name": self._name(row.id),
                "group_name": self._group_name(row.group),
            }
            for row in added
        ]
        for row, more in zip(rows, columns, strict=bool(columns)):
            row.update(more)
        if rows:
            self.connection.execute(sa.insert(table), rows)

    def _rows_by(
        self, column: sa.Column[Any], values: Sequence[Any], columns: Sequence[sa.Column[Any]]
    ) -> Iterator[Any]:
        """Yield rows whose column has one of these values."""
        for batch in _batches(values):
            statement = sa.select(*columns).where(self._is_own(column.table), column.in_(batch))
            yield from self.connection.execute(statement)

    def _rows_left(
        self, table: sa.Table, group_names: Sequence[str], columns: Sequence[sa.Column[Any]]
    ) -> Iterator[Any]:
        """Yield the rows of these groups that were not retracted."""
        for batch in _batches(group_names):
            statement = sa.select(*columns).where(
                self._is_own(table),
                table.c.group_name.in_(batch),
                table.c.retracted_ms.is_(None),
            )
            yield from self.connection.execute(statement)

    def _retract(self, table: sa.Table, column: sa.Column[Any], values: Sequence[Any]) -> None:
        for batch in _batches(values):
            is_row = sa.and_(self._is_own(table), column.in_(batch), table.c.retracted_ms.is_(None))
            self.connection.execute(
                sa.update(table).where(is_row).values(retracted_ms=self.state.changed_ms)
            )

    def _delete_by(self, column: sa.Column[Any], values: Sequence[Any]) -> int:
        table = column.table
        return sum(
            self.connection.execute(
                sa.delete(table).where(self._is_own(table), column.in_(batch))
            ).rowcount
            for batch in _batches(values)
        )


def write_forgetting(
    connection: sa.Connection,
    tenant: str,
    user_id: str,
    time_ms: int,
    counts: Mapping[str, int],
    residue: int | None = None,
) -> str:
    """Write the receipt of what a person had forgotten, by table, and return its id."""
    receipt_id = random.token_hex(16)
    connection.execute(
        sa.insert(forgettings).values(
            tenant=tenant,
            receipt_id=receipt_id,
            time_ms=time_ms,
            subject=subject_digest(signing_secret(connection), tenant, user_id),
            rows=dict(counts),
            residue=residue,
            overwritten=False if connection.dialect.name == "sqlite" else None,
        )
    )
    return receipt_id


def note_residue(connection: sa.Connection, tenant: str, receipt_id: str, residue: int) -> None:
    """Write what was found of the words that were forgotten."""
    is_receipt = (forgettings.c.tenant == tenant) & (forgettings.c.receipt_id == receipt_id)
    connection.execute(sa.update(forgettings).where(is_receipt).values(residue=residue))


def read_forgetting(
    connection: sa.Connection, tenant: str, receipt_id: str
) -> dict[str, Any] | None:
    """Return a receipt of what was forgotten as of now, signed; None for an unknown id.

    "residue" is null while nothing was looked for.
    """
    is_receipt = (forgettings.c.tenant == tenant) & (forgettings.c.receipt_id == receipt_id)
    row = connection.execute(sa.select(forgettings).where(is_receipt)).one_or_none()
    if row is None:
        return None
    key = signing_key(connection)
    receipt = {
        "version": RECEIPT_VERSION,
        "receipt_id": row.receipt_id,
        "tenant": row.tenant,
        "subject": row.subject,
        "time_ms": row.time_ms,
        "forgotten": row.rows,
        "residue": row.residue,
        "overwritten": row.overwritten,
        "public_key": public_key(key),
    }
    signature = base64.b64encode(key.sign(canonical(receipt))).decode()
    return {**receipt, "signature": signature}


def was_believed(table: sa.Table, as_of_ms: int | None) -> sa.ColumnElement[bool]:
    """Return the condition that a row was believed at a recorded time; None: that it is now."""
    if as_of_ms is None:
        return table.c.retracted_ms.is_(None)
    is_over = sa.and_(table.c.retracted_ms.is_not(None), table.c.retracted_ms <= as_of_ms)
    return sa.and_(table.c.recorded_ms <= as_of_ms, sa.not_(is_over))


def grams_of(words: Sequence[str]) -> set[tuple[str, ...]]:
    """Return each five words in a row, or all words where there are fewer."""
    return _runs(words, min(len(words), GRAM)) if words else set()


def _runs(words: Sequence[str], length: int) -> set[tuple[str, ...]]:
    """Return each so many words in a row."""
    return set(zip(*(words[start:] for start in range(length)), strict=False))


def words_of(value: Any) -> list[str]:
    """Return the words of all texts in a JSON value, in order."""
    if isinstance(value, str):
        return WORD.findall(value.casefold())
    if isinstance(value, Mapping):
        return [word for part in value.values() for word in words_of(part)]
    if isinstance(value, list):
        return [word for part in value for word in words_of(part)]
    return []


def _batches(values: Sequence[Any]) -> Iterator[list[Any]]:
    """Yield up to BATCH values at a time, in a few lengths only."""
    distinct = list(dict.fromkeys(values))
    for start in range(0, len(distinct), BATCH):
        yield pad_values(distinct[start : start + BATCH])
