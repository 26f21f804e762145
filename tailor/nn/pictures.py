"""Read small pictures: a vector of each, and labels of what it shows.

Shapes: B pictures, S pixels of a side, R regions, D width, L values of a label.
"""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu

SIZE = 64  # pixels of a side of the pictures that nets read
CHANNELS, KERNELS = (16, 32, 48, 64), (5, 3, 3, 3)  # of the layers; each halves the side
REGION_CHANNELS = (16, 32, 48)  # of the layers of a region encoder


class PictureEncoder(nn.Module):
    """Four convolutions; the mean and maximum over the picture of every channel of each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inputs = (3, *CHANNELS[:-1])
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, kernel, stride=2, padding=kernel // 2)
            for before, after, kernel in zip(inputs, CHANNELS, KERNELS, strict=True)
        )
        self.out_proj = nn.Linear(2 * sum(CHANNELS), width)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, S, S, 3) uint8 -> (B, D)."""
        x = (pixels.to(self.out_proj.weight.dtype) / 255 - 0.5).permute(0, 3, 1, 2)
        pooled = []
        for layer in self.layers:
            x = gelu(layer(x))
            pooled += [x.mean(dim=(2, 3)), x.amax(dim=(2, 3))]
        vectors: Tensor = self.out_proj(torch.cat(pooled, dim=1))
        return vectors


class RegionEncoder(nn.Module):
    """Three convolutions, each halving the side; every place of the last map is a region.

    16 pixels of a side give 2 x 2 regions.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = (3, *REGION_CHANNELS)
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in pairwise(channels)
        )
        self.out_proj = nn.Linear(channels[-1], width)
        self.norm = nn.LayerNorm(width)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, S, S, 3) uint8 -> (B, R, D), R regions."""
        x = (pixels.to(self.out_proj.weight.dtype) / 64 - 2).permute(0, 3, 1, 2)
        for layer in self.layers:
            x = gelu(layer(x))
        vectors: Tensor = self.norm(self.out_proj(x.flatten(2).transpose(1, 2)))
        return vectors


class PictureReader(nn.Module):
    """Sees a picture as a vector, and says by a classifier for each label what it shows."""

    def __init__(self, width: int, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.sizes = list(sizes.values())
        self.encoder = PictureEncoder(width)
        self.label_proj = nn.Linear(width, sum(self.sizes)) if self.sizes else None

    def labels(self, vectors: Tensor) -> list[Tensor]:
        """(B, D) -> for each label, logits (B, L)."""
        if self.label_proj is None:
            return []
        return list(self.label_proj(gelu(vectors)).split(self.sizes, dim=1))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, S, S, 3) uint8 -> for each label, logits (B, L)."""
        return self.labels(self.encoder(pixels))


def label_loss(logits: list[Tensor], codes: Tensor) -> Tensor:
    """Return the mean cross-entropy of labels; codes (B, A) below 0 are unknown."""
    losses = [
        cross_entropy(of_label[of_codes >= 0], of_codes[of_codes >= 0])
        for of_label, of_codes in zip(logits, codes.T, strict=True)
        if (of_codes >= 0).any()
    ]
    if not losses:
        return torch.stack([of_label.sum() for of_label in logits]).sum() * 0
    return torch.stack(losses).mean()


def sure_values(
    logits: list[Tensor], values: Mapping[str, list[str]], least: float
) -> list[dict[str, str]]:
    """Return for each picture label -> value, where its probability is at least `least`."""
    shares = [of_label.float().softmax(dim=1).cpu().numpy() for of_label in logits]
    read: list[dict[str, str]] = [{} for _ in range(len(logits[0]) if logits else 0)]
    for (name, names), of_label in zip(values.items(), shares, strict=True):
        best = np.argmax(of_label, axis=1)
        for i in np.flatnonzero(of_label.max(axis=1) >= least).tolist():
            read[i][name] = names[best[i]]
    return read
