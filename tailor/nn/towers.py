"""Towers: layers of full connections with an activation, and DIN's activation Dice.

Shapes: B examples, D width.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

Activation = Literal["relu", "prelu", "dice"]


class StandardisedBatch(nn.BatchNorm1d):
    """Batch norm that takes the moving moments where a batch has a single row, or none."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, D)."""
        if self.training and len(x) > 1:
            return super().forward(x)
        return batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


class Dice(nn.Module):
    """A switch between x and slope * x at the mean of the batch (Zhou et al. 2018, DIN).

    share = sigmoid of the standardised input; share * x + (1 - share) * slope * x. Outside of
    training the moving mean and variance are used, so that no example depends on its company.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.standardise = StandardisedBatch(width, eps=1e-8, affine=False)
        self.slope = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, D)."""
        share = self.standardise(x).sigmoid()
        return x * (share + (1 - share) * self.slope)


class Tower(nn.Module):
    """Linear layers, each followed by an activation and dropout."""

    def __init__(
        self,
        sizes: Sequence[int],
        activation: Activation = "relu",
        dropout: float = 0.0,
        normalise: bool = False,
    ) -> None:
        """Make the layers; `sizes` are the width of the input, then that of each layer.

        With `normalise`, each layer's output is normalised before its activation.
        """
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers.append(nn.Linear(before, after))
            if normalise:
                layers.append(nn.LayerNorm(after))
            layers.append(activation_layer(activation, after))
            if dropout:
                layers.append(nn.Dropout(dropout))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, sizes[0]) -> (B, sizes[-1])."""
        out: Tensor = self.layers(x)
        return out


class ResidualTower(nn.Module):
    """A linear layer, then blocks that add a small tower's output to their input."""

    def __init__(self, inputs: int, width: int, blocks: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(Tower([width, width], dropout=dropout), nn.Linear(width, width))
            for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) -> (B, width)."""
        out: Tensor = self.first(x)
        for block in self.blocks:
            out = out + block(out)
        return out


def activation_layer(name: Activation, width: int) -> nn.Module:
    """Return the activation of a layer."""
    if name == "dice":
        return Dice(width)
    return nn.PReLU(width) if name == "prelu" else nn.ReLU()
