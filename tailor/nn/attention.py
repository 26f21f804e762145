"""Attention over event sequences: causal or not, over a window, over another sequence.

Sequences stand at the left and are padded at the right, so that a causal place never sees padding
and needs no mask. Shapes: B sequences, T places, S places of a memory, H heads, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from tailor.nn.positions import rotary


def attend(
    query: Tensor, key: Tensor, value: Tensor, causal: bool = False, bias: Tensor | None = None
) -> Tensor:
    """(B, H, T, D), (B, H, S, D), (B, H, S, D) -> (B, H, T, D): softmax(QK' / sqrt(D) + bias) V,
    through SDPA.

    On CPUs always in float32: SDPA's backward pass in bfloat16 takes eight times as long there.
    """
    if query.device.type == "cpu":
        query, key, value = query.float(), key.float(), value.float()
    if torch.is_autocast_enabled(
        query.device.type
        # asked first: leaving it where nothing was entered costs as much as the product for one
        # query
    ):
        with torch.autocast(query.device.type, enabled=False):
            return scaled_dot_product_attention(
                query, key, value, bias, is_causal=causal and bias is None
            )
    return scaled_dot_product_attention(query, key, value, bias, is_causal=causal and bias is None)


def padding_bias(lengths: Tensor, places: int) -> Tensor:
    """(B,) lengths -> (B, 1, 1, T) float: 0 where an event stands, -inf at padding; for attention
    that is not causal.
    """
    kept = torch.arange(places, device=lengths.device) < lengths[:, None]
    return torch.zeros(kept.shape, device=lengths.device).masked_fill_(~kept, float("-inf"))[
        :, None, None, :
    ]


def window_bias(places: int, window: int, device: torch.device | str = "cpu") -> Tensor:
    """(T, T) float: place i sees the places i - window + 1 .. i, all others -inf."""
    place = torch.arange(places, device=device)
    distance = place[:, None] - place
    return torch.zeros(places, places, device=device).masked_fill_(
        (distance < 0) | (distance >= window), float("-inf")
    )


class SelfAttention(nn.Module):
    """Places look at each other (Vaswani et al. 2017); causal unless told otherwise."""

    def __init__(
        self, width: int, heads: int = 1, causal: bool = True, turned: bool = False
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} cannot be divided among {heads} heads")
        self.heads, self.causal, self.turned = heads, causal, turned
        self.inward = nn.Linear(width, 3 * width)
        self.outward = nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D); `bias` is added to the logits (in the place of causality, where
        given).
        """
        query, key, value = _split(self.inward(x), 3, self.heads)
        if self.turned:
            query, key = rotary(query), rotary(key)
        return self.outward(_joined(attend(query, key, value, self.causal, bias), x))

    def of_first(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, 1, D): what the first place gathers from all; the other places ask
        nothing, which spares a third of the products.
        """
        width, first = x.shape[-1], x[:, :1]
        query = _split(
            nn.functional.linear(first, self.inward.weight[:width], self.inward.bias[:width]),
            1,
            self.heads,
        )[0]
        key, value = _split(
            nn.functional.linear(x, self.inward.weight[width:], self.inward.bias[width:]),
            2,
            self.heads,
        )
        return self.outward(_joined(attend(query, key, value, bias=bias), first))


class MultiQueryWindow(nn.Module):
    """Several queries a place, made from the means of its last 1, 2, 4, ... events, each looking
    back at everything before.

    Averages over windows keep a misplaced click from leading the query astray (after MQSA's
    multi-query self-attention, own form).
    """

    def __init__(self, width: int, windows: tuple[int, ...] = (1, 2, 4), heads: int = 1) -> None:
        super().__init__()
        self.heads, self.windows = heads, windows
        self.queries = nn.ModuleList([nn.Linear(width, width) for _ in windows])
        self.inward = nn.Linear(width, 2 * width)
        self.outward = nn.Linear(len(windows) * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        key, value = _split(self.inward(x), 2, self.heads)
        seen = [
            _split(layer(trailing_mean(x, window)), 1, self.heads)[0]
            for layer, window in zip(self.queries, self.windows, strict=True)
        ]
        return self.outward(
            torch.cat([_joined(attend(query, key, value, True), x) for query in seen], dim=-1)
        )


class CrossAttention(nn.Module):
    """Places of one sequence look at a memory of another: a decoder at its encoder's states."""

    def __init__(self, width: int, heads: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.memory, self.outward = (
            nn.Linear(width, width),
            nn.Linear(width, 2 * width),
            nn.Linear(width, width),
        )

    def forward(self, x: Tensor, memory: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, T, D) and (B, S, D) with `lengths` (B,) of the memory -> (B, T, D)."""
        (query,) = _split(self.query(x), 1, self.heads)
        key, value = _split(self.memory(memory), 2, self.heads)
        bias = (
            None
            if lengths is None
            else padding_bias(lengths, memory.shape[1]).to(
                query.dtype if query.device.type != "cpu" else torch.float32
            )
        )
        return self.outward(_joined(attend(query, key, value, bias=bias), x))


def trailing_mean(x: Tensor, window: int) -> Tensor:
    """(B, T, D): at each place the mean of its last `window` places, fewer where the sequence
    begins.
    """
    if window == 1:
        return x
    total = x.float().cumsum(dim=1)
    total = total - nn.functional.pad(total, (0, 0, window, 0))[:, : x.shape[1]]
    count = torch.arange(1, x.shape[1] + 1, device=x.device).clamp(max=window)
    return (total / count[:, None]).to(x.dtype)


def _split(x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """(B, T, parts * D) -> `parts` of (B, H, T, D / H)."""
    return x.view(*x.shape[:2], parts, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


def _joined(x: Tensor, like: Tensor) -> Tensor:
    """(B, H, T, D / H) -> (B, T, D)."""
    return x.transpose(1, 2).reshape(like.shape)
