"""Buy again: what a person had before and is due for now."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import scipy.sparse as sp

from tailor.base import Run, ScoringRecommender
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import Evidence, Explanation, Query, Ranking
from tailor.data.queries import NO_TIME, Queries
from tailor.data.splits import Split
from tailor.errors import DataError

DAY_MS = 86_400_000
FIRST_DAYS = 0.25  # length of the first span of time
LONGEST_DAYS = 3_650.0
LONGEST_PLACES = 1_000
TIMES_BEFORE = np.array([1, 2, 3, 4, 6, 10])  # had once, twice, three times, 4-5, 6-9, 10 and more times


@dataclass(eq=False)
class Repeat(ScoringRecommender):
    """Items of your own history in the order of how likely each comes back right now: coffee after a month, shampoo after two, a tent never.

    For every item and every span of time since a person's last event of it, the rate of coming back is the returns in that span over the time
    people spent in it without having returned yet, those who never returned included (a hazard rate; a mean gap would leave them out, and
    would not fall after the item was due). Rates of an item are pulled towards its finest category's, those towards everybody's, as if `shrink`
    returns had been seen there (the mean of a gamma posterior); how often the person had the item multiplies them. Scores are returns a
    day at `Query.time_ms` (else at the end of the training data or of the history, the later). Where the data or a history has no times, spans
    count events in place of days. Answers items of the history only. No paper of its own.
    """

    shrink: float = 5.0  # returns of the category added to an item's, and of everybody's to a category's
    growth: float = 1.25  # each span of time is this much longer than the one before
    history_length: int = 1_000  # most recent events used

    has_times_: bool = field(init=False, repr=False)
    end_ms_: int = field(init=False, repr=False)  # of the training data
    rates_: np.ndarray = field(init=False, repr=False)  # (N, spans) float32 returns a day; an event, where there are no times
    place_rates_: np.ndarray = field(init=False, repr=False)  # (N, spans) float32 returns an event
    factors_: np.ndarray = field(init=False, repr=False)  # (2, len(TIMES_BEFORE)) by how often the person had it; with times, by places

    def __post_init__(self) -> None:
        if not self.shrink > 0 or not 1 < self.growth <= 10 or self.history_length < 1:
            raise DataError(f"shrink is {self.shrink}, growth {self.growth}, history_length {self.history_length}: shrink must be above 0, "
                            "growth above 1 and at most 10, history_length at least 1")  # fmt: skip

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        rows, times = data.sequences.rows, data.sequences.times_ms
        groups = data.finest_categories
        places = rows.with_values(np.arange(len(rows.values)) - np.repeat(rows.offsets[:-1], rows.lengths))
        by_place = _Spells.of(rows, places, rows.lengths[rows.owners])
        self.place_rates_, factors = by_place.rates(_edges(1, LONGEST_PLACES, self.growth, whole=True), groups, self.shrink)
        self.has_times_, self.end_ms_, self.rates_, self.factors_ = times is not None, 0, self.place_rates_[:, :0], np.stack([factors] * 2)
        if times is not None:
            self.end_ms_ = int(times.values.max(initial=0))
            days = times.with_values((times.values - self.end_ms_) / DAY_MS)
            spells = _Spells.of(rows, days, np.zeros(len(rows.values)))
            self.rates_, self.factors_[0] = spells.rates(_edges(FIRST_DAYS, LONGEST_DAYS, self.growth), groups, self.shrink)
        self.fit_report_ = {"returns": int(by_place.came_back.sum()), "of": len(by_place.item), "has_times": self.has_times_}

    def _scores(self, queries: Queries) -> sp.csr_matrix:
        queries = _recent(queries, self.history_length)
        query, item, age, before, timed = self._last_events(queries)
        scores = np.zeros(len(item), np.float32)
        clocks = [(timed, self.rates_, _edges(FIRST_DAYS, LONGEST_DAYS, self.growth)),
                  (~timed, self.place_rates_, _edges(1, LONGEST_PLACES, self.growth, whole=True))]  # fmt: skip
        for clock, (which, rates, edges) in enumerate(clocks):
            span = _span(age[which], edges)
            scores[which] = rates[item[which], span] * self.factors_[clock, _times_before(before[which])]
        found = sp.csr_matrix((scores, (query, item)), shape=(len(queries), len(self.items_)))
        found.eliminate_zeros()  # where nothing was ever seen to come back
        return found

    def _last_events(self, queries: Queries) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Query, item, age of the last event, number of events and whether the age is in days (or in places), for each item of each history."""
        rows = queries.histories
        order, last = _runs(rows, len(self.items_))
        before = np.diff(np.r_[-1, np.flatnonzero(last)])
        at = order[last]
        query, item = rows.owners[at], rows.values[at]
        age = (rows.from_end[at] + 1).astype(float)
        timed = np.zeros(len(at), dtype=bool)
        if self.has_times_ and "times_ms" in queries.columns:
            times = queries.columns["times_ms"].values
            latest = np.full(len(queries), self.end_ms_)
            np.maximum.at(latest, rows.owners, times)
            now = latest if queries.now_ms is None else np.where(queries.now_ms == NO_TIME, latest, queries.now_ms)
            timed = times[at] != NO_TIME
            age[timed] = np.maximum((now[query] - times[at])[timed] / DAY_MS, 0)
        return query, item, age, before, timed

    def explain(self, queries: Sequence[Query], rankings: Sequence[Ranking]) -> list[list[Explanation]]:
        """The one reason for an item is that the person had it."""
        self._check_fitted()
        had = [set(query.history.item_ids) for query in queries]
        return [[Explanation(one, (Evidence("item", one, 1.0),) if one in own else ()) for one in ranking.ids]
                for own, ranking in zip(had, rankings, strict=True)]  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Spells:
    """From each event of a user and an item to the next of the two, or to the end of what was seen."""

    item: np.ndarray  # (S,) item rows
    length: np.ndarray  # (S,) days or places
    came_back: np.ndarray  # (S,) bool
    before: np.ndarray  # (S,) how often the user had the item when it began

    @classmethod
    def of(cls, rows: Ragged, clock: Ragged, end: np.ndarray) -> "_Spells":
        """`clock` says when each event was, `end` (events,) until when its user was seen."""
        order, last = _runs(rows, int(rows.values.max(initial=0)) + 1)
        start = clock.values[order]
        length = np.where(last, end[order], np.r_[start[1:], 0]) - start
        first = np.flatnonzero(np.r_[True, last[:-1]]) if len(last) else np.zeros(0, int)
        before = np.arange(len(order)) - np.repeat(first, np.diff(np.r_[first, len(order)])) + 1
        return cls(rows.values[order], np.maximum(length, 0), ~last, before)

    def rates(self, edges: np.ndarray, groups: np.ndarray, shrink: float) -> tuple[np.ndarray, np.ndarray]:
        """(N, spans) float32 returns per day or place, and (len(TIMES_BEFORE),) what multiplies them by how often it was had."""
        widths = np.diff(edges)
        spans, n = len(widths), len(groups)
        at = _span(self.length, edges)
        cell = self.item.astype(np.int64) * spans + at

        def table(weights: np.ndarray) -> np.ndarray:
            return np.bincount(cell, weights, minlength=n * spans).reshape(n, spans)

        ended, partly, returns = table(np.ones(len(cell))), table(self.length - edges[at]), table(self.came_back)
        passed = ended[:, ::-1].cumsum(axis=1)[:, ::-1] - ended  # spells that lived through the whole span
        exposure = passed * widths + partly
        every = _pulled(returns.sum(axis=0), exposure.sum(axis=0), returns.sum() / max(exposure.sum(), 1e-12), 1.0)
        of_group = sp.csr_matrix((np.ones(n), (groups, np.arange(n))), shape=(int(groups.max(initial=-1)) + 1, n))
        by_group = _pulled(of_group @ returns, of_group @ exposure, every, shrink)
        rates = _pulled(returns, exposure, by_group[groups], shrink)
        risk = np.c_[np.zeros(n), np.cumsum(rates * widths, axis=1)]
        expected = risk[self.item, at] + rates[self.item, at] * (self.length - edges[at])
        bucket = _times_before(self.before)
        seen, due = (np.bincount(bucket, one, minlength=len(TIMES_BEFORE)) for one in (self.came_back, expected))
        return rates.astype(np.float32), ((seen + shrink) / (due + shrink)).astype(np.float32)


def _pulled(returns: np.ndarray, exposure: np.ndarray, towards: np.ndarray | float, shrink: float) -> np.ndarray:
    """The mean rate after `returns` in `exposure`, of a gamma prior with mean `towards` and the weight of `shrink` returns; 0 where that is 0."""
    rate: np.ndarray = (returns + shrink) * towards / (exposure * towards + shrink)
    return rate


def _runs(rows: Ragged, items: int) -> tuple[np.ndarray, np.ndarray]:
    """(m,) order that brings the events of a row and an item together, oldest first; (m,) bool, in that order: the last of them."""
    key = rows.owners.astype(np.int64) * items + rows.values
    order = np.argsort(key, kind="stable")
    key = key[order]
    return order, np.r_[key[1:] != key[:-1], True] if len(key) else np.zeros(0, dtype=bool)


def _edges(first: float, longest: float, growth: float, whole: bool = False) -> np.ndarray:
    """(spans + 1,) where spans begin and end: 0, `first`, then ever longer ones beyond `longest`; at least 1 long where `whole`."""
    edges = [0.0, first]
    while edges[-1] <= longest:
        edges.append(max(np.ceil(edges[-1] * growth), edges[-1] + 1) if whole else edges[-1] * growth)
    return np.array(edges)


def _span(age: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.clip(np.searchsorted(edges, age, side="right") - 1, 0, len(edges) - 2)


def _times_before(count: np.ndarray) -> np.ndarray:
    return np.searchsorted(TIMES_BEFORE, count, side="right") - 1


def _recent(queries: Queries, length: int) -> Queries:
    kept = queries.histories.from_end < length
    if kept.all():
        return queries
    columns = {name: column.keep(kept) for name, column in queries.columns.items()}
    return replace(queries, histories=queries.histories.keep(kept), columns=columns)
