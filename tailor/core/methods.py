"""The verbs: what every method can do, written once; a new method fills in `_fit` and `_recommend`
or `_scores`.
"""

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
import scipy.sparse as sp

from tailor.core.run import Run
from tailor.data.arrays import Ragged, top_k
from tailor.data.dataset import Dataset, Provenance
from tailor.data.nouns import Explanation, Output, Profile, Query, Ranking, Turn
from tailor.data.queries import Queries, Rankings
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError, ModelError, NotFittedError

SCORES_BYTES = 64 * 2**20  # of one dense block of scores


@dataclass(frozen=True)
class Paper:
    """Which paper a file holds; a module constant `PAPER` of every paper's file."""

    slug: str
    title: str
    url: str
    claim: str
    """What must be measured for the paper to count as working."""


def may_hold_targets(seen: Provenance, split: Split) -> bool:
    """Whether what was learned from is the data that was split, or the larger data that this was
    itself cut from.
    """
    theirs = {split.data.content_hash, *(one.data_hash for one in split.data.provenance.chain())}
    return any(one.data_hash in theirs for one in seen.chain())


@dataclass(eq=False)
class Method(ABC):
    """A dataclass whose fields are the settings; what `fit` learns stands in attributes that end in
    `_`.
    """

    holds_histories: ClassVar[bool] = False
    """Whether what is learned holds single people's events, be it without their names."""
    reads_text: ClassVar[bool] = False
    """Whether it answers `Query.text`."""
    reads_impressions: ClassVar[bool] = False
    """Whether it learns from what was shown."""
    renamed_state: ClassVar[Mapping[str, str]] = {}
    """State attributes of models saved by earlier versions, and their present names."""

    def fit(self, data: Dataset, run: Run = Run(), valid: Split | None = None) -> Self:
        """Learn from `data`; `valid` may be used for early stopping, weights and calibration only.

        An interrupted or failed fit leaves the method as it was. Raises DataError where `data`
        holds the targets of `valid`.
        """
        seen = data.provenance
        is_train = valid is not None and any(
            (one.split_hash, one.part) == (valid.hash, "train") for one in seen.chain()
        )
        if valid is not None and may_hold_targets(seen, valid) and not is_train:
            raise DataError(
                f'the data to fit (part "{seen.part}") holds the validation targets: fit on'
                " valid.train, or pass no valid"
            )
        fresh = copy.copy(self)
        fresh.__dict__ = self.params()  # nothing learned or remembered before
        fresh.fit_report_ = {}
        fresh._fit(data, run, valid)
        fresh.trained_on_ = seen
        self.__dict__ = fresh.__dict__
        return self

    @abstractmethod
    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        """Set the learned attributes."""

    fit_report_: dict[str, Any] = field(init=False, repr=False)
    """What fitting did: sizes, choices, what was left out."""
    trained_on_: Provenance = field(init=False, repr=False)

    @property
    def name(self) -> str:
        return type(self).__name__

    @property
    def is_fitted(self) -> bool:
        return "trained_on_" in self.__dict__

    def _check_fitted(self) -> None:
        if not self.is_fitted:
            raise NotFittedError(
                f"{self.name} is not fitted: call fit(data) first, or load a saved one"
            )

    def params(self) -> dict[str, Any]:
        """The settings, by field name."""
        return {one.name: getattr(self, one.name) for one in dataclasses.fields(self) if one.init}

    def keeps_people(self) -> bool:
        """Whether this method or one among its settings holds single people's events once fitted."""
        return self.holds_histories or any(one.keeps_people() for one in self._methods_inside())

    def answers_text(self) -> bool:
        """Whether this method or one among its settings answers `Query.text`."""
        return self.reads_text or any(one.answers_text() for one in self._methods_inside())

    def learns_from_impressions(self) -> bool:
        """Whether this method or one among its settings learns from what was shown."""
        return self.reads_impressions or any(
            one.learns_from_impressions() for one in self._methods_inside()
        )

    def _methods_inside(self) -> "list[Method]":
        inside = [
            one
            for value in self.params().values()
            for one in (value if isinstance(value, list | tuple) else [value])
        ]
        return [one for one in inside if isinstance(one, Method)]

    def state(self) -> dict[str, Any]:
        """What was learned, by attribute name."""
        return {
            name: value
            for name, value in self.__dict__.items()
            if name.endswith("_") and not name.startswith("_")
        }

    @classmethod
    def tiny(cls) -> Self:
        """A setting that fits in half a second, for the contract tests."""
        return cls()

    def save(
        self,
        folder: str | Path,
        overwrite: bool = False,
        histories: Queries | None = None,
        titles: pl.DataFrame | None = None,
    ) -> Path:
        """Write a folder that `load` reads back without the training data.

        It holds nobody's events unless `histories` are given, which go into a part of their own,
        `personal/`; a method that cannot work without people's events (`keeps_people`) is saved
        with them only. `titles` (item_id, title) may go along, so that lists can be shown with
        names.
        """
        from tailor.core.saving import save

        return save(self, folder, overwrite, histories, titles)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a saved method. Raises ModelError where the folder is damaged or holds another
        class.
        """
        from tailor.core.saving import load

        method = load(folder)
        if not isinstance(method, cls):
            raise ModelError(f"{folder} holds a {method.name}, not a {cls.__name__}")
        return method


@dataclass(eq=False)
class Recommender(Method):
    """Orders items for queries: the whole catalogue's, or those of given candidates."""

    trains_on_candidates: ClassVar[bool] = False
    """Whether fit learns from `data.lists`, the lists of an earlier stage."""
    needs_candidates: ClassVar[bool] = False
    """Whether it only orders what it is given."""

    def recommend(
        self, queries: Sequence[Query], k: int = 10, candidates: Sequence[Ranking] | None = None
    ) -> Sequence[Ranking]:
        """Up to k items a query, best first; only from `candidates` where given, never one of
        `Query.exclude`.

        Where fewer can be recommended, `Ranking.notes` says why. Where a filter among the parts
        fails, nothing is recommended.
        """
        self._check_fitted()
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise DataError(f"k is {k!r}: ask for at least 1 item")
        asked = Queries.of(queries)
        if candidates is None and self.needs_candidates:
            raise DataError(
                f"{self.name} orders lists and finds nothing by itself: pass candidates, or make it"
                " the second stage of a Cascade"
            )
        given = None if candidates is None else Rankings.of(candidates)
        if given is not None and len(given) != len(asked):
            raise DataError(f"{len(given)} candidate lists for {len(asked)} queries: give one each")
        try:
            asked = self.restrict(asked)
        # whatever went wrong, a list that was not filtered must not leave
        except Exception as error:
            return Rankings.empty(
                asked.catalogue,
                len(asked),
                int(k),
                f"Filter failed, nothing is recommended: {error}",
            )
        return _without_blocked(self._recommend(asked, int(k), given), asked, self.name).first(
            int(k)
        )

    @abstractmethod
    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        """`recommend` on arrays, for queries that are restricted already."""

    def restrict(self, queries: Queries) -> Queries:
        """The queries with everything excluded that this recommender must never return, whoever
        answers in its place.
        """
        return queries

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """For every ranking, one explanation an item, in the ranking's order."""
        raise ModelError(f"{self.name} cannot explain its rankings")

    @classmethod
    def explains(cls) -> bool:
        return cls.explain is not Recommender.explain


def _without_blocked(lists: Rankings, queries: Queries, name: str) -> Rankings:
    """The same rankings, should a method have answered what a filter forbids; a list that loses
    items says so.
    """
    if not queries.blocked:
        return lists
    # the last place is that of row -1, no item
    forbidden = np.zeros(len(lists.catalogue) + 1, dtype=bool)
    for ids in queries.blocked:
        forbidden[ids.found_in(lists.catalogue)] = True
    bad = forbidden[lists.rows]
    if not bad.any():
        return lists
    kept = lists.only(~bad)
    taken = {
        i: f"{name} answered {int(bad[i].sum())} items that a filter forbids; they were taken out"
        for i in np.flatnonzero(bad.any(axis=1)).tolist()
    }
    return replace(
        kept,
        notes={**kept.notes, **{i: (*kept.notes.get(i, ()), note) for i, note in taken.items()}},
    )


def short_notes(
    name: str, queries: Queries, rows: np.ndarray, k: int
) -> dict[int, tuple[str, ...]]:
    """A note for every list of `rows` (B, k) that has empty places, saying why."""
    notes: dict[int, tuple[str, ...]] = {}
    short = np.flatnonzero(rows[:, -1] < 0).tolist() if rows.shape[1] >= k else range(len(rows))
    for i in short:
        unknown = not queries.histories.lengths[i] and not queries.text(i).strip()
        reason = (
            "no known item in the history"
            if unknown
            else f"{(rows[i] >= 0).sum()} of {k} items could be scored"
        )
        notes[i] = (f"{name}: {reason}",)
    return notes


def blocks(queries: int, items: int) -> list[tuple[int, int]]:
    """Start and stop of blocks of queries whose dense scores over all items stay within
    SCORES_BYTES.
    """
    size = max(1, min(2048, SCORES_BYTES // (4 * max(items, 1))))
    return [(start, min(start + size, queries)) for start in range(0, queries, size)]


@dataclass(eq=False)
class ScoringRecommender(Recommender):
    """A recommender that gives every item a number; exclusion, candidates, ties, top-k and notes
    are done here, once.
    """

    items_: Vocabulary = field(init=False, repr=False)

    @abstractmethod
    def _scores(self, queries: Queries) -> np.ndarray | sp.csr_matrix:
        """(B, N) float32 over the rows of `items_`, for queries given over `items_`.

        Dense with -inf, or sparse with no entry, where there is nothing to say about an item.
        """

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        queries = queries.reindexed(self.items_)
        lists = None if candidates is None else candidates.reindexed(self.items_).ragged()
        parts = []
        for start, stop in blocks(len(queries), len(self.items_)):
            some = queries[start:stop]
            only = None if lists is None else lists.slice(start, stop)
            rows, scores = top_k(self._scores(some), k, some.exclude, some.blocked_rows, only)
            parts.append(
                Rankings(self.items_, rows, scores, notes=short_notes(self.name, some, rows, k))
            )
        return Rankings.stack(parts) if parts else Rankings.empty(self.items_, 0, k)


@dataclass(eq=False)
class Predictor(Method):
    """Calibrated numbers for given items: the probability of a click, a rating, a fit, a correct
    answer.
    """

    items_: Vocabulary = field(init=False, repr=False)

    def predict(
        self, queries: Sequence[Query], item_ids: Sequence[Sequence[str]]
    ) -> list[np.ndarray]:
        """A (K,) or (K, C) array a query, in the order of its item ids; each pair by itself, so
        company and order change nothing.

        An item that is not known is answered by what is known of the query. Raises DataError unless
        there is one list of ids a query.
        """
        self._check_fitted()
        asked = Queries.of(queries)
        if (
            isinstance(item_ids, str)
            or any(isinstance(ids, str) for ids in item_ids)
            or len(item_ids) != len(asked)
        ):
            raise DataError(
                f"{len(item_ids)} lists of item ids for {len(asked)} queries: give a list of ids"
                " for each query"
            )
        rows = Ragged.of([self.items_.rows(ids) for ids in item_ids])
        values = self._predict(asked.reindexed(self.items_), rows)
        return np.split(values, rows.offsets[1:-1]) if len(asked) else []

    @abstractmethod
    def _predict(self, queries: Queries, items: Ragged) -> np.ndarray:
        """(m,) or (m, C) for the m values of `items`, rows of `items_` by query, -1 for an item
        that is not known; queries are over `items_`.
        """


class Profiler(Method):
    """Says who a user is."""

    @abstractmethod
    def profile(self, queries: Sequence[Query]) -> list[Profile]: ...


class Generator(Method):
    """Writes text or draws an image for a query, with the evidence used."""

    @abstractmethod
    def generate(self, queries: Sequence[Query]) -> list[Output]: ...


class Agent(Method):
    """Answers a dialogue: assistant, tutor and simulated user alike."""

    @abstractmethod
    def act(self, turns: Sequence[Sequence[Turn]]) -> list[Turn]: ...


class Study(ABC):
    """A measurement over methods: a benchmark, an audit, an arena, an experiment."""

    @abstractmethod
    def run(self, data: Dataset, methods: Mapping[str, Method], run: Run) -> Any: ...
