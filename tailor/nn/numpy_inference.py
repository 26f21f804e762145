"""One sequence through a transformer, in NumPy: for a lone query PyTorch's way through its modules
takes longer than the products do.

Shapes: T places, D width, H heads, N items.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import ndtr
from torch import nn

from tailor.nn.attention import SelfAttention
from tailor.nn.blocks import FeedForward, TransformerBlock
from tailor.nn.positions import LearnedPositions

Linear = tuple[np.ndarray, np.ndarray]  # (D_in, D_out) and (D_out,)
Norm = tuple[np.ndarray, np.ndarray, float]  # weights, biases, epsilon


@dataclass(frozen=True, eq=False)
class _Block:
    heads: int
    before: Norm
    inward: Linear
    outward: Linear
    between: Norm
    widen: Linear
    narrow: Linear


class Alone:
    """The state after the last event, as a net makes it of an embedding table, learned positions
    and causal transformer blocks: the same up to rounding.
    """

    def __init__(
        self, items: np.ndarray, positions: np.ndarray, blocks: list[_Block], norm: Norm
    ) -> None:
        self.items, self.positions, self.blocks, self.norm = items, positions, blocks, norm

    @classmethod
    def of(cls, net: Any) -> "Alone | None":
        """That of a `SequenceNet`; None for one that has other parts, or is not in float32 on the
        processor.
        """
        parts = (type(net.table), type(net.positions), *map(type, net.layers))
        if (
            parts[:2] != (nn.Embedding, LearnedPositions)
            or not len(net.layers)
            or any(one is not TransformerBlock for one in parts[2:])
        ):
            return None
        if any(
            weight.device.type != "cpu" or weight.dtype != torch.float32
            for weight in net.parameters()
        ):
            return None
        blocks = [_block(one) for one in net.layers]
        if any(one is None for one in blocks):
            return None
        return cls(
            _array(net.table.weight),
            _array(net.positions.table),
            [one for one in blocks if one is not None],
            _norm_of(net.norm),
        )

    def state(self, rows: np.ndarray) -> np.ndarray:
        """(T,) item rows, oldest first -> (D,)."""
        x = self.items[rows] + self.positions[: len(rows)]
        for block in self.blocks[:-1]:
            x = _through(block, x, x)
        last: np.ndarray = _normed(_through(self.blocks[-1], x, x[-1:]), self.norm)[0]
        return last


def _through(block: _Block, x: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """What the block makes of `asked` (A, D), the last A places of `x` (T, D)."""
    places, width = x.shape
    # 3, H, T, D / H
    inward = (
        _linear(_normed(x, block.before), block.inward)
        .reshape(places, 3, block.heads, -1)
        .transpose(1, 2, 0, 3)
    )
    # H, A, T
    logits = (
        inward[0][:, -len(asked) :]
        @ inward[1].transpose(0, 2, 1)
        / np.float32(np.sqrt(width // block.heads))
    )
    if len(asked) > 1:
        logits += np.triu(np.full((len(asked), places), -np.inf, dtype=np.float32), 1)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    x = asked + _linear(
        (weights @ inward[2]).transpose(1, 0, 2).reshape(len(asked), width), block.outward
    )
    wide = _linear(_normed(x, block.between), block.widen)
    return x + _linear(wide * ndtr(wide), block.narrow)


def _linear(x: np.ndarray, layer: Linear) -> np.ndarray:
    return x @ layer[0] + layer[1]


def _normed(x: np.ndarray, norm: Norm) -> np.ndarray:
    weight, bias, epsilon = norm
    x = x - x.sum(axis=-1, keepdims=True) / np.float32(x.shape[-1])
    scale = np.sqrt(
        (x * x).sum(axis=-1, keepdims=True) / np.float32(x.shape[-1]) + np.float32(epsilon)
    )
    return x / scale * weight + bias


def _block(block: TransformerBlock) -> _Block | None:
    """None for one of another form."""
    attention, feed_forward = block.attention, block.feed_forward
    if (
        block.gates is not None
        or type(attention) is not SelfAttention
        or type(feed_forward) is not FeedForward
    ):
        return None
    if attention.turned or not attention.causal:
        return None
    inward, outward, widen, narrow = (
        (_array(one.weight).T.copy(), _array(one.bias))
        for one in (attention.inward, attention.outward, feed_forward.widen, feed_forward.narrow)
    )
    return _Block(
        attention.heads,
        _norm_of(block.before),
        inward,
        outward,
        _norm_of(block.between),
        widen,
        narrow,
    )


def _norm_of(norm: nn.LayerNorm) -> Norm:
    return _array(norm.weight), _array(norm.bias), norm.eps


def _array(weight: torch.Tensor) -> np.ndarray:
    out: np.ndarray = weight.detach().numpy()
    return out
