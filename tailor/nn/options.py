"""Policies on two levels: an option a session, and items under the option.

Shapes: B requests, T events of a session, C candidates, O options, N items, D width of item
vectors, W width, F features of a user.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

MOST_WEIGHT = 10.0  # bound of importance weights
BASE_SCALE = 4.0  # log-odds between the base's best item and its last, at first
LEVELS = 3.0  # log-odds per unit of novelty between the first and the last option, at first


class OptionNet(nn.Module):
    """Two policies: an option a session from its past, items from the session and the option.

    Options differ by their vectors and by how much a unit of novelty is worth; these levels ascend.
    """

    def __init__(self, vectors: np.ndarray, features: int, options: int, width: int) -> None:
        super().__init__()
        dims = vectors.shape[1]
        self.vectors: Tensor
        self.register_buffer("vectors", torch.from_numpy(vectors))
        last = nn.Linear(width, options)
        self.high = nn.Sequential(nn.Linear(features, width), nn.ReLU(), last)
        self.high_value = nn.Linear(features, 1)
        self.gru = nn.GRU(dims + 1, width, batch_first=True)
        self.option_vectors = nn.Embedding(options, width)
        self.query = nn.Linear(2 * width + features, dims)
        self.appetite = nn.Linear(width + features, 1)
        self.low_value = nn.Linear(width + features, 1)
        first = -LEVELS / 2 if options > 1 else 0.0
        self.first_level = nn.Parameter(torch.tensor(first))
        gap = LEVELS / max(options - 1, 1)
        step = float(np.log(np.expm1(gap)))  # whose softplus is the gap
        self.level_steps = nn.Parameter(torch.full((options - 1,), step))
        self.base_weight = nn.Parameter(torch.tensor(BASE_SCALE))
        for layer in (self.query, self.appetite, last):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    @property
    def levels(self) -> Tensor:
        """Return (O,) log-odds per unit of novelty of each option, ascending."""
        steps = softplus(self.level_steps).cumsum(dim=0)
        return torch.cat([self.first_level[None], self.first_level + steps])

    def states(self, events: Tensor, event_novelty: Tensor, lengths: Tensor) -> Tensor:
        """Return the states (B, W) of sessions after their events (B, T)."""
        if not events.shape[1]:
            return self.option_vectors.weight.new_zeros(len(events), self.gru.hidden_size)
        vectors = self.vectors[events]
        inputs = torch.cat([vectors, event_novelty[..., None]], dim=-1)
        states, _ = self.gru(inputs)
        rows = torch.arange(len(states))
        last = states[rows, (lengths - 1).clamp_min(0)]
        return last.masked_fill((lengths == 0)[:, None], 0.0)

    def item_logits(self, users: Tensor, rows: Tensor, scores: Tensor, novelty: Tensor) -> Tensor:
        """Return logits (B, O, C) of candidates (B, C) under each option, -inf for no item.

        `users` (B, W + F) are states and features.
        """
        options = self.option_vectors.weight
        of_options = options.expand(len(users), -1, -1)  # B, O, W
        of_users = users[:, None].expand(-1, len(options), -1)
        queries = self.query(torch.cat([of_users, of_options], dim=-1))  # B, O, D
        items = self.vectors[rows.clamp_min(0)]
        likings = torch.einsum("bod,bcd->boc", queries, items)
        worths = self.levels + self.appetite(users)  # B, O
        of_novelty = torch.einsum("bo,bc->boc", worths, novelty)
        of_base = self.base_weight * scores[:, None]
        logits = likings + of_novelty + of_base
        is_none = (rows < 0)[:, None]
        return logits.masked_fill(is_none, -torch.inf)


def importance(now: Tensor, then: Tensor) -> Tensor:
    """Return now / then, at most MOST_WEIGHT; 1 where it is not known how likely it was then."""
    return torch.where(then > 0, now / then, torch.ones_like(now)).clamp(max=MOST_WEIGHT)


def mixed(values: Tensor, shares: Tensor) -> Tensor:
    """Return (B, K) the mean over options of values (B, O, K) by shares (B, O)."""
    return (shares[..., None] * values).sum(dim=1)


def summed(values: Tensor, owners: Tensor, n: int) -> Tensor:
    """Return (n, ...) the sums of values (B, ...) by owner (B,)."""
    return values.new_zeros(n, *values.shape[1:]).index_add(0, owners, values)


def scaled(leads: Tensor) -> Tensor:
    """Return leads divided by their root mean square."""
    return leads / leads.pow(2).mean().sqrt().clamp_min(1e-6)


def entropy(log_probs: Tensor) -> Tensor:
    """Return (...,) the entropy of log-probabilities (..., C), of which some may be -inf."""
    return -(log_probs.exp() * log_probs.clamp_min(-30.0)).sum(dim=-1)
