"""Run a transformer on one sequence in NumPy.

For a single query, PyTorch's overhead per module takes longer than the products. Shapes: T
positions, Q of them that are computed, D width, H heads, N items.
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

Linear = tuple[np.ndarray, np.ndarray]  # weights (D_in, D_out), biases (D_out,)
Norm = tuple[np.ndarray, np.ndarray, float]  # weights, biases, epsilon


@dataclass(frozen=True, eq=False)
class _Block:
    """The arrays of a causal transformer block."""

    heads: int
    norm1: Norm
    qkv_proj: Linear
    out_proj: Linear
    norm2: Norm
    up_proj: Linear
    down_proj: Linear


class NumpyTransformer:
    """A NumPy copy of a `SequenceNet` made of causal transformer blocks.

    It has an embedding table and learned positions, and gives the state after the last event; the
    net's own up to rounding.
    """

    def __init__(
        self, items: np.ndarray, positions: np.ndarray, blocks: list[_Block], norm: Norm
    ) -> None:
        self.items = items
        self.positions = positions
        self.blocks = blocks
        self.norm = norm

    @classmethod
    def of(cls, net: Any) -> "NumpyTransformer | None":
        """Return the copy of a `SequenceNet`, or None where the net has another form.

        Another form: other parts, a number format other than float32, or another device than the
        CPU.
        """
        if type(net.table) is not nn.Embedding or type(net.positions) is not LearnedPositions:
            return None
        if any(
            weight.device.type != "cpu" or weight.dtype != torch.float32
            for weight in net.parameters()
        ):
            return None
        blocks = [_copy_block(layer) for layer in net.layers]
        if not blocks or any(block is None for block in blocks):
            return None
        return cls(
            _as_array(net.table.weight),
            _as_array(net.positions.table),
            [block for block in blocks if block is not None],
            _copy_norm(net.norm),
        )

    def state(self, rows: np.ndarray) -> np.ndarray:
        """Return the state (D,) after item rows (T,), oldest first."""
        x = self.items[rows] + self.positions[: len(rows)]
        for block in self.blocks[:-1]:
            x = _apply_block(block, x, x)
        last: np.ndarray = _apply_norm(_apply_block(self.blocks[-1], x, x[-1:]), self.norm)[0]
        return last


def _apply_block(block: _Block, x: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return the block's output (Q, D) at `queries`, the last Q positions of `x` (T, D)."""
    mixed = _attend(block, _apply_norm(x, block.norm1), len(queries))
    x = queries + _apply_linear(mixed, block.out_proj)
    hidden = _apply_linear(_apply_norm(x, block.norm2), block.up_proj)
    return x + _apply_linear(hidden * ndtr(hidden), block.down_proj)


def _attend(block: _Block, x: np.ndarray, count: int) -> np.ndarray:
    """Return (Q, D) causal attention of the last `count` positions of `x` (T, D)."""
    positions, width = x.shape
    qkv = _apply_linear(x, block.qkv_proj)
    query, key, value = qkv.reshape(positions, 3, block.heads, -1).transpose(1, 2, 0, 3)
    scale = np.float32(np.sqrt(width // block.heads))
    logits = query[:, -count:] @ key.transpose(0, 2, 1) / scale  # H, Q, T
    if count > 1:
        logits += np.triu(np.full((count, positions), -np.inf, dtype=np.float32), 1)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return (weights @ value).transpose(1, 0, 2).reshape(count, width)


def _apply_linear(x: np.ndarray, layer: Linear) -> np.ndarray:
    weight, bias = layer
    return x @ weight + bias


def _apply_norm(x: np.ndarray, norm: Norm) -> np.ndarray:
    weight, bias, epsilon = norm
    width = np.float32(x.shape[-1])
    x = x - x.sum(axis=-1, keepdims=True) / width
    scale = np.sqrt((x * x).sum(axis=-1, keepdims=True) / width + np.float32(epsilon))
    return x / scale * weight + bias


def _copy_block(block: nn.Module) -> _Block | None:
    """Return the arrays of a block; None where it has another form."""
    if type(block) is not TransformerBlock or block.gates is not None:
        return None
    attention, feed_forward = block.attention, block.feed_forward
    if type(attention) is not SelfAttention or type(feed_forward) is not FeedForward:
        return None
    if attention.rotary or not attention.causal:
        return None
    return _Block(
        attention.heads,
        _copy_norm(block.norm1),
        _copy_linear(attention.qkv_proj),
        _copy_linear(attention.out_proj),
        _copy_norm(block.norm2),
        _copy_linear(feed_forward.up_proj),
        _copy_linear(feed_forward.down_proj),
    )


def _copy_linear(layer: nn.Linear) -> Linear:
    return _as_array(layer.weight).T.copy(), _as_array(layer.bias)


def _copy_norm(norm: nn.LayerNorm) -> Norm:
    return _as_array(norm.weight), _as_array(norm.bias), norm.eps


def _as_array(weight: torch.Tensor) -> np.ndarray:
    array: np.ndarray = weight.detach().numpy()
    return array
