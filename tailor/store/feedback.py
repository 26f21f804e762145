"""Decide which events count as a user's wish for an item: one rule for each tenant.

A dislike, a refund or a negative value says that a user does not want the item. Such events are
left out when a model is fitted, and left out of the histories that the service gives to a model.
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
from tailor.store.marks import read_mark, write_mark

if TYPE_CHECKING:
    from tailor.store.events import StoredEvent

COLUMNS = {"item_id": pl.String, "time_ms": pl.Int64, "action": pl.String, "value": pl.Float64}
# first word of a rule with a condition
ONLY = "only "
AGAINST_WORD = "against "
BY_ACTION = "by action"


@dataclass(frozen=True)
class CountingRule:
    """Decides which events count.

    The text of a rule has four forms:

    - "": the action's name and the sign of the value decide (`tailor.data.actions`);
    - "by action": the action's name decides, and the value is ignored;
    - "only CONDITION": events that meet the condition count;
    - "against CONDITION": events that meet the condition do not count.
    """

    text: str = ""
    """The rule as it is stored."""

    def __post_init__(self) -> None:
        condition = self.condition
        if condition is None and self.text not in ("", BY_ACTION):
            raise DataError(
                f'"{self.text}" is no counting rule: write "by action", "only CONDITION" or'
                ' "against CONDITION"'
            )
        if condition is not None:
            condition.compiled(COLUMNS)  # raises for a column that events do not have

    @property
    def condition(self) -> Condition | None:
        """The condition of a rule with "only" or "against"; None for other rules."""
        for word in (ONLY, AGAINST_WORD):
            if self.text.startswith(word):
                return Condition(self.text.removeprefix(word), what=word.strip())
        return None

    @property
    def label(self) -> dict[str, str]:
        """The entry of dataset.toml with the same meaning; empty where there is no such entry."""
        if self.text.startswith(AGAINST_WORD):
            return {LABEL: self.text.removeprefix(AGAINST_WORD)}
        return {}

    def counting(self, events: pl.DataFrame) -> np.ndarray:
        """(events,) bool: True where an event counts for its item."""
        empty_columns = [
            pl.lit(None, dtype).alias(name)
            for name, dtype in COLUMNS.items()
            if name not in events.columns
        ]
        table = events.with_columns(empty_columns)
        condition = self.condition
        if condition is not None:
            meets_condition = condition.holds(table)
            return meets_condition if self.text.startswith(ONLY) else ~meets_condition
        if self.text == BY_ACTION:
            return ~against_by_default(table.drop("value"))
        return ~against_by_default(table)

    def split(self, events: "Sequence[StoredEvent]") -> "tuple[list[tuple[str, int]], list[str]]":
        """Split a user's events into those that count and those that do not.

        Returns (item id, time) of the events that count, and the item ids of the others, both in
        the order of the events.
        """
        if self.condition is None:
            uses_values = self.text != BY_ACTION
            mask = []
            for event in events:
                is_negative = uses_values and (event.value or 0) < 0
                mask.append(not _is_against(event.action, is_negative))
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
    """Return the rule with this text, from a cache where it was read before."""
    return CountingRule(text)


def rule_name(tenant: str) -> str:
    """Return the name under which the store keeps a tenant's rule."""
    return f"counting events of {tenant}"


def read_rule(connection: sa.Connection, tenant: str) -> CountingRule:
    """Return a tenant's rule; the default rule where none is stored."""
    return rule_of(read_mark(connection, rule_name(tenant)) or "")


def write_rule(connection: sa.Connection, tenant: str, rule: CountingRule) -> None:
    """Store a tenant's rule, in place of the previous one."""
    write_mark(connection, rule_name(tenant), rule.text)
