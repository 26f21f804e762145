"""Reranker: the base of methods that order the candidates of a request by what they say."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from tailor.core.methods import Recommender
from tailor.core.run import Run
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.pictures import item_pictures
from tailor.data.queries import IMAGE, Queries, Rankings
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError, ModelError
from tailor.reranking.shortlist import Limits, Reranked, Shortlist

NO_LIMITS = Limits()


@dataclass(eq=False)
class Reranker(Recommender):
    """Orders each candidate list by texts, scores and what is known of the user.

    A subclass writes `_rerank`; `recommend` and `rerank` are written here once. `rerank` needs no
    catalogue: texts in, order out.
    """

    needs_candidates: ClassVar[bool] = True
    reads_candidate_texts: ClassVar[bool] = True
    reads_text: ClassVar[bool] = True
    reads_pictures: ClassVar[bool] = False
    """True if pictures of documents are read: a fit then keeps those of the catalogue."""

    depth: int = 100
    """First candidates of a list that are ordered; those below stay below, in their order."""
    prior_weight: float = 0.0
    """Weight of the first stage's scores, from 0 to 1, each in its deviations; 0: none."""
    history_length: int = 10
    """Latest items of a user that are shown or read."""

    items_: Vocabulary = field(init=False, repr=False)
    texts_: list[str] = field(init=False, repr=False)
    """(N,) texts of the catalogue, for candidates that bring none."""
    titles_: list[str] = field(init=False, repr=False)
    """(N,) titles of the catalogue."""
    pictures_: Ragged = field(init=False, repr=False)
    """(N,) uint8 picture files of the catalogue, empty for none; of classes that read pictures."""

    def __post_init__(self) -> None:
        if self.depth < 1 or not 0 <= self.prior_weight <= 1 or self.history_length < 0:
            raise ModelError(
                f"depth is {self.depth}, prior_weight {self.prior_weight}, history_length"
                f" {self.history_length}: from 1, between 0 and 1, from 0"
            )

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self._read_catalogue(data)

    def _read_catalogue(self, data: Dataset) -> None:
        self.items_ = data.catalogue
        self.texts_ = data.item_texts
        self.titles_ = data.texts_of("title")
        if self.reads_pictures:
            files = item_pictures(data)
            contents = np.frombuffer(b"".join(files), np.uint8)
            self.pictures_ = Ragged.of_lengths(list(map(len, files)), contents)

    def rerank(
        self, shortlists: Sequence[Shortlist], limits: Limits = NO_LIMITS, trace: bool = False
    ) -> list[Reranked]:
        """Return the order of every shortlist: a permutation of its places, whatever happens.

        With `trace` the results hold all prompts and answers. Raises ModelError for what concerns
        all shortlists, such as a model that cannot be reached at all.
        """
        check_shortlists(shortlists)
        results = self._rerank(shortlists, limits, trace)
        for shortlist, result in zip(shortlists, results, strict=True):
            if sorted(result.order.tolist()) != list(range(len(shortlist))):
                raise ModelError(f"{self.name} returned no permutation of its documents")
        return results

    @abstractmethod
    def _rerank(
        self, shortlists: Sequence[Shortlist], limits: Limits, trace: bool
    ) -> list[Reranked]:
        """Do `rerank`."""

    # --- as a recommender

    def _recommend(self, queries: Queries, k: int, candidates: Rankings | None) -> Rankings:
        assert candidates is not None  # `recommend` refuses to go on without
        lists = candidates.only(queries.allowed_in(candidates))
        shortlists = self.shortlists(queries, lists)
        results = self.rerank(shortlists)
        width = min(k, lists.rows.shape[1])
        order = np.full((len(lists), width), -1)
        scores = np.full((len(lists), width), -np.inf, np.float32)
        for i, result in enumerate(results):
            docs, values = self._whole_order(result, int(lists.lengths[i]))
            best = docs[:width]
            order[i, : len(best)] = best
            scores[i, : len(best)] = values[: len(best)]
        return self._answer(lists, order, scores, results, k)

    def shortlists(self, queries: Queries, lists: Rankings) -> list[Shortlist]:
        """Return the first `depth` candidates of every list as shortlists."""
        in_catalogue = queries.reindexed(self.items_)
        shortlists = []
        for i, length in enumerate(lists.lengths.tolist()):
            n = min(length, self.depth)
            events: np.ndarray = in_catalogue.histories[i]
            history = events[max(len(events) - self.history_length, 0) :]
            titles = tuple(self.titles_[row] or self.texts_[row] for row in history)
            ids = lists.catalogue.named(lists.rows[i, :n])
            rows = self.items_.rows(ids).tolist()
            shortlists.append(
                Shortlist(
                    queries[i],
                    tuple(lists.texts(i, self.items_, self.texts_)[:n]),
                    _finite(lists.scores[i, :n]),
                    tuple(self.titles_[row] if row >= 0 else "" for row in rows),
                    queries.text(i).strip() or " ".join(titles),
                    queries.profile(i),
                    titles,
                    images=self._images(lists.brought(i, IMAGE)[:n], rows),
                )
            )
        return shortlists

    def _images(self, brought: Sequence[bytes | None], rows: Sequence[int]) -> tuple[bytes, ...]:
        """Return the pictures of candidates: their own, else those of the catalogue's rows."""
        if not self.reads_pictures:
            return ()
        files = [self.pictures_[row].tobytes() if row >= 0 else b"" for row in rows]
        images = tuple(
            file if picture is None else picture
            for file, picture in zip(files, brought, strict=True)
        )
        return images if any(images) else ()

    def _whole_order(self, result: Reranked, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Return places and scores of a whole list: those beyond `depth` follow in their order."""
        scores = result.scores[result.order]
        last = scores[-1] if len(scores) else 0.0
        beyond = np.arange(len(result.order), length)
        lower_scores = last - 1 - np.arange(len(beyond))
        order = np.r_[result.order, beyond]
        all_scores = np.r_[scores, lower_scores]
        return order, all_scores

    def _answer(
        self,
        lists: Rankings,
        order: np.ndarray,
        scores: np.ndarray,
        results: Sequence[Reranked],
        k: int,
    ) -> Rankings:
        """Return the lists in their new order, with details and notes."""
        width = lists.rows.shape[1]
        details = dict(lists.details)
        for name, column in _detail_columns(results, width).items():
            details[name] = column
        kinds = {result.score_kind for result in results}
        notes = {i: result.notes for i, result in enumerate(results) if result.notes}
        for i in np.flatnonzero(lists.lengths < k).tolist():
            short = f"{self.name}: {lists.lengths[i]} of {k} items are candidates"
            notes[i] = (*notes.get(i, ()), short)
        first_stage = {**lists.columns, "first stage": lists.scores.astype(np.float32)}
        moved = replace(lists, details=details, columns=first_stage).reordered(order)
        kind = kinds.pop() if len(kinds) == 1 else "score"
        return replace(moved, scores=scores, score_kind=kind, notes=notes)


def _finite(scores: np.ndarray) -> np.ndarray:
    """Return float64 scores with the lowest finite one in place of those that are not."""
    values = scores.astype(np.float64)
    is_finite = np.isfinite(values)
    low = values[is_finite].min() if is_finite.any() else 0.0
    return np.where(is_finite, values, low)


def _detail_columns(results: Sequence[Reranked], width: int) -> dict[str, np.ndarray]:
    """Return name -> (n, width) object: status, first-stage place, and the details of results."""
    names = {
        name for result in results for of_place in result.details.values() for name in of_place
    }
    columns = {
        name: np.full((len(results), width), None, dtype=object)
        for name in ("status", "prior_rank", *sorted(names))
    }
    for i, result in enumerate(results):
        for doc, status in enumerate(result.statuses):
            columns["status"][i, doc] = status
            columns["prior_rank"][i, doc] = doc + 1
        for doc, of_place in result.details.items():
            for name, value in of_place.items():
                columns[name][i, doc] = value
    return columns


def check_shortlists(shortlists: Sequence[Any]) -> None:
    """Raise DataError for what is no shortlist."""
    for shortlist in shortlists:
        if not isinstance(shortlist, Shortlist):
            raise DataError(
                f"a list of shortlists is expected, got {shortlist!r}: write"
                " Shortlist.of_texts(request, texts)"
            )
