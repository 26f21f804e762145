"""A person, a trigger and an item seen together: pairs of both, and the net that corrects an item's
weight in the trigger's list.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tailor.nn.dropout import Dropout


@dataclass(frozen=True, eq=False)
class Pairs:
    """P pairs of a trigger and an item of its list, which speak for C candidates of B people, each
    with their N latest events.
    """

    triggers: np.ndarray
    """(B, N) rows of items, the latest first; -1: none."""
    person: np.ndarray
    """(C,) of B."""
    item: np.ndarray
    """(C,) rows."""
    candidate: np.ndarray
    """(P,) of C."""
    age: np.ndarray
    """(P,) of N: the trigger."""
    weight: np.ndarray
    """(P,) of the item in the trigger's list, above 0."""


class CrossingNet(nn.Module):
    """What a person's events, a trigger and an item together add to the logarithm of the item's
    weight in the trigger's list.

    The events are summed up by attention with the item as query. The last layer begins at zero:
    before any training the lists' own order stands.
    """

    def __init__(self, items: int, width: int, ages: int, dropout: float) -> None:
        super().__init__()
        self.table = nn.Embedding(items, width)
        nn.init.normal_(self.table.weight, std=0.1)
        self.of_item, self.of_trigger = nn.Linear(2 * width, 128), nn.Linear(width, 128, bias=False)
        self.of_both, self.of_weight = (
            nn.Linear(width, 128, bias=False),
            nn.Linear(1, 128, bias=False),
        )
        self.of_age = nn.Embedding(ages, 128)
        self.drop, self.second, self.last = Dropout(dropout), nn.Linear(128, 64), nn.Linear(64, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(
        self,
        triggers: Tensor,
        person: Tensor,
        item: Tensor,
        candidate: Tensor,
        age: Tensor,
        log_weight: Tensor,
    ) -> Tensor:
        """(P,), of what `Pairs` holds."""
        # (C, N, D), (C, D)
        events, own = (
            self.drop(self.table(triggers.clamp(min=0)))[person],
            self.drop(self.table(item)),
        )
        attention = (events @ own[:, :, None])[:, :, 0].float() / own.shape[1] ** 0.5
        share = attention.masked_fill(triggers[person] < 0, -1e30).softmax(dim=1).to(own.dtype)
        pooled = (share[:, None] @ events)[:, 0]
        trigger = events[candidate, age]
        hidden = (
            self.of_item(torch.cat([own, pooled], dim=1))[candidate]
            + self.of_trigger(trigger)
            + self.of_both(trigger * own[candidate])
        )
        hidden = nn.functional.gelu(hidden + self.of_weight(log_weight[:, None]) + self.of_age(age))
        out: Tensor = self.last(nn.functional.gelu(self.second(self.drop(hidden))))[:, 0].float()
        return out
