"""Whether SQLite's logs still hold what was deleted, and the overwriting of it.

A reader with an open snapshot is in the way. So a mark in the store says that something is left,
from the transaction that deleted it until the logs are empty, through crashes and restarts.
"""

import sqlalchemy as sa

from tailor.store.engine import Lookup, overwrite_deleted, reading, writing
from tailor.store.schema import erasures, marks
from tailor.store.subjects import OVERWRITE

DUE = Lookup(sa.select(marks.c.value).where(marks.c.name == OVERWRITE))


def is_overwriting_due(engine: sa.Engine) -> bool:
    """Return whether SQLite's logs may still hold what was deleted."""
    return bool(DUE.rows(engine))


def overwrite(engine: sa.Engine) -> bool:
    """Write over the logs and note it in the receipts; False where a reader is in the way.

    What is deleted meanwhile has a mark of its own, which stays.
    """
    pending = sa.select(erasures.c.tenant, erasures.c.receipt_id).where(
        erasures.c.overwritten.is_(False)
    )
    with reading(engine) as connection:
        value = connection.execute(DUE.statement).scalar_one_or_none()
        receipts = [] if value is None else connection.execute(pending).all()
    if not overwrite_deleted(engine):
        return False
    if value is not None:
        with writing(engine) as connection:
            for tenant, receipt_id in receipts:
                is_receipt = (erasures.c.tenant == tenant) & (erasures.c.receipt_id == receipt_id)
                connection.execute(sa.update(erasures).where(is_receipt).values(overwritten=True))
            is_mark = (marks.c.name == OVERWRITE) & (marks.c.value == value)
            connection.execute(sa.delete(marks).where(is_mark))
    return True
