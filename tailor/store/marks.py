"""Marks of the store: short values by name, such as counts and states."""

from typing import Any

import sqlalchemy as sa

from tailor.store.engine import insert_into
from tailor.store.schema import marks


def read_mark(connection: sa.Connection, name: str) -> str | None:
    """Return the value of a mark, None where there is none."""
    statement = sa.select(marks.c.value).where(marks.c.name == name)
    value: Any = connection.execute(statement).scalar_one_or_none()
    return None if value is None else str(value)


def write_mark(connection: sa.Connection, name: str, value: str) -> None:
    """Write a mark, in place of the value before."""
    insert = insert_into(connection, marks).values(name=name, value=value)
    connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_={"value": value}))
