"""UNICON: one long-term vector of each user widens audiences, finds segments and recommends."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.arrays import Ragged, top_k
from tailor.data.attributes import attribute_values
from tailor.data.dataset import Dataset
from tailor.data.nouns import Query
from tailor.data.queries import NO_TIME, Queries
from tailor.data.splits import Split
from tailor.data.vocabulary import Vocabulary
from tailor.errors import DataError
from tailor.metrics.ranking import hits, ndcg, relevant_counts
from tailor.nn.blocks import TransformerBlock
from tailor.nn.item_encoders import AttributeItemEncoder
from tailor.nn.packing import pad_rows
from tailor.nn.positions import TimeGapPositions
from tailor.nn.quantizers import nearest_word, unit
from tailor.profiles.segments import (
    Lookalike,
    SegmentCard,
    choose_centres,
    lookalike,
    segment_cards,
)
from tailor.retrieval.sequences import SequenceRecommender, Windows, check_blocks
from tailor.training.sequences import TrainingData
from tailor.training.validation import Validation, cut_validation

PAPER = Paper(
    "unicon",
    "UNICON: A unified framework for behavior-based consumer segmentation in e-commerce",
    "https://arxiv.org/abs/2309.13068",
    "A user's vector finds the hidden half of an audience above activity and chance, and no worse"
    " than mean item vectors; planted segments are found; segments help where histories are short",
)
KAPPAS = (0.0, 1.0, 3.0, 10.0, 30.0)
"""Events after which segment and person weigh the same, of which the best is chosen."""
SMOOTHING = 50.0  # imagined events of a segment at the popularity of all users
MAX_ATTRIBUTES = 12  # of an item


@dataclass(eq=False)
class UNICON(SequenceRecommender):
    """Makes one vector of a user's events, and uses it for audiences, segments and lists.

    A transformer reads each event as the attributes of its item and the time since the one before,
    and learns to predict the next item (2023). The vector is the mean of its outputs, together with
    the last one. A classifier on vectors tells the members of an audience from others, and so finds
    those who resemble them (`expand`); k-means of the most stable number finds segments
    (`segments`, `cards`); lists mix the person's scores with the popularity in the segment, with
    the weight n / (n + kappa) for n events.

    Differs from the paper: attention is causal, so that every event is predicted, and the last
    output stands for the CLS token; actions and features of consumers are not read; the choice of
    the number of segments and of kappa is reconstructed; positive-unlabelled correction is left
    out.
    """

    attributes: tuple[str, ...] = ("categories", "brand", "colour", "style", "material")
    """Columns of the items table that an event is told by; absent ones are left out."""
    own_vectors: bool = True
    """Whether an item has a vector beside those of its attributes."""
    width: int = 64
    """Width of item vectors and states."""
    blocks: int = 2
    """Number of transformer blocks."""
    heads: int = 2
    """Attention heads; they must divide the width."""
    dropout: Annotated[float, Range(0.05, 0.5)] = 0.2
    """Share of values zeroed during training."""
    epochs: int = 30
    """Passes over the data, at most."""
    segment_counts: tuple[int, ...] = (3, 4, 5, 6, 8, 10, 12)
    """Numbers of segments of which the most stable one is taken."""
    kappa: float | None = None
    """Events after which the person weighs as much as the segment; None: chosen on validation; 0:
    the person alone."""

    values_: list[str] = field(init=False, repr=False)
    """(V,) attribute values as "column: value"."""
    item_values_: np.ndarray = field(init=False, repr=False)
    """(N, F) rows of each item's values, -1 for none."""
    timed_: bool = field(init=False, repr=False)
    """Whether the training events have times."""
    centres_: np.ndarray = field(init=False, repr=False)
    """(S, 2 D) centres of the segments."""
    popularity_: np.ndarray = field(init=False, repr=False)
    """(S, N) each segment's share of events by item, shrunk to that of all users."""
    kappa_: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_blocks(self.blocks, self.heads, self.width)
        if not self.segment_counts or min(self.segment_counts) < 1:
            raise DataError(f"segment_counts is {self.segment_counts}: give numbers from 1")
        if self.kappa is not None and self.kappa < 0:
            raise DataError(f"kappa is {self.kappa}: it must be at least 0, or none")

    @classmethod
    def tiny(cls) -> Self:
        return cls(width=8, length=10, epochs=3, negatives=20, segment_counts=(2, 3))

    # --- learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.timed_ = data.sequences.times_ms is not None
        self.kappa_ = 0.0
        self.centres_ = np.zeros((0, 2 * self.width), np.float32)
        validation, learned = cut_validation(data, run, valid, needed=self.kappa is None)
        # with patience the net makes the same cut itself; without, it must not see the targets
        super()._fit(learned if self.patience is None else data, run, valid)
        self.find_segments(learned, run)
        by_kappa = {} if self.kappa is not None else self.try_kappas(validation)
        self.kappa_ = (
            max(by_kappa, key=lambda kappa: by_kappa[kappa]) if by_kappa else self.kappa or 0.0
        )
        self.fit_report_ |= {"segments": len(self.centres_), "kappa": self.kappa_}

    def _prepare_items(self, training: TrainingData, run: Run) -> dict[str, Any]:
        data = training.data
        table = data.item_table[data.catalogue.rows(self.items_.ids.tolist()).tolist()]
        item_values = [
            [f"{name}: {value}" for name, value in row][:MAX_ATTRIBUTES]
            for row in attribute_values(table, self.attributes)
        ]
        vocabulary = Vocabulary.of_users(
            dict.fromkeys(value for row in item_values for value in row)
        )
        self.values_ = vocabulary.ids.tolist()
        self.item_values_ = np.full(
            (len(item_values), max(1, *map(len, item_values), 0)), -1, np.int64
        )
        for number, row in enumerate(item_values):
            self.item_values_[number, : len(row)] = vocabulary.rows(row)
        return {"attribute_values": len(self.values_)}

    def _item_encoder(self) -> AttributeItemEncoder:
        attributes = torch.from_numpy(self.item_values_)
        has_own = self.own_vectors or not self.values_
        return AttributeItemEncoder(attributes, len(self.values_), self.width, has_own)

    def _positions(self) -> nn.Module:
        return TimeGapPositions(self.length, self.width)

    def _layers(self) -> list[nn.Module]:
        return [TransformerBlock(self.width, self.heads, self.dropout) for _ in range(self.blocks)]

    def _layer_inputs(self, batch: Windows) -> dict[str, Tensor]:
        if not self.timed_ or batch.times_ms is None:
            return {}
        times, _ = pad_rows(batch.times_ms, batch.starts, batch.lengths)
        times = np.where(times == NO_TIME, 0, times)
        return {"times_ms": torch.from_numpy(times).to(self._net.device)}

    def find_segments(self, data: Dataset, run: Run) -> None:
        """Find the segments of a data set's users, and what is popular in each."""
        queries = data.queries().reindexed(self.items_)
        vectors = self._vectors(queries)
        with_events = np.flatnonzero(queries.histories.lengths > 0)
        sizes = [size for size in self.segment_counts if 2 * size <= len(with_events)] or [1]
        rng = run.rng("segments")
        self.centres_, tried = choose_centres(vectors[with_events], sizes, rng)
        segments = nearest_word(vectors, self.centres_)
        counts = queries.histories.matrix(len(self.items_))
        members = _membership(segments[with_events], len(self.centres_))
        self.popularity_ = _shares(members.T @ counts[with_events])
        self.fit_report_["stability"] = {str(s.segments): round(s.agreement, 4) for s in tried}

    def try_kappas(self, validation: Validation | None) -> dict[float, float]:
        """Return kappa -> NDCG@10 on validation; nothing where there is none."""
        if validation is None:
            return {}
        queries = validation.queries.reindexed(self.items_)
        targets = _reindexed(validation.targets, validation.queries.catalogue, self.items_)
        personal = super()._scores(queries)
        of_segment = self._segment_scores(queries)
        lengths = queries.histories.lengths
        values = {}
        for kappa in KAPPAS:
            scores = _mixed(personal, of_segment, lengths, kappa)
            rows, _ = top_k(scores, 10, queries.exclude)
            is_hit = hits(rows, targets.offsets, targets.values)
            relevant = relevant_counts(targets.offsets, targets.values)
            values[kappa] = float(np.nanmean(ndcg(is_hit, relevant, 10)))
        return values

    # --- vectors

    def vectors(self, queries: Sequence[Query]) -> np.ndarray:
        """Return (B, 2 D) vectors of users; zero for a user without an event of a known item."""
        self._check_fitted()
        return self._vectors(Queries.of(queries).before_request().reindexed(self.items_))

    @torch.inference_mode()
    def _vectors(self, queries: Queries) -> np.ndarray:
        net = self._ready()
        vectors = np.zeros((len(queries), 2 * self.width), np.float32)
        for numbers, windows in self._query_batches(queries):
            rows, mask = pad_rows(windows.rows, windows.starts, windows.lengths)
            items = net.table(torch.from_numpy(rows.astype(np.int64)))
            states = net.states(items, **self._layer_inputs(windows)).cpu().numpy()
            last = states[np.arange(len(rows)), windows.lengths - 1]
            mean = (states * mask[..., None]).sum(axis=1) / windows.lengths[:, None]
            vectors[numbers] = np.concatenate([unit(last), unit(mean)], axis=1)
        return vectors

    # --- audiences and segments

    def expand(
        self,
        queries: Sequence[Query],
        members: Sequence[str],
        size: int | None = None,
        run: Run = Run(),
    ) -> list[Lookalike]:
        """Return users of `queries` who resemble an audience and are not in it, best first.

        `members` are the ids of those known to belong to it. `size` is the number of users wanted;
        None: all. Users without events of known items are left out. Raises DataError where no
        member is among the queries.
        """
        batch = Queries.of(queries)
        vectors = self.vectors(batch)
        is_known = vectors.any(axis=1)
        is_member = np.isin(batch.user_ids.astype(str), list(map(str, members)))
        if not (is_known & is_member).any():
            raise DataError(
                f"none of the {len(members)} members has events of known items among the"
                f" {len(batch)} users: pass their queries too"
            )
        described = np.flatnonzero(is_known)
        scores = lookalike(
            vectors[described], np.flatnonzero(is_member[described]), run.rng("lookalike")
        )
        order = [row for row in np.argsort(-scores, kind="stable") if not is_member[described[row]]]
        return [
            Lookalike(batch.user_ids[described[row]], float(scores[row])) for row in order[:size]
        ]

    def segments(self, queries: Sequence[Query]) -> np.ndarray:
        """Return (B,) the segment of each user, -1 for a user without events of known items."""
        vectors = self.vectors(queries)
        return np.where(vectors.any(axis=1), nearest_word(vectors, self.centres_), -1)

    def cards(
        self, queries: Sequence[Query], before: np.ndarray | None = None
    ) -> list[SegmentCard]:
        """Return a card a segment: size, what its users choose more than others, and drift.

        `before` (B,) are the segments that an earlier version gave the same users.
        """
        batch = Queries.of(queries).before_request().reindexed(self.items_)
        segments = self.segments(batch)
        rows = np.flatnonzero(segments >= 0)
        counts = batch.histories.matrix(len(self.items_)) @ self._value_matrix()
        earlier = None if before is None else np.asarray(before)[rows]
        return segment_cards(segments[rows], counts[rows], self.values_, before=earlier)

    def _value_matrix(self) -> sp.csr_matrix:
        """Return (N, V) 1 for every value of an item."""
        rows, columns = np.nonzero(self.item_values_ >= 0)
        values = self.item_values_[rows, columns]
        shape = (len(self.items_), len(self.values_))
        return sp.csr_matrix((np.ones(len(values), np.float32), (rows, values)), shape=shape)

    # --- recommending

    def _scores(self, queries: Queries) -> np.ndarray:
        personal = super()._scores(queries)
        if not self.kappa_ or not len(self.centres_):
            return personal
        of_segment = self._segment_scores(queries)
        return _mixed(personal, of_segment, queries.histories.lengths, self.kappa_)

    def _segment_scores(self, queries: Queries) -> np.ndarray:
        """Return (B, N) the popularity of items in the segment of each query."""
        segments = nearest_word(self._vectors(queries), self.centres_)
        scores: np.ndarray = self.popularity_[segments]
        return scores


def _mixed(
    personal: np.ndarray, of_segment: np.ndarray, lengths: np.ndarray, kappa: float
) -> np.ndarray:
    """Return scores (B, N) of the person and the segment, by the number of events (B,).

    -inf for a user without events, of whom neither is known.
    """
    mixed = np.full_like(personal, -np.inf)
    rows = np.flatnonzero(lengths > 0)
    share = (lengths[rows] / (lengths[rows] + kappa)).astype(np.float32)[:, None]
    mixed[rows] = share * personal[rows] + (1 - share) * of_segment[rows]
    return mixed


def _shares(counts: sp.csr_matrix) -> np.ndarray:
    """Return (S, N) shares of events, shrunk to those of all segments."""
    dense = np.asarray(counts.todense(), dtype=np.float64)
    usual = dense.sum(axis=0) / max(dense.sum(), 1)
    shares = (dense + SMOOTHING * usual) / (dense.sum(axis=1, keepdims=True) + SMOOTHING)
    return shares.astype(np.float32)


def _membership(segments: np.ndarray, count: int) -> sp.csr_matrix:
    """Return (U, S) 1 for the segment of every user."""
    ones = np.ones(len(segments), np.float32)
    return sp.csr_matrix(
        (ones, segments, np.arange(len(segments) + 1)), shape=(len(segments), count)
    )


def _reindexed(rows: Ragged, source: Vocabulary, target: Vocabulary) -> Ragged:
    """Return rows of one catalogue as rows of another, -1 for what it lacks."""
    row_in = source.mapping_to(target)
    return rows if row_in is None else rows.with_values(np.r_[row_in, np.int32(-1)][rows.values])
