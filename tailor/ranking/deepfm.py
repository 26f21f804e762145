"""DeepFM: a factorization machine and a tower over the same vectors."""

from dataclasses import dataclass
from typing import Self

from torch import nn

from tailor.nn.crossing import DeepCrossedFields
from tailor.nn.fields import FieldLayout
from tailor.ranking.deep_fields import DeepFieldPredictor


@dataclass(eq=False)
class DeepFM(DeepFieldPredictor):
    """Add a factorization machine and a tower that read the same vectors (Guo et al. 2017).

    The machine multiplies every two fields, the tower finds what more than two say together.

    Differs from the paper: values within one field (an item's categories, a history's items) are
    averaged to one vector first.
    """

    def _make_field_net(self, layout: FieldLayout) -> nn.Module:
        return DeepCrossedFields(layout, self.width, self.layers, self.dropout)

    @classmethod
    def tiny(cls) -> Self:
        return cls(width=4, layers=(8,), epochs=3, lr=1e-2)
