"""Figures of a tenant's days: counts, and the items that were shown."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sqlalchemy as sa

from tailor.store.days import DAY_MS, DayCounts, count_day, items_shown

OPEN_DAYS = 2  # today and yesterday, whose lists may still bring choices
RECOUNT_MS = 600_000  # after which an older day is counted again: late events, erasures


@dataclass(frozen=True, eq=False)
class Day:
    """A day as it was counted."""

    start_ms: int
    counts: DayCounts
    item_numbers: np.ndarray
    """(items,) int32 numbers of the items in the lists of the day."""
    counted_ms: int


@dataclass(eq=False)
class TenantDays:
    """The days of a tenant in a worker's memory.

    Older days are counted once in RECOUNT_MS, so that a look at a fortnight reads two days.
    """

    days: dict[int, Day] = field(default_factory=dict)
    """By start."""
    numbers: dict[str, int] = field(default_factory=dict)
    """Item id -> its number, in the order in which items were first shown."""

    def read(
        self,
        read: Callable[[Callable[[sa.Connection], Day]], Day],
        tenant: str,
        count: int,
        now_ms: int,
    ) -> list[Day]:
        """Return the last `count` days, the oldest first; each is a transaction of its own."""
        today_ms = now_ms // DAY_MS * DAY_MS
        starts = [today_ms - age * DAY_MS for age in range(count - 1, -1, -1)]
        for start_ms in starts:
            day = self.days.get(start_ms)
            is_open = start_ms > today_ms - OPEN_DAYS * DAY_MS
            if day is None or is_open or now_ms - day.counted_ms > RECOUNT_MS:
                self.days[start_ms] = read(self._counter(tenant, start_ms, now_ms))
        return [self.days[start_ms] for start_ms in starts]

    def _counter(self, tenant: str, start_ms: int, now_ms: int) -> Callable[[sa.Connection], Day]:
        def count(connection: sa.Connection) -> Day:
            counts = count_day(connection, tenant, start_ms)
            item_numbers = self._numbered(items_shown(connection, tenant, start_ms))
            return Day(start_ms, counts, item_numbers, now_ms)

        return count

    def _numbered(self, item_ids: Iterable[str]) -> np.ndarray:
        numbers = self.numbers
        return np.array(
            [numbers.setdefault(item_id, len(numbers)) for item_id in item_ids], dtype=np.int32
        )

    def coverage(
        self, days: list[Day], rows: Mapping[str, Mapping[str, Any]]
    ) -> tuple[float | None, list[float | None]]:
        """Return the share of items that was shown, in all and by day.

        Only items count that are stored and not blocked; None where there are none.
        """
        item_ids = [item_id for item_id, row in rows.items() if not row["blocked"]]
        if not item_ids:
            return None, [None] * len(days)
        is_answerable = np.zeros(len(self.numbers), dtype=bool)
        numbers = [self.numbers[item_id] for item_id in item_ids if item_id in self.numbers]
        is_answerable[numbers] = True
        was_shown = np.zeros(len(self.numbers), dtype=bool)
        shares: list[float | None] = []
        for day in days:
            was_shown[day.item_numbers] = True
            shares.append(int(is_answerable[day.item_numbers].sum()) / len(item_ids))
        return int((was_shown & is_answerable).sum()) / len(item_ids), shares
