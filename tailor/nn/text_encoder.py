"""Nets that read texts: a bidirectional encoder whose answer is the state of its first token.

Shapes: B texts, T positions, D width, N items.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tailor.nn.blocks import TransformerBlock
from tailor.nn.dropout import Dropout

# rows of the word table: the token before every text, and the token that replaces a hidden word
FIRST_TOKEN, MASK_TOKEN = 0, 1
SPECIAL_TOKENS = 2  # rows that are no words


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """A batch of texts, each with `FIRST_TOKEN` at position 0."""

    rows: Tensor
    """(B, T) rows of the word table."""
    kinds: Tensor
    """(B, T) kind of each word."""
    parts: Tensor
    """(B, T) part of the text that each word belongs to."""
    lengths: Tensor
    """(B,) positions that are no padding, `FIRST_TOKEN` among them."""


class TextEncoderNet(nn.Module):
    """A bidirectional transformer over words (Devlin et al. 2019).

    Each word has a position, a kind and a part, as in RecFormer (Li et al. 2023). Where only the
    state of the first token is needed, the last block computes it alone.
    """

    def __init__(
        self,
        words: int,
        width: int,
        blocks: int,
        heads: int,
        positions: int,
        kinds: int,
        parts: int,
        dropout: float,
    ) -> None:
        """Make the net: numbers of words (without special tokens), positions, kinds and parts."""
        super().__init__()
        self.word_embedding = nn.Embedding(words + SPECIAL_TOKENS, width)
        self.position_embedding = nn.Embedding(positions, width)
        self.kind_embedding = nn.Embedding(kinds, width)
        self.part_embedding = nn.Embedding(parts, width)
        self.blocks = nn.ModuleList(
            [TransformerBlock(width, heads, dropout, causal=False) for _ in range(blocks)]
        )
        self.embedding_norm = nn.LayerNorm(width)
        self.final_norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        # attention begins as a mean, so that texts of similar words are near each other before
        # anything is learned
        for block in self.blocks:
            attention: Any = block.attention
            nn.init.eye_(attention.qkv_proj.weight[2 * width :])
            nn.init.eye_(attention.out_proj.weight)

    def forward(self, text: TokenBatch) -> Tensor:
        """Return the state (B, D) of the first token."""
        last: Any = self.blocks[-1]
        x = self._before_last_block(text)
        return self.final_norm(last.forward_first(x, text.lengths)[:, 0])

    def all_positions(self, text: TokenBatch) -> Tensor:
        """Return the states (B, T, D) of all positions; at position 0 that of `forward`."""
        return self.final_norm(self.blocks[-1](self._before_last_block(text), text.lengths))

    def _before_last_block(self, text: TokenBatch) -> Tensor:
        positions = torch.arange(text.rows.shape[1], device=text.rows.device)
        x = (
            self.word_embedding(text.rows)
            + self.position_embedding(positions)
            + self.kind_embedding(text.kinds)
            + self.part_embedding(text.parts)
        )
        x = self.dropout(self.embedding_norm(x))
        for block in self.blocks[:-1]:
            x = block(x, text.lengths)
        return x

    @property
    def device(self) -> torch.device:
        return self.word_embedding.weight.device


class TextMatcher(nn.Module):
    """A text encoder of histories and items, with the item vectors that it made last."""

    def __init__(
        self, text_encoder: TextEncoderNet, items: int, width: int, temperature: float
    ) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.temperature = temperature
        self.masked_word_proj = nn.Linear(width, width)  # states -> compared with hidden words
        self.item_vectors: Tensor
        self.register_buffer("item_vectors", torch.zeros(items, width))

    def states(self, text: TokenBatch) -> Tensor:
        """Return states (B, D) of histories, compared with `item_vectors` by inner product."""
        return self.comparable(self.text_encoder(text)) / self.temperature

    def comparable(self, vectors: Tensor) -> Tensor:
        """Return item vectors as states are compared with them: of unit length."""
        return normalize(vectors.float(), dim=-1)

    def catalogue(self) -> Tensor:
        """Return all item vectors (N, D), of unit length."""
        return self.item_vectors

    @property
    def device(self) -> torch.device:
        return self.text_encoder.device
