"""Know what users had forgotten: digests in the key store, which no restore of the store puts back.

The store and the key store count forgettings. Where the counts differ, one of the two is of another
time: what is known as forgotten is then deleted again (`forget_again`).
"""

from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa

from tailor.store.encryption import Subject
from tailor.store.engine import insert_into, pad_values
from tailor.store.schema import (
    forgotten,
    links,
    marks,
    memories,
    observations,
    profiles,
    propositions,
    secrets,
    subjects,
    support,
)

FORGETTINGS = "forgettings"  # mark: how often something was forgotten, in both stores
FORGOTTEN = "forgotten"  # mark of a tenant: how often rows of its memories were deleted
KEPT = "kept"  # state of an observation with its words
BATCH = 512  # values of a statement
NOTES = (forgotten, links)  # tables of the key store that say something of an entry's person


def forgotten_mark(tenant: str) -> str:
    """Return the mark that workers compare, to see that a memory of the tenant lost rows."""
    return f"{FORGOTTEN} {tenant}"


def count_up(connection: sa.Connection, mark: str, table: sa.Table = marks) -> None:
    """Add one to a mark, which is made where it is missing."""
    insert = insert_into(connection, table).values(name=mark, value="1")
    count = sa.cast(sa.cast(table.c.value, sa.BigInteger) + 1, sa.Text)
    connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_={"value": count}))


def note_forgotten(
    connection: sa.Connection, tenant: str, user: Subject, names: Sequence[str]
) -> None:
    """Write that observations must not come back, by their names under the user's key."""
    if not names:
        return
    insert = insert_into(connection, forgotten).on_conflict_do_nothing()
    rows = [{"tenant": tenant, "user_id": user.token, "name": name} for name in names]
    connection.execute(insert, rows)
    for table in (marks, secrets):
        count_up(connection, FORGETTINGS, table)


def forgotten_names(
    connection: sa.Connection, tenant: str, user: Subject, names: Iterable[str]
) -> set[str]:
    """Return those of these names that were forgotten."""
    distinct = sorted(set(names))
    is_own = (forgotten.c.tenant == tenant) & (forgotten.c.user_id == user.token)
    matches: set[str] = set()
    for start in range(0, len(distinct), BATCH):
        batch = pad_values(distinct[start : start + BATCH])
        statement = sa.select(forgotten.c.name).where(is_own, forgotten.c.name.in_(batch))
        matches.update(connection.execute(statement).scalars())
    return matches


def delete_notes(connection: sa.Connection) -> None:
    """Delete all notes on people who have no entry: nobody can make their digests any more."""
    for table in NOTES:
        connection.execute(sa.delete(table).where(~_has_entry(table)))


def delete_notes_of(connection: sa.Connection, tenant: str, tokens: Sequence[str]) -> None:
    """Delete the notes on these people of a tenant, unless they still have an entry."""
    for start in range(0, len(tokens), BATCH):
        batch = pad_values(list(tokens[start : start + BATCH]))
        for table in NOTES:
            is_note = sa.and_(table.c.tenant == tenant, table.c.user_id.in_(batch))
            connection.execute(sa.delete(table).where(is_note, ~_has_entry(table)))


def _has_entry(table: sa.Table) -> sa.Exists:
    return sa.exists().where(
        subjects.c.tenant == table.c.tenant, subjects.c.token == table.c.user_id
    )


def forgettings_differ(store_marks: Mapping[str, str], key_marks: Mapping[str, str]) -> bool:
    """Return whether store and key store count forgettings differently."""
    return store_marks.get(FORGETTINGS, "0") != key_marks.get(FORGETTINGS, "0")


def forget_again(connection: sa.Connection) -> dict[str, int]:
    """Delete what a restore brought back though it was forgotten; return the rows, by table.

    All that was ever believed in the groups concerned goes, and these memories are due: what else
    was said of the groups is believed anew by the next reading (`profiles.memory`).
    """
    is_same = sa.and_(
        forgotten.c.tenant == observations.c.tenant,
        forgotten.c.user_id == observations.c.user_id,
        forgotten.c.name == observations.c.name,
    )
    statement = (
        sa.select(observations.c.tenant, observations.c.user_id, observations.c.name)
        .join_from(observations, forgotten, is_same)
        .where(observations.c.state == KEPT)
    )
    names: dict[tuple[str, str], list[str]] = {}
    for row in connection.execute(statement):
        names.setdefault((row.tenant, row.user_id), []).append(row.name)
    counts: dict[str, int] = {}
    for person, of_person in names.items():
        for table, count in _forget_of(connection, person, of_person).items():
            counts[table] = counts.get(table, 0) + count
    return counts


def _forget_of(
    connection: sa.Connection, person: tuple[str, str], names: Sequence[str]
) -> dict[str, int]:
    groups: set[str] = set()
    counts = {table.name: 0 for table in (propositions, support, observations)}
    for start in range(0, len(names), BATCH):
        batch = pad_values(list(names[start : start + BATCH]))
        is_said = sa.and_(_is_of(support, person), support.c.name.in_(batch))
        groups.update(connection.execute(sa.select(support.c.group_name).where(is_said)).scalars())
        is_row = sa.and_(_is_of(observations, person), observations.c.name.in_(batch))
        for table, condition in ((support, is_said), (observations, is_row)):
            counts[table.name] += connection.execute(sa.delete(table).where(condition)).rowcount
    ordered = sorted(groups)
    for start in range(0, len(ordered), BATCH):
        batch = pad_values(ordered[start : start + BATCH])
        is_group = sa.and_(_is_of(propositions, person), propositions.c.group_name.in_(batch))
        deletion = sa.delete(propositions).where(is_group)
        counts[propositions.name] += connection.execute(deletion).rowcount
    deletion = sa.delete(profiles).where(_is_of(profiles, person))
    counts[profiles.name] = connection.execute(deletion).rowcount
    changes = {"due": True, "changed": memories.c.changed + 1}
    connection.execute(sa.update(memories).where(_is_of(memories, person)).values(**changes))
    count_up(connection, forgotten_mark(person[0]))
    return counts


def _is_of(table: sa.Table, person: tuple[str, str]) -> sa.ColumnElement[bool]:
    tenant, token = person
    return sa.and_(table.c.tenant == tenant, table.c.user_id == token)
