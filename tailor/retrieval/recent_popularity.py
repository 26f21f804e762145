"""Recent popularity by segment: what people like you choose these days."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import scipy.sparse as sp

from tailor.core.methods import ScoringRecommender
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import Evidence, Explanation, Query, Ranking
from tailor.data.queries import Queries
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError, nearest

DAY_MS = 86_400_000


@dataclass(eq=False)
class RecentPopularity(ScoringRecommender):
    """The share of the latest events that each item has, among people of the same segment (country,
    age band); it serves strangers.

    Events count by age, before the newest one: none beyond `window_days`, half as much after each
    `half_life_days`. A segment's shares are pulled towards everybody's as if `shrink` events of
    everybody were added to it. The segment of a query is `Query.context[segment]`, which queries
    made from a data set take from its users table; who says none, or one that is not known, gets
    everybody's. No user is remembered, and a segment of fewer than `least_users` people is not
    kept, or a saved model would tell what they did. No paper of its own.
    """

    window_days: float | None = None
    """Older events do not count; None: all do."""
    half_life_days: float | None = None
    """An event this much older counts half; None: all count the same."""
    segment: str | None = None
    """A column of the users table; None: everybody."""
    shrink: Annotated[float, Range(1.0, 3000.0, log=True)] = 100.0
    """Events of everybody added to a segment."""
    least_users: int = 5
    """Of a segment, in the training data."""

    overall_: np.ndarray = field(init=False, repr=False)
    """(N,) float32 shares, sum 1."""
    segments_: Vocabulary = field(init=False, repr=False)
    """Values of the column, as strings."""
    counts_: sp.csr_matrix = field(init=False, repr=False)
    """(segments, N) float32 weighted events."""

    def __post_init__(self) -> None:
        for name in ("window_days", "half_life_days"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise DataError(
                    f"{name} is {getattr(self, name)}: it must be above 0; leave it out to count"
                    " all events the same"
                )
        if not self.shrink > 0 or self.least_users < 1:
            raise DataError(
                f"shrink is {self.shrink}, least_users {self.least_users}: shrink must be above 0,"
                " least_users at least 1"
            )

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        rows, weights = data.sequences.rows, self._weights(data)
        counts = np.bincount(rows.values, weights, minlength=len(self.items_))
        self.overall_ = (counts / max(counts.sum(), 1e-12)).astype(np.float32)
        values = [None] * len(rows) if self.segment is None else _segments(data, self.segment)
        people: dict[str, int] = {}
        for value, events in zip(values, rows.lengths, strict=True):
            if value is not None and events:
                people[value] = people.get(value, 0) + 1
        self.segments_ = Vocabulary(
            sorted(value for value, users in people.items() if users >= self.least_users)
        )
        self.counts_ = _by_segment(
            rows, weights, self._segment_rows(values), len(self.segments_), len(self.items_)
        )
        self.fit_report_ = {
            "events_counted": int((weights > 0).sum()),
            "segments": len(self.segments_),
            "segments_too_small": len(people) - len(self.segments_),
        }

    def _weights(self, data: Dataset) -> np.ndarray:
        """(events,) what each event counts."""
        times = data.sequences.times_ms
        if self.window_days is None and self.half_life_days is None:
            return np.ones(len(data.sequences.rows.values), np.float32)
        if times is None:
            raise DataError(
                f'window_days and half_life_days need times, data set "{data.name}" has none: leave'
                " them out"
            )
        days = (times.values.max(initial=0) - times.values) / DAY_MS
        weights = (
            np.ones(len(days))
            if self.half_life_days is None
            else 0.5 ** (days / self.half_life_days)
        )
        return (
            weights if self.window_days is None else np.where(days < self.window_days, weights, 0)
        )

    def _segment_rows(self, values: Sequence[object]) -> np.ndarray:
        """(n,) rows of `segments_`, -1 where there is no value or no such segment."""
        rows = self.segments_.rows(map(str, values))
        rows[[value is None for value in values]] = -1
        return rows

    def _scores(self, queries: Queries) -> np.ndarray:
        rows = self._segment_rows(
            [None] * len(queries) if self.segment is None else queries.context(self.segment)
        )
        scores = np.repeat(self.overall_[None, :], len(queries), axis=0)
        known = rows >= 0
        own = self.counts_[rows[known]]
        scores[known] = (own.toarray() + np.float32(self.shrink) * self.overall_) / (
            own.sum(axis=1).A + self.shrink
        )
        return scores.astype(np.float32, copy=False)

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """The one reason is popularity."""
        self._check_fitted()
        return [
            [Explanation(one, (Evidence("popularity", one, 1.0),)) for one in ranking.ids]
            for ranking in rankings
        ]


def _segments(data: Dataset, column: str) -> list[str | None]:
    """(U,) value of each user. Raises DataError where the users table has no such column."""
    known = data.contexts(data.users.ids)
    if column not in known:
        raise DataError(
            f'segment is "{column}", which is no column of the users table.{nearest(column, known)}'
        )
    return [None if one is None else str(one) for one in known[column]]


def _by_segment(
    rows: Ragged, weights: np.ndarray, segment: np.ndarray, segments: int, items: int
) -> sp.csr_matrix:
    of_event = segment[rows.row_ids]
    kept = (of_event >= 0) & (weights > 0)
    entries = (weights[kept].astype(np.float32), (of_event[kept], rows.values[kept]))
    return sp.csr_matrix(entries, shape=(segments, items), dtype=np.float32)
