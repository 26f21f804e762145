"""PI2I: long item-to-item lists, ranked for each user by a net.

Shapes: B users, N latest events (triggers), C candidates, P pairs, K drawn items, I items.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

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
UNLISTED_WEIGHT = 0.05  # weight of an item that is in no list
BATCH_PAIRS = 400_000  # pairs of trigger and item that are scored at a time


class _Entries(NamedTuple):
    """All entries of the lists, sorted by trigger and item."""

    keys: np.ndarray
    """One number per (trigger, item), ascending."""
    weights: np.ndarray
    """Weight of each entry, parallel to keys."""


@dataclass(eq=False)
class PI2I(NetMethod, CoVisitation):
    """Unite long lists of what users chose next, and rank the union by a net for each user.

    Long lists contain most of what a user may choose next. The net sees user, trigger (one of the
    latest events) and item together, and corrects the item's weight in the trigger's list. An
    item's score is its share of a softmax over the union, with the sum of exp(log of its decayed
    weight + net) over its triggers, so that explanations are exact. Training tells each next event
    from other items of the same lists and from random ones, without the counts that this very event
    has added to the lists. Before training the order is CoVisitation's.

    Differs from the paper: the net corrects the lists' weights instead of getting them as input;
    one softmax for all triggers of a user instead of one for each, and sums over triggers instead
    of the largest of them: with those it fell to half of the lists' own order (docs/log.md). The
    docs have what it gains, which is little.
    """

    history_length: int = 10
    """Latest events whose lists are united."""
    width: Annotated[int, Choices(8, 16, 32, 64)] = 16
    """Width of item vectors."""
    dropout: Annotated[float, Range(0.1, 0.7)] = 0.6
    """Share of values zeroed during training."""
    from_lists: int = 30
    """Negative items per target that are drawn from the same lists."""
    from_all: int = 30
    """Negative items per target that are drawn from the whole catalogue."""
    lr: Annotated[float, Range(2e-4, 4e-3, log=True)] = 3e-4
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""
    weight_decay: float = 0.01
    """Weight decay of matrices in AdamW."""
    batch: int = 512
    """Targets per step."""
    epochs: int = 4
    """Passes over the data, at most."""
    patience: int | None = 2
    """Epochs without a better NDCG@10 on validation before training stops; None: all epochs."""

    renamed_state = {"net_": "net_weights_"}

    def __post_init__(self) -> None:
        super().__post_init__()
        minima = {"width": 1, "from_lists": 0, "from_all": 0, "batch": 1, "epochs": 0}
        for name, minimum in minima.items():
            if getattr(self, name) < minimum:
                raise DataError(f"{name} is {getattr(self, name)}: it must be at least {minimum}")
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
        """Train on every event that has one before it, and return the report."""
        positions = np.arange(len(rows.values)) - np.repeat(rows.offsets[:-1], rows.lengths)
        targets = np.flatnonzero(positions > 0)
        ages = np.arange(self.history_length)
        if not len(targets):
            return self._leave_untrained("no user has two events to learn from")

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            order = rng.permutation(targets)
            return [order[i : i + self.batch] for i in range(0, len(order), self.batch)]

        def loss(batch: np.ndarray, rng: np.random.Generator) -> Tensor:
            has_event = ages < positions[batch][:, None]
            events = np.where(has_event, batch[:, None] - 1 - ages, 0)
            triggers = np.where(has_event, rows.values[events], -1)
            return self._loss(triggers, rows.values[batch], rng)

        recipe = Recipe(self.epochs, self.lr, self.weight_decay, patience=self.patience)
        return self._train_net(data, run, recipe, batches, loss, validation)

    def _loss(self, triggers: np.ndarray, targets: np.ndarray, rng: np.random.Generator) -> Tensor:
        """Return the cross-entropy of each target among the items drawn for it.

        An item drawn from the lists counts for (entries of the lists / items drawn) items.
        """
        drawn, entry_counts = self._draw_negatives(triggers, rng)
        drawn = np.where(drawn == targets[:, None], -1, drawn)
        items = np.column_stack([targets, drawn])  # B, 1 + K
        weights = self._list_weights(triggers, items)  # B, 1 + K, N
        weights[:, 0] -= self._own_counts(triggers)
        weights[weights < 1e-6] = 0
        is_unlisted = (items >= 0) & ~weights.any(axis=2)
        is_unlisted[:, 0] = False
        # as if it were at the end of the latest trigger's list
        weights[is_unlisted, 0] = UNLISTED_WEIGHT
        is_reachable = weights[:, 0].any(axis=1)  # targets that are in a list
        if not is_reachable.any():
            return self._net.table.weight.sum() * 0
        triggers, items, weights = (
            triggers[is_reachable],
            items[is_reachable],
            weights[is_reachable],
        )
        user, column = np.nonzero(weights.any(axis=2))
        pairs = _pairs_of_weights(triggers, items, weights)
        list_counts = np.bincount(pairs.candidate, minlength=len(user))
        represented = entry_counts[is_reachable][user] / (max(self.from_lists, 1) * list_counts)
        correction = np.log(represented)
        correction[(column == 0) | is_unlisted[is_reachable][user, column]] = 0
        scores = self._candidate_scores(pairs) + self._tensor(correction.astype(np.float32))
        logits = torch.full(items.shape, EXCLUDED, device=scores.device)
        logits = logits.index_put((self._tensor(user), self._tensor(column)), scores)
        first = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        return cross_entropy(logits, first)

    def _own_counts(self, triggers: np.ndarray) -> np.ndarray:
        """Return (B, N) what the event after `triggers` (B, N) has itself added to their lists.

        An item that is among the triggers twice gets both counts.
        """
        distance = np.arange(1, self.history_length + 1)
        counts = np.where(distance <= self.window, 1 / distance**self.distance_power, 0)
        same = triggers[:, :, None] == triggers[:, None, :]
        return (same * counts.astype(np.float32)).sum(axis=2)

    def _draw_negatives(
        self, triggers: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (B, K) negatives, and (B,) the number of entries in the triggers' lists.

        They are drawn from the lists, each entry as likely, then from the catalogue; -1 replaces an
        item that was drawn before.
        """
        lists = self.weights_
        lengths = np.where(triggers >= 0, np.diff(lists.indptr)[triggers], 0)
        ends = lengths.cumsum(axis=1)
        totals = ends[:, -1]
        entry = (rng.random((len(triggers), self.from_lists)) * totals[:, None]).astype(np.int64)
        trigger = (entry[:, :, None] >= ends[:, None, :]).sum(axis=2)
        trigger = trigger.clip(max=triggers.shape[1] - 1)
        list_start = lists.indptr[np.take_along_axis(triggers, trigger, axis=1)]
        entries_before = np.take_along_axis(ends - lengths, trigger, axis=1)
        from_lists = np.full(entry.shape, -1)
        if lists.nnz:
            position = np.minimum(list_start - entries_before + entry, lists.nnz - 1)
            from_lists = np.where(totals[:, None] > 0, lists.indices[position], -1)
        from_all = rng.integers(len(self.items_), size=(len(triggers), self.from_all))
        drawn = np.sort(np.column_stack([from_lists, from_all]), axis=1)
        drawn[:, 1:][drawn[:, 1:] == drawn[:, :-1]] = -1
        return drawn, totals

    def _list_weights(self, triggers: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return (B, C, N) float32 the weights of items (B, C) in the lists of triggers (B, N).

        0 for an item that is not in the list.
        """
        entries = self._entries()
        keys = triggers[:, None, :].astype(np.int64) * len(self.items_) + items[:, :, None]
        keys[(triggers[:, None, :] < 0) | (items[:, :, None] < 0)] = -1
        if not len(entries.keys):
            return np.zeros(keys.shape, np.float32)
        position = np.searchsorted(entries.keys, keys).clip(max=len(entries.keys) - 1)
        is_listed = entries.keys[position] == keys
        return np.where(is_listed, entries.weights[position], np.float32(0))

    def _entries(self) -> _Entries:
        """Return all entries of the lists, sorted once."""
        if "_sorted_entries" not in self.__dict__:
            entries = self.weights_.tocoo()
            keys = entries.row.astype(np.int64) * len(self.items_) + entries.col
            order = np.argsort(keys)
            self._sorted_entries = _Entries(keys[order], entries.data[order])
        return self._sorted_entries

    # answering

    def _make_net(self) -> PairScorer:
        return PairScorer(len(self.items_), self.width, self.history_length, self.dropout)

    def _tensor(self, values: np.ndarray) -> Tensor:
        """Return values as a tensor on the net's device."""
        return torch.from_numpy(values).to(self._ready().table.weight.device)

    def _pair_scores(self, pairs: Pairs) -> Tensor:
        """Return (P,) the log of each pair's decayed weight plus the net's correction."""
        log_weight = self._tensor(np.log(pairs.weight).astype(np.float32))
        rows = (pairs.triggers, pairs.user, pairs.item, pairs.candidate, pairs.age)
        tensors = (self._tensor(array.astype(np.int64)) for array in rows)
        log_decay = self._tensor((pairs.age * np.log(self.history_decay)).astype(np.float32))
        return log_weight + log_decay + self._ready()(*tensors, log_weight)

    def _candidate_scores(self, pairs: Pairs) -> Tensor:
        """Return (C,) the log of the sum of exp(score) over each candidate's pairs."""
        scores = self._pair_scores(pairs)
        largest = scores.detach().amax() if len(scores) else scores.sum()
        sums = torch.zeros(len(pairs.item), device=scores.device)
        candidate = self._tensor(pairs.candidate.astype(np.int64))
        sums = sums.index_add(0, candidate, (scores - largest).exp())
        return sums.clamp(min=1e-30).log() + largest

    def _pairs(self, histories: Ragged) -> Pairs:
        """Return the pairs of every trigger with every item of its list."""
        items = len(self.items_)
        recent = histories.last(self.history_length)
        triggers = np.full((len(recent), self.history_length), -1)
        triggers[recent.row_ids, recent.from_end] = recent.values
        lists = self.weights_[recent.values]
        event = np.repeat(np.arange(len(recent.values)), np.diff(lists.indptr))
        keys = recent.row_ids[event] * np.int64(items) + lists.indices
        candidates, candidate = np.unique(keys, return_inverse=True)
        return Pairs(
            triggers,
            candidates // items,
            candidates % items,
            candidate,
            recent.from_end[event],
            lists.data,
        )

    def _scores(self, queries: Queries) -> sp.csr_matrix:
        recent = queries.histories.last(self.history_length)
        lengths = np.diff(self.weights_.indptr)[recent.values]
        pair_counts = np.bincount(recent.row_ids, lengths, minlength=len(queries))
        limits = np.arange(BATCH_PAIRS, pair_counts.sum(), BATCH_PAIRS)
        cuts = np.searchsorted(pair_counts.cumsum(), limits)
        edges = np.unique(np.r_[0, cuts, len(queries)]).tolist()
        parts = [
            self._softmax_shares(queries.histories.slice(start, stop))
            for start, stop in pairwise(edges)
        ]
        if not parts:
            return sp.csr_matrix((0, len(self.items_)), dtype=np.float32)
        return sp.vstack(parts, format="csr")

    def _softmax_shares(self, histories: Ragged) -> sp.csr_matrix:
        """Return (B, I) each candidate's share of the softmax over a user's candidates."""
        pairs = self._pairs(histories)
        users = len(histories)
        with torch.inference_mode():
            scores = self._candidate_scores(pairs).cpu().numpy().astype(np.float64)
        largest = np.full(users, -np.inf)
        np.maximum.at(largest, pairs.user, scores)
        share = np.exp(scores - largest[pairs.user])
        share /= np.bincount(pairs.user, share, minlength=users)[pairs.user]
        entries = (share.astype(np.float32), (pairs.user, pairs.item))
        return sp.csr_matrix(entries, shape=(users, len(self.items_)))

    def _explain_ranking(self, query: Queries, ranking: Ranking) -> list[Explanation]:
        pairs = self._pairs(query.histories)
        with torch.inference_mode():
            parts = np.exp(self._pair_scores(pairs).cpu().numpy().astype(np.float64))
        item = pairs.item[pairs.candidate]
        trigger = pairs.triggers[0][pairs.age]
        rows = self.items_.rows(ranking.ids)
        return [
            by_cause(item_id, self.items_.ids[trigger[item == row]], parts[item == row])
            for item_id, row in zip(ranking.ids, rows, strict=True)
        ]

    @classmethod
    def tiny(cls) -> "PI2I":
        return cls(width=8, epochs=2, batch=64, from_lists=10)


def _pairs_of_weights(triggers: np.ndarray, items: np.ndarray, weights: np.ndarray) -> Pairs:
    """Return the pairs with a weight above 0, for triggers (B, N) and items (B, C).

    `weights` is (B, C, N). A candidate is an item with a pair.
    """
    user, column = np.nonzero(weights.any(axis=2))
    candidate = np.full(items.shape, -1)
    candidate[user, column] = np.arange(len(user))
    pair_user, pair_column, age = np.nonzero(weights)
    return Pairs(
        triggers,
        user,
        items[user, column],
        candidate[pair_user, pair_column],
        age,
        weights[pair_user, pair_column, age],
    )
