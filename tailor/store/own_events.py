"""A person's own events: count them, delete single ones, let them count for nothing."""

import sqlalchemy as sa

from tailor.store.engine import now_ms
from tailor.store.erased import note_deleted_event
from tailor.store.forgotten import FORGETTINGS, count_up
from tailor.store.memory import (
    MemoryState,
    known_rows_for_writing,
    rows_of,
    write_forgetting,
)
from tailor.store.schema import events, marks, secrets
from tailor.store.subjects import mark_deleted, subject_of
from tailor.store.users import DELETIONS

NO_SETTINGS = MemoryState(False, None, 0, 0, 0)


def count_own_events(connection: sa.Connection, tenant: str, user_id: str) -> int:
    """Return how many events of a person are stored."""
    person = subject_of(connection, tenant, user_id)
    if person is None:
        return 0
    statement = (
        sa.select(sa.func.count())
        .select_from(events)
        .where(events.c.tenant == tenant, events.c.user_id == person.token)
    )
    return int(connection.execute(statement).scalar_one())


def delete_event(connection: sa.Connection, tenant: str, user_id: str, event_id: str) -> str | None:
    """Delete one event of a person and return the receipt's id; None where there is no such event.

    It is not taken in again, whoever sends it, and goes again where a restore brings it back.
    """
    person = subject_of(connection, tenant, user_id, for_erasure=True)
    if person is None:
        return None
    is_event = sa.and_(
        events.c.tenant == tenant,
        events.c.user_id == person.token,
        events.c.event_id == event_id,
    )
    if not connection.execute(sa.delete(events).where(is_event)).rowcount:
        return None
    note_deleted_event(connection, tenant, user_id, event_id)
    for table in (marks, secrets):
        count_up(connection, FORGETTINGS, table)
    if connection.dialect.name != "sqlite":  # there a trigger does so
        count_up(connection, DELETIONS)
    mark_deleted(connection)
    return write_forgetting(connection, tenant, user_id, now_ms(), {events.name: 1}, residue=0)


def own_settings(connection: sa.Connection, tenant: str, user_id: str) -> MemoryState:
    """Return what a person has paused; nothing for a person without settings."""
    rows = rows_of(connection, tenant, user_id)
    return NO_SETTINGS if rows is None else rows.state


def pause(
    connection: sa.Connection, tenant: str, user_id: str, **changes: bool
) -> MemoryState | None:
    """Write `paused` (nothing new is remembered) or `history_paused`; return the settings.

    With `history_paused` the person's events count for nothing in the person's own answers.
    Returns None for a person of whom nothing is stored.
    """
    rows = known_rows_for_writing(connection, tenant, user_id, now_ms())
    if rows is None:
        return None
    if changes:
        rows.change_settings(**changes)
    count_up(connection, DELETIONS)  # workers read their histories anew
    return rows.state._replace(**changes)
