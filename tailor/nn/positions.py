"""Where and when: learned places, rotary angles, biases by distance in places and in time.

Shapes: B sequences, T places, H heads, D width of a head.
"""

import torch
from torch import Tensor, nn


class LearnedPositions(nn.Module):
    """A vector a place, added to the item's (Vaswani et al. 2017, learned form); the first event of
    a window stands at place 0.
    """

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(length, width).normal_(std=0.02))

    def forward(self, x: Tensor, **known: Tensor) -> Tensor:
        """(B, T, width) -> the same; T up to `length`. What else is known is not used."""
        return x + self.table[: x.shape[1]]


class PositionsFromEnd(LearnedPositions):
    """The same counted from each sequence's last event, for nets that are asked about the end and
    see both sides.
    """

    def forward(self, x: Tensor, **known: Tensor) -> Tensor:
        """`lengths` (B,) of what is not padding must be among what is known."""
        place = known["lengths"][:, None] - 1 - torch.arange(x.shape[1], device=x.device)
        return x + self.table[place.clamp(min=0)]


def rotary(x: Tensor, base: float = 10_000.0) -> Tensor:
    """(B, H, T, D) queries or keys, each pair of values turned by its place times a frequency (Su
    et al. 2021, "RoFormer"); D even.

    The product of a turned query and a turned key depends on how far apart they stand, not on
    where.
    """
    half = x.shape[-1] // 2
    frequency = base ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    # T, D / 2
    angle = torch.arange(x.shape[-2], device=x.device, dtype=torch.float32)[:, None] * frequency
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class DistanceBias(nn.Module):
    """A learned number for each distance in places, added to the attention logits (the position
    part of HSTU's bias).
    """

    def __init__(self, length: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(length))

    def forward(self, places: int) -> Tensor:
        """(T, T): what place i adds for looking at place j <= i; 0 above the diagonal."""
        place = torch.arange(places, device=self.weight.device)
        distance = place[:, None] - place
        return self.weight[distance.clamp(0, len(self.weight) - 1)] * (distance >= 0)


class TimeBias(nn.Module):
    """A learned number for each order of magnitude of the time between two events (the time part of
    HSTU's bias).

    Buckets are floor(log2(1 + seconds)).
    """

    def __init__(self, buckets: int = 32) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(buckets))

    def forward(self, times_ms: Tensor) -> Tensor:
        """(B, T) int64 -> (B, T, T) bias of place i for place j."""
        seconds = (times_ms[:, :, None] - times_ms[:, None, :]).clamp(0).double() / 1000
        bucket = torch.log2(1 + seconds).long().clamp(max=len(self.weight) - 1)
        return self.weight[bucket]
