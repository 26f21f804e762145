"""Recent popularity by segment: what users of the same segment choose now."""

from collections import Counter
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
    """Score an item by its share of recent events in the user's segment.

    A segment is a value of a column of the users table, such as a country or an age band. Events
    count by their age before the newest one: none beyond `window_days`, half as much after each
    `half_life_days`. A segment's shares are shrunk towards those of all users, as if `shrink`
    events of all users were added to it. The segment of a query is `Query.context[segment]`, which
    queries made from a data set take from its users table; a query without a segment, or with an
    unknown one, gets the shares of all users. Serves cold users. No user is stored, and a segment
    of fewer than `least_users` users is left out, since a saved model would reveal what they did.
    No paper of its own.
    """

    window_days: float | None = None
    """Age in days from which events do not count; None: all count."""
    half_life_days: float | None = None
    """Age in days at which an event counts half; None: all count the same."""
    segment: str | None = None
    """Column of the users table; None: one segment of all users."""
    shrink: Annotated[float, Range(1.0, 3000.0, log=True)] = 100.0
    """Events of all users added to a segment."""
    least_users: int = 5
    """Users that a segment must have in the training data."""

    overall_: np.ndarray = field(init=False, repr=False)
    """(N,) float32 shares of all events, sum 1."""
    segments_: Vocabulary = field(init=False, repr=False)
    """Values of the column, as strings."""
    counts_: sp.csr_matrix = field(init=False, repr=False)
    """(segments, N) float32 weighted number of events."""

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

    def unsuited(self, data: Dataset) -> str:
        counts_all = self.window_days is None and self.half_life_days is None
        return "" if counts_all or data.has_times else "events have no times"

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        n = len(self.items_)
        rows = data.sequences.rows
        weights = self._event_weights(data)
        counts = np.bincount(rows.values, weights, minlength=n)
        self.overall_ = (counts / max(counts.sum(), 1e-12)).astype(np.float32)
        user_segments: Sequence[str | None] = [None] * len(rows)
        if self.segment is not None:
            user_segments = _user_segments(data, self.segment)
        user_counts = Counter(
            segment
            for segment, events in zip(user_segments, rows.lengths, strict=True)
            if segment is not None and events
        )
        large = [name for name, users in user_counts.items() if users >= self.least_users]
        self.segments_ = Vocabulary(sorted(large))
        segment_rows = self._segment_rows(user_segments)
        self.counts_ = _count_by_segment(rows, weights, segment_rows, (len(self.segments_), n))
        self.fit_report_ = {
            "events_counted": int((weights > 0).sum()),
            "segments": len(self.segments_),
            "segments_too_small": len(user_counts) - len(self.segments_),
        }

    def _event_weights(self, data: Dataset) -> np.ndarray:
        """Return the weight of each event, by its age."""
        times = data.sequences.times_ms
        if self.window_days is None and self.half_life_days is None:
            return np.ones(len(data.sequences.rows.values), np.float32)
        if times is None:
            raise DataError(
                f'window_days and half_life_days need times, data set "{data.name}" has none: leave'
                " them out"
            )
        days = (times.values.max(initial=0) - times.values) / DAY_MS
        weights = np.ones(len(days))
        if self.half_life_days is not None:
            weights = 0.5 ** (days / self.half_life_days)
        if self.window_days is not None:
            weights = np.where(days < self.window_days, weights, 0)
        return weights

    def _segment_rows(self, segments: Sequence[object]) -> np.ndarray:
        """Return (n,) rows of `segments_`, -1 for no segment and for unknown ones."""
        rows = self.segments_.rows(map(str, segments))
        rows[[segment is None for segment in segments]] = -1
        return rows

    def _scores(self, queries: Queries) -> np.ndarray:
        segments: Sequence[object] = [None] * len(queries)
        if self.segment is not None:
            segments = queries.context(self.segment)
        rows = self._segment_rows(segments)
        scores = np.repeat(self.overall_[None, :], len(queries), axis=0)
        has_segment = rows >= 0
        counts = self.counts_[rows[has_segment]]
        shrunk = counts.toarray() + np.float32(self.shrink) * self.overall_
        scores[has_segment] = shrunk / (counts.sum(axis=1).A + self.shrink)
        return scores.astype(np.float32, copy=False)

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Give popularity as the one reason of every item."""
        self._check_fitted()
        return [
            [Explanation(item_id, (Evidence("popularity", item_id, 1.0),)) for item_id in ids]
            for ids in (ranking.ids for ranking in rankings)
        ]


def _user_segments(data: Dataset, column: str) -> list[str | None]:
    """Return the segment of each user.

    Raises DataError where the users table has no such column.
    """
    contexts = data.contexts(data.users.ids)
    if column not in contexts:
        raise DataError(
            f'segment is "{column}", which is no column of the users'
            f" table.{nearest(column, contexts)}"
        )
    return [None if value is None else str(value) for value in contexts[column]]


def _count_by_segment(
    rows: Ragged, weights: np.ndarray, user_segments: np.ndarray, shape: tuple[int, int]
) -> sp.csr_matrix:
    """Return the weighted events (segments, N) of users' histories; -1: a user without segment."""
    event_segments = user_segments[rows.row_ids]
    mask = (event_segments >= 0) & (weights > 0)
    entries = (weights[mask].astype(np.float32), (event_segments[mask], rows.values[mask]))
    return sp.csr_matrix(entries, shape=shape, dtype=np.float32)
