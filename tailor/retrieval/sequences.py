"""Recommenders by nets over event sequences, which compare a state with all item vectors.

Shapes: B queries, T positions, D width, N items, K negatives, M positions that predict.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from tailor.core.leave_one_out import by_cause, without_each_event
from tailor.core.methods import ScoringRecommender
from tailor.core.search_space import Range
from tailor.data.nouns import Explanation, Query, Ranking
from tailor.data.queries import Queries
from tailor.data.sampling import uniform_negatives
from tailor.errors import DataError
from tailor.nn.devices import index_tensor
from tailor.nn.losses import FullSoftmax, SampledSoftmax
from tailor.nn.positions import LearnedPositions
from tailor.nn.sequence import ItemEncoder, SequenceNet
from tailor.training.sequences import (
    SequenceLearner,
    Task,
    TrainingData,
    Windows,
    as_tensor,
    check_blocks,
    last_states,
    whole_windows,
)

# the last four are re-exported for subclasses
__all__ = ["SequenceRecommender", "Windows", "as_tensor", "check_blocks", "whole_windows"]
FEW = 2  # queries up to which each is answered by the net's NumPy copy, where there is one
# with this many times as many items as a step touches, only the touched rows are updated
# (docs/log.md)
SPARSE = 20


@dataclass(eq=False)
class SequenceRecommender(SequenceLearner, ScoringRecommender):
    """Read the history in order, and compare the last state with every item's vector.

    A score is the item's share of the softmax over all items. Cold users and new events need no
    refit: only the history of the query is read. Items without a training event are neither read
    nor scored, except by methods that can describe them otherwise (`_describable`).
    """

    negatives: int | None = 2048
    """Negative items drawn per batch and shared by its targets; None: all items."""
    temperature: Annotated[float, Range(0.04, 0.2, log=True)] = 0.1
    """Divisor of the cosine of state and item vector; 0: their inner product instead."""

    tokens: ClassVar[int] = 0
    """Rows of the table that are no items."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature < 0:
            raise DataError(f"temperature is {self.temperature}: it must be at least 0")
        self._check_optional("negatives")

    @abstractmethod
    def _layers(self) -> list[nn.Module]:
        """Return the layers between item vectors and states, each keeping (B, T, D)."""

    def _positions(self) -> nn.Module | None:
        """Return the module that adds positions; None where the layers need none."""
        return LearnedPositions(self.length, self.width)

    def _item_encoder(self) -> ItemEncoder | None:
        """Return the module that makes item vectors; None for an embedding table."""
        return None

    def _make_net(self) -> SequenceNet:
        return SequenceNet(**self._net_settings())

    def _net_settings(self) -> dict[str, Any]:
        """Return the arguments of `SequenceNet`."""
        items = len(self.items_)
        return {
            "items": items,
            "width": self.width,
            "layers": self._layers(),
            "dropout": self.dropout,
            "temperature": self.temperature,
            "positions": self._positions(),
            "tokens": self.tokens,
            "sparse": self._is_sparse(items),
            "item_encoder": self._item_encoder(),
        }

    def _is_sparse(self, items: int) -> bool:
        """Return whether a step touches so few rows that updating all would take longer."""
        touched = 2 * self.batch_places + (self.negatives or items)
        return items > SPARSE * touched and not (self.weight_decay or self.average)

    # learning

    def _loss(self, batch: Windows, training: TrainingData, rng: np.random.Generator) -> Tensor:
        """Return the mean loss of a batch.

        Item vectors are looked up once, for inputs, targets and negatives together.
        """
        net = self._net
        task = self._make_task(batch, rng)
        drawn = self._draw_negatives(training.item_rows, rng)
        rows = np.concatenate([task.rows.ravel(), task.targets, drawn])
        vectors = net.table(as_tensor(rows, net))
        sizes = [task.rows.size, len(task.targets), len(drawn)]
        inputs, positive, negative = vectors.split(sizes)
        positive = net.comparable(positive)
        return self._compare(
            self._target_states(task, inputs.view(*task.rows.shape, -1), positive),
            positive,
            net.comparable(negative),
            as_tensor(task.targets, net),
            as_tensor(drawn, net),
            len(training.item_rows),
        )

    def _target_states(self, task: Task, vectors: Tensor, positive: Tensor) -> Tensor:
        """Return the states (M, D) that are compared with `positive` (M, D), and with negatives.

        `vectors` (B, T, D) are those of the items that the net reads.
        """
        states = self._net.states(vectors, **task.inputs).flatten(0, 1)
        return states[as_tensor(task.positions, self._net)]

    def _draw_negatives(self, item_rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return (K,) rows of negatives of a batch, drawn from items with events.

        None are drawn where all items are negatives.
        """
        if self.negatives is None:
            return np.empty(0, np.int64)
        return item_rows[uniform_negatives(len(item_rows), self.negatives, rng)]

    def _compare(
        self,
        states: Tensor,
        positive: Tensor,
        negative: Tensor,
        targets: Tensor,
        drawn: Tensor,
        items: int,
    ) -> Tensor:
        """Return the loss of states (M, D) with `positive` (M, D) and `negative` (K, D).

        `targets` (M,) and `drawn` (K,) are their rows; `items` have events.
        """
        weights = self._target_weights()
        if self.negatives is None:
            return FullSoftmax()(states, self._net.catalogue(), targets, weights)
        return SampledSoftmax()(states, positive, negative, targets, drawn, items, weights=weights)

    def _target_weights(self) -> Tensor | None:
        """Return the weights (M,) of the losses of a batch's targets; None: all the same."""
        return None

    # answering

    def _scores(self, queries: Queries) -> np.ndarray:
        net = self._ready()
        scores = np.full((len(queries), len(self.items_)), -np.inf, dtype=np.float32)
        with torch.inference_mode():
            catalogue = net.catalogue()
            copy = None
            if len(queries) <= FEW and self._uses_default_state:
                copy = net.numpy_copy()
            if copy is not None:
                recent = queries.histories.last(self.length)
                items = catalogue.numpy()
                for i in np.flatnonzero(recent.lengths).tolist():
                    scores[i] = _softmax(items @ net.comparable_state(copy.state(recent[i])))
                return scores
            for numbers, windows in self._query_batches(queries):
                logits = self._logits(windows, catalogue)
                scores[numbers] = logits.softmax(dim=1).cpu().numpy()
        return scores

    def item_vectors(self, item_ids: Sequence[str] | None = None) -> np.ndarray:
        """Return (n, D) vectors of items, as states are compared with them; None: of `items_`.

        Zero for an unknown item.
        """
        self._check_fitted()
        with torch.inference_mode():
            catalogue: np.ndarray = self._ready().catalogue().cpu().numpy()
        if item_ids is None:
            return catalogue
        rows = self.items_.rows(list(item_ids))
        vectors = catalogue[np.maximum(rows, 0)]
        vectors[rows < 0] = 0
        return vectors

    @property
    def _uses_default_state(self) -> bool:
        """Return whether logits are products with the net's last state, made of items alone."""
        cls = type(self)
        return (
            cls._logits is SequenceRecommender._logits
            and cls._last_states is SequenceRecommender._last_states
            and cls._layer_inputs is SequenceLearner._layer_inputs
        )

    def explain(
        self, queries: Sequence[Query], rankings: Sequence[Ranking]
    ) -> list[list[Explanation]]:
        """Explain each item by the events without which its score is lower.

        The latest events are left out one by one. An event's share is the loss of score
        without it, divided by the sum of losses; no events are named where no score is lost.
        """
        self._check_fitted()
        over_items = Queries.of(queries).reindexed(self.items_)
        return [
            self._explain_ranking(over_items[i : i + 1], ranking)
            for i, ranking in enumerate(rankings)
        ]

    def _explain_ranking(self, query: Queries, ranking: Ranking) -> list[Explanation]:
        variants, left_out = without_each_event(query, self.length)
        rows = self.items_.rows(ranking.ids)
        scores = self._scores_of(variants, np.maximum(rows, 0))  # events + 1, K
        scores[:, rows < 0] = 0
        lost = np.maximum(scores[0] - scores[1:], 0)
        return by_cause(ranking.ids, self.items_.ids[left_out], lost)

    def _scores_of(self, queries: Queries, rows: np.ndarray) -> np.ndarray:
        """Return (B, K) the scores of some rows; 0 for a query without a history.

        The other items count in the softmax's sum only, and are not copied.
        """
        scores = np.zeros((len(queries), len(rows)), dtype=np.float32)
        with torch.inference_mode():
            catalogue = self._ready().catalogue()
            picked_rows = index_tensor(rows, catalogue.device)
            for numbers, windows in self._query_batches(queries):
                logits = self._logits(windows, catalogue)
                picked = logits[:, picked_rows] - logits.logsumexp(dim=1, keepdim=True)
                scores[numbers] = picked.exp().cpu().numpy()
        return scores

    def _logits(self, batch: Windows, catalogue: Tensor) -> Tensor:
        """Return the logits (B, N) of all items, whose vectors `catalogue` (N, D) holds.

        Subclasses add terms of their own, such as the popularity at `batch.now_ms`.
        """
        return self._last_states(batch) @ catalogue.T

    def _last_states(self, batch: Windows) -> Tensor:
        """Return the states (B, D) that answer for each window: those after its last event."""
        return last_states(self._ready(), batch, **self._layer_inputs(batch))


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max())
    shares: np.ndarray = exponentials / exponentials.sum()
    return shares
