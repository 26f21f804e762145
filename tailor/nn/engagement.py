"""A net that reads a history and a list of items: how probable each action on each item is.

Shapes: B histories, T events of a history, K items of a list, A actions, N items, E width of their
vectors, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from tailor.nn.attention import CrossAttention
from tailor.nn.blocks import TransformerBlock
from tailor.nn.towers import Tower


class EngagementNet(nn.Module):
    """A tower per action over what an item and the history have in common, and one for them all.

    Every item asks the history for its like (cross-attention), and is read beside the answer, their
    product, and the product of the item's fixed vector with the history's mean: so a taste in one
    direction of the vectors is learned from little. `listwise` lets the items of a list read each
    other. The last tower reads the item and the probabilities of the actions; its output is the one
    score of an item.
    """

    def __init__(
        self,
        vectors: Tensor,
        width: int,
        actions: int,
        heads: int = 2,
        dropout: float = 0.0,
        listwise: bool = False,
    ) -> None:
        """Make the net of items with unit vectors (N, E); they are no weights."""
        super().__init__()
        self.vectors: Tensor
        self.register_buffer("vectors", vectors * vectors.shape[1] ** 0.5, persistent=False)
        self.map = nn.Linear(vectors.shape[1], width)
        self.own = nn.Embedding(len(vectors), width)
        nn.init.normal_(self.own.weight, std=0.02)
        # an empty history is this one event
        self.beginning = nn.Parameter(torch.zeros(width))
        self.attention = CrossAttention(width, heads)
        self.match = nn.Linear(vectors.shape[1], width)
        self.common = Tower([4 * width, width], dropout=dropout)
        self.among = TransformerBlock(width, heads, dropout, causal=False) if listwise else None
        self.towers = nn.ModuleList([_head(width) for _ in range(actions)])
        self.fusion = _head(width + actions)

    def forward(self, history: Tensor, lengths: Tensor, lists: Tensor, sizes: Tensor) -> Tensor:
        """Return logits (B, K, A + 1) of the actions, and of the one score behind them.

        `history` (B, T) and `lists` (B, K) are item rows padded at the right, `lengths` and `sizes`
        (B,) how many there are of each; each list has at least one.
        """
        items = self._items(lists)
        memory = torch.cat(
            [self.beginning.expand(len(history), 1, -1), self._items(history)], dim=1
        )
        interest = self.attention(items, memory, lengths + 1)
        matches = self.match(self.vectors[lists] * self._means(history, lengths)[:, None])
        x = self.common(torch.cat([items, interest, items * interest, matches], dim=-1))
        if self.among is not None:
            x = self.among(x, sizes)
        logits = torch.cat([tower(x) for tower in self.towers], dim=-1)
        fused = self.fusion(torch.cat([x, logits.sigmoid()], dim=-1))
        return torch.cat([logits, fused], dim=-1)

    def _items(self, rows: Tensor) -> Tensor:
        """Return the vectors (..., D) of item rows (...)."""
        items: Tensor = self.map(self.vectors[rows]) + self.own(rows)
        return items

    def _means(self, history: Tensor, lengths: Tensor) -> Tensor:
        """Return (B, E) the mean fixed vector of every history; zeros where it is empty."""
        is_event = torch.arange(history.shape[1], device=lengths.device) < lengths[:, None]
        sums = (self.vectors[history] * is_event[:, :, None]).sum(dim=1)
        return sums / lengths.clamp_min(1)[:, None]

    def loss(self, logits: Tensor, labels: Tensor, is_item: Tensor) -> Tensor:
        """Return the mean cross-entropy of logits (B, K, A + 1) with labels (B, K, A).

        The one score is held against every action, so it learns their mean. `is_item` (B, K) are
        the places that hold an item.
        """
        actions = logits[is_item]
        targets = labels[is_item]
        separate = binary_cross_entropy_with_logits(actions[:, :-1], targets)
        fused = actions[:, -1:].expand_as(targets)
        return separate + binary_cross_entropy_with_logits(fused, targets)

    @property
    def device(self) -> torch.device:
        return self.beginning.device


def _head(inputs: int) -> nn.Module:
    return nn.Sequential(Tower([inputs, max(inputs // 2, 4)]), nn.Linear(max(inputs // 2, 4), 1))
