"""Time of day: what is chosen at this hour of this weekday, by everybody and by you."""

from dataclasses import dataclass, field
from typing import Annotated

import numpy as np

from tailor.core.methods import ScoringRecommender
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.dataset import Dataset
from tailor.data.queries import NO_TIME, Queries
from tailor.data.splits import Split
from tailor.errors import DataError

DAY_MS = 86_400_000
HOURS = 4  # of a bucket of the day
BUCKETS, WEEKDAYS = 24 // HOURS, 7
FIRST_WEEKDAY = 3  # 1 January 1970 was a Thursday; Monday is 0


@dataclass(eq=False)
class TimeOfDay(ScoringRecommender):
    """Coffee in the morning, films on Saturday night: popularity at this time of day and week,
    under what you do at such times yourself.

    An item's share of all events is multiplied by how much more often than others it is chosen in
    this 4-hour bucket, and on this weekday; both are pulled towards its finest category's figures
    and those towards 1, as if `shrink` events had been seen. A person's own events count one,
    `own_hour` more in this bucket and `own_weekday` more on this weekday; `prior` events of
    everybody's choice at this time are added to them. Scores are shares of choice at
    `Query.time_ms`; a query without it is answered without buckets. No paper of its own.
    """

    utc_offset_hours: float = 0.0
    """Local time minus UTC; times in the data are UTC."""
    shrink: float = 20.0
    """Events of the category added to an item's, and of everybody's to a category's."""
    own_hour: Annotated[float, Range(0.0, 32.0)] = 8.0
    """Weight, beside 1, of an own event in the bucket of the query."""
    own_weekday: Annotated[float, Range(0.0, 4.0)] = 0.5
    """The same on its weekday."""
    prior: Annotated[float, Range(0.1, 50.0, log=True)] = 2.0
    """Events of everybody's beside a person's own."""
    history_length: int = 1_000
    """Most recent own events used; 0: only what everybody chooses."""

    shares_: np.ndarray = field(init=False, repr=False)
    """(N,) float32 of all events."""
    by_hour_: np.ndarray = field(init=False, repr=False)
    """(N, BUCKETS + 1) float32; the last column, of a query without time, is 1."""
    by_weekday_: np.ndarray = field(init=False, repr=False)
    """(N, WEEKDAYS + 1) float32."""

    def __post_init__(self) -> None:
        if not -24 <= self.utc_offset_hours <= 24 or self.history_length < 0:
            raise DataError(
                f"utc_offset_hours is {self.utc_offset_hours}, history_length"
                f" {self.history_length}: hours from -24 to 24, length from 0"
            )
        for name in ("own_hour", "own_weekday"):
            if not getattr(self, name) >= 0:
                raise DataError(f"{name} is {getattr(self, name)}: it must be 0 or more")
        if not self.shrink > 0 or not self.prior > 0:
            raise DataError(f"shrink is {self.shrink}, prior {self.prior}: both must be above 0")

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        if data.sequences.times_ms is None:
            raise DataError(
                f'TimeOfDay needs times, data set "{data.name}" has none: use Popularity'
            )
        rows, n = data.sequences.rows.values, len(self.items_)
        self.shares_ = (np.bincount(rows, minlength=n) / max(len(rows), 1)).astype(np.float32)
        groups = data.finest_categories
        hour, weekday = self._buckets(data.sequences.times_ms.values)
        self.by_hour_ = _lifts(rows, hour, BUCKETS, groups, self.shrink)
        self.by_weekday_ = _lifts(rows, weekday, WEEKDAYS, groups, self.shrink)
        self.fit_report_ = {
            "events_by_bucket": np.bincount(hour, minlength=BUCKETS).tolist(),
            "events_by_weekday": np.bincount(weekday, minlength=WEEKDAYS).tolist(),
        }

    def _buckets(self, times_ms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bucket of the day and weekday, Monday 0, of each time; BUCKETS and WEEKDAYS where there
        is none.
        """
        local = np.where(times_ms == NO_TIME, 0, times_ms) + round(
            self.utc_offset_hours * 3_600_000
        )
        hour, weekday = local % DAY_MS // (HOURS * 3_600_000), (local // DAY_MS + FIRST_WEEKDAY) % 7
        unknown = times_ms == NO_TIME
        return np.where(unknown, BUCKETS, hour), np.where(unknown, WEEKDAYS, weekday)

    def _scores(self, queries: Queries) -> np.ndarray:
        now = np.full(len(queries), NO_TIME) if queries.now_ms is None else queries.now_ms
        hour, weekday = self._buckets(now)
        scores = np.empty((len(queries), len(self.items_)), np.float32)
        cell = hour * (WEEKDAYS + 1) + weekday
        for one in np.unique(cell).tolist():  # at most 43, however many ask
            scores[cell == one] = (
                self.shares_
                * self.by_hour_[:, one // (WEEKDAYS + 1)]
                * self.by_weekday_[:, one % (WEEKDAYS + 1)]
            )
        if not self.history_length:
            return scores
        owner, item, weight = self._own(queries, hour, weekday)
        scores *= np.float32(self.prior)
        np.add.at(scores, (owner, item), weight)
        scores /= (np.bincount(owner, weight, minlength=len(queries)) + self.prior).astype(
            np.float32
        )[:, None]
        return scores

    def _own(
        self, queries: Queries, hour: np.ndarray, weekday: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Query, item and weight of each recent event of the histories."""
        rows = queries.histories
        recent = rows.from_end < self.history_length
        owner, item = rows.row_ids[recent], rows.values[recent]
        weight = np.ones(len(item), np.float32)
        if "times_ms" in queries.columns:
            own_hour, own_weekday = self._buckets(queries.columns["times_ms"].values[recent])
            weight += np.float32(self.own_hour) * ((own_hour == hour[owner]) & (own_hour < BUCKETS))
            weight += np.float32(self.own_weekday) * (
                (own_weekday == weekday[owner]) & (own_weekday < WEEKDAYS)
            )
        return owner, item, weight


def _lifts(
    rows: np.ndarray, bucket: np.ndarray, buckets: int, groups: np.ndarray, shrink: float
) -> np.ndarray:
    """(N, buckets + 1) float32: share of each bucket in an item's events, pulled as `TimeOfDay`
    says, over its share in all; then ones.
    """
    n = len(groups)
    counts = np.bincount(rows * np.int64(buckets) + bucket, minlength=n * buckets).reshape(
        n, buckets
    )
    every = (counts.sum(axis=0) + 1) / (counts.sum() + buckets)
    of_group = np.zeros((int(groups.max(initial=-1)) + 1, buckets))
    np.add.at(of_group, groups, counts)
    by_group = (of_group + shrink * every) / (of_group.sum(axis=1, keepdims=True) + shrink)
    by_item = (counts + shrink * by_group[groups]) / (counts.sum(axis=1, keepdims=True) + shrink)
    lifts: np.ndarray = np.c_[by_item / every, np.ones(n)].astype(np.float32)
    return lifts
