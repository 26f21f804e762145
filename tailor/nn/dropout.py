"""Dropout from random bytes, faster on CPUs than from random floats."""

import torch
from torch import Tensor, nn


def dropout(x: Tensor, p: float, training: bool = True) -> Tensor:
    """Return `x` with each value zeroed with probability p and the others scaled up.

    The mean is kept. On CPUs p is rounded to the nearest 1/256: a random byte decides each value,
    eight from every random word. PyTorch draws a float per value, which takes a sixth of a training
    step there.
    """
    threshold = min(round(p * 256), 255)
    if not training or threshold == 0:
        return x
    if x.device.type != "cpu":
        return nn.functional.dropout(x, p)
    words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
    mask = words.view(torch.uint8)[: x.numel()].view(x.shape) >= threshold
    return x * mask.to(x.dtype).mul_(256 / (256 - threshold))


class Dropout(nn.Module):
    """`dropout` as a layer; p from 0 to below 1."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)
