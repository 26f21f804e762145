"""A net over words and items that sees the picture just before each token.

Shapes: B sequences, T tokens, M tokens with a picture before them, P pictures, R regions of a
picture, S pixels of a side, D width.
"""

from typing import Any

import torch
from torch import Tensor, nn

from tailor.nn.attention import CrossAttention
from tailor.nn.pictures import RegionEncoder
from tailor.nn.token_net import TokenNet

GATE_SPEED = 10.0  # times that a gate moves as fast as other weights; fits have hundreds of steps


class GatedCrossAttention(nn.Module):
    """Add to every token what it reads in its picture, behind a gate.

    After Alayrac et al. 2022 (Flamingo): what is added is multiplied by tanh of a gate, which
    starts at 0, so the net begins as one that sees nothing.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = CrossAttention(width, heads)
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, regions: Tensor, pictures: Tensor) -> Tensor:
        """Tokens (B, T, D), regions (P, R, D), pictures (B, T) of tokens, -1: none -> (B, T, D)."""
        sees = pictures >= 0
        if not sees.any():
            return x
        tokens = self.norm(x[sees])[:, None]  # M, 1, D
        read = self.attention(tokens, regions[pictures[sees]])[:, 0]  # M, D
        added = torch.zeros_like(x)
        added[sees] = (self.opening() * read).to(x.dtype)
        return x + added

    def opening(self) -> Tensor:
        """Return the factor (1,) of what is added, from -1 to 1; 0: shut."""
        return torch.tanh(GATE_SPEED * self.gate)


class PicturedNet(TokenNet):
    """A `TokenNet` with gated cross-attention to pictures before each of its layers.

    Tokens with no picture before them are read as a `TokenNet` reads them.
    """

    def __init__(self, *arguments: Any, heads: int = 1, **settings: Any) -> None:
        """Make the net with the arguments of a `TokenNet`; `heads` attend to regions.

        The weights of the `TokenNet` are drawn first.
        """
        super().__init__(*arguments, **settings)
        width = self.words.weight.shape[1]
        self.picture_encoder = RegionEncoder(width)
        blocks = [GatedCrossAttention(width, heads) for _ in self.layers]
        self.gates = nn.ModuleList(blocks)
        for part in (*self.picture_encoder.modules(), *self.gates.modules()):
            if isinstance(part, nn.Linear | nn.Conv2d):
                inputs = part.weight[0].numel()
                nn.init.normal_(part.weight, std=inputs**-0.5)

    def read(
        self, tokens: Tensor, pictures: Tensor | None = None, pixels: Tensor | None = None
    ) -> Tensor:
        """Return the states (B, T, D) after each of the tokens (B, T).

        `pictures` (B, T) is the number in `pixels` (P, S, S, 3) uint8 of the last picture up to
        each token, -1 where there is none. Without them there are no pictures.
        """
        if pictures is None or pixels is None or not len(pixels):
            return super().read(tokens)
        return self.states(
            self.embed(tokens), regions=self.picture_encoder(pixels), pictures=pictures
        )

    def encode(self, vectors: Tensor, **inputs: Tensor) -> Tensor:
        if "pictures" not in inputs:
            return super().encode(vectors, **inputs)
        x = self._placed(vectors)
        for gate, layer in zip(self.gates, self.layers, strict=True):
            x = layer(gate(x, inputs["regions"], inputs["pictures"]))
        return x

    def open_gates(self) -> list[float]:
        """Return the tanh of the gate before each layer; 0: it sees nothing."""
        return [float(block.opening().item()) for block in self._blocks()]

    def _blocks(self) -> list[GatedCrossAttention]:
        return [block for block in self.gates if isinstance(block, GatedCrossAttention)]
