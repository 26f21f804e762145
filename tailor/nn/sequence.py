"""A net over event sequences: item vectors, layers, and states compared with item vectors.

The same item vectors are read at the bottom and compared with at the top; they come from an
embedding table, or are made from texts or codes. Shapes: B sequences, T positions, D width,
N items.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tailor.nn.dropout import Dropout
from tailor.nn.item_encoders import (
    AttributeItemEncoder,
    CodeItemEncoder,
    GraphItemEncoder,
    TextItemEncoder,
)
from tailor.nn.numpy_inference import NumpyTransformer

ItemEncoder = TextItemEncoder | CodeItemEncoder | AttributeItemEncoder | GraphItemEncoder


class SequenceNet(nn.Module):
    """Item vectors -> layers -> a state per position, compared with item vectors.

    States and vectors are compared by inner product, or with a temperature by cosine divided by it.
    `tokens` are further rows of the table that are no items, such as a mask; they follow the N
    items.
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
        item_encoder: ItemEncoder | None = None,
    ) -> None:
        super().__init__()
        self.items = items
        self.temperature = temperature
        self._catalogue: Tensor | None = None
        self._numpy_copy: NumpyTransformer | None = None
        self._is_numpy_copied = False
        self.table: nn.Embedding | ItemEncoder
        self.table = item_encoder or nn.Embedding(items + tokens, width, sparse=sparse)
        self.positions = positions
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(width)
        # an item encoder keeps the weights that it was made with
        keep = set() if item_encoder is None else set(item_encoder.modules())
        for part in [module for module in self.modules() if module not in keep]:
            if isinstance(part, nn.Linear | nn.Embedding):
                nn.init.normal_(part.weight, std=0.02)
            if isinstance(part, nn.Linear) and part.bias is not None:
                nn.init.zeros_(part.bias)

    def states(self, vectors: Tensor, **inputs: Tensor) -> Tensor:
        """Return the states (B, T, D) of item vectors (B, T, D).

        Further inputs (times_ms, lengths) are passed to every layer.
        """
        return self.readout(self.encode(vectors, **inputs))

    def encode(self, vectors: Tensor, **inputs: Tensor) -> Tensor:
        """Return what the layers make of item vectors (B, T, D), of the same shape."""
        x = self._placed(vectors, **inputs)
        for layer in self.layers:
            x = layer(x, **inputs)
        return x

    def _placed(self, vectors: Tensor, **inputs: Tensor) -> Tensor:
        """Return item vectors (B, T, D) with their positions, after dropout."""
        return self.dropout(
            vectors if self.positions is None else self.positions(vectors, **inputs)
        )

    def readout(self, x: Tensor) -> Tensor:
        """Return vectors (..., D) normed, as states are compared with item vectors."""
        return self.scaled(self.norm(x))

    def scaled(self, x: Tensor) -> Tensor:
        """Return vectors (..., D) at the length of states; as they are without a temperature."""
        return normalize(x.float(), dim=-1) / self.temperature if self.temperature else x

    def comparable(self, vectors: Tensor) -> Tensor:
        """Return item vectors as states are compared with them."""
        return normalize(vectors.float(), dim=-1) if self.temperature else vectors

    def catalogue(self) -> Tensor:
        """Return all items (N, D), comparable.

        In evaluation mode they are computed once, and again after the next call of `train` or
        `eval`.
        """
        if self.training or torch.is_grad_enabled():
            return self.comparable(self._item_vectors())
        if self._catalogue is None:
            self._catalogue = self.comparable(self._item_vectors())
        return self._catalogue

    def numpy_copy(self) -> NumpyTransformer | None:
        """Return the net's NumPy copy for single sequences, or None where it has none.

        Made once in evaluation mode, as `catalogue` is.
        """
        if not self._is_numpy_copied:
            self._is_numpy_copied = True
            is_plain = type(self).states is SequenceNet.states
            if is_plain and not self.training:
                self._numpy_copy = NumpyTransformer.of(self)
        return self._numpy_copy

    def comparable_state(self, state: np.ndarray) -> np.ndarray:
        """Return a state (D,) of the NumPy copy as `states` would give it."""
        if not self.temperature:
            return state
        length = max(float(np.sqrt(state @ state)), 1e-12)
        return state / np.float32(length * self.temperature)

    def _item_vectors(self) -> Tensor:
        if isinstance(self.table, nn.Embedding):
            return self.table.weight[: self.items]
        return self.table.all_items()

    def train(self, mode: bool = True) -> "SequenceNet":
        self._catalogue = None
        self._numpy_copy = None
        self._is_numpy_copied = False
        return super().train(mode)

    @property
    def device(self) -> torch.device:
        return self.norm.weight.device
