"""Numbers of pairs of a query and an item, from what was known before the query.

Shapes: n pairs, B queries, N items, S slots of the fields, V codes of all fields, R latest items.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.examples import Examples
from tailor.data.queries import NO_TIME, Queries
from tailor.nn.packing import pad_rows
from tailor.ranking.encoding import HOUR_MS, Encoded
from tailor.ranking.features import Features
from tailor.ranking.running import RunningStatistics

LATEST = 10  # latest items whose co-visits are counted
WINDOW = 5  # events of a user between which items count as visited together


@dataclass(frozen=True, eq=False)
class PairStatistics:
    """Running statistics of labels, events and co-visits, and the numbers made of them."""

    features: Features
    """Fields of items and queries, without the field "history"."""
    history: int
    """Latest items of a history that are read."""
    smoothing: float
    """Rows of the overall mean that are added to those of each value."""
    labels: RunningStatistics
    """Labels of the examples by code, and of all examples by the key -1."""
    events: RunningStatistics
    """Events by item row."""
    covisits: RunningStatistics
    """Pairs of items close to each other in a history, by `_pair_keys`."""

    @classmethod
    def learned(
        cls,
        data: Dataset,
        examples: Examples,
        features: Features,
        history: int,
        smoothing: float,
        rng: np.random.Generator,
    ) -> "tuple[PairStatistics, np.ndarray]":
        """Learn statistics; return them, and the moments (n,) of the examples.

        Without times, users are put in a random order, and only users before one are known to it.
        """
        event_times, example_times = _moments(data, examples, rng)
        encoded = features.encoded(examples.queries, examples.pairs())
        is_filled = encoded.weights > 0
        rows = np.nonzero(is_filled)[0]
        keys = np.r_[encoded.codes[is_filled], np.full(len(examples), -1)]
        times = np.r_[example_times[rows], example_times]
        labels = RunningStatistics.of(keys, times, np.r_[examples.labels[rows], examples.labels])
        items = data.sequences.rows.values
        events = RunningStatistics.of(items, event_times, np.ones(len(items)))
        covisits = _covisits(data, event_times)
        return cls(features, history, smoothing, labels, events, covisits), example_times

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the running statistics as arrays by name."""
        return {
            **self.labels.arrays("labels"),
            **self.events.arrays("events"),
            **self.covisits.arrays("covisits"),
        }

    @classmethod
    def from_arrays(
        cls, features: Features, history: int, smoothing: float, arrays: Mapping[str, np.ndarray]
    ) -> "PairStatistics":
        """Return the statistics of `arrays`."""
        running = (
            RunningStatistics.from_arrays(name, arrays) for name in ("labels", "events", "covisits")
        )
        return cls(features, history, smoothing, *running)

    @cached_property
    def names(self) -> list[str]:
        """Names of the numbers, in the order of `numbers`."""
        item_fields = self._fields[: self.features.about["item_fields"]]
        names = []
        for name, start, stop, _ in self._fields:
            names += [f"{name}: rows", f"{name}: mean label"]
            if stop - start == 1 and name != "item_id":
                names.append(f"{name}: code")
        for name, *_ in item_fields:
            names += [f"{name}: in history", f"{name}: mean value in history"]
        return [
            *names,
            "item: events",
            "item: co-visits",
            "item: share of co-visits",
            "history: length",
            "history: hours since",
        ]

    @cached_property
    def _fields(self) -> list[tuple[str, int, int, int]]:
        """Name, first slot, slot after the last, and first code of each field."""
        slots = np.cumsum([0, *self.features.about["slots"]]).tolist()
        codes = np.cumsum([0, *self.features.about["sizes"]]).tolist()
        return list(zip(self.features.about["names"], slots, slots[1:], codes, strict=False))

    def numbers(
        self, queries: Queries, items: Ragged, moments: np.ndarray | None = None
    ) -> np.ndarray:
        """Return (n, F) numbers of the pairs of each query and its items; NaN where unknown.

        `moments` (B,) replace the times of the queries.
        """
        encoded = self.features.encoded(queries, items)
        if moments is None:
            moments = queries.now_ms
        if moments is None:
            moments = np.full(len(queries), NO_TIME)
        times = moments[encoded.owners]
        recent = queries.histories.last(self.history)
        columns = [
            *self._label_columns(encoded, times),
            *self._history_columns(encoded, queries, recent),
            *self._item_columns(encoded, recent, times),
            recent.lengths[encoded.owners],
            _hours_since(queries)[encoded.owners],
        ]
        return np.stack(columns, axis=1).astype(np.float64)

    def _label_columns(self, encoded: Encoded, times: np.ndarray) -> list[np.ndarray]:
        """Return rows and smoothed mean label of each field's values, and codes of single ones."""
        all_counts, all_sums = self.labels.before(np.full(len(times), -1), times)
        prior = all_sums / np.maximum(all_counts, 1)
        counts, sums = self.labels.before(encoded.codes, times[:, None])  # n, S
        means = (sums + self.smoothing * prior[:, None]) / (counts + self.smoothing)
        columns = []
        for name, start, stop, first_code in self._fields:
            weights = encoded.weights[:, start:stop]
            columns.append((weights * counts[:, start:stop]).sum(axis=1))
            columns.append(_weighted_mean(means[:, start:stop], weights))
            if stop - start == 1 and name != "item_id":
                columns.append(encoded.codes[:, start] - first_code)
        return columns

    def _history_columns(
        self, encoded: Encoded, queries: Queries, recent: Ragged
    ) -> list[np.ndarray]:
        """Return for each item field how often the history has the candidate's values.

        Beside it the mean value of those events, such as the rating.
        """
        items = len(self.features.items) - 1
        in_history = recent.matrix(items) @ self._codes_of_items  # B, V
        slots = self.features.items.shape[1]
        pairs = (encoded.owners[:, None], encoded.codes[:, :slots])
        occurrences = _looked_up(in_history, *pairs)
        values = np.full(occurrences.shape, np.nan)
        if "values" in queries.columns:
            recent_values = queries.columns["values"].last(self.history).values
            has_value = np.isfinite(recent_values)
            sums = recent.matrix(items, np.where(has_value, recent_values, 0.0))
            counts = recent.matrix(items, has_value.astype(np.float64))
            valued = _looked_up(counts @ self._codes_of_items, *pairs)
            totals = _looked_up(sums @ self._codes_of_items, *pairs)
            values = np.where(valued > 0, totals / np.maximum(valued, 1), np.nan)
        columns = []
        for _, start, stop, _ in self._fields[: self.features.about["item_fields"]]:
            weights = encoded.weights[:, start:stop]
            columns.append((weights * occurrences[:, start:stop]).sum(axis=1))
            is_known = ~np.isnan(values[:, start:stop])
            filled = np.where(is_known, values[:, start:stop], 0.0)
            columns.append(_weighted_mean(filled, weights * is_known))
        return columns

    def _item_columns(
        self, encoded: Encoded, recent: Ragged, times: np.ndarray
    ) -> list[np.ndarray]:
        """Return events of the item, and its co-visits with the latest items of the history."""
        item_events, _ = self.events.before(encoded.items, times)
        latest = recent.last(LATEST)
        rows, is_real = pad_rows(latest.values, latest.offsets[:-1], latest.lengths)
        rows = rows[encoded.owners].astype(np.int64)  # n, R
        keys = _pair_keys(rows, encoded.items[:, None], len(self.features.items))
        together, _ = self.covisits.before(keys, times[:, None])
        together = np.where(is_real[encoded.owners], together, 0.0)
        events, _ = self.events.before(rows, times[:, None])
        return [item_events, together.sum(axis=1), (together / (events + 1)).sum(axis=1)]

    @cached_property
    def _codes_of_items(self) -> sp.csr_matrix:
        """(N, V) a 1 at every known code of an item."""
        codes = self.features.items[:-1]
        rows, slots = np.nonzero(codes > 0)
        columns = self.features.layout.item_codes[:-1][rows, slots]
        shape = (len(codes), self.features.codes)
        return sp.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)


def _moments(
    data: Dataset, examples: Examples, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the moments of all events, in the order of the sequences, and of the examples."""
    times = data.sequences.times_ms
    if times is not None and examples.queries.now_ms is not None:
        return times.values, examples.queries.now_ms
    places = rng.permutation(len(data.users) + 1)  # the last one is of cold users
    user_rows = data.users.rows(examples.queries.user_ids.tolist())
    return places[data.sequences.rows.row_ids], places[user_rows]


def _covisits(data: Dataset, event_times: np.ndarray) -> RunningStatistics:
    """Return statistics of the items at most WINDOW events apart, known from the later one on."""
    rows = data.sequences.rows
    items = rows.values.astype(np.int64)
    keys = []
    times = []
    for distance in range(1, WINDOW + 1):
        is_same_user = rows.row_ids[distance:] == rows.row_ids[:-distance]
        pairs = _pair_keys(items[:-distance], items[distance:], len(data.catalogue) + 1)
        keys.append(pairs[is_same_user])
        times.append(event_times[distance:][is_same_user])
    all_keys = np.concatenate(keys)
    return RunningStatistics.of(all_keys, np.concatenate(times), np.ones(len(all_keys)))


def _pair_keys(rows: np.ndarray, others: np.ndarray, n: int) -> np.ndarray:
    """Return a number for every pair of item rows, whichever comes first."""
    keys: np.ndarray = np.minimum(rows, others) * n + np.maximum(rows, others)
    return keys


def _looked_up(matrix: sp.csr_matrix, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the values of a sparse matrix at rows (n, 1) and columns (n, S)."""
    rows, columns = np.broadcast_arrays(rows, columns)
    if not rows.size:
        return np.zeros(rows.shape)
    return np.asarray(matrix[rows.ravel(), columns.ravel()], dtype=np.float64).reshape(rows.shape)


def _weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return (n,) the mean of values (n, S) by weights; NaN without any."""
    totals = weights.sum(axis=1)
    sums = (values * weights).sum(axis=1)
    return np.asarray(np.where(totals > 0, sums / np.where(totals > 0, totals, 1), np.nan))


def _hours_since(queries: Queries) -> np.ndarray:
    """Return (B,) hours from the latest event to the request; NaN where a time is absent."""
    hours = np.full(len(queries), np.nan)
    times = queries.columns.get("times_ms")
    if times is None or queries.now_ms is None:
        return hours
    has_event = np.flatnonzero(times.lengths > 0)
    latest = times.values[times.offsets[1:][has_event] - 1]
    now_ms = queries.now_ms[has_event]
    is_known = (latest != NO_TIME) & (now_ms != NO_TIME)
    hours[has_event[is_known]] = (now_ms - latest)[is_known] / HOUR_MS
    return hours
