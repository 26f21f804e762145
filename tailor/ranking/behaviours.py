"""Predictors that read the latest behaviours of a history one by one, and their net.

Shapes: B examples, H histories of at most T behaviours, F fields, D width, I fields of an item.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

import torch
from torch import Tensor, nn

from tailor.core.search_space import Choices
from tailor.nn.fields import FieldBatch, FieldLayout, FieldNet
from tailor.nn.interest import TargetAttention, pooled
from tailor.nn.towers import Activation
from tailor.ranking.deep_fields import DeepFieldPredictor


class BehaviourNet(FieldNet):
    """A tower over fields, the interest that attention finds, and its product with the candidate.

    Candidate and behaviours are vectors of the item's fields from the table of all fields.
    """

    def __init__(
        self,
        layout: FieldLayout,
        width: int,
        sizes: Sequence[int],
        attention: nn.Module,
        activation: Activation = "relu",
        dropout: float = 0.0,
        extra: int = 0,
    ) -> None:
        """Make the net; `extra` is the width of what a subclass adds to `inputs`.

        `attention` maps candidates (B, I * D), behaviours (H, T, I * D) and a batch to weights
        (B, T).
        """
        self.item_width = layout.item_fields * width
        super().__init__(layout, width, sizes, 2 * self.item_width + extra, activation, dropout)
        self.attention = attention

    def inputs(self, batch: FieldBatch, fields: Tensor) -> Tensor:
        """Return fields, interest and product, (B, F * D + 2 * I * D)."""
        candidates = self.candidates(fields)
        interest = self.interest(candidates, batch)
        return torch.cat([fields.flatten(1), interest, interest * candidates], dim=1)

    def interest(self, candidates: Tensor, batch: FieldBatch) -> Tensor:
        """Return the interest of each example's history in its candidate, (B, I * D)."""
        behaviours = self.item_slots(batch.behaviours, self.vectors)  # H, T, I * D
        return pooled(self.attention(candidates, behaviours, batch), behaviours, batch)

    def attention_of(self, batch: FieldBatch) -> Tensor:
        """Return the weights (B, T) of each example's behaviours."""
        fields = self.vectors(batch.codes, batch.weights)
        candidates = self.candidates(fields)
        weights: Tensor = self.attention(
            candidates, self.item_slots(batch.behaviours, self.vectors), batch
        )
        return weights


@dataclass(eq=False)
class BehaviourPredictor(DeepFieldPredictor):
    """A predictor whose net reads the latest behaviours one by one."""

    history: Annotated[int, Choices(20, 50, 100)] = 50
    """Latest items of the history that are read."""

    reads_behaviours: ClassVar[bool] = True


@dataclass(eq=False)
class MeanInterest(BehaviourPredictor):
    """A tower over fields and the mean of the latest items' vectors (Covington et al. 2016).

    Every item of the history counts the same, whatever is asked about. What attention adds is seen
    beside it.
    """

    def _make_field_net(self, layout: FieldLayout) -> nn.Module:
        attention = TargetAttention(layout.item_fields * self.width, "mean")
        return BehaviourNet(layout, self.width, self.layers, attention, dropout=self.dropout)

    @classmethod
    def tiny(cls) -> Self:
        return cls(width=4, layers=(8,), history=8, epochs=3, lr=1e-2)
