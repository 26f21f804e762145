"""Nets that read words: an encoder that looks at all of them at once, and answers at a mark in
front.

Shapes: B texts, T places, D width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tailor.nn.blocks import TransformerBlock
from tailor.nn.dropout import Dropout

# rows of the word table: the mark in front of every text, and what stands for a hidden word
FRONT, MASK = 0, 1
MARKS = 2  # rows that are no words


@dataclass(frozen=True, eq=False)
class Words:
    """A batch of texts, each with `FRONT` at place 0: rows of the word table, what kind of word
    each is, which part of the text it belongs to; (B, T) each.
    """

    rows: Tensor
    kinds: Tensor
    parts: Tensor
    lengths: Tensor
    """(B,) places that are no padding, `FRONT` among them."""


class WordReader(nn.Module):
    """Words with their place, kind and part -> bidirectional transformer blocks -> the state of the
    mark in front, or of every place.

    Devlin et al. (2019), with the marks of kind and part of RecFormer (Li et al. 2023). Where only
    the mark is asked for, the last block works at it alone.
    """

    def __init__(
        self,
        words: int,
        width: int,
        blocks: int,
        heads: int,
        places: int,
        kinds: int,
        parts: int,
        dropout: float,
    ) -> None:
        """`words` rows of the table besides the marks; texts up to `places` places, with kinds and
        parts below the numbers given.
        """
        super().__init__()
        self.words, self.place = nn.Embedding(words + MARKS, width), nn.Embedding(places, width)
        self.kind, self.part = nn.Embedding(kinds, width), nn.Embedding(parts, width)
        self.blocks = nn.ModuleList(
            [TransformerBlock(width, heads, dropout, causal=False) for _ in range(blocks)]
        )
        self.inward, self.outward, self.drop = (
            nn.LayerNorm(width),
            nn.LayerNorm(width),
            Dropout(dropout),
        )
        for part in self.modules():
            if isinstance(part, nn.Linear | nn.Embedding):
                nn.init.normal_(part.weight, std=0.02)
            if isinstance(part, nn.Linear):
                nn.init.zeros_(part.bias)
        # attention begins as a mean, so that texts of like words are near each other before
        # anything is learned
        for block in self.blocks:
            attention: Any = block.attention
            nn.init.eye_(attention.inward.weight[2 * width :])
            nn.init.eye_(attention.outward.weight)

    def forward(self, text: Words) -> Tensor:
        """(B, D) the state of the mark in front."""
        x = self._before_last(text)
        return self.outward(self.blocks[-1].of_first(x, text.lengths)[:, 0])  # type: ignore[operator]

    def everywhere(self, text: Words) -> Tensor:
        """(B, T, D) the states of all places; at place 0 what `forward` gives."""
        return self.outward(self.blocks[-1](self._before_last(text), text.lengths))

    def _before_last(self, text: Words) -> Tensor:
        places = torch.arange(text.rows.shape[1], device=text.rows.device)
        x = (
            self.words(text.rows)
            + self.place(places)
            + self.kind(text.kinds)
            + self.part(text.parts)
        )
        x = self.drop(self.inward(x))
        for block in self.blocks[:-1]:
            x = block(x, text.lengths)
        return x

    @property
    def device(self) -> torch.device:
        return self.words.weight.device


class MatchingReader(nn.Module):
    """A reader of histories and of items, with the vectors of all items that it was last asked to
    make.
    """

    def __init__(self, reader: WordReader, items: int, width: int, temperature: float) -> None:
        super().__init__()
        self.reader, self.temperature = reader, temperature
        self.guess = nn.Linear(width, width)  # states -> what hidden words are compared with
        self.matrix: Tensor
        self.register_buffer("matrix", torch.zeros(items, width))

    def states(self, text: Words) -> Tensor:
        """(B, D) of histories, to be compared with `matrix` by inner product."""
        return self.comparable(self.reader(text)) / self.temperature

    def comparable(self, vectors: Tensor) -> Tensor:
        return nn.functional.normalize(vectors.float(), dim=-1)

    def catalogue(self) -> Tensor:
        """(N, D) of unit length."""
        return self.matrix

    @property
    def device(self) -> torch.device:
        return self.reader.device


def arrays_of(net: nn.Module) -> dict[str, np.ndarray]:
    """The weights of a net by name, copied."""
    return {
        name: weight.detach().cpu().float().numpy().copy()
        for name, weight in net.state_dict().items()
    }


def put_arrays(net: nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Give a net the weights that `arrays_of` took."""
    net.load_state_dict({name: torch.from_numpy(one) for name, one in arrays.items()})
