"""Requests of a log as queries, with the items that each led to: clicked, put into a cart, bought.

Shapes: R requests, E events.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.examples import positions_before, queries_before, request_queries
from tailor.data.queries import Queries

REQUEST_COLUMNS = ("request_id", "user_id", "time_ms")


@dataclass(frozen=True, eq=False)
class Requests:
    """Requests that led to something, oldest first."""

    queries: Queries
    """(R,) with the events before each request, its search text and context."""
    targets: tuple[Ragged, ...]
    """For each action, (R,) rows of the queries' catalogue that it was done to."""
    times_ms: tuple[Ragged, ...] | None = None
    """For each action, (R,) times of these; None in a log without times."""

    @classmethod
    def of(cls, data: Dataset, actions: Sequence[str], length: int) -> "Requests":
        """Return the requests of a log; histories hold the last `length` events.

        Events belong to a request by `request_id`. In a log without requests every event is a
        request of its own, without a text. Where no event has one of the `actions`, each event
        counts as all of them.
        """
        table = _timed_requests(data)
        if table is None:
            queries, numbers = _every_event(data, length)
        else:
            queries = request_queries(data, table, length)
            numbers = _request_numbers(data, table)
        by_action = [
            _by_request(np.where(is_done, numbers, -1), len(queries))
            for is_done in _done(data, actions)
        ]
        items = data.catalogue.codes(data.events["item_id"])
        targets = tuple(events.with_values(items[events.values]) for events in by_action)
        times_ms = None
        if data.has_times:
            stamps = data.events["time_ms"].to_numpy()
            times_ms = tuple(events.with_values(stamps[events.values]) for events in by_action)
        requests = cls(queries, targets, times_ms)
        return requests.take(np.flatnonzero(requests.reached().lengths))

    def __len__(self) -> int:
        return len(self.queries)

    def take(self, rows: np.ndarray) -> "Requests":
        """Return the requests with these numbers, in this order."""
        times_ms = self.times_ms
        if times_ms is not None:
            times_ms = tuple(times.take(rows) for times in times_ms)
        targets = tuple(items.take(rows) for items in self.targets)
        return Requests(self.queries.take(rows), targets, times_ms)

    def reached(self) -> Ragged:
        """Return the items of each request by all actions; an item may stand there repeatedly."""
        return _joined(self.targets)

    def reached_ms(self) -> Ragged | None:
        """Return the times of what `reached` returns; None in a log without times."""
        return None if self.times_ms is None else _joined(self.times_ms)


def _by_request(numbers: np.ndarray, count: int) -> Ragged:
    """Return the events of each of `count` requests; `numbers` (E,) are -1 for none."""
    events = np.flatnonzero(numbers >= 0)
    events = events[np.argsort(numbers[events], kind="stable")]
    return Ragged.of_lengths(np.bincount(numbers[events], minlength=count), events)


def _joined(parts: Sequence[Ragged]) -> Ragged:
    """Return the rows of several arrays one behind another."""
    numbers = np.concatenate([part.row_ids for part in parts])
    values = np.concatenate([part.values for part in parts])
    order = np.argsort(numbers, kind="stable")
    return Ragged.of_lengths(np.bincount(numbers, minlength=len(parts[0])), values[order])


def _done(data: Dataset, actions: Sequence[str]) -> list[np.ndarray]:
    """Return for each action (E,) bool: which events are one."""
    every_event = np.ones(len(data.events), dtype=bool)
    if "action" not in data.events.columns:
        return [every_event] * len(actions)
    column = data.events["action"]
    done = [(column == action).fill_null(False).to_numpy() for action in actions]
    return done if any(is_done.any() for is_done in done) else [every_event] * len(actions)


def _timed_requests(data: Dataset) -> pl.DataFrame | None:
    """Return the requests that events name, oldest first; None where the log has none."""
    table = data.tables.get("requests")
    is_complete = table is not None and set(REQUEST_COLUMNS) <= set(table.columns)
    if table is None or not is_complete or not data.has_times:
        return None
    if "request_id" not in data.events.columns:
        return None
    requests = table.drop_nulls(REQUEST_COLUMNS).unique("request_id", keep="first")
    named = requests.join(data.events.select("request_id"), on="request_id", how="semi")
    return named.sort("time_ms", "request_id") if len(named) else None


def _request_numbers(data: Dataset, requests: pl.DataFrame) -> np.ndarray:
    """Return (E,) number of the request of each event, -1 for none."""
    numbered = requests.select("request_id", number=pl.int_range(pl.len()))
    events = data.events.select("request_id")
    joined = events.join(numbered, on="request_id", how="left", maintain_order="left")
    return joined["number"].fill_null(-1).to_numpy()


def _every_event(data: Dataset, length: int) -> tuple[Queries, np.ndarray]:
    """Return every event as a query, oldest first, and (E,) the number of its query."""
    sequences = data.sequences
    users = sequences.rows.row_ids
    before = np.arange(len(users))
    now_ms = None
    order = before
    if sequences.times_ms is not None:
        now_ms = sequences.times_ms.values
        before = positions_before(data, users, now_ms)
        order = np.argsort(now_ms, kind="stable")
    every_event = np.ones(len(users), dtype=bool)
    queries = queries_before(data, users, before, every_event, length, now_ms)
    numbers = np.empty(len(users), dtype=np.int64)
    numbers[sequences.events[order]] = np.arange(len(users))
    return queries.take(order), numbers
