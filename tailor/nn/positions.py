"""Encode positions and times: learned vectors, rotary angles, biases by distance and by time.

Shapes: B sequences, T positions, H heads, D width of a head.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class LearnedPositions(nn.Module):
    """A learned vector per position, added to the item's (Vaswani et al. 2017, learned form).

    The first event of a window is at position 0.
    """

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(length, width).normal_(std=0.02))

    def forward(self, x: Tensor, **inputs: Tensor) -> Tensor:
        """(B, T, width) -> (B, T, width); T up to `length`. Further inputs are not used."""
        return x + self.table[: x.shape[1]]


class PositionsFromEnd(LearnedPositions):
    """Learned positions counted back from each sequence's last event.

    For bidirectional nets whose answer is read at the end.
    """

    def forward(self, x: Tensor, **inputs: Tensor) -> Tensor:
        """(B, T, width) -> (B, T, width); needs the input `lengths` (B,), events per sequence."""
        position = inputs["lengths"][:, None] - 1 - torch.arange(x.shape[1], device=x.device)
        return x + self.table[position.clamp(min=0)]


class TimeGapPositions(LearnedPositions):
    """Learned positions, plus a vector for the time since the event before.

    Gaps are told apart by their order of magnitude: floor(log2(1 + minutes)).
    """

    def __init__(self, length: int, width: int, buckets: int = 24) -> None:
        super().__init__(length, width)
        self.gaps = nn.Parameter(torch.empty(buckets, width).normal_(std=0.02))

    def forward(self, x: Tensor, **inputs: Tensor) -> Tensor:
        """(B, T, width) -> (B, T, width); reads the input `times_ms` (B, T) where it is there."""
        x = super().forward(x)
        if "times_ms" not in inputs:
            return x
        times_ms = inputs["times_ms"]
        since = torch.diff(times_ms, dim=1, prepend=times_ms[:, :1]).clamp(min=0)
        bucket = torch.log2(1 + since.double() / 60_000).long().clamp(max=len(self.gaps) - 1)
        return x + self.gaps[bucket]


class MomentPositions(LearnedPositions):
    """Learned positions, plus a vector for each moment of an event: hour, weekday, ...

    `sizes` (C,) are the numbers of values of each column of moments, 0 for one that is not read.
    """

    def __init__(self, length: int, width: int, sizes: Sequence[int]) -> None:
        super().__init__(length, width)
        self.columns = [column for column, size in enumerate(sizes) if size]
        self.moments = nn.ModuleList([nn.Embedding(size, width) for size in sizes if size])

    def forward(self, x: Tensor, **inputs: Tensor) -> Tensor:
        """(B, T, width) -> (B, T, width); reads the input `slots` (B, T, C), the moments."""
        x = super().forward(x)
        slots = inputs["slots"]
        for column, vectors in zip(self.columns, self.moments, strict=True):
            x = x + vectors(slots[:, :, column])
        return x


def apply_rotary(x: Tensor, base: float = 10_000.0) -> Tensor:
    """Rotate queries or keys (B, H, T, D) by position (Su et al. 2021, "RoFormer"); D is even.

    Each pair of values is rotated by its position times a frequency. The product of a rotated query
    and a rotated key depends on their distance only.
    """
    half = x.shape[-1] // 2
    frequency = base ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    position = torch.arange(x.shape[-2], device=x.device, dtype=torch.float32)
    angle = position[:, None] * frequency  # T, D / 2
    cos = angle.cos().to(x.dtype)
    sin = angle.sin().to(x.dtype)
    first = x[..., :half]
    second = x[..., half:]
    rotated = [first * cos - second * sin, first * sin + second * cos]
    return torch.cat(rotated, dim=-1)


class DistanceBias(nn.Module):
    """A learned attention bias per distance in positions, as in HSTU."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(length))

    def forward(self, positions: int) -> Tensor:
        """Return (T, T) the bias of position i for j; 0 for j > i."""
        position = torch.arange(positions, device=self.weight.device)
        distance = position[:, None] - position
        return self.weight[distance.clamp(0, len(self.weight) - 1)] * (distance >= 0)


class TimeBias(nn.Module):
    """A learned attention bias per order of magnitude of time, as in HSTU.

    Buckets are floor(log2(1 + seconds)).
    """

    def __init__(self, buckets: int = 32) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(buckets))

    def forward(self, times_ms: Tensor) -> Tensor:
        """(B, T) int64 -> (B, T, T) the bias of position i for position j."""
        seconds = (times_ms[:, :, None] - times_ms[:, None, :]).clamp(0).double() / 1000
        bucket = torch.log2(1 + seconds).long().clamp(max=len(self.weight) - 1)
        return self.weight[bucket]
