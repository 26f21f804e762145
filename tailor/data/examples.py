"""Labelled examples for predictors: pairs of a query and an item, with the outcome."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl

from tailor.data.arrays import Ragged
from tailor.data.conditions import Condition
from tailor.data.dataset import Dataset, Lists
from tailor.data.queries import Queries
from tailor.data.sampling import popular_negatives
from tailor.data.splits import CONTEXT, TEST, TRAIN, VALID, Split
from tailor.data.tables import TABLES
from tailor.errors import DataError, nearest

Source = Literal["drawn", "label", "shown", "listed", "value"]
SOURCES = ("drawn", "label", "shown", "listed", "value")
MAX_ROUNDS = 20  # of drawing again items that the user had


@dataclass(frozen=True, eq=False)
class Examples:
    """n labelled pairs in arrays.

    A query's history holds only events before the time of the query.
    """

    queries: Queries
    """(n,)."""
    items: np.ndarray
    """(n,) int32 rows of the queries' catalogue."""
    labels: np.ndarray
    """(n,) float32: 0 or 1, or with the source "value" any number."""

    def __len__(self) -> int:
        return len(self.items)

    def take(self, rows: np.ndarray) -> "Examples":
        """Return the examples at these positions."""
        return Examples(self.queries.take(rows), self.items[rows], self.labels[rows])

    def pairs(self) -> Ragged:
        """Return the items by query, one each."""
        return Ragged.of_lengths(np.ones(len(self), dtype=np.int64), self.items)

    def people(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the distinct user ids, and (n,) the position of each pair's user in them.

        Every query without a user id counts as a user of its own.
        """
        names = [
            f"stranger {position}" if user_id is None else user_id
            for position, user_id in enumerate(self.queries.user_ids.tolist())
        ]
        ids, positions = np.unique(np.array(names, dtype=str), return_inverse=True)
        return ids, positions


@dataclass(frozen=True)
class Outcome:
    """The outcome to predict, and the source of its examples.

    - "label": every event is an example, 1 where the condition `label` holds and 0 where it does
      not. Events where it is undecided (a missing value) are left out.
    - "shown": every item of the impressions is an example, 1 where an event of the same request
      chose it (an event for which `label` holds, if there is a label).
    - "drawn": every event is a 1, and for each, `negatives` items that the user never had are 0.
      Probabilities are then those of this mixture: they compare items, and do not say how often
      an item will be chosen.
    - "listed": in the lists of an earlier stage, the next items are a 1, and for each, `negatives`
      other items of the same list are 0. A later stage learns from such lists (`Cascade`); where
      there are none, as in a split, examples are drawn.
    - "value": every event with a value is an example, and its value is the label.
    """

    source: Source = "drawn"
    """Source of the examples: "label", "shown", "drawn", "listed" or "value"."""
    label: str | None = None
    """A condition on the events, or the name of one in dataset.toml."""
    negatives: int = 1
    """Number of negatives drawn per event, or per next item of a list."""
    drawn_by: Literal["popularity", "uniform"] = "popularity"
    """How negatives are drawn."""
    length: int = 20
    """Latest events of a history that a query holds."""

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise DataError(f'source is "{self.source}".{nearest(self.source, SOURCES)}')
        if self.source == "label" and not self.label:
            raise DataError(
                'source is "label": say by `label` which events are a 1, as in label = "value >= 4"'
            )
        if self.negatives < 1 or self.length < 0:
            raise DataError(
                f"negatives is {self.negatives}, length {self.length}: at least 1 and 0"
            )
        if self.label and self.source not in ("label", "shown"):
            raise DataError(
                f'label "{self.label}" beside source "{self.source}", which asks for no condition:'
                ' write source = "label"'
            )

    def learn(self, data: Dataset, rng: np.random.Generator) -> Examples:
        """Return the examples of a whole data set.

        Raises DataError where it lacks a table or column that the source needs.
        """
        every_event = np.ones(len(data.events), dtype=bool)
        if self.source == "shown":
            return self._shown(data, data, every_event)
        if self.source == "listed" and data.lists is not None:
            return self._listed(data.lists, rng)
        return self._of_events(data, every_event, every_event, rng)

    def _listed(self, lists: Lists, rng: np.random.Generator) -> Examples:
        """Return the next items that stand in their list, and items listed beside each."""
        n = len(lists.queries.catalogue)
        listed = lists.rankings.reindexed(lists.queries.catalogue).ragged()
        targets = lists.targets
        keys = listed.row_ids * n + listed.values
        is_next = np.isin(keys, targets.row_ids * n + targets.values)
        found = np.flatnonzero(is_next)
        others = listed.keep(~is_next)
        owners = np.repeat(listed.row_ids[found], self.negatives)
        owners = owners[others.lengths[owners] > 0]
        places = (rng.random(len(owners)) * others.lengths[owners]).astype(np.int64)
        drawn = others.values[others.offsets[owners] + places]
        if not len(found):
            raise DataError(
                "no next item stands in the lists of the first stage: nothing can be learned from"
                " them; make the lists longer (depth)"
            )
        queries = lists.queries.take(np.r_[listed.row_ids[found], owners])
        queries = queries.keep_events(queries.histories.from_end < self.length)
        items = np.r_[listed.values[found], drawn].astype(np.int32)
        labels = np.r_[np.ones(len(found)), np.zeros(len(drawn))].astype(np.float32)
        return Examples(queries, items, labels)

    def judge(self, split: Split, part: str, rng: np.random.Generator) -> Examples:
        """Return the examples of a split's part ("valid" or "test").

        Histories hold the events that were known before the part began.
        """
        if part not in ("valid", "test"):
            raise DataError(f'examples of "{part}"?{nearest(part, ["valid", "test"])}')
        earlier_parts = (TRAIN, CONTEXT) if part == "valid" else (TRAIN, CONTEXT, VALID)
        is_earlier = np.isin(split.part, earlier_parts)
        if self.source == "shown":
            return self._shown_later(split, part, is_earlier)
        is_in_part = split.part == (VALID if part == "valid" else TEST)
        return self._of_events(split.data, is_in_part, is_earlier, rng)

    def _of_events(
        self,
        data: Dataset,
        is_example: np.ndarray,
        is_earlier: np.ndarray,
        rng: np.random.Generator,
    ) -> Examples:
        """Return examples from events; histories hold the events of `is_earlier`."""
        labels = np.ones(len(data.events), dtype=np.float32)
        if self.source == "label":
            assert self.label is not None
            labels, is_decided = _labels(data, self.label)
            is_example = is_example & is_decided
        if self.source == "value":
            labels = _values(data)
            is_example = is_example & np.isfinite(labels)
        sequences = data.sequences
        positions = np.flatnonzero(is_example[sequences.events])
        if not len(positions):
            reason = f'none has a value that "{self.label}" asks for'
            raise DataError(f"no event to go by: {reason}" if self.label else "there is no event")
        events = sequences.events[positions]
        queries = queries_before(
            data,
            sequences.rows.row_ids[positions],
            _first_of_a_tie(data)[positions],
            is_earlier,
            self.length,
            data.events["time_ms"].to_numpy()[events] if data.has_times else None,
        )
        examples = Examples(queries, sequences.rows.values[positions], labels[events])
        if self.source in ("label", "value"):
            return examples
        return self._with_negatives(examples, data, is_example, is_earlier, rng)

    def _with_negatives(
        self,
        positives: Examples,
        data: Dataset,
        is_example: np.ndarray,
        is_earlier: np.ndarray,
        rng: np.random.Generator,
    ) -> Examples:
        """Add `negatives` pairs of the same query to each pair.

        Popularity is that of earlier events. Users who had nearly every item get fewer negatives.
        """
        n = len(data.catalogue)
        rows = data.sequences.rows
        is_had = (is_example | is_earlier)[data.sequences.events]
        had_pairs = np.unique(rows.row_ids[is_had] * n + rows.values[is_had])
        counts: np.ndarray = np.ones(n)
        if self.drawn_by == "popularity":
            counts = np.bincount(rows.values[is_earlier[data.sequences.events]], minlength=n)
        owners = np.repeat(np.arange(len(positives)), self.negatives)
        users = data.users.rows(positives.queries.user_ids.tolist())[owners].astype(np.int64)
        drawn = popular_negatives(counts, len(owners), rng, 1.0)
        for _ in range(MAX_ROUNDS):
            bad = np.flatnonzero(np.isin(users * n + drawn, had_pairs))
            if not len(bad):
                break
            drawn[bad] = popular_negatives(counts, len(bad), rng, 1.0)
        is_new = ~np.isin(users * n + drawn, had_pairs)
        positions = np.concatenate([np.arange(len(positives)), owners[is_new]])
        items = np.concatenate([positives.items, drawn[is_new].astype(np.int32)])
        labels = np.concatenate([positives.labels, np.zeros(is_new.sum(), np.float32)])
        return Examples(positives.queries.take(positions), items, labels)

    def _shown(
        self,
        data: Dataset,
        log: Dataset,
        is_earlier: np.ndarray,
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> Examples:
        """Return examples from the impressions of `log`, optionally between two times.

        Histories hold the events of `data` where `is_earlier`.
        """
        pairs = self._shown_pairs(log)
        if since_ms is not None:
            pairs = pairs.filter(pl.col("time_ms") >= since_ms)
        if until_ms is not None:
            pairs = pairs.filter(pl.col("time_ms") < until_ms)
        if not len(pairs):
            raise DataError("nothing was shown in this part: there is nothing to predict")
        now_ms = pairs["time_ms"].to_numpy().astype(np.int64)
        user_ids = pairs["user_id"].to_list()
        users = data.users.rows(user_ids)
        before = positions_before(data, users, now_ms)
        queries = queries_before(data, users, before, is_earlier, self.length, now_ms, user_ids)
        contexts = {**queries.contexts, **_request_contexts(pairs)}
        queries = replace(queries, contexts=contexts)
        items = data.catalogue.codes(pairs["item_id"])
        return Examples(queries, items, pairs["label"].fill_null(0.0).to_numpy())

    def _shown_pairs(self, log: Dataset) -> pl.DataFrame:
        """Return shown items as rows of request_id, item_id, user_id, time_ms and label."""
        for table in ("impressions", "requests", "events"):
            if table not in log.tables:
                raise DataError(
                    f'source "shown" needs the table {table}, which this data set lacks: write'
                    ' source = "label" or "drawn"'
                )
        events = log.events
        if self.label is not None:
            events = events.filter(pl.Series(_labels(log, self.label)[0] > 0))
        requests = log.tables["requests"]
        if "request_id" not in events.columns or "time_ms" not in requests.columns:
            raise DataError(
                'source "shown" needs request_id in the events, and time_ms in the requests: it'
                " must be known what was chosen from where"
            )
        choices = events.select("request_id", "item_id").drop_nulls().unique()
        choices = choices.with_columns(label=pl.lit(1.0, pl.Float32))
        columns = ["request_id", "user_id", "time_ms", *_context_columns(requests)]
        requests = requests.select(columns).drop_nulls("time_ms")
        requests = requests.unique("request_id", keep="first")
        pairs = shown_only(log.tables["impressions"]).select("request_id", "item_id")
        pairs = pairs.join(requests, on="request_id", maintain_order="left")
        keys = ["request_id", "item_id"]
        return pairs.join(choices, on=keys, how="left", maintain_order="left")

    def _shown_later(self, split: Split, part: str, is_earlier: np.ndarray) -> Examples:
        if split.kind != "time":
            raise DataError(
                f'source "shown" is judged on a split by time, this one is by "{split.kind}": what'
                " was shown lies between two times"
            )
        first_ms, last_ms = split.params["cuts_ms"]
        if part == "valid":
            return self._shown(split.data, split.data, is_earlier, first_ms, last_ms)
        return self._shown(split.data, split.data, is_earlier, last_ms)


def shown_only(impressions: pl.DataFrame) -> pl.DataFrame:
    """Return the impressions that were really shown: all but those marked as not."""
    if "shown" not in impressions.columns:
        return impressions
    return impressions.filter(pl.col("shown").fill_null(True))


def _context_columns(requests: pl.DataFrame) -> list[str]:
    """Return the further columns of requests: what was known when a list was shown."""
    ours = TABLES["requests"].columns
    return [
        name
        for name, kind in requests.schema.items()
        if name not in ours and not kind.is_nested() and name not in ("item_id", "label")
    ]


def _request_contexts(requests: pl.DataFrame) -> dict[str, np.ndarray]:
    """Return further column of requests -> (n,) object, its values."""
    return {
        name: np.array([*requests[name].to_list(), None], dtype=object)[:-1]
        for name in _context_columns(requests)
    }


def _labels(data: Dataset, label: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (events,) float32 labels, and (events,) bool where the condition is decided."""
    is_true = data.where(label)
    condition = Condition(data.labels.get(label, label))
    return is_true.astype(np.float32), condition.decides(data.events)


def _values(data: Dataset) -> np.ndarray:
    """Return (events,) float32 values; NaN for none."""
    if "value" not in data.events.columns:
        raise DataError(
            'source "value" needs the column value in the events, which this data set lacks'
        )
    return data.events["value"].cast(pl.Float32).fill_null(np.nan).to_numpy()


def _first_of_a_tie(data: Dataset) -> np.ndarray:
    """Return for each position the first one of the same user with the same time, (m,).

    Events before that position came before the event.
    """
    count = len(data.sequences.rows.values)
    times = data.sequences.times_ms
    if times is None or not count:
        return np.arange(count)
    users = data.sequences.rows.row_ids
    is_other_user = users[1:] != users[:-1]
    is_first = np.r_[True, is_other_user | (times.values[1:] != times.values[:-1])]
    return np.maximum.accumulate(np.where(is_first, np.arange(count), 0))


def positions_before(data: Dataset, users: np.ndarray, now_ms: np.ndarray) -> np.ndarray:
    """Return the position after each user's last event before a time, (n,).

    `users` (n,) are rows, -1 for a cold user; `now_ms` (n,) are times.
    """
    sequences = data.sequences
    if sequences.times_ms is None:
        raise DataError(
            "the events have no times: what was known when a list was shown cannot be said"
        )
    owners = np.concatenate([sequences.rows.row_ids, users])
    times = np.concatenate([sequences.times_ms.values, now_ms])
    is_event = np.arange(len(owners)) < len(sequences.rows.values)
    order = np.lexsort((is_event, times, owners))  # at equal times queries come before events
    positions = np.empty(len(owners), dtype=np.int64)
    positions[order] = np.cumsum(is_event[order])
    return positions[~is_event]


def queries_before(
    data: Dataset,
    users: np.ndarray,
    before: np.ndarray,
    is_earlier: np.ndarray,
    length: int,
    now_ms: np.ndarray | None,
    user_ids: Sequence[str | None] | None = None,
) -> Queries:
    """Return queries of users with their last `length` earlier events before a position.

    `users` (n,) are rows, -1 for cold users; `before` (n,) are positions in the sequences.
    """
    sequences = data.sequences
    is_kept = is_earlier[sequences.events]
    kept_before = np.r_[0, np.cumsum(is_kept)]  # earlier events before each position
    first_positions = sequences.rows.offsets[:-1][np.maximum(users, 0)]
    starts = np.where(users >= 0, kept_before[first_positions], 0)
    stops = np.where(users >= 0, kept_before[before], 0)
    lengths = np.minimum(stops - starts, length)
    shift = (stops - lengths) - np.r_[0, np.cumsum(lengths)][:-1]
    positions = np.flatnonzero(is_kept)[np.arange(lengths.sum()) + np.repeat(shift, lengths)]
    histories = Ragged.of_lengths(lengths, sequences.rows.values[positions])
    columns = {}
    if sequences.times_ms is not None:
        columns["times_ms"] = histories.with_values(sequences.times_ms.values[positions])
    if "value" in data.events.columns:
        values = _values(data)[sequences.events[positions]].astype(np.float64)
        columns["values"] = histories.with_values(values)
    if user_ids is None:
        ids = data.users.ids[users]
    else:
        ids = np.array([*user_ids, None], dtype=object)[:-1]
    return Queries(
        data.catalogue, histories, ids, columns, now_ms=now_ms, contexts=data.contexts(ids)
    )


def request_queries(data: Dataset, requests: pl.DataFrame, length: int) -> Queries:
    """Return rows of the table requests as queries, with the last `length` events before each.

    They hold the requests' texts and further columns. The rows need a user and a time.
    """
    now_ms = requests["time_ms"].to_numpy().astype(np.int64)
    user_ids = requests["user_id"].to_list()
    users = data.users.rows(user_ids)
    before = positions_before(data, users, now_ms)
    every_event = np.ones(len(data.events), dtype=bool)
    queries = queries_before(data, users, before, every_event, length, now_ms, user_ids)
    contexts = {**queries.contexts, **_request_contexts(requests)}
    texts = None
    if "text" in requests.columns:
        texts = np.array([*requests["text"].fill_null("").to_list(), None], dtype=object)[:-1]
    return replace(queries, contexts=contexts, texts=texts)


def unchosen_impressions(data: Dataset) -> Ragged:
    """Return, by user, the item rows that the user was shown and never chose.

    All rows are empty for a data set without impressions, or without the users of its requests.
    """
    requests = data.tables.get("requests")
    if "impressions" not in data.tables or requests is None or "user_id" not in requests.columns:
        return Ragged.of([[]] * len(data.users))
    pair = ["user_id", "item_id"]
    impressions = data.tables["impressions"].join(
        requests.select("request_id", "user_id"), on="request_id"
    )
    chosen = data.events.select(pair).unique()
    unchosen = impressions.select(pair).unique().join(chosen, on=pair, how="anti").sort(pair)
    users = data.users.codes(unchosen["user_id"])
    items = data.catalogue.codes(unchosen["item_id"])
    is_known = (users >= 0) & (items >= 0)
    users = users[is_known]
    items = items[is_known]
    order = np.argsort(users, kind="stable")
    return Ragged.of_lengths(np.bincount(users, minlength=len(data.users)), items[order])
