"""Interest as a function of time, inferred from a few windows of events (a neural process).

Ages are times before the moment of the query, in units of a typical gap. Shapes: B histories,
T events, W windows, S events of a window, Q ages of queries, D width, Z latent width.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tailor.nn.dropout import Dropout

POOLS = (1, 3, 5)  # latest events of a window that are pooled
PERIODS = tuple(2.0**power for power in range(-1, 7))  # of the waves that encode an age
HIDDEN = -1e9  # logit of a place that is not attended to
LEAST_SPREAD = 0.1  # smallest standard deviation of the latent


class AgeEncoding(nn.Module):
    """Vectors of ages: their logarithm, and waves of several periods, mixed by a linear layer."""

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        frequencies = 2 * math.pi / torch.tensor(PERIODS)
        self.register_buffer("frequencies", frequencies)
        self.linear = nn.Linear(1 + 2 * len(PERIODS), width)

    def forward(self, ages: Tensor) -> Tensor:
        """(...) ages of at least 0 -> (..., D)."""
        angles = ages[..., None] * self.frequencies
        parts = [torch.log1p(ages)[..., None], angles.sin(), angles.cos()]
        encoded: Tensor = self.linear(torch.cat(parts, dim=-1))
        return encoded


@dataclass(frozen=True, eq=False)
class Latent:
    """A Gaussian over latents, independent in each of their values."""

    mean: Tensor
    """(B, Z)."""
    spread: Tensor
    """(B, Z) standard deviations."""

    def sample(self) -> Tensor:
        """Return one draw, (B, Z), through which gradients flow."""
        return self.mean + self.spread * torch.randn_like(self.spread)

    def divergence(self, other: "Latent") -> Tensor:
        """Return (B,) the KL divergence of this one from another, in nats."""
        variances = (self.spread / other.spread) ** 2
        shifts = ((self.mean - other.mean) / other.spread) ** 2
        return 0.5 * (variances + shifts - 1 - variances.log()).sum(dim=-1)


class InterestProcess(nn.Module):
    """Windows of a history -> the interest at any age: attention to windows, and a latent.

    Windows of `window` events are counted from the latest event. Each is pooled over its latest 1,
    3 and 5 events. The deterministic path attends from the age of the query, and the latest
    window, to all windows of the context; the latent path draws one function of the user from the
    mean of the windows.
    """

    def __init__(self, width: int, latent: int, window: int, dropout: float) -> None:
        super().__init__()
        self.window = window
        self.ages = AgeEncoding(width)
        self.item_norm = nn.LayerNorm(width)  # item vectors begin short beside those of ages
        self.event_mlp = _mlp(2 * width, width)
        self.pool_proj = nn.Linear(len(POOLS) * width, width)
        self.query_mlp = _mlp(2 * width, width)
        self.key_proj = nn.Linear(2 * width, width)
        self.latent_mlp = _mlp(2 * width + 1, 2 * latent)
        self.decoder = _mlp(2 * width + latent, width)
        self.dropout = Dropout(dropout)

    def windows(self, vectors: Tensor, ages: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return vectors (B, W, D) and mean ages (B, W) of windows, the latest first.

        `vectors` (B, T, D) and `ages` (B, T) are those of events, padded at the right; `lengths`
        (B,) are their numbers. The age of a window without events is -1.
        """
        count = -(-vectors.shape[1] // self.window)
        back = torch.arange(count * self.window, device=vectors.device)
        positions = lengths[:, None] - 1 - back  # B, W * S
        is_event = positions >= 0
        positions = positions.clamp(min=0)
        rows = torch.arange(len(vectors), device=vectors.device)[:, None]
        picked = vectors[rows, positions]
        picked_ages = ages[rows, positions]
        shape = (len(vectors), count, self.window)
        return self._pooled(picked.view(*shape, -1), picked_ages.view(shape), is_event.view(shape))

    def _pooled(self, vectors: Tensor, ages: Tensor, is_event: Tensor) -> tuple[Tensor, Tensor]:
        """Return vectors (B, W, D) and ages (B, W) of windows of events (B, W, S, D)."""
        inputs = torch.cat([self.item_norm(vectors), self.ages(ages)], dim=-1)
        x = self.event_mlp(self.dropout(inputs))
        logits = (x @ x[:, :, 0, :, None])[..., 0] / math.sqrt(x.shape[-1])  # B, W, S
        rank = torch.arange(x.shape[2], device=x.device)
        pools = []
        for size in POOLS:
            hidden = ~is_event | (rank >= size)
            weights = logits.float().masked_fill(hidden, HIDDEN).softmax(dim=-1).to(x.dtype)
            pools.append((weights[..., None] * x).sum(dim=2))
        counts = is_event.sum(dim=2)
        mean_ages = (ages * is_event).sum(dim=2) / counts.clamp(min=1)
        return self.pool_proj(torch.cat(pools, dim=-1)), mean_ages.masked_fill(counts == 0, -1.0)

    def event(self, vectors: Tensor) -> Tensor:
        """Return (B, D) the vector of a window of one event (B, D) at age 0."""
        now = torch.zeros(len(vectors), 1, 1, device=vectors.device)
        is_event = torch.ones(len(vectors), 1, 1, dtype=torch.bool, device=vectors.device)
        pooled, _ = self._pooled(vectors[:, None, None], now, is_event)
        return pooled[:, 0]

    def latent(self, windows: Tensor, ages: Tensor, mask: Tensor) -> Latent:
        """Return the latent that windows (B, W, D) of these ages (B, W) tell; `mask` (B, W)."""
        keys = self._dated(windows, ages)
        totals = (keys * mask[..., None]).sum(dim=1)
        counts = mask.sum(dim=1, keepdim=True)
        counts = counts.clamp(min=1).to(totals.dtype)
        # a mean alone does not say of how many windows it is
        inputs = torch.cat([totals / counts, counts.log()], dim=-1)
        values = self.latent_mlp(inputs).float()
        middle, raw = values.chunk(2, dim=-1)
        spread = LEAST_SPREAD + (1 - LEAST_SPREAD) * raw.sigmoid()
        return Latent(middle, spread)

    def _dated(self, windows: Tensor, ages: Tensor) -> Tensor:
        """Return windows (B, W, D) with the vectors of their ages, (B, W, 2 D)."""
        encoded = self.ages(ages.clamp(min=0))
        return torch.cat([windows, encoded], dim=-1)

    def interest(
        self, windows: Tensor, ages: Tensor, mask: Tensor, z: Tensor, query_ages: Tensor
    ) -> Tensor:
        """Return the interest (B, Q, D) at the ages `query_ages` (B, Q), for a latent z (B, Z).

        Only windows of `mask` (B, W) are read; each history has at least one.
        """
        latest = mask.float().argmax(dim=1)
        newest = windows[torch.arange(len(windows), device=windows.device), latest]
        newest = newest[:, None].expand(-1, query_ages.shape[1], -1)
        queries = self.query_mlp(torch.cat([self.ages(query_ages), newest], dim=-1))  # B, Q, D
        keys = self.key_proj(self._dated(windows, ages))
        logits = queries @ keys.transpose(1, 2) / math.sqrt(keys.shape[-1])
        weights = logits.float().masked_fill(~mask[:, None], HIDDEN).softmax(dim=-1)
        attended = weights.to(windows.dtype) @ windows  # B, Q, D
        functions = z[:, None].expand(-1, query_ages.shape[1], -1).to(attended.dtype)
        decoded: Tensor = self.decoder(torch.cat([attended, functions, queries], dim=-1))
        return decoded


def _mlp(inputs: int, outputs: int) -> nn.Sequential:
    """Return two linear layers with GELU between."""
    return nn.Sequential(nn.Linear(inputs, 2 * outputs), nn.GELU(), nn.Linear(2 * outputs, outputs))
