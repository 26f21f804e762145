"""Which events count for their items: one rule for each tenant.

A dislike, a refund or a negative value tells that a user does not want an item. Such events count
neither when a model is fitted nor in the histories that the service hands to it.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import sqlalchemy as sa

from tailor.data.actions import LABEL, against_by_default, speaks_against
from tailor.data.conditions import Condition
from tailor.errors import DataError
from tailor.store.engine import insert_into
from tailor.store.schema import marks

if TYPE_CHECKING:
    from tailor.store.events import StoredEvent

COLUMNS = {"item_id": pl.String, "time_ms": pl.Int64, "action": pl.String, "value": pl.Float64}
ONLY, AGAINST_WORD = "only ", "against "  # what the text of a rule with a condition begins with
BY_ACTION = "by action"


@dataclass(frozen=True)
class CountingRule:
    """Decides which events count.

    Without a text the action's name and the sign of the value decide (`tailor.data.actions`);
    "by action" ignores the value; "only CONDITION" names the events that count, "against CONDITION"
    those that do not.
    """

    text: str = ""
    """The rule as the store keeps it."""

    def __post_init__(self) -> None:
        condition = self.condition
        if condition is None and self.text not in ("", BY_ACTION):
            raise DataError(f'"{self.text}" is no rule of which events count')
        if condition is not None:
            condition.compiled(COLUMNS)  # raises for other columns

    @property
    def condition(self) -> Condition | None:
        """The condition of the rule, None for a rule without one."""
        for word in (ONLY, AGAINST_WORD):
            if self.text.startswith(word):
                return Condition(self.text.removeprefix(word), word.strip())
        return None

    @property
    def label(self) -> dict[str, str]:
        """The label that says the same in the dataset.toml of a data set; none for `only`."""
        if self.text.startswith(AGAINST_WORD):
            return {LABEL: self.text.removeprefix(AGAINST_WORD)}
        return {}

    def counting(self, events: pl.DataFrame) -> np.ndarray:
        """(events,) bool: True where an event counts for its item."""
        missing = [
            pl.lit(None, kind).alias(name)
            for name, kind in COLUMNS.items()
            if name not in events.columns
        ]
        table = events.with_columns(missing)
        condition = self.condition
        if condition is not None:
            holds = condition.holds(table)
            return holds if self.text.startswith(ONLY) else ~holds
        if self.text == BY_ACTION:
            return ~against_by_default(table.drop("value"))
        return ~against_by_default(table)

    def split(self, events: "Sequence[StoredEvent]") -> "tuple[list[tuple[str, int]], list[str]]":
        """Split a user's events into those that count and the items that others speak against.

        Returns (item id, time) of the first, and the item ids of the second, both in order.
        """
        if self.condition is None:
            uses_values = self.text != BY_ACTION
            mask = [
                not _is_against(event.action, uses_values and (event.value or 0) < 0)
                for event in events
            ]
        elif events:
            rows = [(event.item_id, event.time_ms, event.action, event.value) for event in events]
            mask = self.counting(pl.DataFrame(rows, COLUMNS, orient="row")).tolist()
        else:
            mask = []
        counting = [
            (event.item_id, event.time_ms)
            for event, counts in zip(events, mask, strict=True)
            if counts
        ]
        against = [event.item_id for event, counts in zip(events, mask, strict=True) if not counts]
        return counting, against


@functools.lru_cache(4096)
def _is_against(action: str | None, is_negative: bool) -> bool:
    return speaks_against(action, -1.0 if is_negative else None)


@functools.lru_cache(256)
def rule_of(text: str) -> CountingRule:
    """Return the rule of a text, read once."""
    return CountingRule(text)


def rule_name(tenant: str) -> str:
    """Return the name under which the store keeps a tenant's rule."""
    return f"counting events of {tenant}"


def read_rule(connection: sa.Connection, tenant: str) -> CountingRule:
    """Return a tenant's rule."""
    statement = sa.select(marks.c.value).where(marks.c.name == rule_name(tenant))
    return rule_of(connection.execute(statement).scalar_one_or_none() or "")


def write_rule(connection: sa.Connection, tenant: str, rule: CountingRule) -> None:
    """Keep a tenant's rule, in place of the one before."""
    insert = insert_into(connection, marks).values(name=rule_name(tenant), value=rule.text)
    connection.execute(
        insert.on_conflict_do_update(index_elements=["name"], set_={"value": rule.text})
    )
