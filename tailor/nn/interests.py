"""Several interests of a history: vectors that read other events each.

Shapes: B sequences, T positions, P readings of a sequence, K interests, D width. A reading is a set
of positions, such as all events before a target: a mask (B, P, T), true where a position is read.
"""

from typing import Any

import torch
from torch import Tensor, nn

from tailor.nn.sequence import SequenceNet


def causal_readings(positions: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the mask (1, T, T) whose reading t covers positions up to t."""
    return torch.ones(1, positions, positions, dtype=torch.bool, device=device).tril()


def whole_readings(lengths: Tensor, positions: int) -> Tensor:
    """Return the mask (B, 1, T) with one reading, of all `lengths` (B,) events."""
    is_event = torch.arange(positions, device=lengths.device) < lengths[:, None]
    return is_event[:, None]


class SelfAttentive(nn.Module):
    """Weigh the events of a history by K heads, each with its own weights.

    Head k weighs an event h by softmax(w_k . tanh(W h)) over the events that are read (Lin et al.
    2017).
    """

    def __init__(self, width: int, interests: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = 4 * width if hidden is None else hidden
        self.hidden_proj = nn.Linear(width, hidden, bias=False)
        self.head_proj = nn.Linear(hidden, interests, bias=False)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return interests (B, P, K, D) of states (B, T, D) in each reading.

        `mask` (B, P, T) says which positions the readings are of; each needs one.
        """
        hidden = torch.tanh(self.hidden_proj(states))
        scores = self.head_proj(hidden).float()  # B, T, K
        scores = scores.transpose(1, 2)[:, None]  # B, 1, K, T
        is_unread = ~mask[:, :, None]
        scores = scores.masked_fill(is_unread, float("-inf"))
        weights = scores.softmax(dim=-1).to(states.dtype)
        return weights @ states[:, None]


class InterestNet(SequenceNet):
    """A net over sequences that ends in several interests in place of one state.

    `extractor` makes interests (B, P, K, D) of states (B, T, D) and a mask of readings (B, P, T).
    """

    def __init__(self, extractor: nn.Module, **settings: Any) -> None:
        """Make the net; `settings` are those of `SequenceNet`."""
        super().__init__(**settings)
        self.extractor = extractor

    def interests(self, vectors: Tensor, mask: Tensor, **inputs: Tensor) -> Tensor:
        """Return interests (B, P, K, D) of item vectors (B, T, D) in each reading.

        Further inputs (times_ms, lengths) are passed to every layer.
        """
        states = self.encode(vectors, **inputs)
        return self.readout(self.extractor(states, mask))


def nearest_interests(interests: Tensor, items: Tensor) -> Tensor:
    """Return the interest (M, D), of K, with the largest product with each item.

    `interests` are (M, K, D), `items` (M, D).
    """
    products = (interests.detach() * items.detach()[:, None]).sum(dim=-1)  # M, K
    rows = torch.arange(len(interests), device=interests.device)
    return interests[rows, products.argmax(dim=1)]


def best_logits(interests: Tensor, items: Tensor) -> Tensor:
    """Return (B, N) the largest products of items (N, D) with interests (B, K, D)."""
    first, *others = interests.unbind(dim=1)
    logits = first @ items.T
    for interest in others:
        products = interest @ items.T
        logits = torch.maximum(logits, products)
    return logits
