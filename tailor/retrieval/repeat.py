"""Buy again: what a person had before and is due for now."""

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
from tailor.data.queries import NO_TIME, Queries
from tailor.data.splits import Split
from tailor.errors import DataError

DAY_MS = 86_400_000
FIRST_DAYS = 0.25  # length of the first span of time
LONGEST_DAYS = 3_650.0
LONGEST_PLACES = 1_000


@dataclass(eq=False)
class Repeat(ScoringRecommender):
    """Items of your own history in the order of how likely each comes back right now: coffee after
    a month, shampoo after two, a tent never.

    For every item and every span of time since a person's last event of it, the rate of coming back
    is the returns in that span over the time people spent in it without having returned yet, those
    who never returned included (a hazard rate; a mean gap would leave them out, and would not fall
    after the item was due). Rates of an item are pulled towards its finest category's, those
    towards everybody's, as if `shrink` returns had been seen there (the mean of a gamma posterior).
    The person's own pace multiplies them: returns so far over those the rates let expect, both plus
    `own` (a gamma frailty). Scores are returns a day at `Query.time_ms` (else at the end of the
    training data or of the history, the later). Where the data or a history has no times, spans
    count events in place of days. Answers items of the history only. No paper of its own.
    """

    shrink: Annotated[float, Range(0.5, 100.0, log=True)] = 5.0
    """Returns added: the category's to an item's, everybody's to a category's."""
    own: Annotated[float, Range(0.1, 20.0, log=True)] = 1.0
    """Returns at everybody's pace added to a person's own with an item."""
    growth: float = 1.25
    """Each span of time is this much longer than the one before."""
    history_length: int = 1_000
    """Most recent events used."""

    has_times_: bool = field(init=False, repr=False)
    end_ms_: int = field(init=False, repr=False)
    """Of the training data."""
    rates_: np.ndarray = field(init=False, repr=False)
    """(N, spans) float32 returns a day; an event, where there are no times."""
    place_rates_: np.ndarray = field(init=False, repr=False)
    """(N, spans) float32 returns an event."""

    def __post_init__(self) -> None:
        if not self.shrink > 0 or not self.own > 0:
            raise DataError(f"shrink is {self.shrink}, own {self.own}: both must be above 0")
        if not 1 < self.growth <= 10 or self.history_length < 1:
            raise DataError(
                f"growth is {self.growth}, history_length {self.history_length}: growth above 1 and"
                " at most 10, length from 1"
            )

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.items_ = data.catalogue
        rows, times, groups = data.sequences.rows, data.sequences.times_ms, data.finest_categories
        spells = _Spells.of(rows, -1.0 - rows.from_end, np.zeros(len(rows.values)))
        self.place_rates_ = spells.rates(self._place_edges, groups, self.shrink)
        self.has_times_, self.end_ms_, self.rates_ = times is not None, 0, self.place_rates_[:, :0]
        if times is not None:
            self.end_ms_ = int(times.values.max(initial=0))
            days = (times.values - self.end_ms_) / DAY_MS
            self.rates_ = _Spells.of(rows, days, np.zeros(len(days))).rates(
                self._day_edges, groups, self.shrink
            )
        self.fit_report_ = {
            "returns": int((~spells.is_open).sum()),
            "of": len(spells.item),
            "has_times": self.has_times_,
        }

    @property
    def _day_edges(self) -> np.ndarray:
        return _edges(FIRST_DAYS, LONGEST_DAYS, self.growth)

    @property
    def _place_edges(self) -> np.ndarray:
        return _edges(1, LONGEST_PLACES, self.growth, whole=True)

    def _scores(self, queries: Queries) -> sp.csr_matrix:
        queries = _recent(queries, self.history_length)
        start, now, timed = self._clock(queries)
        spells = _Spells.of(queries.histories, start, now)
        rate, risk = np.zeros(len(start)), np.zeros(len(start))
        in_days = timed[spells.order]
        for which, rates, edges in (
            (in_days, self.rates_, self._day_edges),
            (~in_days, self.place_rates_, self._place_edges),
        ):
            rate[which], risk[which] = _hazard(
                rates, edges, spells.item[which], spells.length[which]
            )
        # a person's spells with an item, of which the last is open
        run = np.cumsum(spells.is_open) - spells.is_open
        returns, due = np.bincount(run, ~spells.is_open), np.bincount(run, risk)
        query = queries.histories.row_ids[spells.order][spells.is_open]
        scores = (rate[spells.is_open] * (returns + self.own) / (due + self.own)).astype(np.float32)
        found = sp.csr_matrix(
            (scores, (query, spells.item[spells.is_open])), shape=(len(queries), len(self.items_))
        )
        found.eliminate_zeros()  # where nothing was ever seen to come back
        return found

    def _clock(self, queries: Queries) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For every event of the histories when it was and when it is asked, and whether that is in
        days; else it is in places.
        """
        rows = queries.histories
        start, now = -1.0 - rows.from_end, np.zeros(len(rows.values))
        if not self.has_times_ or "times_ms" not in queries.columns:
            return start, now, np.zeros(len(start), dtype=bool)
        times = queries.columns["times_ms"].values
        asked = np.full(len(queries), self.end_ms_)
        np.maximum.at(asked, rows.row_ids, times)
        if queries.now_ms is not None:
            asked = np.where(queries.now_ms == NO_TIME, asked, queries.now_ms)
        timed = times != NO_TIME
        start[timed] = (times[timed] - self.end_ms_) / DAY_MS
        now[timed] = (asked[rows.row_ids[timed]] - self.end_ms_) / DAY_MS
        return start, now, timed

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """The one reason for an item is that the person had it."""
        self._check_fitted()
        had = [set(query.history.item_ids) for query in queries]
        return [
            [
                Explanation(one, (Evidence("item", one, 1.0),) if one in own else ())
                for one in ranking.ids
            ]
            for own, ranking in zip(had, rankings, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class _Spells:
    """From each event of a user and an item to the next of the two, or, the open ones, to the end;
    those of the two together, oldest first.
    """

    order: np.ndarray
    """(S,) the event that each begins with."""
    item: np.ndarray
    """(S,) item rows."""
    length: np.ndarray
    """(S,) days or places."""
    is_open: np.ndarray
    """(S,) bool: no return was seen."""

    @classmethod
    def of(cls, rows: Ragged, start: np.ndarray, end: np.ndarray) -> "_Spells":
        """`start` (events,) says when each event was, `end` (events,) until when its user was seen."""
        key = rows.row_ids.astype(np.int64) * (int(rows.values.max(initial=0)) + 1) + rows.values
        order = np.argsort(key, kind="stable")
        key = key[order]
        is_open = np.r_[key[1:] != key[:-1], True] if len(key) else np.zeros(0, dtype=bool)
        length = (
            np.where(is_open, end[order], np.r_[start[order][1:], 0][: len(order)]) - start[order]
        )
        return cls(order, rows.values[order], np.maximum(length, 0), is_open)

    def rates(self, edges: np.ndarray, groups: np.ndarray, shrink: float) -> np.ndarray:
        """(N, spans) float32 returns per day or place; `groups` (N,) are the items' categories."""
        widths = np.diff(edges)
        spans, n = len(widths), len(groups)
        at = _span(self.length, edges)
        cell = self.item.astype(np.int64) * spans + at

        def table(weights: np.ndarray) -> np.ndarray:
            return np.bincount(cell, weights, minlength=n * spans).reshape(n, spans)

        ended, partly, returns = (
            table(np.ones(len(cell))),
            table(self.length - edges[at]),
            table(~self.is_open),
        )
        # spells that lived through the whole span
        passed = ended[:, ::-1].cumsum(axis=1)[:, ::-1] - ended
        exposure = passed * widths + partly
        every = _pulled(
            returns.sum(axis=0),
            exposure.sum(axis=0),
            returns.sum() / max(exposure.sum(), 1e-12),
            1.0,
        )
        of_group = sp.csr_matrix(
            (np.ones(n), (groups, np.arange(n))), shape=(int(groups.max(initial=-1)) + 1, n)
        )
        by_group = _pulled(of_group @ returns, of_group @ exposure, every, shrink)
        return _pulled(returns, exposure, by_group[groups], shrink).astype(np.float32)


def _pulled(
    returns: np.ndarray, exposure: np.ndarray, towards: np.ndarray | float, shrink: float
) -> np.ndarray:
    """The mean rate after `returns` in `exposure`, of a gamma prior with mean `towards` and the
    weight of `shrink` returns; 0 where that is 0.
    """
    rate: np.ndarray = (returns + shrink) * towards / (exposure * towards + shrink)
    return rate


def _hazard(
    rates: np.ndarray, edges: np.ndarray, item: np.ndarray, length: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The rate (n,) of each item's return after `length`, and (n,) the returns that its rates let
    expect until then.
    """
    at = _span(length, edges)
    distinct, place = np.unique(item, return_inverse=True)
    risk = (
        np.cumsum(rates[distinct] * np.diff(edges), axis=1)
        if len(distinct)
        else np.zeros((0, len(edges) - 1))
    )
    rate = rates[item, at].astype(float)
    return rate, risk[place, at] - rate * (edges[at + 1] - length)


def _edges(first: float, longest: float, growth: float, whole: bool = False) -> np.ndarray:
    """(spans + 1,) where spans begin and end: 0, `first`, then ever longer ones beyond `longest`;
    at least 1 long where `whole`.
    """
    edges = [0.0, first]
    while edges[-1] <= longest:
        edges.append(
            max(np.ceil(edges[-1] * growth), edges[-1] + 1) if whole else edges[-1] * growth
        )
    return np.array(edges)


def _span(age: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.clip(np.searchsorted(edges, age, side="right") - 1, 0, len(edges) - 2)


def _recent(queries: Queries, length: int) -> Queries:
    return queries.keep_events(queries.histories.from_end < length)
