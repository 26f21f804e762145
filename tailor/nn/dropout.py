"""Dropout that does not wait for random numbers."""

import torch
from torch import Tensor, nn


def dropout(x: Tensor, p: float, training: bool = True) -> Tensor:
    """`x` with each value zeroed with probability p (to the nearest 1/256 on CPUs) and the rest
    scaled up to keep the mean.

    One random byte a value, eight out of every random word: PyTorch's own draws a float a value,
    and on CPUs that is a sixth of a training step.
    """
    threshold = min(round(p * 256), 255)
    if not training or threshold == 0:
        return x
    if x.device.type != "cpu":
        return nn.functional.dropout(x, p)
    words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
    kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= threshold
    return x * kept.to(x.dtype).mul_(256 / (256 - threshold))


class Dropout(nn.Module):
    """`dropout` as a layer; p from 0 to below 1."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)
