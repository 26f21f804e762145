"""A net for which an item is a set of tokens, and the next item is generated all at once.

Shapes: B sequences, T events, P positions that predict, Q tokens of an item, N items, D width,
C width of behaviour vectors, E width of text vectors, n rows of items.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tailor.nn.attention import SelfAttention, group_bias
from tailor.nn.blocks import TransformerBlock
from tailor.nn.dropout import Dropout
from tailor.nn.item_encoders import TextMap

SHARPNESS = 4  # halvings of the slope from one head to the next


class TextTokens(nn.Module):
    """An autoencoder whose inner vector is cut into several tokens."""

    def __init__(self, dims: int, tokens: int, width: int, hidden: Sequence[int]) -> None:
        super().__init__()
        sizes = [dims, *hidden, tokens * width]
        self.scale = dims**0.5  # brings the numbers of a unit vector to about one
        self.tokens = tokens
        self.encoder = _layers(sizes)
        self.decoder = _layers(sizes[::-1])

    def forward(self, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens (n, tokens, D) of texts (n, E), and their mean squared error."""
        inner = self.encoder(texts * self.scale)
        error = (self.decoder(inner) - texts * self.scale).square().mean()
        return inner.unflatten(-1, (self.tokens, -1)), error


def _layers(sizes: Sequence[int]) -> nn.Sequential:
    """Return linear maps from size to size, with tanh between.

    An odd function: with ReLU the vectors of all items begin alike, and cosines take long to part.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


class TokenSetNet(nn.Module):
    """Item tokens -> blocks -> the tokens of the next item, one state for each.

    The first token of an item is a linear map of its behaviour vector, the others come from its
    text. Tokens of one item share a position and do not read each other. As many learned queries
    read the history at a position, and each is compared with its own token of every item. Logits
    of attention fall with the distance (Press et al. 2022): in the first head so fast that it reads
    the latest items.
    Behaviour and text vectors are no weights: they are passed again whenever the net is built.
    """

    def __init__(
        self,
        behaviour: Tensor,
        texts: Tensor,
        text_tokens: TextTokens,
        blocks: Sequence[TransformerBlock],
        length: int,
        width: int,
        dropout: float = 0.0,
        separate: bool = True,
    ) -> None:
        """Make the net for behaviour vectors (N, C) and texts (N, E) of items.

        `separate` False lets the tokens of one item read each other.
        """
        super().__init__()
        self.behaviour: Tensor
        self.texts: Tensor
        self.register_buffer("behaviour", behaviour, persistent=False)
        self.register_buffer("texts", texts, persistent=False)
        self.behaviour_map = TextMap(behaviour.shape[1], width)
        self.text_tokens = text_tokens
        # as long as tokens, so that attention can tell positions apart from the first step on
        scale = width**-0.5
        self.positions = nn.Parameter(torch.randn(length, width) * scale)
        self.queries = nn.Parameter(torch.randn(1 + text_tokens.tokens, width) * scale)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(blocks)
        heads = cast(SelfAttention, blocks[0].attention).heads
        self.slopes: Tensor
        # from NumPy, so that it has numbers where a loaded net is built without any
        slopes = torch.from_numpy(0.5 ** (SHARPNESS * np.arange(heads, dtype=np.float32)))
        self.register_buffer("slopes", slopes, persistent=False)
        self.norm = nn.LayerNorm(width)
        self.separate = separate
        self._catalogue: Tensor | None = None

    def tokens(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens (n, Q, D) of items (n,), and the error of restoring their texts.

        Tokens have length one, so that each is compared by its cosine.
        """
        of_texts, error = self.text_tokens(self.texts[rows])
        of_behaviour = self.behaviour_map(self.behaviour[rows])
        tokens = torch.cat([of_behaviour[:, None], of_texts], dim=1)
        return normalize(tokens.float(), dim=-1), error

    def catalogue(self) -> Tensor:
        """Return the tokens (N, Q, D) of all items; computed once in evaluation mode."""
        if self._catalogue is None:
            rows = torch.arange(len(self.texts), device=self.device)
            if self.training or torch.is_grad_enabled():
                return self.tokens(rows)[0]
            self._catalogue = self.tokens(rows)[0]
        return self._catalogue

    def states(self, tokens: Tensor, places: Tensor) -> Tensor:
        """Return the unit states (B, P, Q, D) of the queries after events at places (B or 1, P).

        `tokens` (B, T, Q, D) are those of the history, padded at the right. Nothing reads a query,
        so states at one place are the same whatever other places are asked about.
        """
        batch, events, size, width = tokens.shape
        history = tokens + self.positions[:events, None]
        queries = self.queries + self.positions[places][:, :, None]  # B or 1, P, Q, D
        queries = queries.expand(batch, -1, -1, -1)
        x = self.dropout(torch.cat([history.flatten(1, 2), queries.flatten(1, 2)], dim=1))
        bias = self._bias(events, size, places)
        for block in self.blocks:
            x = block(x, bias=bias)
        states = self.norm(x[:, events * size :]).view(batch, -1, size, width)
        return normalize(states.float(), dim=-1)

    def _bias(self, events: int, size: int, places: Tensor) -> Tensor:
        """Return the bias (B or 1, H, T * Q + P * Q, the same) of what reads what."""
        of_history = torch.arange(events, device=self.device).repeat_interleave(size)
        of_queries = places.repeat_interleave(size, dim=1)
        positions = torch.cat([of_history.expand(len(places), -1), of_queries], dim=1)
        is_query = torch.arange(positions.shape[1], device=self.device) >= events * size
        bias = group_bias(2 * positions + is_query, is_query)
        if not self.separate:
            same = of_history[:, None] == of_history
            bias[:, : len(same), : len(same)].masked_fill_(same, 0.0)
        distance = (positions[:, :, None] - positions[:, None]).clamp(min=0)
        return bias[:, None] - self.slopes[:, None, None] * distance[:, None]

    def train(self, mode: bool = True) -> "TokenSetNet":
        self._catalogue = None
        return super().train(mode)

    @property
    def device(self) -> torch.device:
        return self.norm.weight.device
