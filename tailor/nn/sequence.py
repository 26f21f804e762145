"""A net over event sequences: one table of item vectors, read at the bottom and compared with at
the top; texts or codes may stand in for the table.

Shapes: B sequences, T places, D width, N items.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from tailor.nn.dropout import Dropout
from tailor.nn.item_encoders import CodeFront, TextFront
from tailor.nn.numpy_inference import Alone


class SequenceNet(nn.Module):
    """Item vectors -> layers -> a state a place, to be compared with item vectors by inner product.

    With a temperature, states and vectors are compared by cosine over it. `tokens` are further rows
    of the table that are no items, such as a mask; what is compared with are the first N rows.
    """

    def __init__(
        self,
        items: int,
        width: int,
        layers: Sequence[nn.Module],
        dropout: float = 0.0,
        temperature: float = 0.0,
        positions: nn.Module | None = None,
        tokens: int = 0,
        sparse: bool = False,
        front: TextFront | CodeFront | None = None,
    ) -> None:
        super().__init__()
        self.items, self.temperature = items, temperature
        self._catalogue: Tensor | None = None
        self._alone: Alone | Literal[False] | None = False  # not looked for yet
        self.table: nn.Embedding | TextFront | CodeFront = front or nn.Embedding(
            items + tokens, width, sparse=sparse
        )
        self.positions = positions
        self.drop, self.layers, self.norm = (
            Dropout(dropout),
            nn.ModuleList(layers),
            nn.LayerNorm(width),
        )
        theirs = set() if front is None else set(front.modules())  # begins as it was made
        for part in (one for one in self.modules() if one not in theirs):
            if isinstance(part, nn.Linear | nn.Embedding):
                nn.init.normal_(part.weight, std=0.02)
            if isinstance(part, nn.Linear) and part.bias is not None:
                nn.init.zeros_(part.bias)

    def states(self, vectors: Tensor, **known: Tensor) -> Tensor:
        """(B, T, D) item vectors -> (B, T, D) states; what is `known` besides (times_ms, lengths)
        goes to every layer.
        """
        x = self.drop(vectors if self.positions is None else self.positions(vectors, **known))
        for layer in self.layers:
            x = layer(x, **known)
        x = self.norm(x)
        return (
            nn.functional.normalize(x.float(), dim=-1) / self.temperature if self.temperature else x
        )

    def comparable(self, vectors: Tensor) -> Tensor:
        """Item vectors as states are compared with them."""
        return nn.functional.normalize(vectors.float(), dim=-1) if self.temperature else vectors

    def catalogue(self) -> Tensor:
        """(N, D) all items, comparable; of a net that is ready for use made once, and made again
        after the next call of `train` or `eval`.
        """
        if self.training or torch.is_grad_enabled():
            return self.comparable(self._vectors())
        if self._catalogue is None:
            self._catalogue = self.comparable(self._vectors())
        return self._catalogue

    def compared(self, state: np.ndarray) -> np.ndarray:
        """(D,) a state that `alone` has made, as `states` would give it."""
        if not self.temperature:
            return state
        return state / np.float32(max(float(np.sqrt(state @ state)), 1e-12) * self.temperature)

    def alone(self) -> Alone | None:
        """The net for one sequence at a time, where there is such a form of it; made once, as
        `catalogue` is.
        """
        if self._alone is False:
            self._alone = None if self.training else Alone.of(self)
        return self._alone

    def _vectors(self) -> Tensor:
        return (
            self.table.weight[: self.items]
            if isinstance(self.table, nn.Embedding)
            else self.table.all()
        )

    def train(self, mode: bool = True) -> "SequenceNet":
        self._catalogue, self._alone = None, False
        return super().train(mode)

    @property
    def device(self) -> torch.device:
        return self.norm.weight.device
