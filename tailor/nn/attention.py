"""Attention over event sequences: causal or bidirectional, within a window, or over a memory.

Sequences are padded at the right, so causal attention never reads padding and needs no mask.
Shapes: B sequences, T positions, S positions of a memory, H heads, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad, scaled_dot_product_attention

from tailor.nn.positions import apply_rotary


def attend(
    query: Tensor, key: Tensor, value: Tensor, causal: bool = False, bias: Tensor | None = None
) -> Tensor:
    """Return softmax(QK' / sqrt(D) + bias) V.

    `query` is (B, H, T, D), `key` and `value` are (B, H, S, D), the result is (B, H, T, D). A bias
    replaces the causal mask. On CPUs the product runs in float32, because SDPA's backward pass in
    bfloat16 takes eight times as long there.
    """
    device = query.device.type
    if device == "cpu":
        query, key, value = query.float(), key.float(), value.float()
    is_causal = causal and bias is None
    # asking first is cheap; entering a disabled autocast costs as much as the product of one query
    if torch.is_autocast_enabled(device):
        with torch.autocast(device, enabled=False):
            return scaled_dot_product_attention(query, key, value, bias, is_causal=is_causal)
    return scaled_dot_product_attention(query, key, value, bias, is_causal=is_causal)


def padding_bias(lengths: Tensor, positions: int) -> Tensor:
    """Return the bias (B, 1, 1, T) that hides padding: 0 at events, -inf at padding.

    `lengths` (B,) are the numbers of events. Needed only where attention is not causal.
    """
    is_event = torch.arange(positions, device=lengths.device) < lengths[:, None]
    bias = torch.zeros(is_event.shape, device=lengths.device)
    return bias.masked_fill_(~is_event, float("-inf"))[:, None, None, :]


def window_bias(positions: int, window: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the bias (T, T) that limits attention to the last `window` positions."""
    position = torch.arange(positions, device=device)
    distance = position[:, None] - position
    hidden = (distance < 0) | (distance >= window)
    return torch.zeros(positions, positions, device=device).masked_fill_(hidden, float("-inf"))


def group_bias(groups: Tensor, hidden: Tensor | None = None) -> Tensor:
    """Return the bias (..., T, T) with which a position reads itself and all earlier groups.

    Positions of one group do not read each other. `groups` (..., T) are numbers; `hidden` (T,) bool
    marks positions that no other one reads.
    """
    is_read = groups[..., None, :] < groups[..., :, None]
    if hidden is not None:
        is_read = is_read & ~hidden
    is_read = is_read | torch.eye(groups.shape[-1], dtype=torch.bool, device=groups.device)
    bias = torch.zeros(is_read.shape, device=groups.device)
    return bias.masked_fill_(~is_read, float("-inf"))


class SelfAttention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017), causal by default.

    `rotary` encodes positions by rotating queries and keys.
    """

    def __init__(
        self, width: int, heads: int = 1, causal: bool = True, rotary: bool = False
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} cannot be divided among {heads} heads")
        self.heads = heads
        self.causal = causal
        self.rotary = rotary
        self.qkv_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D); a `bias` of the logits replaces the causal mask."""
        query, key, value = _split_heads(self.qkv_proj(x), 3, self.heads)
        if self.rotary:
            query, key = apply_rotary(query), apply_rotary(key)
        mixed = attend(query, key, value, self.causal, bias)
        return self.out_proj(_merge_heads(mixed, x))

    def forward_first(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, 1, D): the output of the first position alone.

        Saves the queries of all other positions, a third of the products.
        """
        return self._attend_from(x[:, :1], x, bias)

    def forward_last(self, x: Tensor, count: int, bias: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, count, D): the outputs of the last positions alone, not causal."""
        return self._attend_from(x[:, x.shape[1] - count :], x, bias)

    def _attend_from(self, places: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
        """Return the outputs (B, P, D) of `places` (B, P, D), which read all of `x`."""
        width = x.shape[-1]
        weight = self.qkv_proj.weight
        offset = self.qkv_proj.bias
        queries = linear(places, weight[:width], offset[:width])
        (query,) = _split_heads(queries, 1, self.heads)
        keys_values = linear(x, weight[width:], offset[width:])
        key, value = _split_heads(keys_values, 2, self.heads)
        attended = attend(query, key, value, bias=bias)
        merged = _merge_heads(attended, places)
        return self.out_proj(merged)


class MultiQueryWindow(nn.Module):
    """Causal attention with several queries per position, over windows of the last events.

    The queries are made from the means of the last 1, 2, 4, ... events, so that one misplaced click
    does not lead the query astray. After the multi-query self-attention of MQSA, in our own form.
    """

    def __init__(self, width: int, windows: tuple[int, ...] = (1, 2, 4), heads: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.windows = windows
        self.queries = nn.ModuleList([nn.Linear(width, width) for _ in windows])
        self.kv_proj = nn.Linear(width, 2 * width)
        self.out_proj = nn.Linear(len(windows) * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        key, value = _split_heads(self.kv_proj(x), 2, self.heads)
        mixed = []
        for layer, window in zip(self.queries, self.windows, strict=True):
            (query,) = _split_heads(layer(trailing_mean(x, window)), 1, self.heads)
            mixed.append(_merge_heads(attend(query, key, value, causal=True), x))
        return self.out_proj(torch.cat(mixed, dim=-1))


class CrossAttention(nn.Module):
    """Attention of one sequence over a memory, such as a decoder's over its encoder's states."""

    def __init__(self, width: int, heads: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.kv_proj = nn.Linear(width, 2 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, T, D) and a memory (B, S, D) with `lengths` (B,) -> (B, T, D)."""
        (query,) = _split_heads(self.q_proj(x), 1, self.heads)
        key, value = _split_heads(self.kv_proj(memory), 2, self.heads)
        bias = None
        if lengths is not None:
            dtype = torch.float32 if query.device.type == "cpu" else query.dtype
            bias = padding_bias(lengths, memory.shape[1]).to(dtype)
        return self.out_proj(_merge_heads(attend(query, key, value, bias=bias), x))


def trailing_mean(x: Tensor, window: int) -> Tensor:
    """Return (B, T, D) the mean of the last `window` positions, of fewer at the beginning."""
    if window == 1:
        return x
    totals = x.float().cumsum(dim=1)
    totals = totals - pad(totals, (0, 0, window, 0))[:, : x.shape[1]]
    counts = torch.arange(1, x.shape[1] + 1, device=x.device).clamp(max=window)
    return (totals / counts[:, None]).to(x.dtype)


def _split_heads(x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """(B, T, parts * D) -> `parts` of (B, H, T, D / H)."""
    return x.view(*x.shape[:2], parts, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


def _merge_heads(x: Tensor, like: Tensor) -> Tensor:
    """(B, H, T, D / H) -> (B, T, D), the shape of `like`."""
    return x.transpose(1, 2).reshape(like.shape)
