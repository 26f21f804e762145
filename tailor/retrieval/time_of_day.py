"""Time of day: what is chosen at this hour of this weekday, by all users and by this one."""

from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

import numpy as np

from tailor.core.methods import ScoringRecommender
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.dataset import Dataset
from tailor.data.moments import HOURS, WEEKDAYS, moments_of
from tailor.data.queries import NO_TIME, Queries
from tailor.data.splits import Split
from tailor.errors import DataError

BUCKET_HOURS = 4  # length of a bucket of the day
BUCKETS = HOURS // BUCKET_HOURS


@dataclass(eq=False)
class TimeOfDay(ScoringRecommender):
    """Score items by what is chosen at this time of day and week.

    Coffee in the morning, films on Saturday night: by all users, and by this one. An item's share
    of all events is multiplied by how much more often than others it is chosen in this 4-hour
    bucket, and on this weekday; both factors are shrunk towards those of its finest category, these
    towards 1, as if `shrink` events had been seen. The user's own events count one each, `own_hour`
    more in this bucket and `own_weekday` more on this weekday; `prior` events of all users at this
    time are added to them. Scores are shares of choices at `Query.time_ms`; a query without a time
    is answered without buckets. No paper of its own.
    """

    utc_offset_hours: float = 0.0
    """Local time minus UTC, in hours; times in the data are UTC."""
    shrink: float = 20.0
    """Events added: the category's to an item's, those of all items to a category's."""
    own_hour: Annotated[float, Range(0.0, 32.0)] = 8.0
    """Extra weight of a user's event in the query's bucket of the day."""
    own_weekday: Annotated[float, Range(0.0, 4.0)] = 0.5
    """Extra weight of a user's event on the query's weekday."""
    prior: Annotated[float, Range(0.1, 50.0, log=True)] = 2.0
    """Events of all users added to a user's own."""
    history_length: int = 1_000
    """Most recent events of a user that are used; 0: only what all users choose."""

    shares_: np.ndarray = field(init=False, repr=False)
    """(N,) float32 share of all events."""
    by_hour_: np.ndarray = field(init=False, repr=False)
    """(N, BUCKETS + 1) float32 factors; the last column, for queries without time, is 1."""
    by_weekday_: np.ndarray = field(init=False, repr=False)
    """(N, WEEKDAYS + 1) float32 factors; the last column is 1."""

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
        rows = data.sequences.rows.values
        counts = np.bincount(rows, minlength=len(self.items_))
        self.shares_ = (counts / max(len(rows), 1)).astype(np.float32)
        groups = data.finest_categories
        moments = self._moments(data.sequences.times_ms.values)
        self.by_hour_ = _factors(rows, moments.hour, BUCKETS, groups, self.shrink)
        self.by_weekday_ = _factors(rows, moments.weekday, WEEKDAYS, groups, self.shrink)
        self.fit_report_ = {
            "events_by_bucket": np.bincount(moments.hour, minlength=BUCKETS).tolist(),
            "events_by_weekday": np.bincount(moments.weekday, minlength=WEEKDAYS).tolist(),
        }

    def _moments(self, times_ms: np.ndarray) -> "_Moments":
        """Return the bucket of the day and the weekday of each time."""
        moments = moments_of(times_ms, self.utc_offset_hours)
        # a missing hour, HOURS, becomes the bucket after the last
        return _Moments(moments.hour // BUCKET_HOURS, moments.weekday)

    def _scores(self, queries: Queries) -> np.ndarray:
        now = np.full(len(queries), NO_TIME) if queries.now_ms is None else queries.now_ms
        moments = self._moments(now)
        scores = np.empty((len(queries), len(self.items_)), np.float32)
        cells = moments.hour * (WEEKDAYS + 1) + moments.weekday
        for cell in np.unique(cells).tolist():  # at most 43, however many queries
            hour, weekday = divmod(cell, WEEKDAYS + 1)
            factors = self.shares_ * self.by_hour_[:, hour] * self.by_weekday_[:, weekday]
            scores[cells == cell] = factors
        if not self.history_length:
            return scores
        query, item, weight = self._own_events(queries, moments)
        scores *= np.float32(self.prior)
        np.add.at(scores, (query, item), weight)
        totals = np.bincount(query, weight, minlength=len(queries)) + self.prior
        scores /= totals.astype(np.float32)[:, None]
        return scores

    def _own_events(
        self, queries: Queries, moments: "_Moments"
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return query, item and weight of each recent event of the histories."""
        rows = queries.histories
        is_recent = rows.from_end < self.history_length
        query = rows.row_ids[is_recent]
        item = rows.values[is_recent]
        weight = np.ones(len(item), np.float32)
        if "times_ms" in queries.columns:
            event = self._moments(queries.columns["times_ms"].values[is_recent])
            same_hour = (event.hour == moments.hour[query]) & (event.hour < BUCKETS)
            same_weekday = event.weekday == moments.weekday[query]
            same_weekday &= event.weekday < WEEKDAYS
            weight += np.float32(self.own_hour) * same_hour
            weight += np.float32(self.own_weekday) * same_weekday
        return query, item, weight


class _Moments(NamedTuple):
    """Times as places in the day and in the week."""

    hour: np.ndarray
    """(n,) bucket of the day; BUCKETS for a missing time."""
    weekday: np.ndarray
    """(n,) weekday, Monday 0; WEEKDAYS for a missing time."""


def _factors(
    rows: np.ndarray, bucket: np.ndarray, buckets: int, groups: np.ndarray, shrink: float
) -> np.ndarray:
    """Return (N, buckets + 1) how much more often items are chosen in each bucket.

    A factor is the bucket's share of the item's events, shrunk as `TimeOfDay` says, divided by its
    share of all events. The last column is 1.
    """
    n = len(groups)
    cells = rows * np.int64(buckets) + bucket
    counts = np.bincount(cells, minlength=n * buckets).reshape(n, buckets)
    overall = (counts.sum(axis=0) + 1) / (counts.sum() + buckets)
    group_counts = np.zeros((int(groups.max(initial=-1)) + 1, buckets))
    np.add.at(group_counts, groups, counts)
    group_totals = group_counts.sum(axis=1, keepdims=True)
    by_group = (group_counts + shrink * overall) / (group_totals + shrink)
    by_item = (counts + shrink * by_group[groups]) / (counts.sum(axis=1, keepdims=True) + shrink)
    factors: np.ndarray = np.c_[by_item / overall, np.ones(n)].astype(np.float32)
    return factors
