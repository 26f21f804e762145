"""Buy again: items that a user had before and is due for now.

Shapes: N items, S spells, B queries.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, NamedTuple

import numpy as np
import scipy.sparse as sp

from tailor.core.methods import ScoringRecommender
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import Evidence, Explanation, Query, Ranking
from tailor.data.queries import NO_TIME, Queries
from tailor.data.splits import Split
from tailor.data.stats import repeats_share
from tailor.errors import DataError

DAY_MS = 86_400_000
FIRST_DAYS = 0.25  # length of the first span of time, in days
LONGEST_DAYS = 3_650.0  # age in days that the last span reaches at least
MIN_REPEATS = 0.005  # share of events of an item that the user had before
LONGEST_EVENTS = 1_000  # age in events that the last span reaches at least


@dataclass(eq=False)
class Repeat(ScoringRecommender):
    """Rank the items of the user's history by how likely each comes back right now.

    Coffee comes back after a month, shampoo after two, a tent never. For every item and every span
    of time since a user's last event of it, the rate of returning is the returns in that span over
    the time that users spent in it without having returned yet, including those who never returned
    (a hazard rate; a mean gap would leave them out, and would not fall after the item was due).
    Rates of an item are shrunk towards those of its finest category, these towards those of all
    items, as if `shrink` returns had been seen there (the mean of a gamma posterior). The user's
    own pace multiplies them: returns so far over the returns expected by the rates, both plus `own`
    (a gamma frailty). Scores are returns a day at `Query.time_ms` (else at the end of the training
    data or of the history, the later). Where the data or a history has no times, spans count events
    instead of days. Recommends items of the history only. No paper of its own.
    """

    shrink: Annotated[float, Range(0.5, 100.0, log=True)] = 5.0
    """Returns added: the category's to an item's, those of all items to a category's."""
    own: Annotated[float, Range(0.1, 20.0, log=True)] = 1.0
    """Returns at the average pace added to a user's own returns to an item."""
    growth: float = 1.25
    """Length of each span of time relative to the one before."""
    history_length: int = 1_000
    """Most recent events used."""

    has_times_: bool = field(init=False, repr=False)
    """Whether the training events have times."""
    end_ms_: int = field(init=False, repr=False)
    """Time of the last training event."""
    rates_: np.ndarray = field(init=False, repr=False)
    """(N, spans) float32 returns per day; no spans where there are no times."""
    place_rates_: np.ndarray = field(init=False, repr=False)
    """(N, spans) float32 returns per event."""

    def __post_init__(self) -> None:
        if not self.shrink > 0 or not self.own > 0:
            raise DataError(f"shrink is {self.shrink}, own {self.own}: both must be above 0")
        if not 1 < self.growth <= 10 or self.history_length < 1:
            raise DataError(
                f"growth is {self.growth}, history_length {self.history_length}: growth above 1 and"
                " at most 10, length from 1"
            )

    def unsuited(self, data: Dataset) -> str:
        share = repeats_share(data)
        return "" if share >= MIN_REPEATS else f"{share:.1%} of the events are repeats"

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        rows = data.sequences.rows
        times = data.sequences.times_ms
        groups = data.finest_categories
        zeros = np.zeros(len(rows.values))
        spells = _Spells.of(rows, _event_clock(rows), zeros)
        self.place_rates_ = spells.rates(self._event_edges, groups, self.shrink)
        self.has_times_ = times is not None
        self.end_ms_ = 0
        self.rates_ = self.place_rates_[:, :0]
        if times is not None:
            self.end_ms_ = int(times.values.max(initial=0))
            days = (times.values - self.end_ms_) / DAY_MS
            day_spells = _Spells.of(rows, days, zeros)
            self.rates_ = day_spells.rates(self._day_edges, groups, self.shrink)
        self.fit_report_ = {
            "returns": int((~spells.is_open).sum()),
            "of": len(spells.item),
            "has_times": self.has_times_,
        }

    @property
    def _day_edges(self) -> np.ndarray:
        return _edges(FIRST_DAYS, LONGEST_DAYS, self.growth)

    @property
    def _event_edges(self) -> np.ndarray:
        return _edges(1, LONGEST_EVENTS, self.growth, whole=True)

    def _scores(self, queries: Queries) -> sp.csr_matrix:
        queries = _keep_recent(queries, self.history_length)
        clock = self._clock(queries)
        spells = _Spells.of(queries.histories, clock.start, clock.now)
        rates, expected = self._hazards(spells, clock.in_days[spells.order])
        # the spells of a user and an item are a run, of which the last is open
        is_open = spells.is_open
        run = np.cumsum(is_open) - is_open
        returns = np.bincount(run, ~is_open)
        due = np.bincount(run, expected)
        query = queries.histories.row_ids[spells.order][is_open]
        scores = rates[is_open] * (returns + self.own) / (due + self.own)
        matrix = sp.csr_matrix(
            (scores.astype(np.float32), (query, spells.item[is_open])),
            shape=(len(queries), len(self.items_)),
        )
        matrix.eliminate_zeros()  # items of which no return was ever seen
        return matrix

    def _hazards(self, spells: "_Spells", in_days: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rate (S,) at the end of each spell, and the returns (S,) expected during it.

        `in_days` (S,) says which spells are in days; the others are in events.
        """
        rates = np.zeros(len(spells.item))
        expected = np.zeros(len(spells.item))
        for mask, table, edges in (
            (in_days, self.rates_, self._day_edges),
            (~in_days, self.place_rates_, self._event_edges),
        ):
            rates[mask], expected[mask] = _hazard(
                table, edges, spells.item[mask], spells.length[mask]
            )
        return rates, expected

    def _clock(self, queries: Queries) -> "_Clock":
        """Return when each event of the histories was, and when its query is asked."""
        rows = queries.histories
        start = _event_clock(rows)
        now = np.zeros(len(rows.values))
        if not self.has_times_ or "times_ms" not in queries.columns:
            return _Clock(start, now, np.zeros(len(start), dtype=bool))
        times = queries.columns["times_ms"].values
        query_times = np.full(len(queries), self.end_ms_)
        np.maximum.at(query_times, rows.row_ids, times)
        if queries.now_ms is not None:
            query_times = np.where(queries.now_ms == NO_TIME, query_times, queries.now_ms)
        in_days = times != NO_TIME
        start[in_days] = (times[in_days] - self.end_ms_) / DAY_MS
        now[in_days] = (query_times[rows.row_ids[in_days]] - self.end_ms_) / DAY_MS
        return _Clock(start, now, in_days)

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Give the user's own events of an item as its one reason."""
        self._check_fitted()
        explanations = []
        for query, ranking in zip(queries, rankings, strict=True):
            history = set(query.history.item_ids)
            reasons = []
            for item_id in ranking.ids:
                evidence = (Evidence("item", item_id, 1.0),) if item_id in history else ()
                reasons.append(Explanation(item_id, evidence))
            explanations.append(reasons)
        return explanations


class _Clock(NamedTuple):
    """Times of events, in days before the end of training or in events."""

    start: np.ndarray
    """(events,) when each event was."""
    now: np.ndarray
    """(events,) when its query is asked."""
    in_days: np.ndarray
    """(events,) whether both are in days, else in events."""


@dataclass(frozen=True, eq=False)
class _Spells:
    """Spells from each event of a user and an item to the next one.

    Open spells last to the end of the history. Sorted by user and item, the oldest first.
    """

    order: np.ndarray
    """(S,) the event that each begins with."""
    item: np.ndarray
    """(S,) item rows."""
    length: np.ndarray
    """(S,) length in days or events."""
    is_open: np.ndarray
    """(S,) whether no return was seen."""

    @classmethod
    def of(cls, rows: Ragged, start: np.ndarray, end: np.ndarray) -> "_Spells":
        """Return the spells of histories.

        `start` (events,) is when each event was, `end` (events,) until when its user was observed.
        """
        items = int(rows.values.max(initial=0)) + 1
        key = rows.row_ids.astype(np.int64) * items + rows.values
        order = np.argsort(key, kind="stable")
        key = key[order]
        is_open = np.zeros(0, dtype=bool)
        if len(key):
            is_open = np.r_[key[1:] != key[:-1], True]
        next_start = np.r_[start[order][1:], 0][: len(order)]
        length = np.where(is_open, end[order], next_start) - start[order]
        return cls(order, rows.values[order], np.maximum(length, 0), is_open)

    def rates(self, edges: np.ndarray, groups: np.ndarray, shrink: float) -> np.ndarray:
        """Return (N, spans) float32 returns per day or event; `groups` (N,) are categories."""
        widths = np.diff(edges)
        spans = len(widths)
        n = len(groups)
        span = _span(self.length, edges)
        cell = self.item.astype(np.int64) * spans + span

        def table(weights: np.ndarray) -> np.ndarray:
            """Return (N, spans) the sums of weights of the spells that end in each span."""
            return np.bincount(cell, weights, minlength=n * spans).reshape(n, spans)

        ended = table(np.ones(len(cell)))
        time_in_last_span = table(self.length - edges[span])
        returns = table(~self.is_open)
        # spells that lasted through the whole span
        passed = ended[:, ::-1].cumsum(axis=1)[:, ::-1] - ended
        exposure = passed * widths + time_in_last_span
        mean_rate = returns.sum() / max(exposure.sum(), 1e-12)
        overall = _shrink_rates(returns.sum(axis=0), exposure.sum(axis=0), mean_rate, 1.0)
        shape = (int(groups.max(initial=-1)) + 1, n)
        members = sp.csr_matrix((np.ones(n), (groups, np.arange(n))), shape=shape)
        by_group = _shrink_rates(members @ returns, members @ exposure, overall, shrink)
        return _shrink_rates(returns, exposure, by_group[groups], shrink).astype(np.float32)


def _event_clock(rows: Ragged) -> np.ndarray:
    """Return (events,) the time of each event in events before the end of its history."""
    return -1.0 - rows.from_end


def _shrink_rates(
    returns: np.ndarray, exposure: np.ndarray, prior: np.ndarray | float, shrink: float
) -> np.ndarray:
    """Return the posterior mean rate after `returns` in `exposure`.

    The gamma prior has mean `prior` and the weight of `shrink` returns; the rate is 0 where its
    mean is 0.
    """
    rate: np.ndarray = (returns + shrink) * prior / (exposure * prior + shrink)
    return rate


def _hazard(
    rates: np.ndarray, edges: np.ndarray, item: np.ndarray, length: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return rates (n,) of returning after `length`, and returns (n,) expected by then.

    `rates` is (N, spans), `edges` (spans + 1,), `item` and `length` (n,).
    """
    span = _span(length, edges)
    distinct, row = np.unique(item, return_inverse=True)
    cumulative = np.zeros((0, len(edges) - 1))
    if len(distinct):
        cumulative = np.cumsum(rates[distinct] * np.diff(edges), axis=1)
    rate = rates[item, span].astype(float)
    return rate, cumulative[row, span] - rate * (edges[span + 1] - length)


def _edges(first: float, longest: float, growth: float, whole: bool = False) -> np.ndarray:
    """Return (spans + 1,) edges of spans: 0, `first`, then growing until beyond `longest`.

    `whole` makes them whole numbers, at least 1 apart.
    """
    edges = [0.0, first]
    while edges[-1] <= longest:
        edge = edges[-1] * growth
        if whole:
            edge = max(np.ceil(edge), edges[-1] + 1)
        edges.append(edge)
    return np.array(edges)


def _span(age: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the number of the span that each age is in."""
    return np.clip(np.searchsorted(edges, age, side="right") - 1, 0, len(edges) - 2)


def _keep_recent(queries: Queries, length: int) -> Queries:
    """Return queries with the last `length` events of each history."""
    mask = queries.histories.from_end < length
    if mask.all():
        return queries
    columns = {name: column.keep(mask) for name, column in queries.columns.items()}
    return replace(queries, histories=queries.histories.keep(mask), columns=columns)
