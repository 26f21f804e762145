"""A net that reads a history of items and generates the next item's semantic id.

Shapes: M positions or prefixes, D width, N items, L levels, P prefixes, V digits of a level.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tailor.nn.blocks import FeedForward
from tailor.nn.conditioning import Conditioned
from tailor.nn.decoding import Trie
from tailor.nn.sequence import SequenceNet


class SemanticIdDecoder(nn.Module):
    """A decoder of semantic ids on top of a sequence net.

    `body` turns a history into a state. The state gives the first digit; after each digit, a small
    net of its level gives the state for the next one.
    """

    def __init__(
        self,
        body: SequenceNet,
        codes: np.ndarray,
        sizes: Sequence[int],
        width: int,
        dropout: float = 0.0,
        conditions: int = 0,
    ) -> None:
        """Make the decoder of unique codes (N, L), with `sizes` digits per level.

        `conditions` is the width E of what may be asked for besides the history; 0: nothing may.
        """
        super().__init__()
        self.body = body
        self.trie = Trie.of(codes)
        self.sizes = list(sizes)
        self.codes: Tensor
        self.nodes: Tensor
        code_tensor = torch.from_numpy(codes.astype(np.int64))
        nodes = self.trie.paths() if len(codes) else code_tensor
        self.register_buffer("codes", code_tensor, persistent=False)
        self.register_buffer("nodes", nodes, persistent=False)
        inner_sizes = sizes[:-1]
        self.heads = nn.ModuleList([nn.Linear(width, size) for size in sizes])
        self.digit_embeddings = nn.ModuleList([nn.Embedding(size, width) for size in inner_sizes])
        self.digit_layers = nn.ModuleList([FeedForward(width, dropout, 2) for _ in inner_sizes])
        self.digit_norms = nn.ModuleList([nn.LayerNorm(width) for _ in inner_sizes])
        self.state_norms = nn.ModuleList([nn.LayerNorm(width) for _ in inner_sizes])
        for part in (*self.heads, *self.digit_embeddings):
            nn.init.normal_(part.weight, std=0.02)
        self.condition = Conditioned(width, conditions) if conditions else None
        self._masks: list[Tensor] = []

    def logits(self, level: int, state: Tensor) -> Tensor:
        """Return the logits (M, V) of the digit of this level, from states (M, D)."""
        return self.heads[level](self.state_norms[level - 1](state) if level else state)

    def advance(self, level: int, state: Tensor, digit: Tensor) -> Tensor:
        """Return the states (M, D) after digits (M,) of this level."""
        x = state + self.digit_embeddings[level](digit)
        return x + self.digit_layers[level](self.digit_norms[level](x))

    def conditioned(self, states: Tensor, conditions: np.ndarray | None) -> Tensor:
        """Return states (M, D) changed by conditions (M, E); None changes nothing."""
        if conditions is None or self.condition is None:
            return states
        values = torch.from_numpy(np.asarray(conditions, dtype=np.float32))
        return self.condition(states, values.to(states.device))

    def log_probs(self, states: Tensor, digits: Tensor) -> Tensor:
        """Return (M,) the log-probabilities of codes (M, L), whether they exist or not.

        All digits of a level share its probability, so a code that no item has is possible too. Of
        codes that exist, `item_log_probs` says them among what exists.
        """
        total = torch.zeros(len(states), device=states.device)
        for level in range(len(self.sizes)):
            log_shares = self.logits(level, states).float().log_softmax(dim=1)
            total = total + log_shares.gather(1, digits[:, level, None])[:, 0]
            if level + 1 < len(self.sizes):
                states = self.advance(level, states, digits[:, level])
        return total

    def item_log_probs(self, states: Tensor, items: Tensor, closed: bool = True) -> Tensor:
        """Return (M,) the log-probabilities of items (M,) from states (M, D)."""
        losses = self._digit_losses(states, items, closed, "none")
        return -torch.stack(list(losses)).sum(dim=0)

    def loss(self, states: Tensor, items: Tensor, closed: bool = True) -> Tensor:
        """Return the mean of -log p(item) over states (M, D) and their next items (M,).

        An item's log-probability is the sum over its digits; `closed` gives digits that cannot
        follow no share.
        """
        total = torch.zeros((), device=states.device)
        for digit_loss in self._digit_losses(states, items, closed, "mean"):
            total = total + digit_loss
        return total

    def _digit_losses(
        self, states: Tensor, items: Tensor, closed: bool, reduction: str
    ) -> Iterator[Tensor]:
        """Yield per level the cross-entropy of the items' digits, reduced over the M items."""
        for level in range(len(self.sizes)):
            logits = self.logits(level, states).float()
            digits = self.codes[items, level]
            if closed:
                prefixes = self.nodes[items, level - 1] if level else torch.zeros_like(items)
                allowed = self._allowed_digits(level, logits.device)[prefixes]
                logits = logits.masked_fill(~allowed, float("-inf"))
            yield cross_entropy(logits, digits, reduction=reduction)
            if level + 1 < len(self.sizes):
                states = self.advance(level, states, digits)

    def _allowed_digits(self, level: int, device: torch.device) -> Tensor:
        """Return (P, V) bool the digits that may follow each prefix; computed once."""
        if not self._masks:
            trie = self.trie.to(device)
            self._masks = [trie.allowed(depth, size) for depth, size in enumerate(self.sizes)]
        return self._masks[level]

    @property
    def device(self) -> torch.device:
        return self.body.device
