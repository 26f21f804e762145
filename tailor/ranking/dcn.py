"""DCN-V2: layers that multiply the features of all fields, beside a tower."""

from dataclasses import dataclass
from typing import Annotated, Self

from torch import nn

from tailor.core.search_space import Choices
from tailor.errors import DataError
from tailor.nn.crossing import CrossNet
from tailor.nn.fields import FieldLayout
from tailor.ranking.deep_fields import DeepFieldPredictor


@dataclass(eq=False)
class DCNV2(DeepFieldPredictor):
    """Cross layers multiply the features with each other, a tower beside them (Wang et al. 2021).

    With every cross layer, products of one feature more are within reach.

    Differs from the paper: a cross layer over more than 256 numbers has a matrix of rank 32; values
    within one field are averaged to one vector first.
    """

    crosses: Annotated[int, Choices(1, 2, 3)] = 2
    """Number of cross layers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crosses < 1:
            raise DataError(f"crosses is {self.crosses}: at least 1")

    def _make_field_net(self, layout: FieldLayout) -> nn.Module:
        return CrossNet(layout, self.width, self.layers, self.crosses, self.dropout)

    @classmethod
    def tiny(cls) -> Self:
        return cls(width=4, layers=(8,), epochs=3, lr=1e-2)
