"""Many queries, and many rankings, as arrays: sequences of nouns that make a noun only when one is
asked for.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

import numpy as np

from tailor.data.arrays import Ragged
from tailor.data.nouns import History, Query, Ranking
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError

NO_TIME = int(np.iinfo(np.int64).min)  # stands where one query of several gives no time


@dataclass(frozen=True, eq=False)
class Queries(Sequence[Query]):
    """Queries over one catalogue, in arrays; reading `queries[i]` makes the `Query`.

    `blocked` items are excluded for everybody (filters' rules, one vocabulary each), `exclude` rows
    for one query.
    """

    catalogue: Vocabulary
    histories: Ragged
    """Item rows of the catalogue, oldest first."""
    user_ids: np.ndarray
    """(n,) object: str or None."""
    columns: Mapping[str, Ragged] = field(default_factory=dict)
    """times_ms (NO_TIME where not given), actions, values, texts: parallel to histories."""
    exclude: Ragged | None = None
    blocked: tuple[Vocabulary, ...] = ()
    now_ms: np.ndarray | None = None
    """(n,) int64, NO_TIME where not given."""
    given: Sequence[Query] | None = None
    """The nouns these arrays were made from; they hold text, context, profile."""
    contexts: Mapping[str, np.ndarray] = field(default_factory=dict)
    """(n,) each, what is known of who asks; not where `given`."""

    @classmethod
    def of(cls, queries: Sequence[Query]) -> "Queries":
        """Arrays of the queries given; arrays already made pass through."""
        if isinstance(queries, Queries):
            return queries
        for query in queries:
            if not isinstance(query, Query):
                raise DataError(
                    f"recommend takes queries, got {query!r}: write Query(history=History.of('an"
                    " id'))"
                )
        ids = {one: None for q in queries for one in (*q.history.item_ids, *q.exclude)}
        catalogue = Vocabulary.of_items(ids)
        histories = Ragged.of([catalogue.rows(q.history.item_ids) for q in queries])
        exclude = Ragged.of([catalogue.rows(q.exclude) for q in queries])
        users = np.array([q.user_id for q in queries], dtype=object)
        columns = {}
        # one without times takes none from the others
        if any(q.history.times_ms is not None for q in queries):
            parts = [
                [NO_TIME] * len(q.history) if q.history.times_ms is None else q.history.times_ms
                for q in queries
            ]
            columns["times_ms"] = Ragged.of(parts, np.int64)
        asked = [NO_TIME if q.time_ms is None else q.time_ms for q in queries]
        now = (
            np.array(asked, dtype=np.int64) if any(q.time_ms is not None for q in queries) else None
        )
        return cls(catalogue, histories, users, columns, exclude, now_ms=now, given=list(queries))

    def __len__(self) -> int:
        return len(self.histories)

    @overload
    def __getitem__(self, i: int) -> Query: ...
    @overload
    def __getitem__(self, i: slice) -> "Queries": ...
    def __getitem__(self, i: int | slice) -> "Query | Queries":
        if isinstance(i, slice):
            return self._part(*i.indices(len(self)))
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        i %= len(self)
        excluded = [] if self.exclude is None else self.catalogue.named(self.exclude[i])
        excluded += [one for ids in self.blocked for one in ids.ids]
        if self.given is not None:
            query = self.given[i]
            known = set(query.exclude)
            more = [one for one in dict.fromkeys(excluded) if one not in known]
            return replace(query, exclude=(*query.exclude, *more)) if more else query
        extra = {
            name: tuple(column[i].tolist())
            for name, column in self.columns.items()
            if NO_TIME not in column[i]
        }
        return Query(
            user_id=self.user_ids[i],
            history=History(tuple(self.catalogue.named(self.histories[i])), **extra),
            time_ms=(
                None if self.now_ms is None or self.now_ms[i] == NO_TIME else int(self.now_ms[i])
            ),
            exclude=tuple(excluded),
            context={
                name: values[i] for name, values in self.contexts.items() if values[i] is not None
            },
        )

    def _part(self, start: int, stop: int, step: int) -> "Queries":
        if step != 1:
            raise DataError(
                f"queries[{start}:{stop}:{step}]: only a step of 1 is possible; use take(rows)"
            )
        stop = max(start, stop)
        if stop - start == len(self):
            return self
        return replace(
            self,
            histories=self.histories.slice(start, stop),
            user_ids=self.user_ids[start:stop],
            columns={name: column.slice(start, stop) for name, column in self.columns.items()},
            exclude=None if self.exclude is None else self.exclude.slice(start, stop),
            now_ms=None if self.now_ms is None else self.now_ms[start:stop],
            given=None if self.given is None else self.given[start:stop],
            contexts={name: values[start:stop] for name, values in self.contexts.items()},
        )

    def take(self, rows: np.ndarray) -> "Queries":
        rows = _numbers(rows)
        return replace(
            self,
            histories=self.histories.take(rows),
            user_ids=self.user_ids[rows],
            columns={name: column.take(rows) for name, column in self.columns.items()},
            exclude=None if self.exclude is None else self.exclude.take(rows),
            now_ms=None if self.now_ms is None else self.now_ms[rows],
            given=None if self.given is None else [self.given[i] for i in rows],
            contexts={name: values[rows] for name, values in self.contexts.items()},
        )

    def text(self, i: int) -> str:
        return "" if self.given is None else self.given[i].text

    def request_ids(self) -> list[str | None]:
        """Of each query, None where it has none."""
        return (
            [None] * len(self) if self.given is None else [query.request_id for query in self.given]
        )

    def context(self, name: str) -> list[Any]:
        """What `Query.context` of each query says under this name; None where it says nothing."""
        if self.given is not None:
            return [query.context.get(name) for query in self.given]
        return self.contexts[name].tolist() if name in self.contexts else [None] * len(self)

    def without(self, item_ids: Iterable[str] | Vocabulary) -> "Queries":
        """The same queries with these items excluded for everybody; a vocabulary is kept as it is,
        so that its rows are looked up once.
        """
        if isinstance(item_ids, Vocabulary) and any(ids is item_ids for ids in self.blocked):
            return self
        ids = item_ids if isinstance(item_ids, Vocabulary) else Vocabulary(dict.fromkeys(item_ids))
        return replace(self, blocked=(*self.blocked, ids)) if len(ids) else self

    @property
    def blocked_rows(self) -> np.ndarray | None:
        """The rows of the catalogue that are excluded for everybody; None where there are none."""
        return (
            np.concatenate([ids.found_in(self.catalogue) for ids in self.blocked])
            if self.blocked
            else None
        )

    def allowed(self, candidates: Ragged | None = None) -> np.ndarray:
        """(n, N) bool: what may be recommended to each query; only `candidates` (rows of the
        catalogue) where given.
        """
        mask = np.full((len(self), len(self.catalogue)), candidates is None)
        if candidates is not None:
            mask[candidates.row_ids, candidates.values] = True
        if self.blocked:
            mask[:, self.blocked_rows] = False
        if self.exclude is not None:
            mask[self.exclude.row_ids, self.exclude.values] = False
        return mask

    def without_history(self) -> "Queries":
        """The same queries with the items of each one's history excluded too."""
        if self.exclude is None or not len(self.exclude.values):
            return replace(self, exclude=self.histories)
        both = [np.union1d(self.exclude[i], self.histories[i]) for i in range(len(self))]
        return replace(self, exclude=Ragged.of(both))

    def reindexed(self, catalogue: Vocabulary) -> "Queries":
        """The same queries in the rows of another catalogue; items it does not know are left out."""
        to = self.catalogue.mapping_to(catalogue)
        if to is None:
            return self if self.catalogue is catalogue else replace(self, catalogue=catalogue)

        def rows(ragged: Ragged) -> Ragged:
            mapped = ragged.with_values(to[ragged.values])
            return mapped.keep(mapped.values >= 0)

        known = to[self.histories.values] >= 0
        return replace(
            self,
            catalogue=catalogue,
            histories=rows(self.histories),
            columns={name: column.keep(known) for name, column in self.columns.items()},
            exclude=None if self.exclude is None else rows(self.exclude),
        )


@dataclass(frozen=True, eq=False)
class Rankings(Sequence[Ranking]):
    """One ranking a query, in arrays over one catalogue; reading `rankings[i]` makes the `Ranking`."""

    catalogue: Vocabulary
    rows: np.ndarray
    """(n, k) int32 item rows, best first, -1 after the last."""
    scores: np.ndarray
    """(n, k) float32."""
    score_kind: str = "score"
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Name of a stage -> (n, k); NaN: it did not score the item."""
    notes: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, rankings: Sequence[Ranking], catalogue: Vocabulary | None = None) -> "Rankings":
        """Arrays of the rankings given, over `catalogue` or over the items they hold; arrays
        already made pass through.
        """
        if isinstance(rankings, Rankings):
            return rankings if catalogue is None else rankings.reindexed(catalogue)
        if catalogue is not None:
            return cls.of(rankings).reindexed(catalogue)
        catalogue = Vocabulary.of_items(one for r in rankings for one in r.ids)
        out = cls.empty(catalogue, len(rankings), max(map(len, rankings), default=0))
        columns = {
            name: np.full(out.rows.shape, np.nan, np.float32)
            for r in rankings
            for name in r.columns
        }
        for i, ranking in enumerate(rankings):
            out.rows[i, : len(ranking)], out.scores[i, : len(ranking)] = (
                catalogue.rows(ranking.ids),
                ranking.scores,
            )
            for name, values in ranking.columns.items():
                columns[name][i, : len(ranking)] = values
        kinds = {r.score_kind for r in rankings if len(r)}
        notes = {i: r.notes for i, r in enumerate(rankings) if r.notes}
        return replace(
            out,
            columns=columns,
            notes=notes,
            score_kind=kinds.pop() if len(kinds) == 1 else "score",
        )

    @classmethod
    def empty(cls, catalogue: Vocabulary, n: int, k: int, note: str = "") -> "Rankings":
        notes = dict.fromkeys(range(n), (note,)) if note else {}
        return cls(
            catalogue,
            np.full((n, k), -1, np.int32),
            np.full((n, k), -np.inf, np.float32),
            notes=notes,
        )

    @classmethod
    def stack(cls, parts: "Sequence[Rankings]") -> "Rankings":
        """The rankings of all parts (same catalogue and k), one after the other."""
        first = parts[0]
        if len(parts) == 1:
            return first
        if any(part.catalogue.mapping_to(first.catalogue) is not None for part in parts[1:]):
            raise ValueError(
                "rankings of different catalogues cannot be stacked: put them over one first"
            )
        starts = np.cumsum([0, *(len(p) for p in parts)])
        notes = {
            int(start) + i: note
            for p, start in zip(parts, starts, strict=False)
            for i, note in p.notes.items()
        }
        columns = {name: np.concatenate([p.columns[name] for p in parts]) for name in first.columns}
        rows, scores = (
            np.concatenate([p.rows for p in parts]),
            np.concatenate([p.scores for p in parts]),
        )
        return replace(first, rows=rows, scores=scores, columns=columns, notes=notes)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> np.ndarray:
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
        kept = self.rows[i] >= 0
        return Ranking(
            ids=tuple(self.catalogue.named(self.rows[i][kept])),
            scores=self.scores[i][kept],
            score_kind=self.score_kind,
            columns={name: column[i][kept] for name, column in self.columns.items()},
            notes=self.notes.get(i, ()),
        )

    def take(self, rows: np.ndarray) -> "Rankings":
        rows = _numbers(rows)
        notes = {new: self.notes[old] for new, old in enumerate(rows.tolist()) if old in self.notes}
        columns = {name: column[rows] for name, column in self.columns.items()}
        return replace(
            self, rows=self.rows[rows], scores=self.scores[rows], columns=columns, notes=notes
        )

    def first(self, k: int) -> "Rankings":
        """The k best of every ranking."""
        if self.rows.shape[1] <= k:
            return self
        columns = {name: column[:, :k] for name, column in self.columns.items()}
        return replace(self, rows=self.rows[:, :k], scores=self.scores[:, :k], columns=columns)

    def reindexed(self, catalogue: Vocabulary) -> "Rankings":
        """The same rankings in the rows of another catalogue; items it does not know are dropped
        and the rest moves up.
        """
        to = self.catalogue.mapping_to(catalogue)
        if to is None:
            return replace(self, catalogue=catalogue)
        there = self.rows >= 0
        rows = np.where(there, to[self.rows], np.int32(-1)) if len(to) else self.rows
        moved = replace(self, catalogue=catalogue, rows=rows)
        return moved if np.array_equal(rows >= 0, there) else moved.only(rows >= 0)

    def only(self, kept: np.ndarray) -> "Rankings":
        """The same rankings without the places where `kept` (n, k) is false; what follows moves up."""
        kept = kept & (self.rows >= 0)
        order = np.argsort(~kept, axis=1, kind="stable")
        rows = np.take_along_axis(np.where(kept, self.rows, -1), order, 1)
        scores = np.take_along_axis(np.where(kept, self.scores, -np.inf), order, 1).astype(
            np.float32
        )
        columns = {
            name: np.take_along_axis(column, order, 1) for name, column in self.columns.items()
        }
        return replace(self, rows=rows, scores=scores, columns=columns)

    def ragged(self) -> Ragged:
        """The item rows without padding."""
        return Ragged.of_lengths(self.lengths, self.rows[self.rows >= 0])


def _numbers(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows)
    if rows.dtype == bool:
        raise DataError("take wants row numbers, got a mask: write take(np.flatnonzero(mask))")
    return rows.astype(np.int64, copy=False)
