"""Layers that multiply features: nets of DeepFM and DCN-V2.

Shapes: B examples, F fields, D width of a field's vector, X = F * D.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tailor.nn.fields import FieldBatch, FieldLayout, FieldNet, FieldVectors, sum_of_products

LOW_RANK_FROM = 256  # width of the input from which a cross layer's matrix has a low rank
RANK = 32


class DeepCrossedFields(FieldNet):
    """A factorization machine and a tower that share their vectors; the logits are added."""

    def __init__(
        self, layout: FieldLayout, width: int, sizes: Sequence[int], dropout: float
    ) -> None:
        super().__init__(layout, width, sizes, dropout=dropout)
        self.coefficients = FieldVectors(layout.codes, 1, layout.field_of, 0.0)

    def forward(self, batch: FieldBatch) -> tuple[Tensor, Tensor]:
        """Return (B,) logits, and the penalty ()."""
        logits, penalty = super().forward(batch)
        fields = self.vectors(batch.codes, batch.weights)
        terms = self.coefficients(batch.codes, batch.weights)[..., 0]  # B, F
        logits = logits + terms.sum(dim=1) + sum_of_products(fields)
        return logits, penalty + terms.square().sum(dim=1).mean()


class CrossLayer(nn.Module):
    """One layer of DCN-V2: first input * (W x + b) + x, with W of low rank where X is large."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.product: nn.Module = nn.Linear(width, width)
        if width > LOW_RANK_FROM:
            self.product = nn.Sequential(nn.Linear(width, RANK, bias=False), nn.Linear(RANK, width))

    def forward(self, first: Tensor, x: Tensor) -> Tensor:
        """(B, X), (B, X) -> (B, X)."""
        out: Tensor = first * self.product(x) + x
        return out


class CrossNet(FieldNet):
    """Cross layers beside a tower; both ends are read by one linear layer."""

    def __init__(
        self,
        layout: FieldLayout,
        width: int,
        sizes: Sequence[int],
        layers: int,
        dropout: float,
    ) -> None:
        super().__init__(layout, width, sizes, dropout=dropout)
        inputs = layout.fields * width
        self.crosses = nn.ModuleList([CrossLayer(inputs) for _ in range(layers)])
        self.head = nn.Linear(inputs + sizes[-1], 1, bias=False)

    def hidden(self, batch: FieldBatch, fields: Tensor) -> Tensor:
        """Return what cross layers and tower make of the fields, (B, X + sizes[-1])."""
        first = fields.flatten(1)
        crossed = first
        for layer in self.crosses:
            crossed = layer(first, crossed)
        return torch.cat([crossed, self.tower(first)], dim=1)
