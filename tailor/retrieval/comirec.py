"""ComiRec: several interest vectors of a user; an item is scored by the nearest."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn

from tailor.core.search_space import Choices
from tailor.data.nouns import Query
from tailor.data.queries import Queries
from tailor.errors import DataError
from tailor.nn.interests import (
    InterestNet,
    SelfAttentive,
    best_logits,
    causal_readings,
    nearest_interests,
    whole_readings,
)
from tailor.nn.packing import pad_rows
from tailor.retrieval.sequences import SequenceRecommender, Windows, as_tensor
from tailor.training.sequences import Task


@dataclass(eq=False)
class MultiInterest(SequenceRecommender):
    """Read several interests off a history, and score an item by the nearest of them.

    In training, the interest nearest the target learns. A score is the item's share of the softmax
    over all items of these best products. The order of events does not count, unless a subclass
    reads it.
    """

    interests: Annotated[int, Choices(2, 4, 8)] = 4
    """Number of interest vectors of a user."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.interests < 1:
            raise DataError(f"interests is {self.interests}: it must be at least 1")

    @abstractmethod
    def _extractor(self) -> nn.Module:
        """Return the module that makes interests (B, P, K, D) of states and readings."""

    def _layers(self) -> list[nn.Module]:
        return []

    def _positions(self) -> nn.Module | None:
        return None

    def _make_net(self) -> InterestNet:
        return InterestNet(self._extractor(), **self._net_settings())

    def _target_states(self, task: Task, vectors: Tensor, positive: Tensor) -> Tensor:
        return self._choose(self._target_interests(task, vectors), positive)

    def _target_interests(self, task: Task, vectors: Tensor) -> Tensor:
        """Return the interests (M, K, D) at the positions that predict."""
        net = self._net
        readings = causal_readings(vectors.shape[1], vectors.device)
        interests = net.interests(vectors, readings, **task.inputs)
        positions = as_tensor(task.positions, net)
        chosen: Tensor = interests.flatten(0, 1)[positions]
        return chosen

    def _choose(self, interests: Tensor, positive: Tensor) -> Tensor:
        """Return the vectors (M, D) that learn from targets, of interests (M, K, D)."""
        return nearest_interests(interests, positive)

    def _interests(self, batch: Windows) -> Tensor:
        """Return the interests (B, K, D) after each window's last event."""
        net = self._ready()
        rows, _ = pad_rows(batch.rows, batch.starts, batch.lengths)
        lengths = as_tensor(batch.lengths, net)
        readings = whole_readings(lengths, rows.shape[1])
        vectors = net.table(as_tensor(rows, net))
        inputs = self._layer_inputs(batch)
        interests: Tensor = net.interests(vectors, readings, **inputs)
        return interests[:, 0]

    def _logits(self, batch: Windows, catalogue: Tensor) -> Tensor:
        return best_logits(self._interests(batch), catalogue)

    def interest_vectors(self, queries: Sequence[Query]) -> np.ndarray:
        """Return the interests (B, K, D) of queries, comparable with items; 0 without history."""
        self._check_fitted()
        batch = Queries.of(queries).reindexed(self.items_)
        shape = (len(batch), self.interests, self.width)
        vectors = np.zeros(shape, dtype=np.float32)
        with torch.inference_mode():
            for numbers, windows in self._query_batches(batch):
                interests = self._interests(windows)
                vectors[numbers] = interests.cpu().numpy()
        return vectors


@dataclass(eq=False)
class ComiRec(MultiInterest):
    """Give a user several vectors by heads of attention that weigh events differently.

    Each head has weights of its own for the events of a history; the vectors are weighted sums of
    the items' (the self-attentive form of Cen et al. 2020). For a varied list, put `Diversify`
    over it.

    Differs from the paper: no positions, every event predicts the next, a softmax over many shared
    negatives of cosines over a temperature, and no controllable aggregation of its own.
    """

    def _extractor(self) -> nn.Module:
        return SelfAttentive(self.width, self.interests)

    @classmethod
    def tiny(cls) -> "ComiRec":
        return cls(width=8, length=10, epochs=3, negatives=20, interests=2)
