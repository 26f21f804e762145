"""The verbs: what every method can do, written once.

A new method fills in `_fit` and one of `_recommend`, `_scores`, `_predict`, `_profile`, `_generate`
and `_act`; guards, batches, exclusion and notes are done here.
"""

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

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

A = TypeVar("A")
SCORES_BYTES = 64 * 2**20
"""Memory of one dense block of scores."""


@dataclass(frozen=True)
class Paper:
    """The paper that a file holds; a module constant `PAPER` of every paper's file."""

    slug: str
    title: str
    url: str
    claim: str
    """What must be measured for the paper to count as working."""


def may_hold_targets(seen: Provenance, split: Split) -> bool:
    """Return whether data may hold the held-out targets of a split.

    True if it is the data that was split, or larger data that this was itself cut from.
    """
    origins = split.data.provenance.chain()
    split_hashes = {split.data.content_hash, *(origin.data_hash for origin in origins)}
    return any(origin.data_hash in split_hashes for origin in seen.chain())


@dataclass(eq=False)
class Method(ABC):
    """A dataclass whose fields are the settings; learned state is in attributes ending in `_`."""

    holds_histories: ClassVar[bool] = False
    """True if the learned state holds single users' events, be it without their names."""
    reads_text: ClassVar[bool] = False
    """True if it answers `Query.text`."""
    reads_impressions: ClassVar[bool] = False
    """True if it learns from impressions."""
    renamed_state: ClassVar[Mapping[str, str]] = {}
    """State attributes of models saved by earlier versions, and their present names."""

    def fit(self, data: Dataset, run: Run = Run(), valid: Split | None = None) -> Self:
        """Learn from `data`; `valid` may be used for early stopping, weights and calibration only.

        A split whose validation part is empty counts as none, and the report says so. An
        interrupted or failed fit leaves the method as it was. Raises DataError where `data` holds
        the targets of `valid`.
        """
        seen = data.provenance
        if valid is not None and may_hold_targets(seen, valid):
            parts = [(origin.split_hash, origin.part) for origin in seen.chain()]
            if (valid.hash, "train") not in parts:
                raise DataError(
                    f'the data to fit (part "{seen.part}") holds the validation targets: fit on'
                    " valid.train, or pass no valid"
                )
        fresh = copy.copy(self)
        fresh.__dict__ = self.params()  # nothing learned or remembered before
        fresh.fit_report_ = {}
        is_empty = valid is not None and not valid.has("valid")
        fresh._fit(data, run, None if is_empty else valid)
        fresh.fit_report_ = _plain(fresh.fit_report_)
        if is_empty:
            fresh.fit_report_["validation part"] = "empty: fitted as without one"
        fresh.trained_on_ = seen
        self.__dict__ = fresh.__dict__
        return self

    @abstractmethod
    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        """Set the learned attributes."""

    fit_report_: dict[str, Any] = field(init=False, repr=False)
    """Results of fitting: sizes, choices, what was left out."""
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
        """Return the settings, by field name."""
        settings = [setting.name for setting in dataclasses.fields(self) if setting.init]
        return {name: getattr(self, name) for name in settings}

    def keeps_people(self) -> bool:
        """Return whether this or a method among its settings holds single users' events."""
        return self.holds_histories or any(m.keeps_people() for m in self._methods_inside())

    def answers_text(self) -> bool:
        """Return whether this or a method among its settings answers `Query.text`."""
        return self.reads_text or any(m.answers_text() for m in self._methods_inside())

    def learns_from_impressions(self) -> bool:
        """Return whether this or a method among its settings learns from impressions."""
        return self.reads_impressions or any(
            m.learns_from_impressions() for m in self._methods_inside()
        )

    def unsuited(self, data: Dataset) -> str:
        """Return why there is nothing to learn from in `data`; empty where there may be.

        A fusion that chooses its parts leaves out what is unsuited without fitting it.
        """
        return ""

    def _methods_inside(self) -> "list[Method]":
        """Return the methods among the settings."""
        return _methods_in(self.params())

    def state(self) -> dict[str, Any]:
        """Return what was learned, by attribute name."""
        return {
            name: value
            for name, value in self.__dict__.items()
            if name.endswith("_") and not name.startswith("_")
        }

    @classmethod
    def tiny(cls) -> Self:
        """Return a setting that fits in half a second, for the contract tests."""
        return cls()

    def _updated(self) -> Self:
        """Return a copy to update in place of `self`, so that a failure changes nothing."""
        self._check_fitted()
        fresh = copy.copy(self)
        fresh.__dict__ = dict(self.__dict__)
        return fresh

    def _with_state(self, **learned: Any) -> Self:
        """Return a copy that learned the same, but for these attributes."""
        fresh = replace(self)
        fresh.__dict__ |= self.state() | learned
        return fresh

    def save(
        self,
        folder: str | Path,
        overwrite: bool = False,
        histories: Queries | None = None,
        titles: pl.DataFrame | None = None,
    ) -> Path:
        """Write a folder that `load` reads back without the training data.

        It holds no user's events unless `histories` are passed, which go into a part of their own,
        `personal/`; a method that cannot work without users' events (`keeps_people`) is saved with
        them only. `titles` (item_id, title) may go along, so that lists can be shown with names.
        """
        from tailor.core.saving import save

        return save(self, folder, overwrite, histories, titles)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a saved method.

        Raises ModelError where the folder is damaged or holds another class.
        """
        from tailor.core.saving import load

        method = load(folder)
        if not isinstance(method, cls):
            raise ModelError(f"{folder} holds a {method.name}, not a {cls.__name__}")
        return method


def _plain(value: Any) -> Any:
    """Return a value with NumPy's numbers as plain ones, in mappings and lists too."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        entries = [_plain(entry) for entry in value]
        return tuple(entries) if isinstance(value, tuple) else entries
    return value


def _methods_in(values: Mapping[str, Any]) -> list[Method]:
    """Return the methods among values, and in the lists among them."""
    flat: list[Any] = []
    for value in values.values():
        flat += value if isinstance(value, list | tuple) else [value]
    return [value for value in flat if isinstance(value, Method)]


def catalogue_size(method: Method) -> int | None:
    """Return an upper bound of the number of distinct items that a fitted method knows.

    That is the size of its `items_`, or the sum over its fitted parts; None: not known.
    """
    items = method.__dict__.get("items_")
    if isinstance(items, Vocabulary):
        return len(items)
    total = 0
    for part in _methods_in(method.state()):
        size = catalogue_size(part)
        if size is None:
            return None
        total += size
    return total or None


def _checked_answers(name: str, answers: Any, n: int, kind: type[A], requests: str) -> list[A]:
    """Return a method's answers as a list. Raises ModelError unless they are n of one kind."""
    answers = list(answers)
    wrong = next((answer for answer in answers if not isinstance(answer, kind)), None)
    if wrong is not None:
        raise ModelError(f"{name} is broken: it answered {wrong!r}, not a {kind.__name__}")
    if len(answers) != n:
        raise ModelError(f"{name} is broken: it gave {len(answers)} answers for {n} {requests}")
    return answers


@dataclass(eq=False)
class Recommender(Method):
    """Orders items for queries: those of the whole catalogue, or of candidate lists."""

    trains_on_candidates: ClassVar[bool] = False
    """True if fit learns from `data.lists`, the lists of an earlier stage."""
    needs_candidates: ClassVar[bool] = False
    """True if it only orders candidates."""
    reads_candidate_texts: ClassVar[bool] = False
    """True if candidates may be items that it was not fitted on, with texts of their own."""

    def recommend(
        self, queries: Sequence[Query], k: int = 10, candidates: Sequence[Ranking] | None = None
    ) -> Rankings:
        """Return up to k items a query, best first.

        Only items of `candidates` where those are passed, one list a query; never an item of
        `Query.exclude`. Where fewer can be recommended, `Ranking.notes` says why. Where a filter
        among the parts fails, nothing is recommended. A k beyond the catalogue costs no more than
        the catalogue. Raises DataError for a bad k, a non-query, or lists that do not match.

            lists = EASE().fit(data).recommend([Query(history=History.of("tent"))], k=5)
            lists[0].ids          # ("peg", "stove", ...)
        """
        self._check_fitted()
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise DataError(f"k is {k!r}: ask for at least 1 item")
        batch = Queries.of(queries)
        lists = self._checked_candidates(candidates, len(batch))
        size = self._most_items(int(k), lists)
        try:
            batch = self.restrict(batch)
        # whatever the error is: a list that was not filtered must not leave
        except Exception as error:
            note = f"Filter failed, nothing is recommended: {error}"
            return Rankings.empty(batch.catalogue, len(batch), size, note)
        answers = _without_blocked(self._recommend(batch, size, lists), batch, self.name)
        answers = answers.first(size)
        if size < k:
            answers = _note_short(answers, f"{self.name}: k is more than all items together")
        if lists is not None and not self.reads_candidate_texts:
            answers = self._note_unknown(answers, lists)
        return answers

    def _checked_candidates(self, candidates: Sequence[Ranking] | None, n: int) -> Rankings | None:
        if candidates is None:
            if self.needs_candidates:
                raise DataError(
                    f"{self.name} orders lists and finds nothing by itself: pass candidates, or"
                    " make it the second stage of a Cascade"
                )
            return None
        lists = Rankings.of(candidates)
        if len(lists) != n:
            raise DataError(f"{len(lists)} candidate lists for {n} queries: give one each")
        return lists

    def _most_items(self, k: int, lists: Rankings | None) -> int:
        """Return k, or the number of items that can be answered at all where that is smaller."""
        if lists is not None and k <= lists.rows.shape[1]:
            return k
        size = catalogue_size(self)
        if size is None:
            return k
        return max(1, min(k, max(size, 0 if lists is None else lists.rows.shape[1])))

    def _note_unknown(self, answers: Rankings, lists: Rankings) -> Rankings:
        """Note candidates that the method does not know in lists that have room left."""
        items = self.__dict__.get("items_")
        row_in = lists.catalogue.mapping_to(items) if isinstance(items, Vocabulary) else None
        if row_in is None or not len(row_in):
            return answers
        unknown = ((lists.rows >= 0) & (row_in[lists.rows] < 0)).sum(axis=1)
        short = np.flatnonzero((unknown > 0) & (answers.lengths < answers.rows.shape[1]))
        notes = {
            i: f"{self.name}: {unknown[i]} candidates are not in its catalogue and were left out"
            for i in short.tolist()
        }
        return _with_notes(answers, notes)

    @abstractmethod
    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        """Do `recommend` on arrays, for queries that are restricted already."""

    def restrict(self, queries: Queries) -> Queries:
        """Return the queries with all items excluded that this recommender must never answer.

        A composite restricts by its parts, so that the rule holds whichever part answers.
        """
        return queries

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Return for every ranking one explanation an item, in the ranking's order."""
        raise ModelError(f"{self.name} cannot explain its rankings")

    @classmethod
    def explains(cls) -> bool:
        """Return whether the class has the optional verb `explain`."""
        return cls.explain is not Recommender.explain

    def update(self, feedback: Dataset, run: Run = Run()) -> Self:
        """Learn from new events and impressions, without the data of before.

        `feedback` holds only what is new. A failed update changes nothing. Raises ModelError for a
        class that cannot (`updates`).
        """
        if not self.updates():
            raise ModelError(f"{self.name} cannot be updated: fit it again with all data")
        fresh = self._updated()
        if not isinstance(feedback, Dataset):
            raise DataError(
                f"new events come as a data set, got {feedback!r}: write Dataset.from_events(...)"
            )
        fresh._update(feedback, run)
        fresh.trained_on_ = feedback.provenance.after(self.trained_on_)
        self.__dict__ = fresh.__dict__
        return self

    def _update(self, feedback: Dataset, run: Run) -> None:
        """Replace the learned attributes that the feedback changes; never change one in place."""
        raise NotImplementedError

    @classmethod
    def updates(cls) -> bool:
        """Return whether the class has the optional verb `update`."""
        return cls._update is not Recommender._update


def _without_blocked(lists: Rankings, queries: Queries, name: str) -> Rankings:
    """Drop items that a filter forbids, should a method have answered them; note where."""
    if not queries.blocked:
        return lists
    # the last entry is that of row -1, no item
    is_forbidden = np.zeros(len(lists.catalogue) + 1, dtype=bool)
    for rule in queries.blocked:
        is_forbidden[rule.found_in(lists.catalogue)] = True
    forbidden = is_forbidden[lists.rows]
    counts = forbidden.sum(axis=1)
    if not counts.any():
        return lists
    notes = {
        i: f"{name} answered {counts[i]} items that a filter forbids; they were taken out"
        for i in np.flatnonzero(counts).tolist()
    }
    return _with_notes(lists.only(~forbidden), notes)


def _note_short(lists: Rankings, note: str) -> Rankings:
    """Add a note to every list without one."""
    return _with_notes(lists, {i: note for i in range(len(lists)) if i not in lists.notes})


def _with_notes(lists: Rankings, notes: Mapping[int, str]) -> Rankings:
    """Return the lists with one more note each for some of them."""
    if not notes:
        return lists
    added = {i: (*lists.notes.get(i, ()), note) for i, note in notes.items()}
    return replace(lists, notes={**lists.notes, **added})


def short_notes(
    name: str, queries: Queries, rows: np.ndarray, k: int
) -> dict[int, tuple[str, ...]]:
    """Return a note for every list of `rows` (B, k) that has empty places, saying why."""
    is_short = rows[:, -1] < 0 if rows.shape[1] >= k else np.ones(len(rows), dtype=bool)
    notes: dict[int, tuple[str, ...]] = {}
    for i in np.flatnonzero(is_short).tolist():
        if not queries.histories.lengths[i] and not queries.text(i).strip():
            reason = "no known item in the history"
        else:
            reason = f"{(rows[i] >= 0).sum()} of {k} items could be scored"
        notes[i] = (f"{name}: {reason}",)
    return notes


def blocks(queries: int, items: int) -> list[tuple[int, int]]:
    """Return start and stop of blocks of queries, so that dense scores stay within SCORES_BYTES."""
    size = max(1, min(2048, SCORES_BYTES // (4 * max(items, 1))))
    return [(start, min(start + size, queries)) for start in range(0, queries, size)]


@dataclass(eq=False)
class ScoringRecommender(Recommender):
    """A recommender that scores every item.

    Exclusion, candidates, ties, top-k and notes are done here, once.
    """

    items_: Vocabulary = field(init=False, repr=False)

    @abstractmethod
    def _scores(self, queries: Queries) -> np.ndarray | sp.csr_matrix:
        """Return (B, N) float32 over the rows of `items_`, for queries over `items_`.

        Dense with -inf, or sparse with no entry, where an item cannot be scored.
        """

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        queries = queries.reindexed(self.items_)
        lists = None if candidates is None else candidates.reindexed(self.items_).ragged()
        parts = []
        for start, stop in blocks(len(queries), len(self.items_)):
            block = queries[start:stop]
            only = None if lists is None else lists.slice(start, stop)
            rows, scores = top_k(self._scores(block), k, block.exclude, block.blocked_rows, only)
            notes = short_notes(self.name, block, rows, k)
            parts.append(Rankings(self.items_, rows, scores, notes=notes))
        return Rankings.stack(parts) if parts else Rankings.empty(self.items_, 0, k)


@dataclass(eq=False)
class Predictor(Method):
    """Predicts calibrated numbers for named items.

    The probability of a click, a rating, a fit, a correct answer.
    """

    items_: Vocabulary = field(init=False, repr=False)

    def predict(
        self, queries: Sequence[Query], item_ids: Sequence[Sequence[str]]
    ) -> list[np.ndarray]:
        """Return a (K,) or (K, C) array a query, in the order of its item ids.

        Each pair counts by itself: the other items and their order change nothing. An unknown item
        is answered by what is known of the query. Raises DataError unless there is one list of ids
        a query.
        """
        batch, items = self._pairs(queries, item_ids)
        values = self._predict(batch, items)
        return np.split(values, items.offsets[1:-1]) if len(batch) else []

    def _pairs(
        self, queries: Sequence[Query], item_ids: Sequence[Sequence[str]]
    ) -> tuple[Queries, Ragged]:
        """Return the queries over `items_`, and the rows of the items of each."""
        self._check_fitted()
        batch = Queries.of(queries)
        is_flat = isinstance(item_ids, str) or any(isinstance(ids, str) for ids in item_ids)
        if is_flat or len(item_ids) != len(batch):
            raise DataError(
                f"{len(item_ids)} lists of item ids for {len(batch)} queries: give a list of ids"
                " for each query"
            )
        flat = [item_id for ids in item_ids for item_id in ids]
        items = Ragged.of_lengths([len(ids) for ids in item_ids], self.items_.rows(flat))
        return batch.reindexed(self.items_), items

    @abstractmethod
    def _predict(self, queries: Queries, items: Ragged) -> np.ndarray:
        """Return (m,) or (m, C) for the m values of `items`.

        Those are rows of `items_` by query, -1 for an unknown item; queries are over `items_`.
        """

    def explain(
        self, queries: Sequence[Query], item_ids: Sequence[Sequence[str]]
    ) -> list[list[Explanation]]:
        """Return for every query one explanation an item, in the order of its item ids.

        Raises ModelError for a class that cannot (`explains`).
        """
        if not self.explains():
            raise ModelError(f"{self.name} cannot explain its predictions")
        batch, items = self._pairs(queries, item_ids)
        flat = [item_id for ids in item_ids for item_id in ids]
        reasons = self._explain(batch, items, flat)
        answers = _checked_answers(self.name, reasons, len(flat), Explanation, "items")
        edges = pairwise(items.offsets.tolist())
        return [answers[start:stop] for start, stop in edges]

    def _explain(
        self, queries: Queries, items: Ragged, item_ids: Sequence[str]
    ) -> list[Explanation]:
        """Return an explanation for each of the m values of `items`, whose ids are `item_ids`."""
        raise NotImplementedError

    @classmethod
    def explains(cls) -> bool:
        """Return whether the class has the optional verb `explain`."""
        return cls._explain is not Predictor._explain

    def update(
        self,
        queries: Sequence[Query],
        item_ids: Sequence[Sequence[str]],
        labels: Sequence[Sequence[float]],
        run: Run = Run(),
    ) -> Self:
        """Learn from outcomes of pairs, without the data of before.

        `labels` has one number for every item id. A failed update changes nothing. Raises
        ModelError for a class that cannot (`updates`).
        """
        if not self.updates():
            raise ModelError(f"{self.name} cannot be updated: fit it again with all data")
        fresh = self._updated()
        batch, items = self._pairs(queries, item_ids)
        lengths = [len(values) for values in labels]
        if lengths != items.lengths.tolist():
            raise DataError(f"labels of lengths {lengths[:5]}: give one number for every item id")
        flat = np.array([value for values in labels for value in values], dtype=np.float64)
        if not np.isfinite(flat).all():
            raise DataError("a label is not a finite number: leave out pairs without an outcome")
        fresh._update(batch, items, flat, run)
        self.__dict__ = fresh.__dict__
        return self

    def _update(self, queries: Queries, items: Ragged, labels: np.ndarray, run: Run) -> None:
        """Replace the learned attributes that the labels (m,) change; never change one in place."""
        raise NotImplementedError

    @classmethod
    def updates(cls) -> bool:
        """Return whether the class has the optional verb `update`."""
        return cls._update is not Predictor._update


@dataclass(eq=False)
class Profiler(Method):
    """Describes users: a summary in words, facts with evidence, and attributes."""

    def profile(self, queries: Sequence[Query]) -> list[Profile]:
        """Return one profile a query, made of its history and texts and of the fitted data.

        Only events before `Query.time_ms` are used. Where little can be said, `Profile.notes` says
        why. Raises DataError for a non-query.
        """
        self._check_fitted()
        batch = Queries.of(queries).before_request()
        return _checked_answers(self.name, self._profile(batch), len(batch), Profile, "queries")

    @abstractmethod
    def _profile(self, queries: Queries) -> list[Profile]:
        """Do `profile` on arrays: one profile a query, in order."""


@dataclass(eq=False)
class Generator(Method):
    """Writes a text or draws a picture for a query, with the evidence it used."""

    def generate(self, queries: Sequence[Query]) -> list[Output]:
        """Return one text or picture a query, with its evidence.

        Only events before `Query.time_ms` are used, and no item of `Query.exclude` is named. An
        output that is empty has a note that says why. Raises DataError for a non-query.
        """
        self._check_fitted()
        batch = Queries.of(queries).before_request()
        return _checked_answers(self.name, self._generate(batch), len(batch), Output, "queries")

    @abstractmethod
    def _generate(self, queries: Queries) -> list[Output]:
        """Do `generate` on arrays: one output a query, in order."""


@dataclass(eq=False)
class Agent(Method):
    """Takes the next turn of a dialogue: assistant, tutor and simulated user alike.

    It keeps nothing between calls: the turns are the whole state of a dialogue.
    """

    speaker: ClassVar[str] = "assistant"
    """The speaker of its turns."""

    def act(
        self, dialogues: Sequence[Sequence[Turn]], queries: Sequence[Query] | None = None
    ) -> list[Turn]:
        """Return the next turn of every dialogue; an empty dialogue is opened.

        `queries`, one a dialogue, say who the dialogue is with: history, profile, items that must
        not be named; None: cold users. Raises DataError for what is no dialogue.

            turn = assistant.act([[Turn("user", "a tent for two")]])[0]
        """
        self._check_fitted()
        batch = Queries.of([Query()] * len(dialogues) if queries is None else queries)
        if len(batch) != len(dialogues):
            raise DataError(f"{len(batch)} queries for {len(dialogues)} dialogues: give one each")
        checked = [_checked_dialogue(dialogue) for dialogue in dialogues]
        turns = self._act(checked, batch)
        return _checked_answers(self.name, turns, len(batch), Turn, "dialogues")

    @abstractmethod
    def _act(self, dialogues: Sequence[tuple[Turn, ...]], queries: Queries) -> list[Turn]:
        """Do `act`: one turn of `speaker` a dialogue, in order; queries match the dialogues."""


def _checked_dialogue(dialogue: Any) -> tuple[Turn, ...]:
    if isinstance(dialogue, Turn):
        raise DataError("got one turn where a dialogue is expected: write act([[turn]])")
    for turn in dialogue:
        if not isinstance(turn, Turn):
            raise DataError(
                f'a dialogue consists of turns, got {turn!r}: write Turn("user", "...")'
            )
    return tuple(dialogue)
