"""Factorization machines: logistic regression with products of every two fields."""

from dataclasses import dataclass
from typing import Annotated

from torch import nn

from tailor.core.search_space import Choices
from tailor.errors import DataError
from tailor.nn.fields import CrossedFields, FieldLayout
from tailor.ranking.fields import FieldPredictor


@dataclass(eq=False)
class FactorizationMachine(FieldPredictor):
    """Logistic regression plus the inner products of the vectors of every two fields (Rendle 2010).

    Each value of a field has a vector. So a pair of values that was never seen together is scored
    from what each was seen with.

    Differs from the paper: values within one field (an item's categories, a history's items) are
    averaged to one vector first and are not multiplied with each other.
    """

    width: Annotated[int, Choices(8, 16, 32)] = 16
    """Width of the vectors."""
    std: float = 0.01
    """Standard deviation of the vectors before training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < 1 or not self.std > 0:
            raise DataError(f"width is {self.width}, std {self.std}: at least 1, and above 0")

    def _make_field_net(self, layout: FieldLayout) -> nn.Module:
        return CrossedFields(layout, self.width, self.std)

    @classmethod
    def tiny(cls) -> "FactorizationMachine":
        return cls(width=4, epochs=3, lr=1e-2)
