"""What predictors learn from and are judged by: pairs of a query and an item, and what came of
each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from tailor.data.arrays import Ragged
from tailor.data.conditions import Condition
from tailor.data.dataset import Dataset
from tailor.data.queries import Queries
from tailor.data.sampling import popular_negatives
from tailor.data.splits import CONTEXT, TEST, TRAIN, VALID, Split
from tailor.errors import DataError, nearest

Source = Literal["drawn", "label", "shown"]
SOURCES = ("drawn", "label", "shown")
ROUNDS = 20  # of drawing again what somebody had


@dataclass(frozen=True, eq=False)
class Examples:
    """n labelled pairs in arrays. A query is as it stood before: its history holds nothing of the
    moment it is asked at, nor of later.
    """

    queries: Queries
    """(n,)."""
    items: np.ndarray
    """(n,) int32 rows of the queries' catalogue."""
    labels: np.ndarray
    """(n,) float32, 0 or 1."""

    def __len__(self) -> int:
        return len(self.items)

    def take(self, rows: np.ndarray) -> "Examples":
        return Examples(self.queries.take(rows), self.items[rows], self.labels[rows])

    def people(self) -> tuple[np.ndarray, np.ndarray]:
        """Distinct ids of who asks, and (n,) the place of each pair's in them; everybody without an
        id is somebody else.
        """
        names = [
            f"stranger {at}" if one is None else one
            for at, one in enumerate(self.queries.user_ids.tolist())
        ]
        ids, places = np.unique(np.array(names, dtype=str), return_inverse=True)
        return ids, places


@dataclass(frozen=True)
class Outcome:
    """What is to be predicted, and where its examples come from.

    "label": each event, 1 where the condition `label` holds, 0 where it does not; undecided ones (a
    missing value) are left out. "shown": each item of the impressions, 1 where an event of the same
    request chose it (one for which `label` holds, where given). "drawn": each event is a 1, and for
    each `negatives` items that the person never had are 0, drawn by popularity or evenly: such
    probabilities are those of this mixture, and say how items compare, not how often they will be
    chosen.
    """

    source: Source = "drawn"
    label: str | None = None
    """A condition on the events, or the name of one in dataset.toml."""
    negatives: int = 1
    by: Literal["popularity", "uniform"] = "popularity"
    length: int = 20
    """Latest events of a history that are carried along."""

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
        if self.label and self.source == "drawn":
            raise DataError(
                f'label "{self.label}" beside source "drawn", where every event is a 1: write'
                ' source = "label"'
            )

    def learn(self, data: Dataset, rng: np.random.Generator) -> Examples:
        """Of all that happened in `data`. Raises DataError where it lacks what the source needs."""
        whole = np.ones(len(data.events), dtype=bool)
        return (
            self._shown(data, data, whole)
            if self.source == "shown"
            else self._of_events(data, whole, whole, rng)
        )

    def judge(self, split: Split, part: str, rng: np.random.Generator) -> Examples:
        """Of the events of a split's part ("valid", "test"), with the histories that were known
        before the part began.
        """
        if part not in ("valid", "test"):
            raise DataError(f'examples of "{part}"?{nearest(part, ["valid", "test"])}')
        known = np.isin(
            split.part, (TRAIN, CONTEXT) if part == "valid" else (TRAIN, CONTEXT, VALID)
        )
        chosen = split.part == (VALID if part == "valid" else TEST)
        if self.source == "shown":
            return self._shown_later(split, part, known)
        return self._of_events(split.data, chosen, known, rng)

    def _of_events(
        self, data: Dataset, chosen: np.ndarray, known: np.ndarray, rng: np.random.Generator
    ) -> Examples:
        labels = np.ones(len(data.events), dtype=np.float32)
        if self.source == "label":
            assert self.label is not None
            labels, decided = _labels(data, self.label)
            chosen = chosen & decided
        places = np.flatnonzero(chosen[data.sequences.events])
        if not len(places):
            raise DataError(
                f'no event to go by: none has a value that "{self.label}" asks for'
                if self.label
                else "there is no event"
            )
        before = _first_of_a_tie(data)[places]
        users = data.sequences.rows.row_ids[places]
        events = data.sequences.events[places]
        now = data.events["time_ms"].to_numpy()[events] if data.has_times else None
        queries = _as_of(data, users, before, known, self.length, now)
        found = Examples(queries, data.sequences.rows.values[places], labels[events])
        return (
            found if self.source == "label" else self._with_drawn(found, data, chosen, known, rng)
        )

    def _with_drawn(
        self,
        positive: Examples,
        data: Dataset,
        chosen: np.ndarray,
        known: np.ndarray,
        rng: np.random.Generator,
    ) -> Examples:
        """The pairs, and for each of them `negatives` more of the same query, by the popularity
        that is known. People who had everything get fewer.
        """
        n, rows = len(data.catalogue), data.sequences.rows
        had, kept = (chosen | known)[data.sequences.events], known[data.sequences.events]
        theirs = np.unique(rows.row_ids[had] * n + rows.values[had])
        owner = np.repeat(np.arange(len(positive)), self.negatives)
        person = data.users.rows(positive.queries.user_ids.tolist())[owner].astype(np.int64)
        counts = (
            np.bincount(rows.values[kept], minlength=n) if self.by == "popularity" else np.ones(n)
        )
        drawn = popular_negatives(counts, len(owner), rng, 1.0)
        for _ in range(ROUNDS):
            bad = np.flatnonzero(np.isin(person * n + drawn, theirs))
            if not len(bad):
                break
            drawn[bad] = popular_negatives(counts, len(bad), rng, 1.0)
        good = ~np.isin(person * n + drawn, theirs)
        place = np.concatenate([np.arange(len(positive)), owner[good]])
        items = np.concatenate([positive.items, drawn[good].astype(np.int32)])
        labels = np.concatenate([positive.labels, np.zeros(good.sum(), np.float32)])
        return Examples(positive.queries.take(place), items, labels)

    def _shown(
        self,
        data: Dataset,
        log: Dataset,
        known: np.ndarray,
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> Examples:
        """Of the impressions of `log`, with histories of the `known` events of `data`; only
        requests since and until a time, where given.
        """
        for table in ("impressions", "requests", "events"):
            if table not in log.tables:
                raise DataError(
                    f'source "shown" needs the table {table}, which this data set lacks: write'
                    ' source = "label" or "drawn"'
                )
        events = (
            log.events
            if self.label is None
            else log.events.filter(pl.Series(_labels(log, self.label)[0] > 0))
        )
        if "request_id" not in events.columns or "time_ms" not in log.tables["requests"].columns:
            raise DataError(
                'source "shown" needs request_id in the events, and time_ms in the requests: it'
                " must be known what was chosen from where"
            )
        chose = (
            events.select("request_id", "item_id")
            .drop_nulls()
            .unique()
            .with_columns(label=pl.lit(1.0, pl.Float32))
        )
        asked = (
            log.tables["requests"]
            .select("request_id", "user_id", "time_ms")
            .drop_nulls("time_ms")
            .unique("request_id", keep="first")
        )
        seen = log.tables["impressions"]
        seen = seen.filter(pl.col("shown").fill_null(True)) if "shown" in seen.columns else seen
        pairs = (
            seen.select("request_id", "item_id")
            .join(asked, on="request_id", maintain_order="left")
            .join(chose, on=["request_id", "item_id"], how="left", maintain_order="left")
        )
        if since_ms is not None:
            pairs = pairs.filter(pl.col("time_ms") >= since_ms)
        if until_ms is not None:
            pairs = pairs.filter(pl.col("time_ms") < until_ms)
        if not len(pairs):
            raise DataError("nothing was shown in this part: there is nothing to predict")
        now = pairs["time_ms"].to_numpy().astype(np.int64)
        users = data.users.rows(pairs["user_id"].to_list())
        queries = _as_of(
            data,
            users,
            _places_before(data, users, now),
            known,
            self.length,
            now,
            pairs["user_id"].to_list(),
        )
        return Examples(
            queries,
            data.catalogue.codes(pairs["item_id"]),
            pairs["label"].fill_null(0.0).to_numpy(),
        )

    def _shown_later(self, split: Split, part: str, known: np.ndarray) -> Examples:
        if split.kind != "time":
            raise DataError(
                f'source "shown" is judged on a split by time, this one is by "{split.kind}": what'
                " was shown lies between two times"
            )
        first, last = split.params["cuts_ms"]
        return self._shown(
            split.data,
            split.data,
            known,
            first if part == "valid" else last,
            last if part == "valid" else None,
        )


def _labels(data: Dataset, label: str) -> tuple[np.ndarray, np.ndarray]:
    """(events,) float32 0 or 1, and (events,) bool where the condition is decided."""
    yes = data.where(label)
    no = Condition(f"not ({data.labels.get(label, label)})").holds(data.events)
    return yes.astype(np.float32), yes | no


def _first_of_a_tie(data: Dataset) -> np.ndarray:
    """(m,) for every place of the sequences, the first place of the same person with the same time:
    what stands before it came before.
    """
    m, times = len(data.sequences.rows.values), data.sequences.times_ms
    if times is None:
        return np.arange(m)
    owners = data.sequences.rows.row_ids
    new = np.r_[True, (owners[1:] != owners[:-1]) | (times.values[1:] != times.values[:-1])]
    return np.maximum.accumulate(np.where(new, np.arange(m), 0)) if m else np.arange(0)


def _places_before(data: Dataset, users: np.ndarray, now_ms: np.ndarray) -> np.ndarray:
    """(n,) for every person (row, -1 for a stranger) and time, the place after the person's last
    event before that time.
    """
    sequences = data.sequences
    if sequences.times_ms is None:
        raise DataError(
            "the events have no times: what was known when a list was shown cannot be said"
        )
    owners = np.concatenate([sequences.rows.row_ids, users])
    times = np.concatenate([sequences.times_ms.values, now_ms])
    is_event = np.arange(len(owners)) < len(sequences.rows.values)
    # at one time, who asks stands before what happens
    order = np.lexsort((is_event, times, owners))
    passed = np.cumsum(is_event[order])
    found = np.empty(len(owners), dtype=np.int64)
    found[order] = passed
    return found[~is_event]


def _as_of(
    data: Dataset,
    users: np.ndarray,
    before: np.ndarray,
    known: np.ndarray,
    length: int,
    now_ms: np.ndarray | None,
    user_ids: Sequence[str | None] | None = None,
) -> Queries:
    """Queries of persons (rows, -1 for strangers) with their last `length` known events before the
    place `before` (n,).
    """
    sequences = data.sequences
    kept = known[sequences.events]
    counted = np.r_[0, np.cumsum(kept)]  # known places before each
    starts = np.where(users >= 0, counted[sequences.rows.offsets[:-1][np.maximum(users, 0)]], 0)
    stops = np.where(users >= 0, counted[before], 0)
    lengths = np.minimum(stops - starts, length)
    shift = (stops - lengths) - np.r_[0, np.cumsum(lengths)][:-1]
    places = np.flatnonzero(kept)[np.arange(lengths.sum()) + np.repeat(shift, lengths)]
    histories = Ragged.of_lengths(lengths, sequences.rows.values[places])
    columns = (
        {}
        if sequences.times_ms is None
        else {"times_ms": histories.with_values(sequences.times_ms.values[places])}
    )
    ids = (
        data.users.ids[users]
        if user_ids is None
        else np.array([*user_ids, None], dtype=object)[:-1]
    )
    return Queries(
        data.catalogue, histories, ids, columns, now_ms=now_ms, contexts=data.contexts(ids)
    )


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
