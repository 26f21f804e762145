"""Score pairs of a trigger and an item for a user."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from tailor.nn.dropout import Dropout

HIDDEN = 128  # units of the first hidden layer
SECOND_HIDDEN = 64  # units of the second hidden layer


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of a trigger and an item, for candidates of users.

    P pairs, C candidates, B users. A trigger is one of a user's N latest events.
    """

    triggers: np.ndarray
    """(B, N) item rows of each user's latest events, the latest first; -1: none."""
    user: np.ndarray
    """(C,) the user of each candidate, from 0 to B - 1."""
    item: np.ndarray
    """(C,) the item row of each candidate."""
    candidate: np.ndarray
    """(P,) the candidate of each pair, from 0 to C - 1."""
    age: np.ndarray
    """(P,) the trigger of each pair, as the position of its event from the latest, from 0."""
    weight: np.ndarray
    """(P,) weight of the item in the trigger's list, above 0."""


class PairScorer(nn.Module):
    """A correction of an item's log weight for a trigger, given the user.

    The events are pooled by attention with the item as query. The last layer begins at zero, so
    that before training the order of the lists is kept.
    """

    def __init__(self, items: int, width: int, ages: int, dropout: float) -> None:
        super().__init__()
        self.table = nn.Embedding(items, width)
        nn.init.normal_(self.table.weight, std=0.1)
        self.item_proj = nn.Linear(2 * width, HIDDEN)
        self.trigger_proj = nn.Linear(width, HIDDEN, bias=False)
        self.product_proj = nn.Linear(width, HIDDEN, bias=False)
        self.weight_proj = nn.Linear(1, HIDDEN, bias=False)
        self.age_embedding = nn.Embedding(ages, HIDDEN)
        self.dropout = Dropout(dropout)
        self.hidden_layer = nn.Linear(HIDDEN, SECOND_HIDDEN)
        self.output_layer = nn.Linear(SECOND_HIDDEN, 1)
        nn.init.zeros_(self.output_layer.weight)
        nn.init.zeros_(self.output_layer.bias)

    def forward(
        self,
        triggers: Tensor,
        user: Tensor,
        item: Tensor,
        candidate: Tensor,
        age: Tensor,
        log_weight: Tensor,
    ) -> Tensor:
        """Return the correction (P,) of each pair; the arguments are those of `Pairs`."""
        events = self.dropout(self.table(triggers.clamp(min=0)))[user]  # C, N, D
        items = self.dropout(self.table(item))  # C, D
        pooled = _pool_events(events, items, triggers[user] < 0)
        trigger = events[candidate, age]  # P, D
        hidden = (
            self.item_proj(torch.cat([items, pooled], dim=1))[candidate]
            + self.trigger_proj(trigger)
            + self.product_proj(trigger * items[candidate])
        )
        hidden = gelu(hidden + self.weight_proj(log_weight[:, None]) + self.age_embedding(age))
        hidden = gelu(self.hidden_layer(self.dropout(hidden)))
        correction: Tensor = self.output_layer(hidden)[:, 0].float()
        return correction


def _pool_events(events: Tensor, items: Tensor, is_missing: Tensor) -> Tensor:
    """Return events (C, N, D) pooled by attention with items (C, D) as queries."""
    logits = (events @ items[:, :, None])[:, :, 0].float() / items.shape[1] ** 0.5
    share = logits.masked_fill(is_missing, -1e30).softmax(dim=1).to(items.dtype)
    return (share[:, None] @ events)[:, 0]
