"""Two towers: a person is the mean of what they chose, seen through a small net."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tailor.data.arrays import Ragged
from tailor.data.dataset import Dataset
from tailor.nn.attention import trailing_mean
from tailor.nn.blocks import FeedForward
from tailor.nn.losses import InBatchSoftmax
from tailor.retrieval.sequences import SequenceRecommender


class _Tower(nn.Module):
    """The mean of all vectors up to each place, through a feed-forward net."""

    def __init__(self, width: int, length: int, dropout: float) -> None:
        super().__init__()
        self.length, self.net = length, FeedForward(width, dropout)

    def forward(self, x: Tensor) -> Tensor:
        mean = trailing_mean(x, self.length)
        return mean + self.net(mean)


@dataclass(eq=False)
class TwoTower(SequenceRecommender):
    """Item vectors on one side, on the other the mean of the history's through a net; the order of
    events does not count (Covington et al. 2016, Yi et al. 2019).

    Told apart from the other targets of its batch, with their popularity corrected for. Differs
    from the papers: the item tower is the item's vector alone, since catalogues differ in what they
    know of items, and popularity is counted, not estimated as it streams by. The classical net that
    retrieval methods must beat.
    """

    log_share_: np.ndarray = field(init=False, repr=False)
    """(N,) log of each item's share of the events."""

    def _positions(self) -> None:
        return None

    def _layers(self) -> list[nn.Module]:
        return [_Tower(self.width, self.length, self.dropout)]

    def _train(self, data: Dataset, rows: Ragged, *others: Any) -> dict[str, Any]:
        counts = np.bincount(rows.values, minlength=len(self.items_))
        self.log_share_ = np.log(np.maximum(counts, 1) / max(counts.sum(), 1)).astype(np.float32)
        return super()._train(data, rows, *others)

    def _drawn(self, rng: np.random.Generator) -> np.ndarray:
        return np.empty(0, np.int64)  # the batch's other targets take their place

    def _compared(
        self, states: Tensor, positive: Tensor, negative: Tensor, targets: Tensor, drawn: Tensor
    ) -> Tensor:
        share = torch.from_numpy(self.log_share_).to(targets.device)[targets]
        return InBatchSoftmax()(states, positive, targets, share)

    @classmethod
    def tiny(cls) -> "TwoTower":
        return cls(width=8, length=10, epochs=3, negatives=20)
