"""BERT4Rec: guess hidden events from both sides."""

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


@dataclass(eq=False)
class BERT4Rec(SequenceRecommender):
    """Learns to fill in events that were hidden anywhere in a history; asked, it fills in one put
    behind the last (Sun et al. 2019).

    Differs from the paper: a hidden last event is a training example of its own now and then
    (`last_rate`), as in the authors' code, and the loss is a softmax over shared negatives. It
    needs several times the epochs of SASRec; `fit_report_` says why training stopped.
    """

    blocks: int = 2
    """One upon the other."""
    heads: int = 1
    """Must divide the width."""
    mask_rate: float = 0.4
    """Of events hidden in a window; .2 for long histories, up to .6 for short ones."""
    last_rate: float = 0.2
    """Of windows of which only the last event is hidden."""

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

    def _task(
        self, batch: Windows, rng: np.random.Generator
    ) -> tuple[np.ndarray, dict[str, Tensor], np.ndarray, np.ndarray]:
        # the event after the window is one to learn from too
        lengths = np.minimum(batch.lengths + 1, self.length)
        rows, real = pad_rows(batch.rows, batch.starts + batch.lengths + 1 - lengths, lengths)
        last = np.arange(rows.shape[1]) == lengths[:, None] - 1
        hidden = (rng.random(rows.shape) < self.mask_rate) & real
        only_last = (
            (rng.random(len(rows)) < self.last_rate) | ~hidden.any(axis=1) | (not batch.every_place)
        )
        hidden = np.where(only_last[:, None], last, hidden)
        return (
            np.where(hidden, self._net.items, rows),
            {"lengths": as_tensor(lengths, self._net)},
            np.flatnonzero(hidden),
            rows[hidden],
        )

    def _last_states(self, batch: Windows) -> Tensor:
        net = self._ready()
        shown = np.minimum(batch.lengths, self.length - 1)
        rows, _ = pad_rows(batch.rows, batch.starts + batch.lengths - shown, shown)
        rows = np.c_[rows, np.zeros(len(rows), rows.dtype)]
        rows[np.arange(len(rows)), shown] = net.items
        states = net.states(net.table(as_tensor(rows, net)), lengths=as_tensor(shown + 1, net))
        return states[torch.arange(len(rows), device=net.device), as_tensor(shown, net)]

    @classmethod
    def tiny(cls) -> "BERT4Rec":
        return cls(width=8, length=10, epochs=3, negatives=20)
