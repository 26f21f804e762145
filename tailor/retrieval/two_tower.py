"""Two towers: a user is the mean of the items they chose, transformed by a small net."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tailor.core.run import Run
from tailor.nn.attention import trailing_mean
from tailor.nn.blocks import FeedForward
from tailor.nn.losses import InBatchSoftmax
from tailor.retrieval.sequences import SequenceRecommender
from tailor.training.sequences import TrainingData


class _Tower(nn.Module):
    """The mean of all vectors up to each position, plus a feed-forward net of it."""

    def __init__(self, width: int, length: int, dropout: float) -> None:
        super().__init__()
        self.length = length
        self.net = FeedForward(width, dropout)

    def forward(self, x: Tensor) -> Tensor:
        mean = trailing_mean(x, self.length)
        return mean + self.net(mean)


@dataclass(eq=False)
class TwoTower(SequenceRecommender):
    """Compare item vectors with the transformed mean of the history's item vectors.

    The order of events does not count. Negatives are the other targets of the batch, corrected for
    popularity (Covington et al. 2016, Yi et al. 2019). The classical net that retrieval methods
    must beat.

    Differs from the papers: the item tower is the item's vector alone, since catalogues differ in
    what they know of items, and popularity is counted instead of estimated from a stream.
    """

    log_share_: np.ndarray = field(init=False, repr=False)
    """(N,) log of each item's share of the events."""

    def _positions(self) -> None:
        return None

    def _layers(self) -> list[nn.Module]:
        return [_Tower(self.width, self.length, self.dropout)]

    def _prepare_items(self, training: TrainingData, run: Run) -> dict[str, Any]:
        counts = np.bincount(training.rows.values, minlength=len(self.items_))
        self.log_share_ = np.log(np.maximum(counts, 1) / max(counts.sum(), 1)).astype(np.float32)
        return {}

    def _draw_negatives(self, item_rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.empty(0, np.int64)  # the batch's other targets are the negatives

    def _compare(
        self,
        states: Tensor,
        positive: Tensor,
        negative: Tensor,
        targets: Tensor,
        drawn: Tensor,
        items: int,
    ) -> Tensor:
        log_share = torch.from_numpy(self.log_share_).to(targets.device)[targets]
        return InBatchSoftmax()(states, positive, targets, log_share)

    @classmethod
    def tiny(cls) -> "TwoTower":
        return cls(width=8, length=10, epochs=3, negatives=20)
