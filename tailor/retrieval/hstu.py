"""HSTU: gated attention without softmax."""

from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn

from tailor.core.run import Run
from tailor.core.search_space import Range
from tailor.data.dataset import Dataset
from tailor.data.queries import NO_TIME
from tailor.data.splits import Split
from tailor.nn.blocks import HSTUBlock
from tailor.nn.packing import pad_rows
from tailor.retrieval.sequences import SequenceRecommender, Windows, check_blocks


@dataclass(eq=False)
class HSTU(SequenceRecommender):
    """Predict the next event by attention that sums similar events (Zhai et al. 2024).

    Attention without softmax lets many similar events weigh more than one; biases depend on the
    distance in events and in time. States and item vectors are compared by cosine over a
    temperature. Where the training data has no times there is no bias by time; a query without
    times counts as all at once.

    Differs from the paper: one stream of items, without actions, and a softmax over negatives that
    the batch shares.
    """

    dropout: Annotated[float, Range(0.05, 0.5)] = 0.2
    """Share of values zeroed during training."""
    blocks: int = 1
    """Number of HSTU blocks."""
    heads: int = 1
    """Attention heads; they must divide the width."""

    timed_: bool = field(init=False, repr=False)
    """Whether the training events have times."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_blocks(self.blocks, self.heads, self.width)

    def _fit(self, data: Dataset, run: Run, valid: Split | None) -> None:
        self.timed_ = data.sequences.times_ms is not None
        super()._fit(data, run, valid)

    def _layers(self) -> list[nn.Module]:
        return [
            HSTUBlock(self.width, self.length, self.heads, self.dropout) for _ in range(self.blocks)
        ]

    def _layer_inputs(self, batch: Windows) -> dict[str, Tensor]:
        if not self.timed_:
            return {}
        times = batch.times_ms
        if times is None:
            times = np.zeros(len(batch.rows), np.int64)
        times, _ = pad_rows(times, batch.starts, batch.lengths)
        times = np.where(times == NO_TIME, 0, times)
        return {"times_ms": torch.from_numpy(times).to(self._net.device)}

    @classmethod
    def tiny(cls) -> "HSTU":
        return cls(width=8, length=10, epochs=3, negatives=20)
