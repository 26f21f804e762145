"""Array-backed sequences that build `Query` and `Ranking` objects only when they are read."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

import numpy as np

from tailor.data.arrays import Ragged
from tailor.data.nouns import PARALLEL, History, Profile, Query, Ranking
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError

NO_TIME = int(np.iinfo(np.int64).min)
"""Stands in arrays of times for an absent time."""
TEXT = "text"
"""The name in `Ranking.details` of a candidate's own text."""
IMAGE = "image"
"""The name in `Ranking.details` of a candidate's own picture, the content of a file."""
DTYPES: Mapping[str, type] = {
    "times_ms": np.int64,
    "actions": object,
    "values": np.float64,
    "texts": object,
}
ABSENT: Mapping[str, Any] = {
    "times_ms": NO_TIME,
    "actions": None,
    "values": np.nan,
    "texts": None,
}
"""What stands in a column of events where a history brings none."""


@dataclass(frozen=True, eq=False)
class Queries(Sequence[Query]):
    """Queries over one catalogue, in arrays; reading `queries[i]` builds the `Query`.

    Items of a history or of `exclude` that the catalogue lacks are not held.
    """

    catalogue: Vocabulary
    histories: Ragged
    """Item rows of the catalogue, oldest first."""
    user_ids: np.ndarray
    """(n,) object: str or None."""
    columns: Mapping[str, Ragged] = field(default_factory=dict)
    """times_ms, actions, values, texts: parallel to histories, ABSENT where a history has none."""
    exclude: Ragged | None = None
    """Item rows that must not be answered to one query."""
    blocked: tuple[Vocabulary, ...] = ()
    """Items excluded for all queries: the rules of filters, one vocabulary each."""
    now_ms: np.ndarray | None = None
    """(n,) int64 time of each request, NO_TIME where absent."""
    contexts: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Name of an attribute -> (n,) its values, None where absent."""
    texts: np.ndarray | None = None
    """(n,) object: search text, "" where absent; None: no query has one. So too the next three."""
    request_ids: np.ndarray | None = None
    """(n,) object: str or None."""
    profiles: np.ndarray | None = None
    """(n,) object: Profile or None."""
    images: np.ndarray | None = None
    """(n,) object: tuples of bytes."""

    @classmethod
    def of(cls, queries: Sequence[Query]) -> "Queries":
        """Return the arrays of queries; `Queries` pass through.

        Raises DataError for what is no query.
        """
        if isinstance(queries, Queries):
            return queries
        if isinstance(queries, Query):
            raise DataError("got one query where a list of queries is expected: write [query]")
        for query in queries:
            if not isinstance(query, Query):
                raise DataError(
                    "a list of queries is expected, got"
                    f" {query!r}: write Query(history=History.of('an id'))"
                )
        histories = [query.history for query in queries]
        history_ids = [item_id for history in histories for item_id in history.item_ids]
        excluded_ids = [item_id for query in queries for item_id in query.exclude]
        catalogue = Vocabulary.of_items([*history_ids, *excluded_ids])
        lengths = [len(history.item_ids) for history in histories]
        excluded = [len(query.exclude) for query in queries]
        return cls(
            catalogue,
            Ragged.of_lengths(lengths, catalogue.rows(history_ids)),
            _objects([query.user_id for query in queries]),
            _event_columns(histories, lengths),
            Ragged.of_lengths(excluded, catalogue.rows(excluded_ids)),
            now_ms=_request_times(queries),
            contexts=_context_columns(queries),
            texts=_optional_objects([query.text for query in queries], ""),
            request_ids=_optional_objects([query.request_id for query in queries]),
            profiles=_optional_objects([query.profile for query in queries]),
            images=_optional_objects([query.images for query in queries], ()),
        )

    def __len__(self) -> int:
        return len(self.histories)

    @overload
    def __getitem__(self, i: int) -> Query: ...
    @overload
    def __getitem__(self, i: slice) -> "Queries": ...
    def __getitem__(self, i: int | slice) -> "Query | Queries":
        if isinstance(i, slice):
            return self._slice(*i.indices(len(self)))
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        return self._query(i % len(self))

    def _query(self, i: int) -> Query:
        attributes = {name: values[i] for name, values in self.contexts.items()}
        time_ms = NO_TIME if self.now_ms is None else int(self.now_ms[i])
        return Query(
            user_id=self.user_ids[i],
            history=self._history(i),
            text=self.text(i),
            time_ms=None if time_ms == NO_TIME else time_ms,
            request_id=self.request_id(i),
            exclude=self._excluded_ids(i),
            profile=self.profile(i),
            images=self.images_of(i),
            context={name: value for name, value in attributes.items() if value is not None},
        )

    def _history(self, i: int) -> History:
        item_ids = tuple(self.catalogue.named(self.histories[i]))
        columns = {name: _present(name, column[i]) for name, column in self.columns.items()}
        return History(item_ids, **columns)

    def _excluded_ids(self, i: int) -> tuple[str, ...]:
        ids = [] if self.exclude is None else self.catalogue.named(self.exclude[i])
        if self.blocked:
            excluded = set(ids)
            blocked = dict.fromkeys(item_id for rule in self.blocked for item_id in rule.ids)
            ids += [item_id for item_id in blocked if item_id not in excluded]
        return tuple(ids)

    def _map(
        self, rows: Callable[[Ragged], Ragged], column: Callable[[np.ndarray], np.ndarray]
    ) -> "Queries":
        """Return other queries made of these: `rows` maps ragged fields, `column` (n,) arrays."""

        def optional(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else column(values)

        return replace(
            self,
            histories=rows(self.histories),
            user_ids=column(self.user_ids),
            columns={name: rows(values) for name, values in self.columns.items()},
            exclude=None if self.exclude is None else rows(self.exclude),
            now_ms=optional(self.now_ms),
            contexts={name: column(values) for name, values in self.contexts.items()},
            texts=optional(self.texts),
            request_ids=optional(self.request_ids),
            profiles=optional(self.profiles),
            images=optional(self.images),
        )

    def _slice(self, start: int, stop: int, step: int) -> "Queries":
        if step != 1:
            raise DataError(
                f"queries[{start}:{stop}:{step}]: only a step of 1 is possible; use take(rows)"
            )
        stop = max(start, stop)
        if stop - start == len(self):
            return self
        return self._map(lambda rows: rows.slice(start, stop), lambda column: column[start:stop])

    def take(self, rows: np.ndarray) -> "Queries":
        """Return the queries with these numbers, in this order."""
        numbers = _row_numbers(rows)
        return self._map(lambda ragged: ragged.take(numbers), lambda column: column[numbers])

    def keep_events(self, mask: np.ndarray) -> "Queries":
        """Return the same queries with only the events of histories where `mask` (m,) is true."""
        if mask.all():
            return self
        columns = {name: column.keep(mask) for name, column in self.columns.items()}
        return replace(self, histories=self.histories.keep(mask), columns=columns)

    def before_request(self) -> "Queries":
        """Return the same queries without events at or after the time of their request.

        Events without a time and requests without one are left as they are.
        """
        if self.now_ms is None or "times_ms" not in self.columns:
            return self
        times_ms = self.columns["times_ms"].values
        now_ms = self.now_ms[self.histories.row_ids]
        return self.keep_events((now_ms == NO_TIME) | (times_ms == NO_TIME) | (times_ms < now_ms))

    def text(self, i: int) -> str:
        """Return the search text of query i, "" where it has none."""
        return "" if self.texts is None else self.texts[i]

    def request_id(self, i: int) -> str | None:
        """Return the request id of query i."""
        return None if self.request_ids is None else self.request_ids[i]

    def profile(self, i: int) -> Profile | None:
        """Return the profile that query i brings."""
        return None if self.profiles is None else self.profiles[i]

    def images_of(self, i: int) -> tuple[bytes, ...]:
        """Return the pictures of query i."""
        return () if self.images is None else self.images[i]

    def context(self, name: str) -> list[Any]:
        """Return the value that each query's context has under `name`, None where absent."""
        return self.contexts[name].tolist() if name in self.contexts else [None] * len(self)

    def with_profiles(self, profiles: Sequence[Profile | None]) -> "Queries":
        """Return the same queries with these profiles, one a query."""
        if len(profiles) != len(self):
            raise DataError(f"{len(profiles)} profiles for {len(self)} queries: give one each")
        return replace(self, profiles=_objects(profiles))

    def without(self, item_ids: Iterable[str] | Vocabulary) -> "Queries":
        """Return the same queries with these items excluded for all of them.

        A vocabulary is kept as it is, so that its rows are looked up once.
        """
        if isinstance(item_ids, Vocabulary) and any(rule is item_ids for rule in self.blocked):
            return self
        rule = item_ids if isinstance(item_ids, Vocabulary) else Vocabulary(dict.fromkeys(item_ids))
        return replace(self, blocked=(*self.blocked, rule)) if len(rule) else self

    @property
    def blocked_rows(self) -> np.ndarray | None:
        """The rows of the catalogue that are excluded for all queries; None: none are."""
        if not self.blocked:
            return None
        return np.concatenate([rule.found_in(self.catalogue) for rule in self.blocked])

    def allowed(self, candidates: Ragged | None = None) -> np.ndarray:
        """Return (n, N) bool: true where an item may be answered to a query.

        Where `candidates` (rows of the catalogue) are passed, only those may.
        """
        mask = np.full((len(self), len(self.catalogue)), candidates is None)
        if candidates is not None:
            mask[candidates.row_ids, candidates.values] = True
        if self.blocked:
            mask[:, self.blocked_rows] = False
        if self.exclude is not None:
            mask[self.exclude.row_ids, self.exclude.values] = False
        return mask

    def allowed_in(self, lists: "Rankings") -> np.ndarray:
        """Return (n, k) bool: true where a list holds an item that may be answered to its query."""
        queries = self.reindexed(lists.catalogue)
        mask = lists.rows >= 0
        blocked = queries.blocked_rows
        if blocked is not None:
            mask &= ~np.isin(lists.rows, blocked)
        if queries.exclude is not None and len(queries.exclude.values):
            size = len(lists.catalogue)
            keys = np.arange(len(lists))[:, None] * size + lists.rows
            mask &= ~np.isin(keys, queries.exclude.row_ids * size + queries.exclude.values)
        return mask

    def without_history(self) -> "Queries":
        """Return the same queries with the items of each one's history excluded too."""
        if self.exclude is None or not len(self.exclude.values):
            return replace(self, exclude=self.histories)
        unions = [np.union1d(self.exclude[i], self.histories[i]) for i in range(len(self))]
        return replace(self, exclude=Ragged.of(unions))

    def hides_history(self) -> np.ndarray:
        """Return (n,) bool: true where the latest item of the history is excluded.

        An empty history counts as excluded: there is nothing to answer again.
        """
        hidden = np.ones(len(self), dtype=bool)
        asked = np.flatnonzero(self.histories.lengths)
        if self.exclude is None:
            hidden[asked] = False
            return hidden
        size = len(self.catalogue)
        latest = self.histories.values[self.histories.offsets[asked + 1] - 1]
        keys = self.exclude.row_ids * size + self.exclude.values
        hidden[asked] = np.isin(asked * size + latest, keys)
        return hidden

    def reindexed(self, catalogue: Vocabulary) -> "Queries":
        """Return the same queries in the rows of another catalogue, without items it lacks."""
        row_in = self.catalogue.mapping_to(catalogue)
        if row_in is None:
            return self if self.catalogue is catalogue else replace(self, catalogue=catalogue)
        exclude = None
        if self.exclude is not None:
            mapped = self.exclude.with_values(row_in[self.exclude.values])
            exclude = mapped.keep(mapped.values >= 0)
        rows = row_in[self.histories.values]
        moved = replace(
            self,
            catalogue=catalogue,
            histories=self.histories.with_values(rows),
            exclude=exclude,
        )
        return moved.keep_events(rows >= 0)


def _event_columns(histories: Sequence[History], lengths: Sequence[int]) -> dict[str, Ragged]:
    """Return the columns that at least one history has, ABSENT in the others."""
    columns = {}
    for name in PARALLEL:
        parts = [getattr(history, name) for history in histories]
        if any(part is not None for part in parts):
            absent = ABSENT[name]
            values = [
                value
                for part, length in zip(parts, lengths, strict=True)
                for value in (part or [absent] * length)
            ]
            columns[name] = Ragged.of_lengths(lengths, np.array(values, dtype=DTYPES[name]))
    return columns


def _present(name: str, values: np.ndarray) -> tuple[Any, ...] | None:
    """Return one history's column as a History holds it: None where the history has none."""
    column = values.tolist()
    if not column:
        return ()
    if name == "times_ms":  # a time that is absent leaves no order
        return None if NO_TIME in column else tuple(column)
    if name == "values":
        return None if np.isnan(values).all() else tuple(column)
    if all(value is None for value in column):
        return None
    return tuple("" if value is None else value for value in column)


def _request_times(queries: Sequence[Query]) -> np.ndarray | None:
    times = [query.time_ms for query in queries]
    if all(time_ms is None for time_ms in times):
        return None
    return np.array([NO_TIME if time_ms is None else time_ms for time_ms in times], np.int64)


def _context_columns(queries: Sequence[Query]) -> dict[str, np.ndarray]:
    contexts = [query.context for query in queries]
    names = dict.fromkeys(name for context in contexts for name in context)
    return {name: _objects([context.get(name) for context in contexts]) for name in names}


def _objects(values: Sequence[Any]) -> np.ndarray:
    """Return (n,) object; a value may itself be a sequence."""
    return np.fromiter(values, dtype=object, count=len(values))


def _optional_objects(values: Sequence[Any], absent: Any = None) -> np.ndarray | None:
    """Return (n,) object, or None where every value is absent."""
    is_present = any(value is not None and value != absent for value in values)
    return _objects(values) if is_present else None


@dataclass(frozen=True, eq=False)
class Rankings(Sequence[Ranking]):
    """One ranking a query, in arrays over one catalogue; reading `rankings[i]` builds it."""

    catalogue: Vocabulary
    rows: np.ndarray
    """(n, k) int32 item rows, best first, -1 after the last."""
    scores: np.ndarray
    """(n, k) float32, -inf after the last."""
    score_kind: str = "score"
    """Meaning of the scores: "probability", "bm25", ..."""
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Name of a stage -> (n, k) float32; NaN: it did not score the item."""
    notes: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """Number of a query -> what the method could not do for it."""
    details: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Name (status, reason, evidence, propensity, text) -> (n, k) object; None: absent."""

    def __post_init__(self) -> None:
        for name, values in self.details.items():
            if values.shape != self.rows.shape:
                raise ValueError(
                    f'details "{name}" have the shape {values.shape}, the rows {self.rows.shape}:'
                    " make other lists of these by `reordered`, `first` or `only`"
                )

    @classmethod
    def of(cls, rankings: Sequence[Ranking], catalogue: Vocabulary | None = None) -> "Rankings":
        """Return the arrays of rankings, over `catalogue` or over the items they hold.

        `Rankings` pass through. Raises DataError for what is no ranking.
        """
        if isinstance(rankings, Rankings):
            return rankings if catalogue is None else rankings.reindexed(catalogue)
        if catalogue is not None:
            return cls.of(rankings).reindexed(catalogue)
        for ranking in rankings:
            if not isinstance(ranking, Ranking):
                raise DataError(f"a list of rankings is expected, got {ranking!r}")
        catalogue = Vocabulary.of_items(item_id for r in rankings for item_id in r.ids)
        lists = cls.empty(catalogue, len(rankings), max(map(len, rankings), default=0))
        for i, ranking in enumerate(rankings):
            lists.rows[i, : len(ranking)] = catalogue.rows(ranking.ids)
            lists.scores[i, : len(ranking)] = ranking.scores
        kinds = {ranking.score_kind for ranking in rankings if len(ranking)}
        return replace(
            lists,
            columns=_stage_columns(rankings, lists.rows.shape),
            notes={i: ranking.notes for i, ranking in enumerate(rankings) if ranking.notes},
            details=_detail_columns(rankings, lists.rows.shape),
            score_kind=kinds.pop() if len(kinds) == 1 else "score",
        )

    @classmethod
    def empty(cls, catalogue: Vocabulary, n: int, k: int, note: str = "") -> "Rankings":
        """Return n empty rankings with room for k items, each with the note."""
        notes = dict.fromkeys(range(n), (note,)) if note else {}
        rows = np.full((n, k), -1, np.int32)
        return cls(catalogue, rows, np.full((n, k), -np.inf, np.float32), notes=notes)

    @classmethod
    def stack(cls, parts: "Sequence[Rankings]") -> "Rankings":
        """Return the rankings of all parts (same catalogue and k), one part after the other."""
        first = parts[0]
        if len(parts) == 1:
            return first
        if any(part.catalogue.mapping_to(first.catalogue) is not None for part in parts[1:]):
            raise ValueError(
                "rankings of different catalogues cannot be stacked: reindex them to one first"
            )
        starts = np.cumsum([0, *(len(part) for part in parts)]).tolist()
        notes = {
            start + i: note
            for part, start in zip(parts, starts, strict=False)
            for i, note in part.notes.items()
        }
        return replace(
            first,
            rows=np.concatenate([part.rows for part in parts]),
            scores=np.concatenate([part.scores for part in parts]),
            columns=_stacked([(part.rows, part.columns) for part in parts], np.float32(np.nan)),
            notes=notes,
            details=_stacked([(part.rows, part.details) for part in parts], None),
        )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> np.ndarray:
        """(n,) number of items of each ranking."""
        return (self.rows >= 0).sum(axis=1)

    @overload
    def __getitem__(self, i: int) -> Ranking: ...
    @overload
    def __getitem__(self, i: slice) -> "Rankings": ...
    def __getitem__(self, i: int | slice) -> "Ranking | Rankings":
        if isinstance(i, slice):
            return self.take(np.arange(*i.indices(len(self))))
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        i %= len(self)
        is_item = self.rows[i] >= 0
        ids = tuple(self.catalogue.named(self.rows[i][is_item]))
        return Ranking(
            ids=ids,
            scores=self.scores[i][is_item],
            score_kind=self.score_kind,
            columns={name: column[i][is_item] for name, column in self.columns.items()},
            details=self._details_of(i, ids, is_item) if self.details else {},
            notes=self.notes.get(i, ()),
        )

    def _details_of(
        self, i: int, ids: Sequence[str], is_item: np.ndarray
    ) -> dict[str, dict[str, Any]]:
        """Return item id -> name -> value of list i, without what is absent."""
        by_item: dict[str, dict[str, Any]] = {}
        for name, column in self.details.items():
            for item_id, value in zip(ids, column[i][is_item], strict=True):
                if value is not None:
                    by_item.setdefault(item_id, {})[name] = value
        return by_item

    def take(self, rows: np.ndarray) -> "Rankings":
        """Return the rankings with these numbers, in this order."""
        numbers = _row_numbers(rows)
        old_notes = [self.notes.get(number, ()) for number in numbers.tolist()]
        return self._map(
            lambda values: values[numbers],
            notes={i: notes for i, notes in enumerate(old_notes) if notes},
        )

    def first(self, k: int) -> "Rankings":
        """Return the k best of every ranking."""
        if self.rows.shape[1] <= k:
            return self
        return self._map(lambda values: values[:, :k])

    def _map(self, f: Callable[[np.ndarray], np.ndarray], **changes: Any) -> "Rankings":
        """Return other rankings, whose (n, k) arrays are made of these by `f`."""
        return replace(
            self,
            rows=f(self.rows),
            scores=f(self.scores),
            columns={name: f(column) for name, column in self.columns.items()},
            details={name: f(column) for name, column in self.details.items()},
            **changes,
        )

    def reordered(self, order: np.ndarray) -> "Rankings":
        """Return lists of the places `order` (n, K) of these lists, best first; -1: no item.

        Scores, columns and details go with their items.
        """
        if not self.rows.shape[1]:
            return replace(Rankings.empty(self.catalogue, *order.shape), notes=self.notes)
        is_item = order >= 0
        places = np.maximum(order, 0)

        def moved(values: np.ndarray, empty: Any) -> np.ndarray:
            return np.where(is_item, np.take_along_axis(values, places, 1), empty)

        columns = {name: moved(column, np.nan) for name, column in self.columns.items()}
        return replace(
            self,
            rows=moved(self.rows, -1).astype(np.int32),
            scores=moved(self.scores, -np.inf).astype(np.float32),
            columns={name: column.astype(np.float32) for name, column in columns.items()},
            details={name: moved(column, None) for name, column in self.details.items()},
        )

    def reindexed(self, catalogue: Vocabulary) -> "Rankings":
        """Return the same rankings in the rows of another catalogue.

        Items that it lacks are dropped, and what follows moves up.
        """
        row_in = self.catalogue.mapping_to(catalogue)
        if row_in is None:
            return replace(self, catalogue=catalogue)
        is_item = self.rows >= 0
        rows = np.where(is_item, row_in[self.rows], np.int32(-1)) if len(row_in) else self.rows
        moved = replace(self, catalogue=catalogue, rows=rows)
        return moved if np.array_equal(rows >= 0, is_item) else moved.only(rows >= 0)

    def only(self, mask: np.ndarray) -> "Rankings":
        """Return the same rankings without the places where `mask` (n, k) is false.

        What follows moves up.
        """
        mask = mask & (self.rows >= 0)
        order = np.argsort(~mask, axis=1, kind="stable")
        return self.reordered(np.where(np.take_along_axis(mask, order, 1), order, -1))

    def ragged(self) -> Ragged:
        """Return the item rows without padding."""
        return Ragged.of_lengths(self.lengths, self.rows[self.rows >= 0])

    def texts(self, i: int, catalogue: Vocabulary, item_texts: Sequence[str]) -> list[str]:
        """Return the text of each item of list i.

        It is the one that the list brings (`details["text"]`), else that of the fitted `catalogue`,
        whose texts by row are `item_texts`; "" for an item without either.
        """
        ids = self.catalogue.named(self.rows[i][self.rows[i] >= 0])
        rows = catalogue.rows(ids).tolist()
        fitted = [item_texts[row] if row >= 0 else "" for row in rows]
        return [
            text if own_text is None else own_text
            for text, own_text in zip(fitted, self.brought(i, TEXT), strict=True)
        ]

    def brought(self, i: int, name: str) -> list[Any]:
        """Return what each item of list i brings in its details under `name`, None for nothing."""
        n = int(self.lengths[i])
        return self.details[name][i][:n].tolist() if name in self.details else [None] * n


def _stage_columns(rankings: Sequence[Ranking], shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return the columns of rankings as (n, k) arrays, NaN where a ranking lacks one."""
    names = dict.fromkeys(name for ranking in rankings for name in ranking.columns)
    columns = {name: np.full(shape, np.nan, np.float32) for name in names}
    for i, ranking in enumerate(rankings):
        for name, values in ranking.columns.items():
            columns[name][i, : len(ranking)] = values
    return columns


def _detail_columns(rankings: Sequence[Ranking], shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return the details of rankings as (n, k) object arrays, None where an item lacks one."""
    columns: dict[str, np.ndarray] = {}
    for i, ranking in enumerate(rankings):
        for rank, item_id in enumerate(ranking.ids if ranking.details else ()):
            for name, value in ranking.details.get(item_id, {}).items():
                if name not in columns:
                    columns[name] = np.full(shape, None, object)
                columns[name][i, rank] = value
    return columns


def _stacked(
    parts: Sequence[tuple[np.ndarray, Mapping[str, np.ndarray]]], empty: Any
) -> dict[str, np.ndarray]:
    """Return named (n, k) arrays of all parts below each other, `empty` where a part lacks one."""
    names = dict.fromkeys(name for _, columns in parts for name in columns)
    dtype = object if empty is None else np.float32
    return {
        name: np.concatenate(
            [
                columns[name] if name in columns else np.full(rows.shape, empty, dtype)
                for rows, columns in parts
            ]
        )
        for name in names
    }


def _row_numbers(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows)
    if rows.dtype == bool:
        raise DataError("take wants row numbers, got a mask: write take(np.flatnonzero(mask))")
    return rows.astype(np.int64, copy=False)
