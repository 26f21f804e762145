"""BERT4Rec: predict masked events from both sides."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from tailor.errors import DataError
from tailor.nn.blocks import TransformerBlock
from tailor.nn.packing import pad_rows
from tailor.nn.positions import PositionsFromEnd
from tailor.retrieval.sequences import SequenceRecommender, Windows, as_tensor, check_blocks
from tailor.training.sequences import Task


@dataclass(eq=False)
class BERT4Rec(SequenceRecommender):
    """Predict masked events of a history from the events on both sides (Sun et al. 2019).

    In training, random events are masked. For a query, a mask is appended after the last event, and
    its state is compared with all item vectors. It needs several times the epochs of SASRec;
    `fit_report_` says why training stopped.

    Differs from the paper: in some windows (`last_rate`) only the last event is masked, as in the
    authors' code, and the loss is a softmax over shared negatives.
    """

    blocks: int = 2
    """Number of transformer blocks."""
    heads: int = 1
    """Attention heads; they must divide the width."""
    mask_rate: float = 0.4
    """Share of events masked in a window; 0.2 for long histories, up to 0.6 for short ones."""
    last_rate: float = 0.2
    """Share of windows in which only the last event is masked."""

    tokens: ClassVar[int] = 1
    """The mask."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_blocks(self.blocks, self.heads, self.width)
        if not (0 < self.mask_rate < 1 and 0 <= self.last_rate <= 1):
            raise DataError(
                f"mask_rate is {self.mask_rate}, last_rate {self.last_rate}: between 0 and 1"
            )
        if self.length < 2:
            raise DataError(
                f"length is {self.length}: it must be at least 2, one event and the one to guess"
            )

    def _positions(self) -> nn.Module:
        return PositionsFromEnd(self.length, self.width)

    def _layers(self) -> list[nn.Module]:
        return [
            TransformerBlock(self.width, self.heads, self.dropout, causal=False)
            for _ in range(self.blocks)
        ]

    def _make_task(self, batch: Windows, rng: np.random.Generator) -> Task:
        # the event after the window is one to learn from too
        lengths = np.minimum(batch.lengths + 1, self.length)
        stops = batch.starts + batch.lengths + 1
        starts = stops - lengths
        rows, is_event = pad_rows(batch.rows, starts, lengths)
        is_last = np.arange(rows.shape[1]) == lengths[:, None] - 1
        masked = (rng.random(rows.shape) < self.mask_rate) & is_event
        only_last = rng.random(len(rows)) < self.last_rate
        only_last |= ~masked.any(axis=1) | (not batch.every_place)
        masked = np.where(only_last[:, None], is_last, masked)
        events = starts[:, None] + np.arange(rows.shape[1])  # B, T
        return Task(
            np.where(masked, self._net.items, rows),
            {"lengths": as_tensor(lengths, self._net)},
            np.flatnonzero(masked),
            rows[masked],
            events[masked],
        )

    def _last_states(self, batch: Windows) -> Tensor:
        net = self._ready()
        lengths = np.minimum(batch.lengths, self.length - 1)
        starts = batch.starts + batch.lengths - lengths
        rows, _ = pad_rows(batch.rows, starts, lengths)
        empty_column = np.zeros(len(rows), rows.dtype)
        rows = np.c_[rows, empty_column]
        rows[np.arange(len(rows)), lengths] = net.items  # the mask
        inputs = net.table(as_tensor(rows, net))
        states = net.states(inputs, lengths=as_tensor(lengths + 1, net))
        numbers = torch.arange(len(rows), device=net.device)
        return states[numbers, as_tensor(lengths, net)]

    @classmethod
    def tiny(cls) -> "BERT4Rec":
        return cls(width=8, length=10, epochs=3, negatives=20)
