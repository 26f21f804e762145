"""PI2I: long item-to-item lists, ranked for each user by a net."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from tailor.core.leave_one_out import by_cause
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
FLOOR = 0.05  # weight of a drawn item that is in no list of the user's triggers
ANSWER_PAIRS = 400_000  # pairs of a trigger and an item that are scored at a time
SMALLEST = 1e-6  # a weight below this is a rounding error of 0


@dataclass(eq=False)
class PI2I(NetMethod, CoVisitation):
    """A net ranks the union of long co-visitation lists of a user's latest items.

    The items of the history are triggers, each with a list of items that followed it. An item's
    score is its share of a softmax over the union of the lists; its logit is the log of the sum,
    over its triggers, of exp(log of its decayed weight + correction by the net), so that
    explanations are exact. The net sees user, trigger and item together. It learns to tell each
    next event from other items of the same lists and from some of the whole catalogue, with weights
    from which the counts of this very event are taken off. Before training the order is
    CoVisitation's.

    Differs from the paper: the net corrects the weights of the lists, where the paper's has them as
    inputs; one softmax for all triggers of a user, where the paper has one for each; sums over
    triggers, where the paper takes the largest. In the paper's form it found half of what the
    lists' own order finds (docs/log.md). The docs have what it gains, which is little.
    """

    renamed_state = {"net_": "net_weights_"}

    history_length: int = 10
    """Latest events whose lists are united."""
    width: Annotated[int, Choices(8, 16, 32, 64)] = 16
    """Width of item vectors."""
    dropout: Annotated[float, Range(0.1, 0.7)] = 0.6
    """Share of values zeroed while training."""
    from_lists: int = 30
    """Negatives per target, drawn from the lists of the same triggers."""
    from_all: int = 30
    """Negatives per target, drawn from the whole catalogue."""
    lr: Annotated[float, Range(2e-4, 4e-3, log=True)] = 3e-4
    """Peak learning rate of AdamW; decays linearly to 1 % over all epochs."""
    weight_decay: float = 0.01
    """Weight decay of matrices."""
    batch: int = 512
    """Targets per batch."""
    epochs: int = 4
    """Maximum number of epochs."""
    patience: int | None = 2
    """Epochs without a better NDCG@10 on validation before training stops; None: all epochs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        minima = {"width": 1, "from_lists": 0, "from_all": 0, "batch": 1, "epochs": 0}
        for name, least in minima.items():
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

    @classmethod
    def tiny(cls) -> "PI2I":
        return cls(width=8, epochs=2, batch=64, from_lists=10)

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
        events_before = rows.from_start
        targets = np.flatnonzero(events_before > 0)
        ages = np.arange(self.history_length)
        if not len(targets):
            return self._leave_untrained("no user has two events to learn from")

        def batches(rng: np.random.Generator) -> list[np.ndarray]:
            order = rng.permutation(targets)
            return [order[i : i + self.batch] for i in range(0, len(order), self.batch)]

        def loss(batch: np.ndarray, rng: np.random.Generator) -> Tensor:
            is_event = ages < events_before[batch][:, None]
            positions = np.where(is_event, batch[:, None] - 1 - ages, 0)
            triggers = np.where(is_event, rows.values[positions], -1)
            return self._loss(triggers, rows.values[batch], rng)

        recipe = Recipe(self.epochs, self.lr, self.weight_decay, patience=self.patience)
        return self._train_net(data, run, recipe, batches, loss, validation)

    def _loss(self, triggers: np.ndarray, targets: np.ndarray, rng: np.random.Generator) -> Tensor:
        """Return the mean cross-entropy of each target among its negatives.

        `triggers` (B, N) are the rows of the latest events before the target (B,), -1 for none.
        """
        samples = self._sample(triggers, targets, rng)
        is_reached = np.any(samples.weights[:, 0], axis=1)
        samples = samples.keep(is_reached)
        if not len(samples.triggers):  # no target is in any list
            return self._net.table.weight.sum() * 0
        pairs, columns = samples.pairs()
        corrections = self._log_represented(samples, pairs, columns).astype(np.float32)
        scores = self._candidate_scores(pairs) + self._tensor(corrections)
        logits = torch.full(samples.items.shape, EXCLUDED, device=scores.device)
        logits = logits.index_put((self._tensor(pairs.user), self._tensor(columns)), scores)
        first = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        return nn.functional.cross_entropy(logits, first)

    def _sample(
        self, triggers: np.ndarray, targets: np.ndarray, rng: np.random.Generator
    ) -> "_Samples":
        """Draw the negatives of targets, and look up the weights of all of them in the lists."""
        negatives, list_sizes = self._draw_negatives(triggers, rng)
        negatives = np.where(negatives == targets[:, None], -1, negatives)
        items = np.column_stack([targets, negatives])
        weights = self._list_weights(triggers, items)
        weights[:, 0] -= self._own_counts(triggers)
        weights[weights < SMALLEST] = 0
        is_outside = np.zeros(items.shape, bool)
        is_outside[:, 1:] = (items[:, 1:] >= 0) & ~weights[:, 1:].any(axis=2)
        weights[is_outside, 0] = FLOOR  # as if it were the last item of the latest trigger's list
        return _Samples(triggers, items, weights, is_outside, list_sizes)

    def _log_represented(
        self, samples: "_Samples", pairs: Pairs, columns: np.ndarray
    ) -> np.ndarray:
        """Return (C,) the log of how many items of the union each candidate represents.

        A negative drawn from the lists represents all that could have been drawn in its place; a
        target, or a negative in no list, represents itself.
        """
        multiplicity = np.bincount(pairs.candidate, minlength=len(pairs.user))
        draws = max(self.from_lists, 1) * multiplicity
        log_represented = np.log(samples.list_sizes[pairs.user] / draws)
        is_single = (columns == 0) | samples.is_outside[pairs.user, columns]
        log_represented[is_single] = 0
        return log_represented

    def _own_counts(self, triggers: np.ndarray) -> np.ndarray:
        """Return (B, N) the weight that the event after `triggers` (B, N) gave to itself.

        It is the event's part of its item's weight in each trigger's list. For a trigger that
        occurs twice, both parts are counted.
        """
        distance = np.arange(1, self.history_length + 1)
        steps = np.where(distance <= self.window, 1 / distance**self.distance_power, 0)
        is_same = triggers[:, :, None] == triggers[:, None, :]
        return (is_same * steps.astype(np.float32)).sum(axis=2)

    def _draw_negatives(
        self, triggers: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return negatives (B, K), from the lists of the triggers and from the catalogue.

        An item that is drawn twice is replaced by -1. Also returns the entries (B,) of the lists.
        """
        from_lists, list_sizes = self._draw_from_lists(triggers, rng)
        from_all = rng.integers(len(self.items_), size=(len(triggers), self.from_all))
        negatives = np.sort(np.column_stack([from_lists, from_all]), axis=1)
        negatives[:, 1:][negatives[:, 1:] == negatives[:, :-1]] = -1
        return negatives, list_sizes

    def _draw_from_lists(
        self, triggers: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return items (B, from_lists) drawn from the lists of the triggers, -1 for none.

        All entries of a user's lists are equally likely. Also returns their numbers (B,).
        """
        lists = self.weights_
        lengths = np.where(triggers >= 0, np.diff(lists.indptr)[triggers], 0)  # B, N
        ends = lengths.cumsum(axis=1)
        list_sizes = ends[:, -1]
        draws = rng.random((len(triggers), self.from_lists)) * list_sizes[:, None]
        entries = draws.astype(np.int64)
        if not lists.nnz:
            return np.full(entries.shape, -1), list_sizes
        ages = (entries[:, :, None] >= ends[:, None, :]).sum(axis=2).clip(max=triggers.shape[1] - 1)
        starts = lists.indptr[triggers] - (ends - lengths)
        positions = np.take_along_axis(starts, ages, axis=1) + entries
        items = lists.indices[np.minimum(positions, lists.nnz - 1)]
        return np.where(list_sizes[:, None] > 0, items, -1), list_sizes

    def _list_weights(self, triggers: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return float32 weights (B, C, N) of items (B, C) in the lists of triggers (B, N).

        The weight is 0 where an item is not in a list.
        """
        weights, keys = self._sorted_entries()
        lists = triggers[:, None, :].astype(np.int64)  # B, 1, N
        candidates = items[:, :, None]  # B, C, 1
        searched = lists * len(self.items_) + candidates
        is_empty = (lists < 0) | (candidates < 0)
        searched[is_empty] = -1
        if not len(keys):
            return np.zeros(searched.shape, np.float32)
        positions = np.searchsorted(keys, searched)
        positions = positions.clip(max=len(keys) - 1)
        is_listed = keys[positions] == searched
        return np.where(is_listed, weights[positions], np.float32(0))

    def _sorted_entries(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the weights of all entries of the lists, and their keys in ascending order.

        The key of an entry is trigger * N + item.
        """
        if "_sorted" not in self.__dict__:
            entries = self.weights_.tocoo()
            keys = entries.row.astype(np.int64) * len(self.items_) + entries.col
            order = np.argsort(keys)
            self._sorted = entries.data[order], keys[order]
        return self._sorted

    # answering

    def _make_net(self) -> PairScorer:
        return PairScorer(len(self.items_), self.width, self.history_length, self.dropout)

    def _tensor(self, values: np.ndarray) -> Tensor:
        """Return an array as a tensor on the net's device."""
        return torch.from_numpy(values).to(self._ready().table.weight.device)

    def _pair_scores(self, pairs: Pairs) -> Tensor:
        """Return (P,) the log of each pair's decayed weight, corrected by the net."""
        log_weight = self._tensor(np.log(pairs.weight).astype(np.float32))
        log_decay = self._tensor((pairs.age * np.log(self.history_decay)).astype(np.float32))
        correction = self._ready()(
            self._tensor(pairs.triggers.astype(np.int64)),
            self._tensor(pairs.user.astype(np.int64)),
            self._tensor(pairs.item.astype(np.int64)),
            self._tensor(pairs.candidate.astype(np.int64)),
            self._tensor(pairs.age.astype(np.int64)),
            log_weight,
        )
        return log_weight + log_decay + correction

    def _candidate_scores(self, pairs: Pairs) -> Tensor:
        """Return (C,) the log of the sum of exp(score) over each candidate's pairs."""
        scores = self._pair_scores(pairs)
        largest = scores.detach().amax() if len(scores) else scores.sum()
        totals = torch.zeros(len(pairs.item), device=scores.device).index_add(
            0, self._tensor(pairs.candidate.astype(np.int64)), (scores - largest).exp()
        )
        return totals.clamp(min=1e-30).log() + largest

    def _pairs(self, histories: Ragged) -> Pairs:
        """Return the pairs of every trigger with every item of its list."""
        recent = histories.last(self.history_length)
        triggers = np.full((len(recent), self.history_length), -1)
        triggers[recent.row_ids, recent.from_end] = recent.values
        lists = self.weights_[recent.values]
        events = np.repeat(np.arange(len(recent.values)), np.diff(lists.indptr))
        keys = recent.row_ids[events] * np.int64(len(self.items_)) + lists.indices
        distinct, candidates = np.unique(keys, return_inverse=True)
        users = distinct // len(self.items_)
        items = distinct % len(self.items_)
        return Pairs(triggers, users, items, candidates, recent.from_end[events], lists.data)

    def _scores(self, queries: Queries) -> sp.csr_matrix:
        parts = [
            self._shares(queries.histories.slice(start, stop))
            for start, stop in pairwise(self._block_bounds(queries))
        ]
        if not parts:
            return sp.csr_matrix((0, len(self.items_)), dtype=np.float32)
        return sp.vstack(parts, format="csr")

    def _block_bounds(self, queries: Queries) -> list[int]:
        """Return the bounds of blocks of queries with about ANSWER_PAIRS pairs each."""
        recent = queries.histories.last(self.history_length)
        list_lengths = np.diff(self.weights_.indptr)[recent.values]
        pair_counts = np.bincount(recent.row_ids, list_lengths, minlength=len(queries))
        limits = np.arange(ANSWER_PAIRS, pair_counts.sum(), ANSWER_PAIRS)
        bounds = np.searchsorted(pair_counts.cumsum(), limits)
        return np.unique(np.r_[0, bounds, len(queries)]).tolist()

    def _shares(self, histories: Ragged) -> sp.csr_matrix:
        """Return (B, N) the shares of the softmax over the union of each history's lists."""
        pairs = self._pairs(histories)
        with torch.inference_mode():
            scores = self._candidate_scores(pairs).cpu().numpy().astype(np.float64)
        largest = np.full(len(histories), -np.inf)
        np.maximum.at(largest, pairs.user, scores)
        shares = np.exp(scores - largest[pairs.user])
        shares /= np.bincount(pairs.user, shares, minlength=len(histories))[pairs.user]
        shape = (len(histories), len(self.items_))
        return sp.csr_matrix((shares.astype(np.float32), (pairs.user, pairs.item)), shape=shape)

    def _explain_ranking(self, query: Queries, ranking: Ranking) -> list[Explanation]:
        pairs = self._pairs(query.histories)
        with torch.inference_mode():
            parts = np.exp(self._pair_scores(pairs).cpu().numpy().astype(np.float64))
        pair_items = pairs.item[pairs.candidate]
        pair_triggers = pairs.triggers[0][pairs.age]
        explanations = []
        for item_id, row in zip(ranking.ids, self.items_.rows(ranking.ids), strict=True):
            mask = pair_items == row
            causes = self.items_.ids[pair_triggers[mask]]
            explanations += by_cause([item_id], causes, parts[mask][:, None])
        return explanations


@dataclass(frozen=True, eq=False)
class _Samples:
    """B targets with K negatives each."""

    triggers: np.ndarray
    """(B, N) rows of the latest events before each target, the latest first; -1 for none."""
    items: np.ndarray
    """(B, 1 + K) rows of the target and its negatives; -1 for none."""
    weights: np.ndarray
    """(B, 1 + K, N) weight of each item in each trigger's list."""
    is_outside: np.ndarray
    """(B, 1 + K) true for a negative that is in none of the lists."""
    list_sizes: np.ndarray
    """(B,) number of entries in the lists of all triggers."""

    def keep(self, mask: np.ndarray) -> "_Samples":
        """Return the targets where `mask` (B,) is true, with their negatives."""
        return _Samples(
            self.triggers[mask],
            self.items[mask],
            self.weights[mask],
            self.is_outside[mask],
            self.list_sizes[mask],
        )

    def pairs(self) -> tuple[Pairs, np.ndarray]:
        """Return the pairs with a weight, and the column (C,) in `items` of each candidate."""
        users, columns = np.nonzero(self.weights.any(axis=2))
        candidate_of = np.full(self.items.shape, -1)
        candidate_of[users, columns] = np.arange(len(users))
        pair_users, pair_columns, ages = np.nonzero(self.weights)
        pairs = Pairs(
            self.triggers,
            users,
            self.items[users, columns],
            candidate_of[pair_users, pair_columns],
            ages,
            self.weights[pair_users, pair_columns, ages],
        )
        return pairs, columns
