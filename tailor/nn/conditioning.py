"""Condition states on what is asked for besides the history."""

import torch
from torch import Tensor, nn


class Conditioned(nn.Module):
    """Scale and shift states by a condition, such as the vector of a wish (FiLM, 2018).

    At the first step it changes nothing, so a net learns as without conditions until they help.
    """

    def __init__(self, width: int, dims: int, hidden: int | None = None) -> None:
        """Make the layer for states (..., D = width) and conditions (..., E = dims)."""
        super().__init__()
        hidden = hidden or width
        self.inner = nn.Sequential(nn.Linear(dims, hidden), nn.GELU())
        self.outer = nn.Linear(hidden, 2 * width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, states: Tensor, conditions: Tensor) -> Tensor:
        """Return states (..., D) changed by conditions (..., E); a zero condition changes none."""
        scale, shift = self.outer(self.inner(conditions)).chunk(2, dim=-1)
        is_asked = (conditions != 0).any(dim=-1, keepdim=True)
        changed = states * (1 + scale) + shift
        return torch.where(is_asked, changed, states)
