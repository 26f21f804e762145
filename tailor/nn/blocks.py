"""Layers of sequence encoders, each (B, T, D) -> (B, T, D): B sequences, T positions, D width.

Sequences are padded at the right; a causal block gives the same states whatever follows them.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, one_hot, silu

from tailor.nn.attention import CrossAttention, SelfAttention, padding_bias
from tailor.nn.dropout import Dropout
from tailor.nn.positions import DistanceBias, TimeBias


class FeedForward(nn.Module):
    """Two linear layers with GELU between; `factor` times as wide inside."""

    def __init__(self, width: int, dropout: float, factor: int = 4) -> None:
        super().__init__()
        self.up_proj = nn.Linear(width, factor * width)
        self.down_proj = nn.Linear(factor * width, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.dropout(gelu(self.up_proj(x))))


class MixtureOfExperts(nn.Module):
    """Many feed-forward nets of which each position uses the best few (Shazeer et al. 2017).

    `active` is their number. Each pass leaves the load-balancing loss of Switch (Fedus et al. 2021)
    in `balance`: add a hundredth of it to the loss.
    """

    def __init__(
        self, width: int, experts: int, active: int = 2, dropout: float = 0.0, factor: int = 2
    ) -> None:
        super().__init__()
        if not 1 <= active <= experts:
            raise ValueError(
                f"{active} of {experts} experts cannot be active: at least 1, at most all"
            )
        self.gate = nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList([FeedForward(width, dropout, factor) for _ in range(experts)])
        self.active = active
        self.balance: Tensor = torch.zeros(())

    def __getstate__(self) -> dict[str, Any]:
        # a copy needs no way back through the last pass, and PyTorch copies no such tensor
        return self.__dict__ | {"balance": self.balance.detach()}

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])  # B * T, D
        probabilities = self.gate(flat).float().softmax(dim=-1)  # B * T, experts
        weights, chosen = probabilities.topk(self.active, dim=-1)  # B * T, active
        weights = (weights / weights.sum(dim=-1, keepdim=True)).to(x.dtype)
        usage = one_hot(chosen[:, 0], len(self.experts)).float().mean(dim=0)
        self.balance = len(self.experts) * (usage * probabilities.mean(dim=0)).sum()
        out = torch.zeros_like(flat)
        for i, expert in enumerate(self.experts):
            row, rank = (chosen == i).nonzero(as_tuple=True)
            if len(row):
                weighted = expert(flat[row]) * weights[row, rank, None]
                out = out.index_add(0, row, weighted.to(out.dtype))
        return out.view_as(x)


class TransformerBlock(nn.Module):
    """Attention, then a feed-forward net, each with a norm before and a residual (pre-LN).

    `gated` makes it a LiGR block (Borisyuk et al. 2024), which multiplies what each part adds by a
    sigmoid of its own input.
    """

    def __init__(
        self,
        width: int,
        heads: int = 1,
        dropout: float = 0.0,
        gated: bool = False,
        causal: bool = True,
        attention: nn.Module | None = None,
        feed_forward: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.attention = attention or SelfAttention(width, heads, causal)
        self.feed_forward = feed_forward or FeedForward(width, dropout)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        self.gates: nn.ModuleList | None = None
        if gated:
            self.gates = nn.ModuleList([nn.Linear(width, width), nn.Linear(width, width)])

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        bias: Tensor | None = None,
        **inputs: Tensor,
    ) -> Tensor:
        """(B, T, D) -> (B, T, D); attention that is not causal needs `lengths` (B,) or a bias.

        A `bias` (B or 1, 1, T, T) of the logits stands for that of the lengths. Further inputs are
        not used.
        """
        if bias is None and lengths is not None:
            bias = padding_bias(lengths, x.shape[1])
        biases = () if bias is None else (bias,)
        x = self._add(x, self.attention(self.norm1(x), *biases), 0)
        return self._add(x, self.feed_forward(self.norm2(x)), 1)

    def forward_first(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) -> (B, 1, D): the first position as `forward` gives it; not causal.

        For the last block of a net whose answer is read at the first position.
        """
        attention = cast(SelfAttention, self.attention)
        mixed = attention.forward_first(self.norm1(x), padding_bias(lengths, x.shape[1]))
        first = self._add(x[:, :1], mixed, 0)
        return self._add(first, self.feed_forward(self.norm2(first)), 1)

    def forward_last(self, x: Tensor, count: int, bias: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, count, D): the last positions as `forward` gives them; not causal.

        `bias` is that of the attention, such as `padding_bias`.
        """
        attention = cast(SelfAttention, self.attention)
        mixed = attention.forward_last(self.norm1(x), count, bias)
        last = self._add(x[:, x.shape[1] - count :], mixed, 0)
        return self._add(last, self.feed_forward(self.norm2(last)), 1)

    def _add(self, x: Tensor, update: Tensor, i: int) -> Tensor:
        """Return `x` with the update of part `i` added, gated where there are gates."""
        update = self.dropout(update)
        return x + update if self.gates is None else x + update * torch.sigmoid(self.gates[i](x))


def expert_blocks(
    blocks: int, width: int, heads: int, dropout: float, experts: int
) -> list[nn.Module]:
    """Return causal transformer blocks whose feed-forward net is a mixture of experts.

    Each position uses the best two. Add `load_balance` of the net to its loss.
    """
    return [
        TransformerBlock(
            width,
            heads,
            dropout,
            feed_forward=MixtureOfExperts(width, experts, min(2, experts), dropout),
        )
        for _ in range(blocks)
    ]


def load_balance(net: nn.Module) -> Tensor:
    """Return the sum of the load-balancing losses of a net's mixtures, from its last pass."""
    mixtures = [part for part in net.modules() if isinstance(part, MixtureOfExperts)]
    return torch.stack([mixture.balance for mixture in mixtures]).sum()


class DecoderBlock(nn.Module):
    """A causal transformer block with cross-attention over an encoder's states."""

    def __init__(self, width: int, heads: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.self_attention = SelfAttention(width, heads)
        self.cross_attention = CrossAttention(width, heads)
        self.feed_forward = FeedForward(width, dropout)
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(3)])
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, T, D) and a memory (B, S, D) with `lengths` (B,) -> (B, T, D)."""
        x = x + self.dropout(self.self_attention(self.norms[0](x)))
        x = x + self.dropout(self.cross_attention(self.norms[1](x), memory, lengths))
        return x + self.dropout(self.feed_forward(self.norms[2](x)))


class HSTUBlock(nn.Module):
    """Gated attention without softmax (Zhai et al. 2024, "Actions Speak Louder than Words").

    SiLU(linear) gives U, V, Q, K; A = SiLU(QK' + bias by distance and time) / T, so that many like
    events weigh more than one; the state grows by linear(LN(AV) * U). Differs from the paper: A is
    divided by the longest length that the block is made for, not by the batch's.
    """

    def __init__(self, width: int, length: int, heads: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} cannot be divided among {heads} heads")
        self.heads = heads
        self.length = length
        self.uvqk_proj = nn.Linear(width, 4 * width)
        self.out_proj = nn.Linear(width, width)
        self.input_norm = nn.LayerNorm(width)
        self.output_norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        self.distance = DistanceBias(length)
        self.time = TimeBias()

    def forward(self, x: Tensor, times_ms: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D); `times_ms` (B, T) int64 adds the bias by time."""
        projected = silu(self.uvqk_proj(self.input_norm(x)))
        gate, value, query, key = projected.chunk(4, dim=-1)
        value, query, key = (
            part.view(*x.shape[:2], self.heads, -1).transpose(1, 2) for part in (value, query, key)
        )  # B, H, T, D / H
        logits = query @ key.transpose(-1, -2) + self.distance(x.shape[1]).to(x.dtype)
        if times_ms is not None:
            logits = logits + self.time(times_ms)[:, None]
        weights = silu(logits).tril() / self.length
        mixed = (weights.to(value.dtype) @ value).transpose(1, 2).reshape(x.shape)
        return x + self.out_proj(self.dropout(self.output_norm(mixed) * gate))


class GRULayers(nn.Module):
    """Gated recurrent layers (Cho et al. 2014): the state after each event, from left to right."""

    def __init__(self, width: int, layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        inner_dropout = dropout if layers > 1 else 0.0
        self.gru = nn.GRU(width, width, layers, batch_first=True, dropout=inner_dropout)

    def forward(self, x: Tensor) -> Tensor:
        states: Tensor = self.gru(x)[0]
        return states
