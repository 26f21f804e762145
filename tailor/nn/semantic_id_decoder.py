"""A net that reads a history of items and spells the next one's code.

Shapes: M places or prefixes, D width, N items, L levels, V digits of a level.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tailor.nn.blocks import FeedForward
from tailor.nn.decoding import Trie
from tailor.nn.sequence import SequenceNet


class SpellingNet(nn.Module):
    """States of histories by `body`; from a state the first digit, and after each digit, by a small
    net of its level, the state that says the next.
    """

    def __init__(
        self,
        body: SequenceNet,
        codes: np.ndarray,
        sizes: Sequence[int],
        width: int,
        dropout: float = 0.0,
    ) -> None:
        """`codes` (N, L) of the items, no two alike; of a level all below its size of `sizes`."""
        super().__init__()
        self.body, self.trie = body, Trie.of(codes)
        self.sizes = list(sizes)
        self.codes: Tensor
        self.nodes: Tensor
        self.register_buffer("codes", torch.from_numpy(codes.astype(np.int64)), persistent=False)
        self.register_buffer(
            "nodes",
            self.trie.paths() if len(codes) else torch.from_numpy(codes.astype(np.int64)),
            persistent=False,
        )
        self.heads = nn.ModuleList([nn.Linear(width, size) for size in sizes])
        self.said = nn.ModuleList([nn.Embedding(size, width) for size in sizes[:-1]])
        self.steps = nn.ModuleList([FeedForward(width, dropout, 2) for _ in sizes[:-1]])
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in sizes[:-1]])
        self.ends = nn.ModuleList([nn.LayerNorm(width) for _ in sizes[:-1]])
        for part in (*self.heads, *self.said):
            nn.init.normal_(part.weight, std=0.02)
        self._masks: list[Tensor] = []

    def logits(self, level: int, state: Tensor) -> Tensor:
        """(M, D) -> (M, V): what may be said at this level."""
        return self.heads[level](self.ends[level - 1](state) if level else state)

    def follow(self, level: int, state: Tensor, digit: Tensor) -> Tensor:
        """(M, D) after a digit (M,) of this level."""
        x = state + self.said[level](digit)
        return x + self.steps[level](self.norms[level](x))

    def loss(self, states: Tensor, items: Tensor, closed: bool = True) -> Tensor:
        """Mean of -log p(item) over states (M, D) after which items (M,) came, each the sum over
        its digits; `closed`: digits that cannot follow have no share.
        """
        total = torch.zeros((), device=states.device)
        for level in range(len(self.sizes)):
            logits = self.logits(level, states).float()
            if closed:
                before = self.nodes[items, level - 1] if level else torch.zeros_like(items)
                logits = logits.masked_fill(
                    ~self._may_follow(level, logits.device)[before], float("-inf")
                )
            total = total + nn.functional.cross_entropy(logits, self.codes[items, level])
            if level + 1 < len(self.sizes):
                states = self.follow(level, states, self.codes[items, level])
        return total

    def _may_follow(self, level: int, device: torch.device) -> Tensor:
        """(P, V) bool, made once."""
        if not self._masks:
            trie = self.trie.to(device)
            self._masks = [trie.allowed(at, size) for at, size in enumerate(self.sizes)]
        return self._masks[level]

    @property
    def device(self) -> torch.device:
        return self.body.device
