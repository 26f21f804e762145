"""PI2I: long item-to-item lists, from which a net picks for each person."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from tailor.core.methods import Paper
from tailor.core.run import Run
from tailor.core.search_space import Choices, Range
from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.data.nouns import Explanation, Ranking
from tailor.data.queries import Queries
from tailor.data.splits import Split
from tailor.errors import DataError
from tailor.nn.fitting import Recipe
from tailor.nn.losses import EXCLUDED
from tailor.nn.pair_scorer import Pairs, PairScorer
from tailor.retrieval.covisitation import CoVisitation
from tailor.retrieval.neighbours import by_cause
from tailor.training.nets import NetMethod
from tailor.training.validation import Validation, cut_validation

PAPER = Paper(
    "pi2i",
    "PI2I: A Personalized Item-Based Collaborative Filtering Retrieval Framework",
    "https://arxiv.org/abs/2601.16815",
    "On Beauty and Sports (leave-last-out, lists and net from train only, seen items removed, 3"
    " seeds) HR@50 is above that of the same lists ranked by their counts, and on Beauty above"
    " TwoTower's; with random negatives alone it is lower there.",
)
FLOOR = 0.05  # weight of an item that stands in no list
ANSWER_PAIRS = 400_000  # pairs of trigger and item that are scored at a time


@dataclass(eq=False)
class PI2I(NetMethod, CoVisitation):
    """Long lists of what others went on to hold most of what a person may want next; a net that
    sees person, trigger and item together ranks their union.

    An item's score is its share of a softmax over the union of the lists of the latest events; in
    it the item has the sum of exp(log of its faded weight + net) over its triggers, so that
    explanations are exact. Learns to tell each next event from others of the same lists and from
    some of anywhere, without the counts that this very event has added to the lists. Before
    training the order is CoVisitation's.

    Differs from the paper: the net corrects the lists' weights in place of being told of them; one
    softmax for all triggers of a person and not one for each, sums over triggers and not the
    largest of them: with those it fell to half of the lists' own order (docs/log.md). The docs have
    what it gains, which is little.
    """

    history_length: int = 10
    """Latest events, whose lists are united."""
    width: Annotated[int, Choices(8, 16, 32, 64)] = 16
    """Of item vectors."""
    dropout: Annotated[float, Range(0.1, 0.7)] = 0.6
    """Share of values zeroed while training."""
    from_lists: int = 30
    """Items of the same lists that a target is told from."""
    from_all: int = 30
    """Items of the whole catalogue that a target is told from."""
    lr: Annotated[float, Range(2e-4, 4e-3, log=True)] = 3e-4
    """Highest step; falls in a straight line to a hundredth over all epochs."""
    weight_decay: float = 0.01
    batch: int = 512
    """Targets a batch."""
    epochs: int = 4
    """At most."""
    patience: int | None = 2
    """Epochs without a better NDCG@10 on validation before training stops; None: all epochs."""

    renamed_state = {"net_": "net_weights_"}

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in {
            "width": 1,
            "from_lists": 0,
            "from_all": 0,
            "batch": 1,
            "epochs": 0,
        }.items():
            if getattr(self, name) < least:
                raise DataError(f"{name} is {getattr(self, name)}: it must be at least {least}")
        if self.popularity_power:
            raise DataError(
                f"popularity_power is {self.popularity_power}: PI2I learns what popularity is"
                " worth; leave it at 0"
            )
        if not self.from_lists + self.from_all:
            raise DataError(
                "from_lists and from_all are both 0: a target must be told from something"
            )
        if not self.lr > 0 or not 0 <= self.dropout < 1 or self.weight_decay < 0:
            raise DataError(
                f"lr {self.lr}, dropout {self.dropout}, weight_decay {self.weight_decay}: above 0,"
                " from 0 to below 1, and from 0"
            )

    # learning

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        validation, learned = cut_validation(data, run, valid, needed=self.patience is not None)
        super()._fit(learned, run, valid)
        self._start_net(run)
        self.fit_report_ |= self._train(data, learned.sequences.rows, validation, run)

    def _train(
        self, data: Dataset, rows: Ragged, validation: Validation | None, run: Run
    ) -> dict[str, Any]:
        before = np.arange(len(rows.values)) - np.repeat(rows.offsets[:-1], rows.lengths)
        targets, ages = np.flatnonzero(before > 0), np.arange(self.history_length)
        if not len(targets):
            return self._leave_untrained("no user has two events to learn from")

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            order = rng.permutation(targets)
            return [order[i : i + self.batch] for i in range(0, len(order), self.batch)]

        def loss(batch: np.ndarray, rng: np.random.Generator) -> Tensor:
            there = ages < before[batch][:, None]
            triggers = np.where(
                there, rows.values[np.where(there, batch[:, None] - 1 - ages, 0)], -1
            )
            return self._loss(triggers, rows.values[batch], rng)

        recipe = Recipe(self.epochs, self.lr, self.weight_decay, patience=self.patience)
        return self._train_net(data, run, recipe, batches, loss, validation)

    def _loss(self, triggers: np.ndarray, targets: np.ndarray, rng: np.random.Generator) -> Tensor:
        """Cross-entropy of each target among the items drawn for it; one drawn from the lists
        stands for as many of the union as there are to one drawn.
        """
        drawn, room = self._drawn(triggers, rng)
        # (B, 1 + K)
        asked = np.column_stack([targets, np.where(drawn == targets[:, None], -1, drawn)])
        weight = self._weights_of(triggers, asked)  # (B, 1 + K, N)
        weight[:, 0] -= self._own_steps(triggers)  # what this event itself has added to the lists
        weight[weight < 1e-6] = 0
        stray = np.zeros(asked.shape, bool)
        stray[:, 1:] = (asked[:, 1:] >= 0) & ~weight[:, 1:].any(axis=2)
        # drawn from anywhere, in no list: as if it stood at the end of the latest trigger's
        weight[stray, 0] = FLOOR
        some = weight[:, 0].any(axis=1)  # targets that the lists can reach at all
        if not some.any():
            return self._net.table.weight.sum() * 0
        triggers, asked, weight, room = triggers[some], asked[some], weight[some], room[some]
        person, column = np.nonzero(weight.any(axis=2))
        at = np.full(asked.shape, -1)
        at[person, column] = np.arange(len(person))
        pair_person, pair_column, age = np.nonzero(weight)
        pairs = Pairs(
            triggers,
            person,
            asked[person, column],
            at[pair_person, pair_column],
            age,
            weight[pair_person, pair_column, age],
        )
        multiplicity = np.bincount(pairs.candidate, minlength=len(person))
        stands_for = np.log(room[person] / (max(self.from_lists, 1) * multiplicity))
        stands_for[(column == 0) | stray[some][person, column]] = 0
        scores = self._candidate_scores(pairs) + self._tensor(stands_for.astype(np.float32))
        logits = torch.full(asked.shape, EXCLUDED, device=scores.device).index_put(
            (self._tensor(person), self._tensor(column)), scores
        )
        return nn.functional.cross_entropy(
            logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        )

    def _own_steps(self, triggers: np.ndarray) -> np.ndarray:
        """(B, N) what the event after `triggers` (B, N) has itself added to its weight in each
        one's list; for an item that stands there twice, both times.
        """
        distance = np.arange(1, self.history_length + 1)
        steps = np.where(distance <= self.window, 1 / distance**self.distance_power, 0).astype(
            np.float32
        )
        return ((triggers[:, :, None] == triggers[:, None, :]) * steps).sum(axis=2)

    def _drawn(
        self, triggers: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """(B, K) items: from the lists of a person's triggers, each entry as likely as the next,
        then from anywhere; -1 for one drawn before. And (B,) the lists' entries.
        """
        lists = self.weights_
        lengths = np.where(triggers >= 0, np.diff(lists.indptr)[triggers], 0)
        ends = lengths.cumsum(axis=1)
        room = ends[:, -1]
        entry = (rng.random((len(triggers), self.from_lists)) * room[:, None]).astype(np.int64)
        slot = (entry[:, :, None] >= ends[:, None, :]).sum(axis=2).clip(max=triggers.shape[1] - 1)
        start = lists.indptr[np.take_along_axis(triggers, slot, axis=1)] - np.take_along_axis(
            ends - lengths, slot, axis=1
        )
        from_lists = (
            np.where(room[:, None] > 0, lists.indices[np.minimum(start + entry, lists.nnz - 1)], -1)
            if lists.nnz
            else np.full(entry.shape, -1)
        )
        drawn = np.column_stack(
            [from_lists, rng.integers(len(self.items_), size=(len(triggers), self.from_all))]
        )
        drawn = np.sort(drawn, axis=1)
        drawn[:, 1:][drawn[:, 1:] == drawn[:, :-1]] = -1
        return drawn, room

    def _weights_of(self, triggers: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """(B, C, N) float32: the weight of item `asked` (B, C) in the list of `triggers` (B, N), 0
        where it is not there.
        """
        lists, keys = self._keys()
        wanted = triggers[:, None, :].astype(np.int64) * len(self.items_) + asked[:, :, None]
        wanted[(triggers[:, None, :] < 0) | (asked[:, :, None] < 0)] = -1
        place = np.searchsorted(keys, wanted).clip(max=max(len(keys) - 1, 0))
        return (
            np.where(keys[place] == wanted, lists[place], np.float32(0))
            if len(keys)
            else np.zeros(wanted.shape, np.float32)
        )

    def _keys(self) -> tuple[np.ndarray, np.ndarray]:
        """All entries of the lists by (trigger, item): their weights, and their keys in ascending
        order.
        """
        if "_sorted" not in self.__dict__:
            every = self.weights_.tocoo()
            keys = every.row.astype(np.int64) * len(self.items_) + every.col
            order = np.argsort(keys)
            self._sorted = every.data[order], keys[order]
        return self._sorted

    # answering

    def _make_net(self) -> PairScorer:
        return PairScorer(len(self.items_), self.width, self.history_length, self.dropout)

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self._ready().table.weight.device)

    def _pair_scores(self, pairs: Pairs) -> Tensor:
        """(P,) logarithm of a pair's faded weight, and the net's correction."""
        log_weight = self._tensor(np.log(pairs.weight).astype(np.float32))
        arrays = (
            self._tensor(one.astype(np.int64))
            for one in (pairs.triggers, pairs.user, pairs.item, pairs.candidate, pairs.age)
        )
        faded = self._tensor((pairs.age * np.log(self.history_decay)).astype(np.float32))
        return log_weight + faded + self._ready()(*arrays, log_weight)

    def _candidate_scores(self, pairs: Pairs) -> Tensor:
        """(C,) logarithm of the sum, over its pairs, of exp(pair's score)."""
        scores = self._pair_scores(pairs)
        top = scores.detach().amax() if len(scores) else scores.sum()
        total = torch.zeros(len(pairs.item), device=scores.device).index_add(
            0, self._tensor(pairs.candidate.astype(np.int64)), (scores - top).exp()
        )
        return total.clamp(min=1e-30).log() + top

    def _pairs(self, histories: Ragged) -> Pairs:
        """Of every trigger with every item of its list."""
        recent = histories.last(self.history_length)
        triggers = np.full((len(recent), self.history_length), -1)
        triggers[recent.row_ids, recent.from_end] = recent.values
        listed = self.weights_[recent.values]
        event = np.repeat(np.arange(len(recent.values)), np.diff(listed.indptr))
        which, candidate = np.unique(
            recent.row_ids[event] * np.int64(len(self.items_)) + listed.indices, return_inverse=True
        )
        return Pairs(
            triggers,
            which // len(self.items_),
            which % len(self.items_),
            candidate,
            recent.from_end[event],
            listed.data,
        )

    def _scores(self, queries: Queries) -> sp.csr_matrix:
        recent = queries.histories.last(self.history_length)
        work = np.bincount(
            recent.row_ids, np.diff(self.weights_.indptr)[recent.values], minlength=len(queries)
        )
        cuts = np.unique(
            np.r_[
                0,
                np.searchsorted(work.cumsum(), np.arange(ANSWER_PAIRS, work.sum(), ANSWER_PAIRS)),
                len(queries),
            ]
        )
        parts = [
            self._shares(queries.histories.slice(start, stop))
            for start, stop in pairwise(cuts.tolist())
        ]
        return (
            sp.vstack(parts, format="csr")
            if parts
            else sp.csr_matrix((0, len(self.items_)), dtype=np.float32)
        )

    def _shares(self, histories: Ragged) -> sp.csr_matrix:
        pairs = self._pairs(histories)
        with torch.inference_mode():
            scores = self._candidate_scores(pairs).cpu().numpy().astype(np.float64)
        top = np.full(len(histories), -np.inf)
        np.maximum.at(top, pairs.user, scores)
        share = np.exp(scores - top[pairs.user])
        share /= np.bincount(pairs.user, share, minlength=len(histories))[pairs.user]
        return sp.csr_matrix(
            (share.astype(np.float32), (pairs.user, pairs.item)),
            shape=(len(histories), len(self.items_)),
        )

    def _reasons(self, query: Queries, ranking: Ranking) -> list[Explanation]:
        pairs = self._pairs(query.histories)
        with torch.inference_mode():
            parts = np.exp(self._pair_scores(pairs).cpu().numpy().astype(np.float64))
        item, event = pairs.item[pairs.candidate], pairs.triggers[0][pairs.age]
        wanted = self.items_.rows(ranking.ids)
        return [
            by_cause(item_id, self.items_.ids[event[item == row]], parts[item == row])
            for item_id, row in zip(ranking.ids, wanted, strict=True)
        ]

    @classmethod
    def tiny(cls) -> "PI2I":
        return cls(width=8, epochs=2, batch=64, from_lists=10)
