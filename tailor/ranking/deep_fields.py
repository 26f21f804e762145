"""Settings that predictors with a tower over fields share."""

from dataclasses import dataclass
from typing import Annotated

from tailor.core.search_space import Choices, Range
from tailor.errors import DataError
from tailor.ranking.fields import FieldPredictor


@dataclass(eq=False)
class DeepFieldPredictor(FieldPredictor):
    """A predictor whose net is a tower over the vectors of fields."""

    width: Annotated[int, Choices(8, 16, 32)] = 16
    """Width of the vector of a value."""
    layers: tuple[int, ...] = (128, 64)
    """Widths of the tower's layers."""
    dropout: Annotated[float, Range(0.0, 0.5)] = 0.0
    """Share of the tower's numbers that are dropped in training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < 1 or not self.layers or min(self.layers) < 1:
            raise DataError(
                f"width is {self.width}, layers {self.layers}: at least 1, and at least one layer"
            )
        if not 0 <= self.dropout < 1:
            raise DataError(f"dropout is {self.dropout}: at least 0, and below 1")
