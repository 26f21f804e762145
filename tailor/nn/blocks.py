"""The layers of sequence encoders: what goes in and comes out is (B, T, D), B sequences, T places,
D width.

Sequences are padded at the right; every causal block gives the same states whatever stands behind
them.
"""

from typing import cast

import torch
from torch import Tensor, nn

from tailor.nn.attention import CrossAttention, SelfAttention, padding_bias
from tailor.nn.dropout import Dropout
from tailor.nn.positions import DistanceBias, TimeBias


class FeedForward(nn.Module):
    """Two linear maps with GELU between, four times as wide inside."""

    def __init__(self, width: int, dropout: float, factor: int = 4) -> None:
        super().__init__()
        self.widen, self.narrow, self.drop = (
            nn.Linear(width, factor * width),
            nn.Linear(factor * width, width),
            Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.narrow(self.drop(nn.functional.gelu(self.widen(x))))


class MixtureOfExperts(nn.Module):
    """Many feed-forward nets of which each place uses the best `active` (Shazeer et al. 2017), with
    the load-balancing loss of Switch (Fedus et al. 2021) left in `balance` after each pass: add a
    hundredth of it to the loss.
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

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        share = self.gate(flat).float().softmax(dim=-1)
        weight, chosen = share.topk(self.active, dim=-1)
        weight = (weight / weight.sum(dim=-1, keepdim=True)).to(x.dtype)
        used = nn.functional.one_hot(chosen[:, 0], len(self.experts)).float().mean(dim=0)
        self.balance = len(self.experts) * (used * share.mean(dim=0)).sum()
        out = torch.zeros_like(flat)
        for i, expert in enumerate(self.experts):
            row, place = (chosen == i).nonzero(as_tuple=True)
            if len(row):
                out = out.index_add(
                    0, row, (expert(flat[row]) * weight[row, place, None]).to(out.dtype)
                )
        return out.view_as(x)


class TransformerBlock(nn.Module):
    """Attention, then a feed-forward net, each normalised before and added after (pre-LN).

    `gated` makes it a LiGR block (Borisyuk et al. 2024): what each part adds is weighed by a
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
        self.before, self.between, self.drop = (
            nn.LayerNorm(width),
            nn.LayerNorm(width),
            Dropout(dropout),
        )
        self.gates = (
            nn.ModuleList([nn.Linear(width, width), nn.Linear(width, width)]) if gated else None
        )

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """`lengths` (B,) of what is not padding: needed where the attention is not causal."""
        seen = () if lengths is None else (padding_bias(lengths, x.shape[1]),)
        x = self._add(x, self.attention(self.before(x), *seen), 0)
        return self._add(x, self.feed_forward(self.between(x)), 1)

    def of_first(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) -> (B, 1, D): the first place alone, as `forward` makes it, for the last block
        of a net that is asked there only; not causal.
        """
        attention = cast(SelfAttention, self.attention)
        first = self._add(
            x[:, :1], attention.of_first(self.before(x), padding_bias(lengths, x.shape[1])), 0
        )
        return self._add(first, self.feed_forward(self.between(first)), 1)

    def _add(self, x: Tensor, part: Tensor, i: int) -> Tensor:
        part = self.drop(part)
        return x + part if self.gates is None else x + part * torch.sigmoid(self.gates[i](x))


class DecoderBlock(nn.Module):
    """A causal transformer block that looks at an encoder's states between attention and
    feed-forward net.
    """

    def __init__(self, width: int, heads: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.own, self.other, self.feed_forward = (
            SelfAttention(width, heads),
            CrossAttention(width, heads),
            FeedForward(width, dropout),
        )
        self.norms, self.drop = (
            nn.ModuleList([nn.LayerNorm(width) for _ in range(3)]),
            Dropout(dropout),
        )

    def forward(self, x: Tensor, memory: Tensor, lengths: Tensor | None = None) -> Tensor:
        """`memory` (B, S, D) of which `lengths` (B,) places are real."""
        x = x + self.drop(self.own(self.norms[0](x)))
        x = x + self.drop(self.other(self.norms[1](x), memory, lengths))
        return x + self.drop(self.feed_forward(self.norms[2](x)))


class HSTUBlock(nn.Module):
    """Attention without softmax, gated by the place itself (Zhai et al. 2024, "Actions Speak Louder
    than Words").

    SiLU(linear) gives U, V, Q, K; A = SiLU(QK' + bias by distance and time) / T, so that many like
    events weigh more than one; the state grows by linear(LN(AV) * U). Differs from the paper: A is
    divided by the longest length the block is made for, not by the batch's.
    """

    def __init__(self, width: int, length: int, heads: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} cannot be divided among {heads} heads")
        self.heads, self.length = heads, length
        self.inward, self.outward = nn.Linear(width, 4 * width), nn.Linear(width, width)
        self.before, self.after, self.drop = (
            nn.LayerNorm(width),
            nn.LayerNorm(width),
            Dropout(dropout),
        )
        self.distance, self.time = DistanceBias(length), TimeBias()

    def forward(self, x: Tensor, times_ms: Tensor | None = None) -> Tensor:
        """`times_ms` (B, T) int64 adds the bias by time."""
        gate, value, query, key = nn.functional.silu(self.inward(self.before(x))).chunk(4, dim=-1)
        value, query, key = (
            part.view(*x.shape[:2], self.heads, -1).transpose(1, 2) for part in (value, query, key)
        )
        logits = query @ key.transpose(-1, -2) + self.distance(x.shape[1]).to(x.dtype)
        if times_ms is not None:
            logits = logits + self.time(times_ms)[:, None]
        weights = nn.functional.silu(logits).tril() / self.length
        mixed = (weights.to(value.dtype) @ value).transpose(1, 2).reshape(x.shape)
        return x + self.outward(self.drop(self.after(mixed) * gate))


class GRULayers(nn.Module):
    """Gated recurrent layers (Cho et al. 2014): the state after each event, from left to right."""

    def __init__(self, width: int, layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.gru = nn.GRU(
            width, width, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.gru(x)[0]
        return out
